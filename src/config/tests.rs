//! Tables for the configuration reader, and what a claim promises.

use super::*;

struct Sample;

fn read(file: &str, environment: &[(&str, &str)], flags: &[Flag]) -> Result<(), Faults> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sample.toml");
    std::fs::write(&path, file).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let mut reader = Reader::open(Some((&path, FileMay::NotBeMissing)), environment, flags);
    let name = reader.text("name", "a name");
    let name = reader.required("name", "a name", name);
    reader.seconds("node.lost_seconds", 2);
    reader.switch("leds.enabled");
    reader.parsed("mqtt.broker", BrokerUrl::EXPECTED, BrokerUrl::parse);
    reader.finish(name.map(|_| Sample)).map(|_| ()).map_err(|mut faults| {
        for fault in &mut faults.0 {
            fault.place = fault.place.rsplit('/').next().unwrap().to_owned();
        }
        faults
    })
}

fn faults(file: &str, environment: &[(&str, &str)], flags: &[Flag]) -> Vec<String> {
    read(file, environment, flags).err().map_or_else(Vec::new, |faults| faults.0.iter().map(ToString::to_string).collect())
}

#[test]
fn each_fault_names_its_place_its_key_what_is_expected_and_what_was_found() {
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        ("name = 'a'\n[node]\nlost_seconds = 3\n[leds]\n", &[], &[]),
        ("", &[], &["sample.toml: name: expected a name, found nothing"]),
        ("name = 4", &[], &["sample.toml: name: expected a name, found the number 4"]),
        ("name = ''", &[], &["sample.toml: name: expected a name, found an empty text"]),
        (
            "name = 'a'\nnode.lost_seconds = 1",
            &[],
            &["sample.toml: node.lost_seconds: expected a whole number of seconds, 2 to 1000000, found the number 1"],
        ),
        (
            "name = 'a'\nnode.lost_seconds = 1000001",
            &[],
            &["sample.toml: node.lost_seconds: expected a whole number of seconds, 2 to 1000000, found the number 1000001"],
        ),
        (
            "name = 'a'\nnode.lost_seconds = [1]",
            &[],
            &["sample.toml: node.lost_seconds: expected a whole number of seconds, 2 to 1000000, found a list"],
        ),
        (
            "name = 'a'\nnode.lost_second = 4",
            &[],
            &["sample.toml: node.lost_second: unknown key; did you mean `node.lost_seconds`?"],
        ),
        ("name = 'a'\nleds = true", &[], &["sample.toml: leds: expected a section with keys, found true"]),
        ("name = 'a'\n[stuff]", &[], &["sample.toml: stuff: unknown key"]),
        (
            "name = 'a'",
            &[("BRAMBLE_NODE__LOST_SECONDS", "soon"), ("BRAMBLE_LOG", "debug"), ("HOME", "/")],
            &[
                "BRAMBLE_NODE__LOST_SECONDS: node.lost_seconds: expected a whole number of seconds, 2 to 1000000, found the text \"soon\"",
            ],
        ),
        (
            "name = 'a'",
            &[("BRAMBLE_NODE__LOST", "3"), ("BRAMBLE_NAMES", "b")],
            &["BRAMBLE_NAMES: names: unknown key; did you mean `name`?", "BRAMBLE_NODE__LOST: node.lost: unknown key"],
        ),
    ];
    for (file, environment, expected) in cases {
        assert_eq!(faults(file, environment, &[]), *expected, "for {file:?} {environment:?}");
    }
}

#[test]
fn all_faults_come_at_once() {
    let found = faults("leds.enabled = 'maybe'\nx = 1\nmqtt.broker = 'http://a'", &[("BRAMBLE_NODE__LOST_SECONDS", "0")], &[]);
    assert_eq!(found.len(), 5, "{found:#?}");
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let flag = |value: &str| vec![Flag { name: "--lost", key: "node.lost_seconds", value: Some(value.to_owned()) }];
    let bad_file = "name = 'a'\nnode.lost_seconds = 'x'";
    assert_eq!(faults(bad_file, &[("BRAMBLE_NODE__LOST_SECONDS", "5")], &[]), Vec::<String>::new());
    assert_eq!(faults(bad_file, &[("BRAMBLE_NODE__LOST_SECONDS", "y")], &flag("5")), Vec::<String>::new());
    let found = faults(bad_file, &[("BRAMBLE_NODE__LOST_SECONDS", "5")], &flag("z"));
    assert!(found[0].starts_with("--lost: node.lost_seconds: "), "{found:?}");
}

