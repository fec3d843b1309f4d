//! A Pi in a cluster: its LEDs show its pods and its link, and the master knows what it is.

use std::path::Path;
use std::time::{Duration, Instant};

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::Value;

use super::guest::{File, Guest};
use super::home::Home;
use super::machine::{PI_3B, Pi, Setup};
use super::shipped;
use super::support::{is_ready, kubectls, skipped, wait_until};
use super::trace::{changed, function};

/// The HAT file `plain`: the node's LED, and those of pods in the order in which they are taken.
pub const NODE: u8 = 21;
pub const PODS: [u8; 7] = [5, 6, 13, 19, 26, 16, 20];

/// The patterns of `src/agent/led/pattern.rs`, as its table has them: milliseconds lit, dark, lit, …
pub const SLOW: &[u64] = &[500, 500];
pub const DOUBLE: &[u64] = &[150, 150, 150, 750];
pub const FAST: &[u64] = &[100, 100];
pub const LONG_SHORT: &[u64] = &[800, 200, 200, 300];

/// The guest shares two cores with this test and others.
pub const SOON: Duration = Duration::from_secs(120);

/// A master, and a Pi that has been told of it and where to join.
pub fn booted(setup: &Setup, guest: &Guest, program: &Path) -> (Home, Pi) {
    let home = Home::new();
    let token = home.token(&[]);
    let uid = std::fs::read_to_string(home.dir.path().join("master/cluster-uid")).unwrap();
    // The name that the master's certificate has wherever it is reached; here it is QEMU's way to this machine's loopback.
    let name = format!("bramble-{}.local", uid.trim());
    let config = format!(
        "runtime = \"simulated\"\nboard = \"auto\"\n\n[leds]\nhats = [\"plain\"]\n\n[join]\nmaster = \"https://{name}:{}\"\ntoken = \"{token}\"\n",
        home.api
    );
    let files = [
        File::agent(program),
        File::text("etc/bramble/agent.toml", &config),
        File::text("etc/hosts", &format!("127.0.0.1 localhost\n10.0.2.2 {name}\n")),
    ];
    let pi = Pi::boot(setup, guest, &files);
    (home, pi)
}

/// Starts the agent; gives its process number, when that was, and the node once it is ready.
pub fn joined(home: &Home, pi: &mut Pi, node: &str) -> (u32, Instant, Value) {
    let from = Instant::now();
    let agent = pi.start_agent("agent", "bramble agent");
    let object = wait_until(&format!("{node} is ready"), SOON, || {
        let said = home.kubectl(&["get", "node", node, "-o", "json"]);
        let object: Value = serde_json::from_str(&said.out).map_err(|_| said.err)?;
        if is_ready(&object) { Ok(object) } else { Err(object["status"]["conditions"].to_string()) }
    });
    println!("{node}: joined, with a key of its own, and Ready {:.1} s after the agent's start", from.elapsed().as_secs_f64());
    let memory = pi.good(&format!("grep -E '^(Rss|Pss|Private_Dirty):' /proc/{agent}/smaps_rollup"));
    println!("{node}: the agent's memory: {}", memory.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
    (agent, from, object)
}

/// One pod on this node.
pub fn pod(node: &str, name: &str, annotations: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, annotations: {{{annotations}}}}}\nspec:\n  nodeSelector: {{kubernetes.io/hostname: {node}}}\n  \
         terminationGracePeriodSeconds: 1\n  containers:\n  - name: main\n    image: \"{name}:1\"\n{more}---\n"
    )
}

/// `kubectl apply`; gives when it was said.
pub fn apply(home: &Home, manifest: &str) -> Instant {
    let file = home.dir.path().join("pods.yaml");
    std::fs::write(&file, manifest).unwrap();
    let from = Instant::now();
    home.kubectl_of(&kubectls().pop().unwrap().1, &["apply", "-f", &file.display().to_string()]).good();
    from
}

/// The eight pins of the HAT are outputs, and nothing else is other than it was. (A Zero's kernel had made two of them something else than inputs.)
#[track_caller]
pub fn eight_outputs(pi: &Pi, before: [u32; 6]) {
    const OUTPUT: u32 = 1;
    let now = pi.functions();
    let mut outputs: Vec<u8> = PODS.iter().chain([&NODE]).copied().collect();
    outputs.sort_unstable();
    for pin in &outputs {
        assert_eq!(function(now, *pin), OUTPUT, "BCM {pin}");
    }
    let became: Vec<u8> = changed(before, now).into_iter().map(|(pin, ..)| pin).collect();
    let were_none: Vec<u8> = outputs.into_iter().filter(|pin| function(before, *pin) != OUTPUT).collect();
    assert_eq!(became, were_none);
}

