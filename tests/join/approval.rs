//! Without a token a person says yes or no.

use super::home::Home;
use super::support::oldest_and_newest_kubectl;

#[test]
fn a_person_lets_a_node_in_that_shows_the_fingerprint_of_its_log() {
    let home = Home::new();
    let agent = home.agent("a", "shed", "1000", &[]);
    agent.says("waits for a person to let it in");
    let waiting = home.wait_waiting("shed");
    let key = waiting["key"].as_str().unwrap();
    assert!(key.starts_with("SHA256:") && agent.log().contains(key), "{key}");
    assert_eq!((waiting["serial"].as_str(), waiting["address"].as_str()), (Some("1000"), Some("127.0.0.1")));
    assert!(home.ready_nodes().is_empty());

    let refused = home.bramble(&["node", "approve", "attic"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("these wait: shed"), "{}", refused.err);
    let said = home.bramble(&["node", "approve", "shed"]).good();
    assert!(said.contains(key) && said.contains("node shed is let in"), "{said}");
    home.wait_ready(&["shed"]);
}

#[test]
fn both_kubectls_show_approve_and_deny_requests() {
    for (version, kubectl) in oldest_and_newest_kubectl() {
        let home = Home::new();
        let good = home.agent("a", "shed", "1000", &[]);
        let bad = home.agent("b", "attic", "2000", &[]);
        let requests = ["shed", "attic"].map(|name| home.wait_waiting(name)["request"].as_str().unwrap().to_owned());
        let table = home.kubectl_of(&kubectl, &["get", "csr"]).good();
        assert!(table.contains("SIGNERNAME") && table.contains("system:anonymous"), "{version}: {table}");
        assert_eq!(table.matches("Pending").count(), 2, "{version}: {table}");
        let words = home.kubectl_of(&kubectl, &["describe", "csr", &requests[0]]).good();
        for part in ["Requesting User:", "bramble/node", "Common Name:", "shed"] {
            assert!(words.contains(part), "{version}: {part} in {words}");
        }
        home.kubectl_of(&kubectl, &["certificate", "approve", &requests[0]]).good();
        home.kubectl_of(&kubectl, &["certificate", "deny", &requests[1]]).good();
        good.says("joined");
        bad.says("a person refused to let it in");
        home.wait_ready(&["shed"]);
        let table = home.kubectl_of(&kubectl, &["get", "csr"]).good();
        assert!(table.contains("Approved,Issued") && table.contains("Denied"), "{version}: {table}");
    }
}