#[test]
fn a_file_that_cannot_be_read_or_parsed_is_a_fault_beside_the_others() {
    let found = faults("name = \n[", &[("BRAMBLE_NODE__LOST_SECONDS", "soon")], &[]);
    assert!(found[0].starts_with("sample.toml: expected TOML: "), "{found:#?}");
    assert!(found.iter().any(|fault| fault.starts_with("BRAMBLE_NODE__LOST_SECONDS")), "{found:#?}");
    let missing = Path::new("/nonexistent/bramble.toml");
    let reader = Reader::open(Some((missing, FileMay::NotBeMissing)), [], &[]);
    let told = reader.finish(Some(())).unwrap_err().to_string();
    assert!(told.contains("/nonexistent/bramble.toml: expected a file that can be read"), "{told}");
    assert!(Reader::open(Some((missing, FileMay::BeMissing)), [], &[]).finish(Some(())).is_ok());
}

#[test]
fn a_relative_path_in_the_file_counts_from_the_files_folder() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.toml");
    std::fs::write(&file, "ca = 'pki/ca.crt'").unwrap();
    let mut reader = Reader::open(Some((&file, FileMay::NotBeMissing)), [("BRAMBLE_KEY".into(), "here.key".into())], &[]);
    assert_eq!(reader.path("ca", "a file"), Some(dir.path().join("pki/ca.crt")));
    assert_eq!(reader.path("key", "a file"), Some(PathBuf::from("here.key")));
}

#[test]
fn broker_urls_are_scheme_host_and_port_and_nothing_else() {
    let cases = [
        ("mqtts://10.0.0.1:8883", Some("mqtts://10.0.0.1:8883")),
        ("mqtts://pi.local", Some("mqtts://pi.local:8883")),
        ("mqtt://pi.local/", Some("mqtt://pi.local:1883")),
        ("mqtts://[::1]:9", Some("mqtts://[::1]:9")),
        ("mqtts://[::1]", Some("mqtts://[::1]:8883")),
        ("mqtts://[nonsense]:1", None),
        ("http://a:1", None),
        ("mqtts://", None),
        ("mqtts://a:0", None),
        ("mqtts://a:99999", None),
        ("mqtts://user:secret@a:1", None),
        ("mqtts://a:1/path", None),
        ("10.0.0.1:8883", None),
    ];
    for (url, expected) in cases {
        assert_eq!(BrokerUrl::parse(url).map(|url| url.to_string()).as_deref(), expected, "{url}");
    }
}

#[test]
fn a_second_claim_is_refused_and_names_the_first() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(holder(dir.path(), "master").unwrap(), None);
    let claim = Claim::take(dir.path(), "master").unwrap();
    assert_eq!(holder(dir.path(), "master").unwrap(), Some(Some(std::process::id())));
    let refused = Claim::take(dir.path(), "master").unwrap_err().to_string();
    assert!(refused.starts_with(&format!("another bramble master (pid {}) already uses ", std::process::id())), "{refused}");
    let _agent = Claim::take(dir.path(), "agent").expect("another role has a lock of its own");
    drop(claim);
    assert_eq!(holder(dir.path(), "master").unwrap(), None, "the file stays, the claim does not");
    Claim::take(dir.path(), "master").unwrap();
}

#[test]
fn a_file_where_the_directory_should_be_is_called_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("data");
    std::fs::write(&file, b"").unwrap();
    for place in [file.clone(), file.join("below"), file.join("far/below")] {
        let text = Report::from(Claim::take(&place, "start").unwrap_err()).fix.unwrap();
        assert!(text.contains(&format!("{} is a file, and has to be a directory", file.display())), "{text}");
    }
}
