//! A master whose store is lost wipes no house: its nodes run on, say so, and obey it when a person says that they shall.

use super::home::{Home, SOON};
use super::support::wait_until;

/// A pod on the node, whatever the scheduler and its taints say.
fn run_pod(home: &Home, name: &str) {
    let overrides = r#"{"spec":{"nodeName":"shed","tolerations":[{"operator":"Exists"}]}}"#;
    home.kubectl(&["run", name, "--image=web:1", "--overrides", overrides]).good();
}

fn wait_running(home: &Home, name: &str) {
    wait_until(&format!("{name} runs"), SOON, || {
        let phase = home.kubectl(&["get", "pod", name, "-o", "jsonpath={.status.phase}"]).out;
        if phase == "Running" { Ok(()) } else { Err(phase) }
    });
}

fn wait_leds(home: &Home, shown: &str) {
    wait_until(&format!("the LEDs show {shown}"), SOON, || {
        let leds = home.leds("shed");
        if leds.contains(shown) { Ok(()) } else { Err(leds) }
    });
}

/// Node and status, as `bramble node list` has them.
fn wait_listed(home: &Home, expected: &str) {
    wait_until(expected, SOON, || {
        let list = home.bramble(&["node", "list"]).good();
        let words: Vec<&str> = list.lines().flat_map(|line| line.split_whitespace().take(2)).skip(2).collect();
        if words.join(" ") == expected { Ok(()) } else { Err(list) }
    });
}

#[test]
fn a_node_of_a_lost_store_runs_on_and_obeys_the_new_one_when_a_person_says_so() {
    let mut home = Home::new();
    let mut agent = home.agent("a", "shed", "1000", &["--token", &home.token(&[])]);
    home.wait_ready(&["shed"]);
    run_pod(&home, "web");
    wait_running(&home, "web");
    wait_leds(&home, "default/web (solid)");
    let share = home.card("a").join("share.json");
    let kept = || std::fs::read_to_string(&share).unwrap();
    wait_until("the share is kept", SOON, || if kept().contains("web:1") { Ok(()) } else { Err(kept()) });
    let before = kept();
    let nothing = home.bramble(&["node", "adopt", "shed"]);
    assert!(nothing.code == 1 && nothing.err.contains("runs no pods of another store"), "{}", nothing.err);

    home.lose_store();
    wait_listed(&home, "shed OtherStore");
    let words = "the node runs the pods of another store, and this master's share is not obeyed; if that is meant: bramble node adopt shed";
    let described = home.kubectl(&["describe", "node", "shed"]).good();
    assert!(described.contains(words), "{described}");
    home.master.says("it runs the pods of another store");
    assert_eq!(home.kubectl(&["get", "pods", "-o", "name"]).good(), "", "the new store knows nothing of it");
    // What the new store wants is not obeyed, not even after a start of the agent.
    run_pod(&home, "other");
    for _ in 0..2 {
        wait_leds(&home, "default/web (solid)");
        std::thread::sleep(std::time::Duration::from_secs(3));
        assert!(!home.leds("shed").contains("other") && kept() == before, "{}", kept());
        agent.stop();
        agent = home.agent("a", "shed", "1000", &[]);
        wait_until("it is back", SOON, || {
            let back = home
                .kubectl(&["get", "node", "shed", "-o", "jsonpath={.status.conditions[?(@.type==\"OtherStore\")].status}"])
                .out;
            if back == "True" { Ok(()) } else { Err(back) }
        });
    }
    let phase = home.kubectl(&["get", "pod", "other", "-o", "jsonpath={.status.phase}"]).good();
    assert_eq!(phase, "Pending");

    let unknown = home.bramble(&["node", "adopt", "attic"]);
    assert!(unknown.code == 1 && unknown.err.contains("there is no node attic"), "{}", unknown.err);
    let said = home.bramble(&["node", "adopt", "shed"]).good();
    assert_eq!(said, "node shed obeys this master\n");
    wait_running(&home, "other");
    wait_leds(&home, "default/other (solid)");
    wait_until("the old pod is gone", SOON, || {
        let leds = home.leds("shed");
        if leds.contains("default/web") { Err(leds) } else { Ok(()) }
    });
    wait_listed(&home, "shed Ready");
    let annotations = home.kubectl(&["get", "node", "shed", "-o", "jsonpath={.metadata.annotations}"]).good();
    assert!(!annotations.contains("bramble/adopt"), "the word is used up: {annotations}");
    // It is this store's from now on.
    agent.stop();
    let _agent = home.agent("a", "shed", "1000", &[]);
    wait_leds(&home, "default/other (solid)");
    wait_listed(&home, "shed Ready");
    assert!(home.bramble(&["node", "adopt", "shed"]).err.contains("there is nothing to adopt"));
}
