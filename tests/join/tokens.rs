//! With a token nobody is needed.

use super::home::Home;

#[test]
fn a_token_is_all_that_a_node_needs_and_only_once() {
    let home = Home::new();
    let token = home.token(&[]);
    let mut agent = home.agent("a", "shed", "1000", &["--token", &token]);
    home.wait_ready(&["shed"]);
    let key = home.card("a").join("pki/node.key");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(key).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let secret = token.split('.').nth(1).unwrap();
    assert!(!agent.log().contains(secret) && !home.master.log().contains(secret), "the secret is in a log");
    agent.stop();

    // Without the token, which is deleted: the node is who it is.
    home.bramble(&["token", "delete", token.split('.').next().unwrap()]).good();
    let before = agent.log().matches("joins a cluster").count();
    let agent = home.agent("a", "shed", "1000", &[]);
    home.wait_ready(&["shed"]);
    assert_eq!((before, agent.log().matches("joins a cluster").count()), (1, 1), "it joined once");
}

#[test]
fn a_token_that_is_wrong_over_or_of_another_cluster_lets_nobody_in() {
    let home = Home::new();
    let token = home.token(&[]);
    let parts: Vec<&str> = token.split('.').collect();
    let wrong = format!("{}.{}.{}", parts[0], "0".repeat(16), parts[2]);
    let agent = home.agent("wrong", "shed", "1", &["--token", &wrong]);
    agent.says("it does not know the token, or its time is over");

    let short = home.token(&["--ttl", "1s"]);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let late = home.agent("late", "shed", "2", &["--token", &short]);
    late.says("it does not know the token, or its time is over");

    let foreign = format!("{}.{}.{}", parts[0], parts[1], "0".repeat(32));
    let agent = home.agent("foreign", "shed", "3", &["--token", &foreign]);
    agent.says("does not trust the master");
    assert!(!home.card("foreign").join("pki/ca.crt").exists(), "nothing of it is kept");
    assert!(home.ready_nodes().is_empty());
    let requests = home.kubectl(&["get", "csr", "-o", "name"]).good();
    assert_eq!(requests, "", "no request was made");
}
