//! A board whose clock is not set, as every Pi's when it starts: the agent sees another time than the master.
//!
//! Needs: faketime (Debian): a library that shows a process another wall clock. The monotonic clock stays as it is, as in a kernel.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::home::{Home, SOON};
use super::support::wait_until;

fn library() -> PathBuf {
    let folders = ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime"];
    let found = folders.iter().map(|folder| Path::new(folder).join("libfaketime.so.1")).find(|path| path.exists());
    found.expect("libfaketime is missing: apt-get install faketime")
}

/// This moment, in seconds since 1970.
fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// The clock of a board, which can be set.
struct Clock {
    file: PathBuf,
}

impl Clock {
    /// Shows the first minute of 1970.
    fn of_1970(folder: &Path) -> Self {
        let clock = Self { file: folder.join("clock") };
        clock.shift(60 - now());
        clock
    }

    fn shift(&self, seconds: i64) {
        // Renamed over, so that it is never seen half.
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new("env");
        command.env("LD_PRELOAD", library()).env("FAKETIME_TIMESTAMP_FILE", &self.file);
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
        command
    }
}

/// A pod's times, in seconds since 1970: created, begun, ready, and its container's start.
fn times(pod: &Value) -> [i64; 4] {
    let seconds = |text: &Value| {
        let text = text.as_str().unwrap_or_else(|| panic!("no time in {pod}"));
        bramble::api::time::parse(text).unwrap_or_else(|| panic!("{text}")).0 / 1000
    };
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").unwrap();
    [
        seconds(&pod["metadata"]["creationTimestamp"]),
        seconds(&pod["status"]["startTime"]),
        seconds(&ready["lastTransitionTime"]),
        seconds(&pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]),
    ]
}

fn wait_running(home: &Home, name: &str) -> Value {
    wait_until(&format!("{name} to run"), SOON, || {
        let pod = home.get(&["pod", name]);
        let ready = pod["status"]["conditions"].as_array().into_iter().flatten();
        let ready = ready.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        if ready { Ok(pod) } else { Err(pod["status"].to_string()) }
    })
}

#[track_caller]
fn assert_sane(pod: &Value, from: i64) {
    let all = times(pod);
    assert!(all[1..].iter().all(|&time| time >= all[0] && time <= now() + 1) && all[0] >= from, "from {from}: {all:?}");
}

#[test]
fn a_board_in_1970_joins_and_runs_pods_whose_times_are_right_before_and_after_its_clock_is_set() {
    let home = Home::new();
    let token = home.token(&[]);
    let clock = Clock::of_1970(home.dir.path());
    let from = now();
    let mut agent = home.agent_by(clock.command(), "a", "shed", "1970", &["--token", &token]);
    home.wait_ready(&["shed"]);
    assert_eq!(agent.log().matches("the clock is not set, it shows 1970-01-01T00:0").count(), 1, "{}", agent.log());
    let limited = r#"{"spec": {"activeDeadlineSeconds": 600}}"#;
    home.kubectl(&["run", "early", "--image", "web", "--overrides", limited]).good();
    let early = wait_running(&home, "early");
    assert_sane(&early, from);
    // Its own clock shows 1970: the times are the master's doing, who knows it.
    home.master.says("its clock is 56y behind the master's");

    // A time server answers: 56 years in a moment.
    std::thread::sleep(Duration::from_secs(3));
    clock.shift(0);
    agent.says("the clock was set from 1970-01-01T00:0");
    home.master.says("its clock shows the master's time");
    home.kubectl(&["run", "late", "--image", "web"]).good();
    let late = wait_running(&home, "late");
    assert_sane(&late, from);
    std::thread::sleep(Duration::from_secs(3));
    let after = home.get(&["pod", "early"]);
    assert_eq!(after["status"]["phase"], "Running", "its deadline is ten minutes, not 56 years: {after}");
    assert_eq!(after["status"]["containerStatuses"][0]["restartCount"], 0);
    assert_eq!(home.ready_nodes(), ["shed"]);
    // Told anew, by a master that knows nothing but what it kept.
    agent.stop();
    assert_eq!(agent.log().matches("the clock is not set").count(), 1, "once: {}", agent.log());
    assert_eq!(agent.log().matches("the clock was set").count(), 1);
    assert_sane(&home.get(&["pod", "early"]), from);
    let events = home.get(&["events"]);
    let stamps: Vec<&str> =
        events["items"].as_array().unwrap().iter().filter_map(|event| event["lastTimestamp"].as_str()).collect();
    assert!(
        !stamps.is_empty() && stamps.iter().all(|stamp| bramble::api::time::parse(stamp).unwrap().0 / 1000 >= from - 1),
        "{stamps:?}"
    );
}

#[test]
fn a_clock_that_is_set_is_not_spoken_of() {
    let home = Home::new();
    let token = home.token(&[]);
    let mut agent = home.agent("a", "shed", "2026", &["--token", &token]);
    home.wait_ready(&["shed"]);
    agent.stop();
    for words in ["is not set", "was set"] {
        assert!(!agent.log().contains(words), "{}", agent.log());
    }
    assert!(!home.master.log().contains("its clock"), "{}", home.master.log());
}
