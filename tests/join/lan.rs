//! Masters and boards on hosts of their own, in one network of the test's own.

use std::path::PathBuf;

use serde_json::Value;

use super::home::{Daemon, SOON, Said, said};
use super::hosts::Hosts;
use super::support::wait_until;

const BRAMBLE: &str = env!("CARGO_BIN_EXE_bramble");

/// A network with hosts, and where their data is.
pub struct Lan {
    pub hosts: Hosts,
    pub dir: tempfile::TempDir,
}

/// A master on its host.
pub struct Master {
    pub host: String,
    pub data: PathBuf,
    pub daemon: Daemon,
}

impl Lan {
    /// Hosts with these addresses.
    pub fn new(label: &str, hosts: &[(&str, &str)]) -> Self {
        let mut lan = Self { hosts: Hosts::new(label), dir: tempfile::Builder::new().prefix("bramble-lan-").tempdir().unwrap() };
        for (host, address) in hosts {
            lan.hosts.add(host, address);
        }
        lan
    }

    fn daemon(&self, host: &str, arguments: &[String]) -> Daemon {
        let mut command = self.hosts.run(host, BRAMBLE);
        command.args(arguments);
        Daemon::spawn(self.dir.path().join(format!("{host}.log")), command)
    }

    /// A master on this host, on the usual ports, once it answers.
    pub fn master(&self, host: &str, config: &str) -> Master {
        let data = self.dir.path().join(host);
        std::fs::create_dir_all(&data).unwrap();
        let all = format!("data_dir = {:?}\nmqtt.viewer_listen = \"off\"\n{config}\n", data.display().to_string());
        std::fs::write(data.join("master.toml"), all).unwrap();
        let file = data.join("master.toml").display().to_string();
        let daemon = self.daemon(host, &["master".to_owned(), "--config".to_owned(), file]);
        let master = Master { host: host.to_owned(), data, daemon };
        wait_until("the master answers", SOON, || {
            let said = self.bramble(&master, &["token", "list"]);
            if said.code == 0 { Ok(()) } else { Err(said.err) }
        });
        master
    }

    /// `bramble GROUP COMMAND …` about a master, on its host.
    pub fn bramble(&self, master: &Master, arguments: &[&str]) -> Said {
        let (head, rest) = arguments.split_at(2);
        let mut command = self.hosts.run(&master.host, BRAMBLE);
        command.args(head).arg("--data-dir").arg(&master.data).args(rest);
        said(command)
    }

    /// A new token of a master.
    pub fn token(&self, master: &Master) -> String {
        let made = self.bramble(master, &["token", "create", "-o", "json"]).good();
        serde_json::from_str::<Value>(&made).unwrap()["token"].as_str().unwrap().to_owned()
    }

    /// Who is in and who waits, as `name status`.
    pub fn nodes(&self, master: &Master) -> Vec<String> {
        let nodes: Value = serde_json::from_str(&self.bramble(master, &["node", "list", "-o", "json"]).good()).unwrap();
        let line = |node: &Value| format!("{} {}", node["name"].as_str().unwrap(), node["status"].as_str().unwrap());
        nodes.as_array().unwrap().iter().map(line).collect()
    }

    /// Waits until a master has just these nodes.
    #[track_caller]
    pub fn wait_nodes(&self, master: &Master, expected: &[&str]) {
        wait_until(&format!("{expected:?} on {}", master.host), SOON * 3, || {
            let nodes = self.nodes(master);
            if nodes == expected { Ok(()) } else { Err(format!("{nodes:?}")) }
        });
    }

    /// The board of this host, called as it, with a simulated runtime.
    pub fn agent(&self, host: &str, more: &[&str]) -> Daemon {
        let board = self.dir.path().join(format!("board-{host}"));
        std::fs::create_dir_all(board.join("etc")).unwrap();
        std::fs::write(board.join("etc/machine-id"), format!("{host}\n")).unwrap();
        let config = self.dir.path().join(format!("{host}.toml"));
        std::fs::write(&config, format!("[join]\nidentity_root = {:?}\n", board.display().to_string())).unwrap();
        let mut all: Vec<String> = ["agent", "--runtime", "simulated", "--node", host].map(str::to_owned).to_vec();
        all.extend(["--config".to_owned(), config.display().to_string()]);
        all.extend(["--data-dir".to_owned(), self.card(host).display().to_string()]);
        all.extend(more.iter().map(|&one| one.to_owned()));
        self.daemon(host, &all)
    }

    /// The data of a host's node.
    pub fn card(&self, host: &str) -> PathBuf {
        self.dir.path().join(format!("card-{host}"))
    }
}