/// Ends the agent in order: all is dark, and the pins are what they were. Gives the seconds until it was gone.
#[track_caller]
pub fn ends_dark(pi: &mut Pi, agent: u32, before: [u32; 6]) -> f64 {
    let took = pi.end(agent);
    let ended = Instant::now();
    for pin in PODS.iter().chain([&NODE]) {
        pi.trace.wait_steady(*pin, ended, false, Duration::from_secs(1), SOON);
    }
    assert_eq!(changed(before, pi.functions()), [], "the pins are what they were");
    took
}

/// What a node says of its health, as a dashboard hears it.
fn health(home: &Home, node: &str) -> Value {
    let (client, mut connection) = Client::new(MqttOptions::new("viewer", "127.0.0.1", home.viewer), 16);
    client.subscribe(format!("bramble/bramble/nodes/{node}/health"), QoS::AtMostOnce).unwrap();
    let deadline = Instant::now() + SOON;
    while Instant::now() < deadline {
        if let Ok(Ok(Event::Incoming(Packet::Publish(message)))) = connection.recv_timeout(Duration::from_secs(5)) {
            return serde_json::from_slice(&message.payload).unwrap();
        }
    }
    panic!("{node} says nothing of its health");
}

#[test]
fn the_pins_of_a_pi_3b_follow_its_pods_and_its_link_and_are_left_as_they_were() {
    if skipped("pi") {
        return;
    }
    let program = shipped::built("rpi-3b");
    let guest = Guest::arm64();
    let (mut home, mut pi) = booted(&PI_3B, &guest, &program);
    let before = pi.functions();
    pi.watch_pins();
    let (agent, start, node) = joined(&home, &mut pi, "pi-3b");

    // What it is.
    assert_eq!(
        node["metadata"]["labels"]["node.kubernetes.io/instance-type"], "raspberry-pi-3b",
        "{}",
        node["metadata"]["labels"]
    );
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/arch"], "arm64");
    let info = &node["status"]["nodeInfo"];
    assert_eq!(info["systemUUID"], "00000000b3a3b1e5", "the serial number of the board: {info}");
    assert_eq!(node["status"]["capacity"]["cpu"], "4");
    let health = health(&home, "pi-3b");
    let warm = health["temperature_celsius"].as_f64().unwrap_or_else(|| panic!("no temperature in {health}"));
    assert!((warm - 25.178).abs() < 0.01, "QEMU's sensor says 25.178 °C: {health}");

    eight_outputs(&pi, before);
    let linked = Instant::now();
    pi.trace.wait_steady(NODE, linked, true, Duration::from_secs(2), SOON);

    // A pod's life: it is fetched, and serves.
    let calm = apply(&home, &pod("pi-3b", "calm", "", ""));
    let fetched = pi.trace.wait_pattern(PODS[0], calm, SLOW, 2, SOON);
    pi.trace.wait_steady(PODS[0], calm, true, Duration::from_secs(2), SOON);
    let since_ready = pi.trace.runs(PODS[0], calm);
    assert!(fetched.at < since_ready.len(), "first it blinks, then it is lit: {since_ready:?}");
    println!("while it is fetched: {fetched:?}");

    // One that fails and fails, one that does not get ready, one that asks for an LED.
    let probe = "    readinessProbe: {exec: {command: [ask]}, periodSeconds: 1}\n";
    let troubled = apply(
        &home,
        &[
            pod("pi-3b", "crash", "bramble/simulate: exit=1 after=50ms", ""),
            pod("pi-3b", "sick", "bramble/simulate: sick, bramble/led: pod-3", probe),
            pod("pi-3b", "fifth", "bramble/led: pod-5", ""),
        ]
        .concat(),
    );
    pi.trace.wait_steady(PODS[4], troubled, true, Duration::from_secs(2), SOON);
    println!("not ready: {:?}", pi.trace.wait_pattern(PODS[2], troubled, DOUBLE, 3, SOON));
    println!("crash loop: {:?}", pi.trace.wait_pattern(PODS[1], troubled, FAST, 15, SOON));

    // The link is lost: the node's LED says so, the pods go on.
    let lost = Instant::now();
    home.master.stop();
    println!("without its master: {:?}", pi.trace.wait_pattern(NODE, lost, LONG_SHORT, 3, SOON));
    let calm_meanwhile = pi.trace.runs(PODS[0], lost);
    assert!(calm_meanwhile.len() == 1 && calm_meanwhile[0].lit, "the pod serves without a master: {calm_meanwhile:?}");
    for pin in [PODS[3], PODS[5], PODS[6]] {
        assert_eq!(pi.trace.ever_lit(start) >> pin & 1, 0, "pin {pin} shows no pod");
    }

    let took = ends_dark(&mut pi, agent, before);
    let (samples, gap) = pi.trace.quality(start);
    println!("ended {took:.1} s after TERM; {samples} looks at the pins, {} ms apart at most", gap.as_millis());
    let log = pi.log("agent");
    assert!(!log.contains("LED"), "nothing was wrong with the LEDs:\n{log}");
}
