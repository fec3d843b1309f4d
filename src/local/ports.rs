//! Ports on loopback: chosen once, then kept; and who has one that is taken.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use super::state::Ports;
use crate::error::Report;

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose {
    /// In a sentence.
    pub what: &'static str,
    /// The flag that chooses it.
    pub flag: &'static str,
    /// The port when nobody says.
    pub default: u16,
}

/// HTTPS for kubectl.
pub const API: Purpose = Purpose { what: "the API", flag: "--api-port", default: 6443 };
/// MQTT over TLS for nodes.
pub const MQTTS: Purpose = Purpose { what: "MQTT for nodes", flag: "--mqtt-port", default: 8883 };
/// Plain MQTT for people.
pub const MQTT: Purpose = Purpose { what: "MQTT for people", flag: "--viewer-port", default: 1883 };

/// What was asked for on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `--api-port`.
    pub api: Option<u16>,
    /// `--mqtt-port`.
    pub mqtts: Option<u16>,
    /// `--viewer-port`; without it, 0 for the nodes' port is 0 for the people's too.
    pub mqtt: Option<u16>,
}

impl Wanted {
    fn each(self) -> [(Purpose, Option<u16>); 3] {
        let mqtt = self.mqtt.or(self.mqtts.filter(|&port| port == 0));
        [(API, self.api), (MQTTS, self.mqtts), (MQTT, mqtt)]
    }
}

/// Chooses the ports of a new cluster; all of them are free at this moment.
///
/// # Errors
/// When one is taken or may not be opened.
pub fn choose(wanted: Wanted) -> Result<Ports, Report> {
    // All are held until the last is chosen, so that no two are the same.
    let mut held = Vec::new();
    let mut chosen = [0_u16; 3];
    // Named ones first: a free one must not take the place of a named one.
    let mut order: Vec<(usize, (Purpose, Option<u16>))> = wanted.each().into_iter().enumerate().collect();
    order.sort_by_key(|(_, (_, port))| *port == Some(0));
    for (at, (purpose, port)) in order {
        let port = port.unwrap_or(purpose.default);
        let listener = open(port).map_err(|error| taken(purpose, port, error))?;
        let local = listener.local_addr().map_err(|error| taken(purpose, port, error))?;
        if let Some(slot) = chosen.get_mut(at) {
            *slot = local.port();
        }
        held.push(listener);
    }
    let [api, mqtts, mqtt] = chosen;
    Ok(Ports { api, mqtts, mqtt })
}

/// Checks that what is asked for goes with what a cluster has: its ports are chosen once.
///
/// # Errors
/// Names the port that is asked for and the one that is kept.
pub fn agree(wanted: Wanted, kept: Ports, delete: &str) -> Result<(), Report> {
    let kept = [kept.api, kept.mqtts, kept.mqtt];
    for ((purpose, port), kept) in wanted.each().into_iter().zip(kept) {
        // 0 is "any": the one that was chosen is one.
        if let Some(port) = port.filter(|&port| port != 0 && port != kept) {
            return Err(Report::usage(format!(
                "this cluster has port {kept} for {}, not {port}: ports are chosen once",
                purpose.what
            ))
            .fix(format!("leave {} out; or remove the cluster with `{delete}` and start anew", purpose.flag)));
        }
    }
    Ok(())
}

/// Checks that the ports of a master that is not running are free for it.
///
/// # Errors
/// Names the port, and who has it where that can be seen.
pub fn expect_free(ports: Ports) -> Result<(), Report> {
    for (purpose, port) in [(API, ports.api), (MQTTS, ports.mqtts), (MQTT, ports.mqtt)] {
        open(port).map_err(|error| {
            let mut report = taken(purpose, port, error);
            report.fix = Some(format!("end what uses it and start again: this cluster keeps port {port} for {}", purpose.what));
            report
        })?;
    }
    Ok(())
}

fn open(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

fn taken(purpose: Purpose, port: u16, error: std::io::Error) -> Report {
    let Purpose { what, flag, .. } = purpose;
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            let who = listener(port).map_or_else(String::new, |who| format!(" by {who}"));
            Report::failed(format!("port {port}, wanted for {what}, is in use{who}")).fix(format!(
                "end what uses it, or choose another with `{flag} PORT`; `{flag} 0` takes any free one and keeps it"
            ))
        }
        std::io::ErrorKind::PermissionDenied => {
            Report::failed(format!("port {port}, wanted for {what}, may not be opened by this user"))
                .because(error)
                .fix(format!("choose one above 1023 with `{flag} PORT`; `{flag} 0` takes any free one and keeps it"))
        }
        _ => Report::failed(format!("port {port}, wanted for {what}, cannot be opened"))
            .because(error)
            .fix(format!("choose another with `{flag} PORT`")),
    }
}

/// The process that listens on `port`, as far as this user may see: `name (pid N)`.
fn listener(port: u16) -> Option<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let mut inodes = inodes(&read("/proc/net/tcp"), port);
    inodes.extend(self::inodes(&read("/proc/net/tcp6"), port));
    let sockets: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let is_it = |link: &Path| sockets.iter().any(|socket| link.as_os_str() == socket.as_str());
        if files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|link| is_it(&link))) {
            let name = read(&format!("/proc/{pid}/comm"));
            return Some(format!("{} (pid {pid})", name.trim()));
        }
    }
    None
}

/// The sockets that listen on `port`, from the text of `/proc/net/tcp`.
fn inodes(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let wanted = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
            (local.ends_with(&wanted) && *state == LISTEN).then(|| (*inode).to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Wanted = Wanted { api: Some(0), mqtts: Some(0), mqtt: None };

    #[test]
    fn zero_takes_three_different_free_ports() {
        let ports = choose(ANY).unwrap();
        assert!(ports.api != ports.mqtts && ports.mqtts != ports.mqtt && ports.api != ports.mqtt, "{ports:?}");
        assert!(expect_free(ports).is_ok());
    }

    #[test]
    fn a_taken_port_is_named_with_who_has_it_and_what_to_do() {
        let ours = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = ours.local_addr().unwrap().port();
        let refused = choose(Wanted { api: Some(port), ..ANY }).unwrap_err();
        assert!(refused.what.starts_with(&format!("port {port}, wanted for the API, is in use by ")), "{}", refused.what);
        assert!(refused.what.ends_with(&format!("(pid {})", std::process::id())), "{}", refused.what);
        assert!(refused.fix.unwrap().contains("`--api-port 0`"));
        let kept = Ports { api: port, ..choose(ANY).unwrap() };
        assert!(expect_free(kept).unwrap_err().fix.unwrap().contains("keeps port"));
    }

    #[test]
    fn kept_ports_are_not_changed() {
        let kept = Ports { api: 1, mqtts: 2, mqtt: 3 };
        let cases = [
            (Wanted::default(), None),
            (ANY, None),
            (Wanted { api: Some(1), mqtts: Some(2), mqtt: Some(3) }, None),
            (Wanted { api: Some(6443), ..ANY }, Some("this cluster has port 1 for the API, not 6443: ports are chosen once")),
            (Wanted { mqtt: Some(9), ..ANY }, Some("this cluster has port 3 for MQTT for people, not 9: ports are chosen once")),
        ];
        for (wanted, expected) in cases {
            assert_eq!(agree(wanted, kept, "bramble delete").err().map(|report| report.what).as_deref(), expected);
        }
    }

    #[test]
    fn the_kernels_table_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n   1: 0100007F:192B 0100007F:0001 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n";
        assert_eq!(inodes(table, 6443), ["4711"]);
        assert!(inodes(table, 6444).is_empty());
    }
}
