//! Debian's Mosquitto as a cluster's broker, and a master that uses it.

use std::process::Command;
use std::time::Duration;

use super::daemon::Daemon;
use super::support::{Cluster, skipped, wait_until};

const MOSQUITTO: &str = "/usr/sbin/mosquitto";
const SOON: Duration = Duration::from_secs(20);

/// Whether its tests are run; dies where they should be and it is not here.
pub fn installed() -> bool {
    let here = std::path::Path::new(MOSQUITTO).exists();
    let run = !skipped("mosquitto");
    assert!(!run || here, "install the package `mosquitto`, or leave it out with BRAMBLE_SKIP=mosquitto");
    run
}

/// Mosquitto with the cluster's certificates and the printed rules.
pub fn mosquitto(cluster: &Cluster, port: u16) -> Daemon {
    let folder = cluster.dir.join("mosquitto");
    std::fs::create_dir_all(&folder).unwrap();
    let printed = Command::new(env!("CARGO_BIN_EXE_bramble"))
        .args(["master", "--print-acl", "mosquitto", "--config"])
        .arg(cluster.dir.join("master.toml"))
        .output()
        .unwrap();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let rules = folder.join("acl");
    std::fs::write(&rules, &printed.stdout).unwrap();
    let pki = cluster.dir.join("pki");
    let text = format!(
        "per_listener_settings true\nuser root\nlistener {port} 127.0.0.1\ncafile {0}/ca.crt\ncertfile {0}/server.crt\nkeyfile {0}/server.key\n\
         require_certificate true\nuse_identity_as_username true\nacl_file {1}\npersistence false\nmax_queued_messages 100000\n\
         max_inflight_messages 100\nmax_packet_size 1048576\nset_tcp_nodelay true\n",
        pki.display(),
        rules.display()
    );
    let config = folder.join("mosquitto.conf");
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(MOSQUITTO);
    command.arg("-c").arg(&config);
    let mut daemon = Daemon::start(command, &cluster.dir.join("logs/mosquitto.log"));
    wait_until("Mosquitto listens", SOON, || {
        assert!(!daemon.ended(), "{}", std::fs::read_to_string(cluster.dir.join("logs/mosquitto.log")).unwrap());
        std::net::TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|error| error.to_string())
    });
    daemon
}

/// The master of this cluster, with `mqtt.broker` set.
pub fn master(cluster: &Cluster, port: u16) -> Daemon {
    let text = std::fs::read_to_string(cluster.dir.join("master.toml")).unwrap();
    let changed = text.replace("[mqtt]\n", &format!("[mqtt]\nbroker = \"mqtts://127.0.0.1:{port}\"\n"));
    assert_ne!(text, changed);
    let file = cluster.dir.join("master-external.toml");
    std::fs::write(&file, changed).unwrap();
    let mut daemon = Daemon::bramble(&cluster.dir.join("logs/master.log"), &["master", "--config", file.to_str().unwrap()]);
    wait_until("the API answers", SOON, || {
        assert!(!daemon.ended(), "the master ended");
        let said = cluster.kubectl(&["get", "--raw", "/readyz"]);
        if said.ok { Ok(()) } else { Err(said.err) }
    });
    daemon
}
