//! Whether the agent can write what it has to keep: its data folder's file system is writable and has room.

use std::path::Path;

use super::{Finding, Host, State, medium, unit};

/// This check's name.
pub const ID: &str = "data-dir";
/// As the unit that is shipped has it.
const DEFAULT: &str = "/var/lib/bramble-agent";
/// Below this pods are evicted: the kubelet's `nodefs.available<10%` and `nodefs.inodesFree<5%`.
const ROOM_PERCENT: u64 = 10;
const FILES_PERCENT: u64 = 5;

/// Looks.
pub fn look(host: &dyn Host) -> Finding {
    let wanted = folder(host);
    // Before the agent's first start it is the nearest folder above that counts.
    let mut above = Path::new(&wanted).ancestors().filter_map(Path::to_str);
    // A boot partition alone has a root too, and no agent.
    let judged = |path: &&str| host.exists(path) && (*path != "/" || host.exists("/etc"));
    let Some(path) = above.find(judged) else {
        return Finding::absent(ID, "no root file system to judge by");
    };
    let shown = host.shown(&wanted);
    if let Some(mount) = medium::mount_of(host, path).filter(medium::Mount::read_only) {
        return Finding::new(ID, State::Problem, format!("{shown} is on a read-only file system ({} on {})", mount.device, mount.point))
            .because("the agent cannot keep what it has to run: it does not start, or forgets it at the next boot")
            .todo("if nobody made it so on purpose, the kernel did, for errors: see `dmesg | grep -i ext4`, save what matters, renew the card; else give the agent a writable folder with --data-dir");
    }
    let Some(room) = host.room(path) else { return Finding::unseen(ID, format!("how much room {shown} has")) };
    let percent =
        |part: u64, of: u64| if of == 0 { 100 } else { u64::try_from(u128::from(part) * 100 / u128::from(of)).unwrap_or(100) };
    let (bytes, files) = (percent(room.available_bytes, room.total_bytes), percent(room.files_free, room.files));
    if bytes < ROOM_PERCENT || files < FILES_PERCENT {
        let left = match bytes < ROOM_PERCENT {
            true => format!("{bytes} % ({} MiB)", room.available_bytes >> 20),
            false => format!("{files} % of its files"),
        };
        return Finding::new(ID, State::Warning, format!("the file system of {shown} has {left} left"))
            .because("below 10 % (of files 5 %) the node puts pods out; when it is full nothing starts any more")
            .todo("docker system prune; journalctl --vacuum-size=100M; apt-get clean; or a larger card");
    }
    Finding::ok(ID, format!("{shown} can be written and has {bytes} % ({} MiB) left", room.available_bytes >> 20))
}

/// Where the agent's unit lets it keep its data.
fn folder(host: &dyn Host) -> String {
    let commands = unit::values(host, super::agent_unit::UNIT, "ExecStart");
    let named = commands.last().and_then(|line| {
        let mut words = line.split_ascii_whitespace();
        let word = words.find(|word| *word == "--data-dir" || word.starts_with("--data-dir="))?;
        word.split_once('=').map(|(_, path)| path).or_else(|| words.next())
    });
    let named = named
        .map(|path| path.trim_matches(['"', '\'']).replace("%S", "/var/lib"))
        .filter(|path| path.starts_with('/') && !path.contains('%'));
    match named.as_deref().map(|path| path.trim_end_matches('/')) {
        None => DEFAULT.to_owned(),
        Some("") => "/".to_owned(),
        Some(path) => path.to_owned(),
    }
}
