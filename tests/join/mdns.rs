//! Nobody says where the master is: it is found. Hosts in namespaces of their own, real multicast between them.

use super::lan::Lan;
use super::support::wait_until;

const THREE: [(&str, &str); 3] = [("hub", "10.77.0.1/24"), ("shed", "10.77.0.2/24"), ("attic", "10.77.0.3/24")];

#[test]
fn nodes_find_their_master_and_are_let_in_by_a_person_or_by_a_token() {
    let lan = Lan::new("find", &THREE);
    // The board was plugged in first.
    let shed = lan.agent("shed", &[]);
    shed.says("nobody answers by mDNS on 10.77.0.2 (eth0); is the master on, and in this network? Otherwise set join.master");
    let hub = lan.master("hub", "");
    hub.daemon.says("announces itself by mDNS addresses=[10.77.0.1]");
    shed.says("found a master by mDNS master=https://10.77.0.1:6443 cluster=");
    let uid = std::fs::read_to_string(hub.data.join("cluster-uid")).unwrap();
    assert!(shed.log().contains(uid.trim()), "{uid}");
    shed.says("waits for a person to let it in");
    lan.wait_nodes(&hub, &["shed Waiting"]);
    lan.bramble(&hub, &["node", "approve", "shed"]).good();
    lan.wait_nodes(&hub, &["shed Ready"]);

    let attic = lan.agent("attic", &["--token", &lan.token(&hub)]);
    lan.wait_nodes(&hub, &["attic Ready", "shed Ready"]);
    assert!(attic.log().contains("found a master by mDNS"));
}

#[test]
fn of_two_masters_a_token_picks_its_own_and_without_one_a_person_does() {
    let lan =
        Lan::new("two", &[("one", "10.77.0.1/24"), ("two", "10.77.0.2/24"), ("shed", "10.77.0.3/24"), ("attic", "10.77.0.4/24")]);
    let (one, two) = (lan.master("one", ""), lan.master("two", ""));
    let mut shed = lan.agent("shed", &[]);
    shed.says("waits for a person to say which master is meant");
    shed.says("set join.master to the right one");
    let log = shed.log();
    for url in ["https://10.77.0.1:6443", "https://10.77.0.2:6443"] {
        assert!(log.contains(url), "{url}: {log}");
    }
    let _attic = lan.agent("attic", &["--token", &lan.token(&two)]);
    lan.wait_nodes(&two, &["attic Ready"]);
    assert_eq!((lan.nodes(&one).len(), lan.nodes(&two).len()), (0, 1), "who does not know whom to ask asks nobody");
    assert!(!lan.card("shed").join("pki/ca.crt").exists(), "and trusts nobody");
    shed.stop();
    let _shed = lan.agent("shed", &["--join", "https://10.77.0.1:6443"]);
    lan.wait_nodes(&one, &["shed Waiting"]);
}

#[test]
fn a_master_that_does_not_announce_itself_is_not_found() {
    let lan = Lan::new("off", &THREE[..2]);
    let hub = lan.master("hub", "mdns.announce = false");
    let mut shed = lan.agent("shed", &["--token", &lan.token(&hub)]);
    shed.says("nobody answers by mDNS");
    assert!(lan.nodes(&hub).is_empty() && !hub.daemon.log().contains("announces itself"));
    shed.stop();
    // One that is not to look says what it needs.
    std::fs::write(lan.dir.path().join("no-look.toml"), "mdns.look = false\n").unwrap();
    let config = lan.dir.path().join("no-look.toml").display().to_string();
    let mut command = lan.hosts.run("shed", env!("CARGO_BIN_EXE_bramble"));
    command.args(["agent", "--check", "--config", &config]);
    let refused = super::home::said(command);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("join.master: expected the master's API"), "{}", refused.err);
}

#[test]
fn a_master_that_gets_another_address_is_found_again() {
    let lan = Lan::new("move", &THREE);
    let hub = lan.master("hub", "");
    let mut shed = lan.agent("shed", &["--token", &lan.token(&hub)]);
    lan.wait_nodes(&hub, &["shed Ready"]);
    // Somebody else has the old address by now, and another cluster.
    lan.hosts.readdress("hub", "10.77.0.9/24");
    lan.hosts.readdress("attic", "10.77.0.1/24");
    let _other = lan.master("attic", "");
    // The link counts as gone after 10 s, and 30 s later the node looks.
    wait_until("it goes to the new address", super::home::SOON * 3, || {
        let log = shed.log();
        if log.contains("the master is at another address; goes there was=10.77.0.1 host=10.77.0.9 port=8883") {
            Ok(())
        } else {
            Err(log)
        }
    });
    lan.wait_nodes(&hub, &["shed Ready"]);
    let kept = || std::fs::read_to_string(lan.card("shed").join("join.json")).unwrap();
    wait_until("the new address is kept", super::home::SOON, || {
        let kept = kept();
        if kept.contains("mqtts://10.77.0.9:8883") { Ok(()) } else { Err(kept) }
    });
    // The next start goes there at once.
    shed.stop();
    let before = shed.log().len();
    let shed = lan.agent("shed", &[]);
    wait_until("it is connected", super::home::SOON, || {
        let log = shed.log()[before..].to_owned();
        if log.contains("connected to the broker broker=10.77.0.9") { Ok(()) } else { Err(log) }
    });
    assert!(!shed.log()[before..].contains("goes there"));
}
