//! Who is who: names that are taken, cards that were copied, nodes that were removed.

use std::path::Path;

use super::home::{Home, SOON, run};
use super::support::wait_until;

#[test]
fn two_boards_of_one_name_become_two_nodes() {
    let home = Home::new();
    let token = home.token(&[]);
    let _one = home.agent("a", "raspberrypi", "1000", &["--token", &token]);
    home.wait_ready(&["raspberrypi"]);
    let two = home.agent("b", "raspberrypi", "2000", &["--token", &token]);
    two.says("the node's name in the cluster");
    wait_until("two are ready", SOON, || {
        let ready = home.ready_nodes();
        let good = ready.len() == 2 && ready[0] == "raspberrypi" && ready[1].len() == "raspberrypi-".len() + 4;
        if good { Ok(()) } else { Err(format!("{ready:?}")) }
    });
}

#[test]
fn a_copied_card_becomes_a_node_of_its_own_and_runs_nothing_of_the_others() {
    let home = Home::new();
    let token = home.token(&[]);
    let mut one = home.agent("a", "shed", "1000", &["--token", &token]);
    home.wait_ready(&["shed"]);
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: lamp}\nspec: {nodeName: shed, containers: [{name: c, image: lamp}]}\n";
    let file = home.dir.path().join("pod.yaml");
    std::fs::write(&file, pod).unwrap();
    home.kubectl(&["apply", "-f", file.to_str().unwrap()]).good();
    let share = home.card("a").join("share.json");
    wait_until("the share is kept", SOON, || {
        let text = std::fs::read_to_string(&share).unwrap_or_default();
        if text.contains("lamp") { Ok(()) } else { Err(text) }
    });
    one.stop();
    let copied = run(Path::new("/bin/cp"), &["-a", home.card("a").to_str().unwrap(), home.card("b").to_str().unwrap()], &[]);
    copied.good();
    let _one = home.agent("a", "shed", "1000", &[]);
    let two = home.agent("b", "shed", "2000", &["--token", &token]);
    two.says("this card was copied from another board's");
    wait_until("two are ready", SOON, || {
        let ready = home.ready_nodes();
        if ready.len() == 2 && ready[0] == "shed" { Ok(()) } else { Err(format!("{ready:?}")) }
    });
    let key = |card: &str| std::fs::read(home.card(card).join("pki/node.key")).unwrap();
    assert_ne!(key("a"), key("b"));
    let aside = home.card("b").join("set-aside-1");
    assert_eq!(std::fs::read(aside.join("pki/node.key")).unwrap(), key("a"), "set aside, not deleted");
    assert!(aside.join("share.json").exists());
    let own = std::fs::read_to_string(home.card("b").join("share.json")).unwrap_or_default();
    assert!(!own.contains("lamp"), "{own}");
}

#[test]
fn a_removed_node_is_refused_until_it_joins_again() {
    let home = Home::new();
    let token = home.token(&[]);
    let mut agent = home.agent("a", "shed", "1000", &["--token", &token]);
    home.wait_ready(&["shed"]);
    home.bramble(&["node", "remove", "shed"]).good();
    // Its link is cut, it tries again, and is not let in.
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(home.kubectl(&["get", "nodes", "-o", "name"]).good(), "");
    let again = home.bramble(&["node", "remove", "shed"]);
    assert_eq!((again.code, again.err.contains("there is no node shed")), (1, true), "{}", again.err);
    agent.stop();
    let url = format!("https://127.0.0.1:{}/api", home.api);
    let pki = home.card("a").join("pki");
    let file = |name: &str| pki.join(name).display().to_string();
    let asked = [
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "--cacert",
        &file("ca.crt"),
        "--cert",
        &file("node.crt"),
        "--key",
        &file("node.key"),
        &url,
    ];
    assert_eq!(run(Path::new("/usr/bin/curl"), &asked, &[]).good(), "401");

    std::fs::remove_dir_all(home.card("a")).unwrap();
    let _agent = home.agent("a", "shed", "1000", &["--token", &token]);
    home.wait_ready(&["shed"]);
}

#[test]
fn a_card_that_the_master_wrote_is_in_from_its_first_start() {
    let home = Home::new();
    let card = home.dir.path().join("card").display().to_string();
    home.bramble(&["node", "add", "attic", "-o", &card]).good();
    let again = home.bramble(&["node", "add", "attic", "-o", "/nowhere"]);
    assert_eq!((again.code, again.err.contains("there is a node attic")), (1, true), "{}", again.err);
    let _one = home.agent("card/bramble-agent", "attic", "1000", &[]);
    home.wait_ready(&["attic"]);
    let kept = std::fs::read_to_string(home.card("card/bramble-agent").join("join.json")).unwrap();
    assert!(kept.contains("\"serial\": \"1000\""), "{kept}");
}
