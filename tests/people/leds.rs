//! The LEDs of a cluster, live in the terminal, against what its pods and nodes do.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::support::{Cluster, lives, signal, wait_until};
use super::terminal::{Heard, bramble};

const SOON: Duration = Duration::from_secs(20);

/// One line of one frame.
#[derive(Clone, Debug)]
struct Frame {
    node: String,
    lit: Vec<bool>,
    /// What each LED shows, and how it burns, in words.
    words: BTreeMap<String, (String, String)>,
    at: Instant,
}

impl Frame {
    fn parse(line: &str) -> Option<Self> {
        let (node, rest) = line.split_once(' ')?;
        let (dots, rest) = rest.trim_start().split_once(' ')?;
        let lit: Vec<bool> = dots.chars().map(|dot| dot == '●').collect();
        if !dots.chars().all(|dot| "●○".contains(dot)) {
            return None;
        }
        let words = rest.split(") ").filter_map(|led| {
            let (name, rest) = led.trim().trim_end_matches(')').split_once('=')?;
            let (shows, pattern) = rest.split_once(" (")?;
            Some((name.to_owned(), (shows.to_owned(), pattern.to_owned())))
        });
        Some(Self { node: node.to_owned(), lit, words: words.collect(), at: Instant::now() })
    }

    fn says(&self, led: &str, shows: &str, pattern: &str) -> bool {
        self.words.get(led).is_some_and(|(a, b)| a == shows && b == pattern)
    }
}

/// `bramble leds show`, and everything that it has drawn.
struct Show {
    child: Child,
    drawn: Arc<Mutex<(Vec<Frame>, Vec<String>)>>,
}

