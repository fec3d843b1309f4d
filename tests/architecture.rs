//! The rules of the source tree, held by a machine: who may name whom, and what a decider may not touch.
//!
//! A single package has no crate walls; this is the wall.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Which top-level modules each may name, besides itself. `cli` and `main` may name everything.
const MAY_NAME: &[(&str, &[&str])] = &[
    // 0 ground
    ("clock", &[]),
    ("step", &["clock"]),
    ("backoff", &["rng"]),
    ("rng", &[]),
    ("routes", &[]),
    ("error", &[]),
    ("https", &[]),
    ("pkcs10", &[]),
    ("config", &["error"]),
    ("task", &[]),
    ("telemetry", &["error"]),
    ("terminal", &[]),
    ("tls", &[]),
    // 1 words
    ("api", &["clock"]),
    ("board", &["clock", "error", "terminal"]),
    ("mdns", &["clock", "error"]),
    // 2 link
    ("link", &["api", "clock", "step", "backoff", "rng", "error"]),
    // 3 store
    ("store", &["api", "clock", "step", "error", "rng"]),
    // 4 master side
    ("apiserver", &["api", "store", "link", "clock", "step", "backoff", "rng", "error", "tls", "pkcs10"]),
    ("scheduler", &["api", "store", "clock", "step", "backoff", "rng", "error"]),
    ("controller", &["api", "store", "clock", "step", "backoff", "rng", "error", "tls", "pkcs10"]),
    ("dispatcher", &["api", "store", "link", "clock", "step", "backoff", "rng", "error"]),
    ("broker", &["link", "clock", "step", "backoff", "rng", "error", "tls", "pkcs10"]),
    // 4 node side
    (
        "agent",
        &[
            "api",
            "board",
            "link",
            "clock",
            "step",
            "backoff",
            "rng",
            "error",
            "config",
            "task",
            "telemetry",
            "terminal",
            "tls",
            "https",
            "pkcs10",
            "mdns",
            "routes",
        ],
    ),
    // 5 composition
    ("flash", &["api", "error"]),
    (
        "master",
        &[
            "api",
            "store",
            "link",
            "apiserver",
            "scheduler",
            "controller",
            "dispatcher",
            "broker",
            "clock",
            "rng",
            "error",
            "config",
            "task",
            "telemetry",
            "tls",
            "pkcs10",
            "mdns",
            "routes",
        ],
    ),
    (
        "local",
        &[
            "api",
            "agent",
            "master",
            "link",
            "board",
            "clock",
            "rng",
            "error",
            "config",
            "task",
            "telemetry",
            "terminal",
            "tls",
            "backoff",
            "https",
            "routes",
        ],
    ),
];

/// Files of layers 1 to 4 that do: all others decide, or are words.
const HANDS: &[&str] = &[
    "config.rs",
    "run.rs",
    "streams.rs",
    "http.rs",
    "mqtt.rs",
    "docker.rs",
    "gpio.rs",
    "sysinfo.rs",
    "disk.rs",
    "tcp.rs",
    "udp.rs",
    "netlink.rs",
    "exec.rs",
    "grpc.rs",
    "bell.rs",
    "tls.rs",
];
/// Layers whose files must be one or the other.
const DECIDING: &[&str] =
    &["api", "board", "mdns", "link", "store", "apiserver", "scheduler", "controller", "dispatcher", "broker", "agent", "flash"];
/// What a decider may not name, and why.
const FORBIDDEN: &[(&str, &str)] = &[
    ("tokio::", "sockets, timers and tasks belong to hands"),
    ("std::fs", "the disk belongs to hands"),
    ("std::net::Tcp", "sockets belong to hands"),
    ("std::net::Udp", "sockets belong to hands"),
    ("std::thread", "threads belong to hands"),
    ("Instant::now", "deciders are given Now"),
    ("SystemTime::now", "deciders are given Now"),
    ("Rng::from_os", "deciders are given their generator"),
    ("fastrand::", "deciders are given their generator"),
];
/// Files that may name one of the forbidden things, each with its reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("link/call.rs", "tokio::", "the receiving end of a stream is a type in a trait; nothing waits here"),
    (
        "store/mod.rs",
        "tokio::",
        "the handle where deciders meet the writer: it waits for the writer's answer, and rings the bell",
    ),
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file with its text up to the tests.
fn files() -> Vec<(String, String)> {
    fn walk(folder: &Path, out: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                out.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    walk(&source(), &mut paths);
    paths
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(source()).unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// Code without comments, documentation and test modules.
fn product(text: &str) -> String {
    let until_tests =
        text.find("#[cfg(test)]\nmod tests").or_else(|| text.find("#[cfg(test)]\npub(crate) mod tests")).unwrap_or(text.len());
    text[..until_tests].lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn is_test_file(name: &str) -> bool {
    name.ends_with("tests.rs") || name.contains("/tests/") || name.ends_with("world.rs")
}

#[test]
fn arrows_point_downwards() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_NAME.iter().copied().collect();
    let mut faults = Vec::new();
    for (name, text) in files() {
        if is_test_file(&name) {
            continue;
        }
        let module = name.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
        let Some(allowed) = allowed.get(module.as_str()) else { continue };
        for named in product(&text).split("crate::").skip(1) {
            // `crate::{a, b}` would hide names: the house writes one path a line.
            let named: String = named.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if named != module && !allowed.contains(&named.as_str()) {
                faults.push(format!("src/{name} names crate::{named}, which {module} may not"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_module_has_a_rule() {
    let ruled: Vec<&str> = MAY_NAME.iter().map(|(module, _)| *module).chain(["cli", "lib", "main"]).collect();
    for entry in fs::read_dir(source()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().trim_end_matches(".rs").to_owned();
        assert!(ruled.contains(&name.as_str()), "src/{name} has no rule: add it to MAY_NAME");
    }
}

#[test]
fn deciders_touch_nothing() {
    let mut faults = Vec::new();
    for (name, text) in files() {
        let module = name.split('/').next().unwrap();
        // A folder that bears a hand's name holds the parts of that hand.
        let hand = name.split('/').any(|part| HANDS.contains(&part) || HANDS.contains(&format!("{part}.rs").as_str()));
        // Layer 5's part of the node.
        let composes = name == "agent/run.rs" || name.starts_with("agent/run/");
        if !DECIDING.contains(&module) || hand || is_test_file(&name) || composes {
            continue;
        }
        let product = product(&text);
        for (thing, why) in FORBIDDEN {
            let excepted = EXCEPTIONS.iter().any(|(file, what, _)| *file == name && what == thing);
            if product.contains(thing) && !excepted {
                faults.push(format!("src/{name} names {thing}: {why}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    for (name, text) in files() {
        assert!(text.starts_with("//! ") && !text.starts_with("//! (skeleton)"), "src/{name} has no header");
    }
}

/// A planted fault is caught: the rules above are able to fail.
#[test]
fn the_rules_can_fail() {
    assert!(product("use tokio::net::TcpStream;\n#[cfg(test)]\nmod tests { use tokio::x; }").matches("tokio::").count() == 1);
    assert!(!product("//! tokio::net is not used here\nfn a() {}").contains("tokio::"));
}
