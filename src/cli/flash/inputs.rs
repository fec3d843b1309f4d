//! What the arguments name is read: keys, a passphrase, the agent's program and its configuration, a node's folder.

use std::io::BufRead as _;
use std::path::Path;

use super::{Args, cannot};
use crate::error::Report;
use crate::flash::program::Machine;
use crate::flash::settings::{NodeFiles, Settings, Typed};

pub(super) fn typed(args: &Args) -> Result<Typed, Report> {
    let passphrase = match &args.wifi_passphrase_file {
        Some(path) if path == Path::new("-") => {
            let mut line = String::new();
            std::io::stdin()
                .lock()
                .read_line(&mut line)
                .map_err(|error| Report::failed("cannot read the passphrase").because(error))?;
            Some(line)
        }
        Some(path) => Some(text(path)?),
        None => None,
    };
    Ok(Typed {
        name: String::new(),
        user: args.user.clone(),
        keys: args.ssh_keys.iter().map(|path| text(path)).collect::<Result<_, _>>()?,
        password_hash: args.password_hash.clone(),
        ssid: args.wifi.clone(),
        passphrase: passphrase.map(|text| text.trim_end_matches(['\n', '\r']).to_owned()),
        country: args.wifi_country.clone(),
        master: args.master.clone(),
        token: args.token.clone(),
        config: config(args)?,
        node: args.node_dir.as_deref().map(node_folder).transpose()?,
    })
}

/// The text of --config, if the agent would take it with the flags.
fn config(args: &Args) -> Result<String, Report> {
    #[cfg(feature = "agent")]
    {
        use crate::config::{FileMay, Flag};
        let flag = |name, key, value: &Option<String>| Flag { name, key, value: value.clone() };
        let flags = [
            flag("--name", "node", &Some("x".to_owned())),
            flag("--master", "join.master", &args.master),
            flag("--token", "join.token", &args.token),
        ];
        // The node folder's has a master of its own.
        let folder = args.node_dir.as_ref().map(|dir| dir.join("agent.toml")).filter(|path| path.exists());
        for path in [args.config.as_ref(), folder.as_ref()] {
            let file = path.map(|path| (path.as_path(), FileMay::NotBeMissing));
            crate::agent::config::AgentConfig::load(file, [], &flags)?;
        }
    }
    args.config.as_deref().map_or(Ok(String::new()), text)
}

/// Whether the agent takes what was put together of several files: each may be right, and they may not fit.
pub(super) fn taken_by_the_agent(settings: &Settings) -> Result<(), Report> {
    #[cfg(feature = "agent")]
    {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;

        use crate::rng::Rng;
        let path = std::env::temp_dir().join(format!("bramble-{}.toml", Rng::from_os("configuration").name_suffix(16)));
        let written = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let written = written.and_then(|mut file| file.write_all(settings.agent_toml.as_bytes()));
        let file = Some((path.as_path(), crate::config::FileMay::NotBeMissing));
        let loaded = written.map(|()| crate::agent::config::AgentConfig::load(file, [], &[]));
        // It was never made, or it is the owner's alone, among temporary files: what was found counts.
        let _ = std::fs::remove_file(&path);
        match loaded.map_err(|error| cannot("write", &path, error))? {
            Ok(config) => known_boards(&config)?,
            Err(wrong) => return Err(super::faults(vec![format!("the agent would not take its configuration:\n{wrong}")])),
        }
    }
    // Without the agent nobody here knows what it takes; its node says so then.
    #[cfg(not(feature = "agent"))]
    let _ = settings;
    Ok(())
}

/// Whether the board and the HATs that are named are known. A path is one of the Pi's, and nobody here can look there.
#[cfg(feature = "agent")]
fn known_boards(config: &crate::agent::config::AgentConfig) -> Result<(), Report> {
    use crate::agent::led::disk;
    let (root, is_name) = (Path::new("/"), |name: &&String| !name.contains('/'));
    let board = match config.board.as_ref().filter(is_name).map(String::as_str) {
        None | Some("auto") => None,
        name => Some(disk::board(name, root)?),
    };
    let hats: Vec<String> = config.hats.iter().flatten().filter(is_name).cloned().collect();
    let hats = disk::hats(Some(&hats), root)?;
    board.map_or(Ok(()), |board| disk::together(board, &hats).map(drop))
}

/// What `bramble node add` made: the text of `agent.toml`, and the agent's own files.
pub(super) fn node_folder(dir: &Path) -> Result<(String, NodeFiles), Report> {
    let made = |report: Report| report.fix("--node-dir is the folder that `bramble node add NAME -o DIR` made");
    let files = ["join.json", "pki/ca.crt", "pki/node.crt", "pki/node.key"].map(|name| {
        let path = dir.join("bramble-agent").join(name);
        std::fs::read(&path).map(|bytes| (name.to_owned(), bytes)).map_err(|error| made(cannot("read", &path, error)))
    });
    Ok((text(&dir.join("agent.toml")).map_err(made)?, files.into_iter().collect::<Result<_, _>>()?))
}

pub(super) fn agent(args: &Args) -> Result<Vec<u8>, Report> {
    let path = match &args.agent {
        Some(path) => path.clone(),
        None => std::env::current_exe().map_err(|error| Report::failed("cannot find this program's file").because(error))?,
    };
    let program = std::fs::read(&path).map_err(|error| cannot("read", &path, error))?;
    match Machine::of(&program) {
        Machine::Aarch64 | Machine::Arm => Ok(program),
        other => {
            let what = if args.agent.is_some() {
                format!("{} is no program for a Raspberry Pi", path.display())
            } else {
                "this program does not run on a Raspberry Pi".to_owned()
            };
            let how = "build the agent with `cross/build.sh rpi-4b` (64 bits) or `cross/build.sh rpi-zero-w` (32 bits), and give what it prints: --agent FILE";
            Err(Report::usage(what).because(format!("it is {other}")).fix(how))
        }
    }
}

fn text(path: &Path) -> Result<String, Report> {
    std::fs::read_to_string(path).map_err(|error| cannot("read", path, error))
}