impl Show {
    fn of(cluster: &Cluster) -> Self {
        let home = cluster.dir.parent().unwrap();
        let show = ["leds", "show", "--data-dir", &cluster.dir.display().to_string()].map(str::to_owned);
        let mut child = bramble(home, show).stdout(Stdio::piped()).spawn().unwrap();
        let drawn = Arc::new(Mutex::new((Vec::new(), Vec::new())));
        let (lines, into) = (BufReader::new(child.stdout.take().unwrap()).lines(), drawn.clone());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut into = into.lock().unwrap();
                match Frame::parse(&line) {
                    Some(frame) => into.0.push(frame),
                    None => into.1.push(line),
                }
            }
        });
        Self { child, drawn }
    }

    fn frames(&self, node: &str) -> Vec<Frame> {
        self.drawn.lock().unwrap().0.iter().filter(|frame| frame.node == node).cloned().collect()
    }

    /// Waits until an LED has ever shown this.
    #[track_caller]
    fn has_shown(&self, node: &str, led: &str, shows: &str, pattern: &str) {
        wait_until(&format!("{led} of {node} shows {shows} as {pattern}"), SOON, || {
            let frames = self.frames(node);
            let seen = frames.iter().any(|frame| frame.says(led, shows, pattern));
            if seen { Ok(()) } else { Err(format!("{:?}", frames.last())) }
        });
    }

    /// Waits until an LED shows this now.
    #[track_caller]
    fn shows(&self, node: &str, led: &str, shows: &str, pattern: &str) {
        wait_until(&format!("{led} of {node} now shows {shows} as {pattern}"), SOON, || {
            let last = self.frames(node).pop();
            if last.as_ref().is_some_and(|frame| frame.says(led, shows, pattern)) { Ok(()) } else { Err(format!("{last:?}")) }
        });
    }

    /// Which LED shows this pod.
    fn led(&self, node: &str, pod: &str) -> String {
        wait_until(&format!("an LED for {pod}"), SOON, || {
            let last = self.frames(node).pop();
            let led = last.as_ref().and_then(|frame| frame.words.iter().find(|(_, (shows, _))| shows == pod));
            led.map(|(led, _)| led.clone()).ok_or_else(|| format!("{last:?}"))
        })
    }

    /// How often an LED went on or off while it showed this pattern, and whether it was ever lit and ever dark.
    fn burnt(&self, node: &str, led: &str, pattern: &str, since: Instant) -> (usize, bool, bool) {
        let index = led.strip_prefix("pod-").map_or(0, |number| number.parse::<usize>().unwrap());
        let lit: Vec<bool> = self
            .frames(node)
            .iter()
            .filter(|frame| frame.at >= since && frame.words.get(led).is_some_and(|(_, words)| words == pattern))
            .map(|frame| frame.lit[index])
            .collect();
        let turns = lit.windows(2).filter(|pair| pair[0] != pair[1]).count();
        (turns, lit.contains(&true), lit.contains(&false))
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pod(name: &str, annotations: &str, grace: u32) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, annotations: {{{annotations}}}}}\nspec:\n  nodeName: bramble-1\n  \
         terminationGracePeriodSeconds: {grace}\n  containers: [{{name: main, image: \"{name}:1\"}}]\n---\n"
    )
}

#[test]
fn each_state_of_a_pod_and_a_node_is_seen_on_its_led() {
    let cluster = Cluster::started(&["--runtime", "simulated", "--nodes", "2"]);
    let show = Show::of(&cluster);
    show.shows("bramble-1", "node", "node", "solid");
    show.shows("bramble-2", "node", "node", "solid");

    let pods = [
        pod("calm", "bramble/led: pod-3", 1),
        pod("crash", "bramble/simulate: exit=1 after=50ms", 1),
        pod("deaf", "bramble/simulate: deaf", 4),
        pod("nowhere", "bramble/simulate: pull-fails", 1),
    ];
    cluster.apply(&pods.concat());
    // Pulling and starting, then ready, on the LED that it asked for.
    show.has_shown("bramble-1", "pod-3", "default/calm", "slow blink");
    show.shows("bramble-1", "pod-3", "default/calm", "solid");
    let (crash, deaf, nowhere) =
        (show.led("bramble-1", "default/crash"), show.led("bramble-1", "default/deaf"), show.led("bramble-1", "default/nowhere"));
    show.has_shown("bramble-1", &deaf, "default/deaf", "slow blink");
    show.has_shown("bramble-1", &crash, "default/crash", "fast blink");
    show.shows("bramble-1", &nowhere, "default/nowhere", "double blink");
    show.shows("bramble-1", &deaf, "default/deaf", "solid");
    // Once it waits for seconds, it blinks for seconds.
    wait_until("the third crash", SOON, || {
        let said =
            cluster.kubectl(&["get", "pod", "crash", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"]).expect();
        if said.parse::<u32>().unwrap_or(0) >= 3 { Ok(()) } else { Err(said) }
    });
    let since = Instant::now();
    std::thread::sleep(Duration::from_millis(2500));
    let (fast, double) =
        (show.burnt("bramble-1", &crash, "fast blink", since), show.burnt("bramble-1", &nowhere, "double blink", since));
    assert!(fast.1 && fast.2 && fast.0 > 8, "ten turns a second: {fast:?}");
    assert!(double.1 && double.2 && (4..fast.0).contains(&double.0), "four turns in 1.2 s: {double:?}, fast {fast:?}");
    assert_eq!(show.burnt("bramble-1", "pod-3", "solid", since), (0, true, false), "solid is solid");
    // What is being ended is not ready any more; then its LED is free.
    cluster.kubectl(&["delete", "pod", "deaf", "--wait=false"]).expect();
    show.shows("bramble-1", &deaf, "default/deaf", "double blink");
    wait_until("the LED of a pod that is gone is free", SOON, || {
        let last = show.frames("bramble-1").pop().unwrap();
        if last.words.contains_key(&deaf) { Err(format!("{last:?}")) } else { Ok(()) }
    });

    // A node that stops dead, then one that is killed, by its will.
    let pid = cluster.agent_pid("bramble-2");
    signal(pid, "STOP");
    show.shows("bramble-2", "node", "node", "long-short");
    signal(pid, "CONT");
    show.shows("bramble-2", "node", "node", "solid");
    signal(pid, "KILL");
    show.shows("bramble-2", "node", "node", "long-short");
    show.shows("bramble-1", "node", "node", "solid");
    cluster.start(&[]).expect();
    show.shows("bramble-2", "node", "node", "solid");

    // The master dies, and the broker with it: every node lost its link, and somebody who looks on is told.
    signal(cluster.master_pid(), "KILL");
    show.shows("bramble-1", "node", "node", "long-short");
    show.shows("bramble-2", "node", "node", "long-short");
    wait_until("a word about the broker", SOON, || {
        let said = show.drawn.lock().unwrap().1.clone();
        if said.iter().any(|line| line.contains("the broker does not answer any more")) { Ok(()) } else { Err(said.join("\n")) }
    });
    cluster.start(&[]).expect();
    show.shows("bramble-1", "node", "node", "solid");
    show.shows("bramble-2", "node", "node", "solid");
    show.shows("bramble-1", "pod-3", "default/calm", "solid");
}

/// The agent of a node, started anew by hand with other settings.
struct Anew(Child);

impl Anew {
    fn of(cluster: &Cluster, node: &str, settings: &[(&str, &str)]) -> Self {
        let pid = cluster.agent_pid(node);
        signal(pid, "TERM");
        wait_until("the agent ends", SOON, || if lives(pid) { Err(format!("{pid} is there")) } else { Ok(()) });
        let config = cluster.dir.join(format!("nodes/{node}/agent.toml")).display().to_string();
        let mut agent = bramble(cluster.dir.parent().unwrap(), ["agent", "--config", &config]);
        let child = agent.envs(settings.iter().copied()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self(child)
    }
}

impl Drop for Anew {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_board_is_found_by_its_blinking_leds() {
    let cluster = Cluster::started(&["--runtime", "simulated", "--nodes", "3"]);
    let home = cluster.dir.parent().unwrap();
    let data = cluster.dir.display().to_string();
    let identify = |node: &str, more: &[&str]| Heard::from(bramble(home, ["identify", node, "--data-dir", &data]).args(more));
    let show = Show::of(&cluster);
    show.shows("bramble-1", "node", "node", "solid");
    identify("bramble-1", &["--seconds", "3"]).says(0, &["all 8 LEDs of bramble-1 blink fast for 3 s"]);
    show.has_shown("bramble-1", "node", "node", "identify");
    show.shows("bramble-1", "node", "node", "solid");
    assert!(show.frames("bramble-2").iter().all(|frame| !frame.says("node", "node", "identify")), "only the one that was meant");
    identify("shed", &[]).fails(1, "there is no node shed", "bramble node list");
    identify("Shed Pi", &[]).fails(2, "is no node's name", "lower case");

    // One without LEDs, one whose LEDs nobody wants, and one that is deaf.
    let bare = Anew::of(&cluster, "bramble-2", &[("BRAMBLE_BOARD", "generic")]);
    let answered = |node: &str, code: i32| {
        wait_until(&format!("{node} answers with {code}"), SOON, || {
            let heard = identify(node, &["--seconds", "1"]);
            if heard.code == code && !heard.err.contains("503") && !heard.err.contains("does not answer") {
                Ok(heard)
            } else {
                Err(format!("{heard:?}"))
            }
        })
    };
    answered("bramble-2", 1).fails(1, "node bramble-2 cannot be made to blink", "leds.hats").says(1, &["it has no LEDs"]);
    let off = Anew::of(&cluster, "bramble-3", &[("BRAMBLE_LEDS__ENABLED", "false")]);
    answered("bramble-3", 0).says(0, &["blink in drawings only", "leds.enabled is false there"]);
    signal(cluster.agent_pid("bramble-1"), "STOP");
    identify("bramble-1", &[]).fails(1, "node bramble-1 cannot be made to blink", "power and a network");
    signal(cluster.agent_pid("bramble-1"), "CONT");
    drop((bare, off));
}

#[test]
fn more_pods_than_leds_share_them_or_come_in_pages() {
    let cluster = Cluster::started(&["--runtime", "simulated", "--nodes", "1"]);
    let show = Show::of(&cluster);
    let pods: Vec<String> = (0..9).map(|number| pod(&format!("calm-{number}"), "", 1)).collect();
    cluster.apply(&pods.concat());
    // Nine pods on seven LEDs.
    wait_until("two LEDs are shared, all solid", SOON, || {
        let last = show.frames("bramble-1").pop();
        let shared =
            |frame: &Frame| frame.words.values().filter(|(shows, pattern)| shows.ends_with("+1") && pattern == "solid").count();
        if last.as_ref().is_some_and(|frame| shared(frame) == 2) { Ok(()) } else { Err(format!("{last:?}")) }
    });
    cluster.apply(&pod("crash", "bramble/simulate: exit=1 after=50ms", 1));
    show.has_shown("bramble-1", &show.led("bramble-1", "default/crash+1"), "default/crash+1", "fast blink");

    let paged = [("BRAMBLE_LEDS__OVERFLOW", "page"), ("BRAMBLE_LEDS__PAGE_SECONDS", "1")];
    let begun = Instant::now();
    let agent = Anew::of(&cluster, "bramble-1", &paged);
    wait_until("each pod by itself", SOON, || {
        let frames = show.frames("bramble-1");
        let seen: std::collections::BTreeSet<String> = frames
            .iter()
            .filter(|frame| frame.at > begun)
            .flat_map(|frame| frame.words.values().map(|(shows, _)| shows.clone()))
            .collect();
        let missing: Vec<String> = (0..9)
            .map(|n| format!("default/calm-{n}+1"))
            .filter(|name| !seen.contains(name) && !seen.contains(name.trim_end_matches("+1")))
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} of {seen:?}")) }
    });
    drop(agent);
}

#[test]
fn show_ends_when_it_should_and_says_when_there_is_nothing_to_see() {
    let cluster = Cluster::started(&["--runtime", "simulated", "--nodes", "2"]);
    let home = cluster.dir.parent().unwrap();
    let data = cluster.dir.display().to_string();
    let show = |more: &[&str]| Heard::from(bramble(home, ["leds", "show", "--seconds", "2", "--data-dir", &data]).args(more));
    let all = show(&[]);
    all.says(0, &["bramble-1 ", "bramble-2 ", "node=node (solid)"]);
    assert!(!all.out.contains('\x1b'), "no terminal, no colours");
    let one = show(&["bramble-2"]);
    assert!(one.code == 0 && one.out.contains("bramble-2 ") && !one.out.contains("bramble-1"), "{one:?}");
    show(&["bramble-9"]).says(0, &["bramble-9 has not told of its LEDs yet"]);
    show(&["--mqtt", "nonsense"]).fails(2, "\"nonsense\" is no HOST:PORT", "127.0.0.1:1883");
    let mqtt = cluster.status()["mqtt"].as_str().unwrap().to_owned();
    cluster.bramble(["stop"]).expect();
    let told = Heard::from(&mut bramble(home, ["leds", "show", "--mqtt", &mqtt]));
    told.fails(1, "no broker answers at 127.0.0.1:", "bramble start");
}

#[test]
fn board_and_hat_files_are_checked_whole_and_a_machine_without_pins_says_so() {
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str| format!("{}/boards/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let (good, plain) = (file("rpi-4b"), file("hats/plain"));
    let leds = |arguments: &[&str]| Heard::from(bramble(home.path(), ["leds"]).args(arguments));
    leds(&["check", &good]).says(0, &["is a board file: Raspberry Pi 4 Model B (rpi-4b), 2 LEDs"]);
    leds(&["check", &plain]).says(0, &["is a HAT file: Eight plain LEDs (plain), 8 LEDs"]);
    leds(&["check", &good, &plain, &file("hats/led-shim")]).says(0, &["2 LEDs", "8 LEDs", "28 LEDs", "they go together"]);
    let told = leds(&["check", &good, &plain, &file("hats/clusterhat-v1")]);
    told.fails(2, "these HATs do not go together on board \"rpi-4b\"", "docs/boards.md");
    told.says(
        2,
        &["HAT \"clusterhat-v1\"", "occupies: pin 6 is used twice: LED \"pod-2\" has it already (HAT \"plain\", line 22)"],
    );
    // By name, and on which board.
    leds(&["check", "rpi-4b"]).says(0, &["rpi-4b is a board file: Raspberry Pi 4 Model B (rpi-4b), 2 LEDs"]);
    leds(&["check", "plain", "blinkt", "rpi-5"]).says(0, &["8 LEDs", "2 LEDs", "they go together on board rpi-5\n"]);
    let own = home.path().join("own.toml");
    let chip = "kind = 'hat'\nname = 'own'\ntitle = 'Own'\n[[strip]]\ndriver = 'ws2812'\npixels = 2\nspi = '3.0'\n";
    std::fs::write(&own, chip).unwrap();
    let own = own.display().to_string();
    leds(&["check", &own, "rpi-4b"]).says(0, &["they go together on board rpi-4b"]);
    let told = leds(&["check", &own, "rpi-3b"]);
    told.fails(2, "HAT \"own\" does not go on board \"rpi-3b\"", "leds.hats");
    told.says(2, &["line 7: strip number 1: spi: this board has no spidev3.0"]);
    if !std::path::Path::new("/proc/device-tree/model").exists() {
        leds(&["check", &own]).says(0, &["it goes on generic, rpi-400, rpi-4b,", "not on rpi-1,"]);
        leds(&["check", "plain", "blinkt"]).says(0, &["they go together on every board that comes with Bramble"]);
    }
    leds(&["check", &good, &file("rpi-5")]).fails(2, "more than one of these is a board", "give one board");
    let bad = home.path().join("bad.toml");
    for (of, changes, expected) in [
        (
            &plain,
            &[("pin = 6\n", "pin = 5\n"), ("pin = 13", "pin = 40"), ("\"pod-7\"", "\"pod-6\"")][..],
            &[
                "line 22: LED \"pod-2\": pin: pin 5 is used twice: LED \"pod-1\" has it already (line 16)",
                "BCM 0 to 27",
                "two LEDs are named \"pod-6\"",
            ][..],
        ),
        (
            &plain,
            &[
                ("colour = \"blue\"", "colour = \"mauve\""),
                ("title =", "titel ="),
                ("pin = 13", "pin = \"x\""),
                ("pin = 6\n", "pin = 5\n"),
            ],
            &[
                "\"mauve\"",
                "expected one of red",
                "titel: unknown key",
                "title: missing",
                "\"pod-3\": pin",
                "pin 5 is used twice",
            ],
        ),
        (
            &good,
            &[("hot_celsius = 80.0", "hot_celsius = \"warm\""), ("target =", "targett ="), ("[\"ACT\", \"led0\"]", "[]")],
            &[
                "line 10: hot_celsius: expected a number of °C from 40 to 120, found the text \"warm\"",
                "targett: unknown key",
                "target: missing",
                "LED \"node\": class",
            ],
        ),
        (&good, &[("name = \"rpi-4b\"", "name = [")], &["expected TOML: TOML parse error at line 6"]),
    ] {
        let text = std::fs::read_to_string(of).unwrap();
        let broken = changes.iter().fold(text, |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        });
        std::fs::write(&bad, broken).unwrap();
        let told = leds(&["check", &bad.display().to_string()]);
        told.fails(2, "is no board file", "boards/rpi-4b.toml").says(2, expected);
    }
    leds(&["check", "nowhere.toml"]).fails(2, "cannot read nowhere.toml", "give the path of a board file");

    leds(&["test"]).fails(1, "there are no LEDs to light", "run it on a board with LEDs");
    leds(&["test", "--board", "rpi-4b"]).fails(
        1,
        "there are no LEDs to light: LED \"node\": cannot use /sys/class/leds/ACT",
        "groups gpio",
    );
    leds(&["test", "--board", "rpi-4b", "--hat", "plain"]).fails(1, "there are no LEDs to light: 8 LEDs on pins", "groups gpio");
    leds(&["test", "--board", "rpi-4b", "--hat", "plain", "--hat", "clusterhat-v1"]).fails(
        2,
        "do not go together",
        "take one of them out",
    );
    leds(&["test", "--board", "toaster"]).fails(2, "there is no board \"toaster\"", "board");
    leds(&["test", "--hat", "toaster"]).fails(2, "there is no HAT \"toaster\"", "blinkt");
}

/// On LEDs of the kernel's class that only the program sees, in a network namespace where nobody else drives LEDs.
#[test]
fn a_test_of_leds_that_is_ended_gives_the_kernel_its_led_back() {
    if !rustix::process::geteuid().is_root() {
        println!("NOT RUN: only root may put LEDs where the kernel has its own");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let hat = home.path().join("long.toml");
    let many: String = (1..=40).map(|n| format!("[[led]]\nname = 'm-{n}'\ncolour = 'red'\nshows = 'pod'\n")).collect();
    std::fs::write(&hat, format!("kind = 'hat'\nname = 'long'\ntitle = 'Long'\n{many}")).unwrap();
    for name in ["INT", "TERM", "HUP"] {
        let class = home.path().join(name);
        let act = class.join("leds/ACT");
        std::fs::create_dir_all(&act).unwrap();
        for (file, text) in [("trigger", "none [mmc0] timer\n"), ("max_brightness", "255\n"), ("brightness", "0\n")] {
            std::fs::write(act.join(file), text).unwrap();
        }
        let reads = |file: &str| std::fs::read_to_string(act.join(file)).unwrap();
        let arguments = ["leds", "test", "--board", "rpi-3b", "--hat"];
        let program = bramble(home.path(), arguments);
        let script = "mount --bind \"$0\" /sys/class && exec \"$@\"";
        let mut unshared = std::process::Command::new("unshare");
        unshared.args(["-m", "-n", "sh", "-c", script]).arg(&class).arg(program.get_program()).args(arguments).arg(&hat);
        let mut child = unshared.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("ACT is taken from its trigger", SOON, || {
            let told = reads("trigger");
            let ended = child.try_wait().unwrap();
            if told == "none" { Ok(()) } else { Err(format!("{told:?}, {ended:?}")) }
        });
        signal(i32::try_from(child.id()).unwrap(), name);
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(1) && told.contains("the test was ended at LED"),
            "{name}: {:?} {told}",
            output.status
        );
        assert_eq!((reads("trigger"), reads("brightness")), ("mmc0".to_owned(), "0".to_owned()), "{name}");
    }
}

#[test]
fn after_a_death_leds_are_seen_to_and_the_unit_never_fails_for_it() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("agent.toml");
    let died = |text: &str, result: &str| {
        std::fs::write(&config, text).unwrap();
        Heard::from(
            bramble(home.path(), ["leds", "died", "--config", &config.display().to_string()]).env("SERVICE_RESULT", result),
        )
    };
    // This machine has none of these; what could not be done is said, and is no failure.
    let good = "node = 'pi'\ncluster_uid = 'u'\nboard = 'rpi-4b'\nleds.hats = ['plain']\n";
    died(good, "signal").says(0, &["8 LEDs on pins: cannot use the GPIO pins"]);
    let quiet = died(good, "success");
    assert_eq!((quiet.code, quiet.out.as_str()), (0, ""), "an orderly end has seen to them itself");
    for text in ["leds.hats = 3", "nonsense", "board = 'toaster'", "leds.enabled = false"] {
        assert_eq!(died(text, "core-dump").code, 0, "{text}");
    }
    std::fs::remove_file(&config).unwrap();
    let told = Heard::from(&mut bramble(home.path(), ["leds", "died", "--config", &config.display().to_string()]));
    assert_eq!(told.code, 0);
}

#[test]
fn an_agent_on_something_that_is_no_pi_says_once_that_it_has_no_leds() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("agent.toml");
    let data = home.path().join("data");
    std::fs::write(
        &file,
        format!(
            "node = 'pi'\ncluster_uid = 'u'\nruntime = 'simulated'\nboard = 'generic'\ndata_dir = '{}'\n[mqtt]\nbroker = 'mqtt://127.0.0.1:1'\n",
            data.display()
        ),
    )
    .unwrap();
    let child = bramble(home.path(), ["agent", "--config", &file.display().to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(2));
    signal(i32::try_from(child.id()).unwrap(), "TERM");
    let output = child.wait_with_output().unwrap();
    let log = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "told to end, it ends well: {log}");
    assert_eq!(log.matches("no LEDs").count(), 1, "{log}");
}
