//! Network namespaces of a test: a node with pods on a bridge, hosts in its LAN, and processes in them that end with the test.
//!
//! ```text
//!   out 192.0.2.9 ──┐                      ┌── p1 10.244.1.11
//!   far 192.0.2.2 ──┴─ lan ─── node ── br0 ┴── p2 10.244.1.12
//!    └ 10.244.2.11         192.0.2.1   10.244.1.1
//! ```
//!
//! Each address has its fellow of IPv6, as [`six`] says.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Namespaces, and what runs in them.
pub struct Lab {
    prefix: String,
    names: Vec<String>,
    links: usize,
    children: Vec<(String, Child)>,
}

impl Lab {
    /// Nothing yet; the label tells it from others.
    pub fn new(label: &str) -> Self {
        Self { prefix: format!("bn-{label}-{}", std::process::id()), names: Vec::new(), links: 0, children: Vec::new() }
    }

    /// A node with two pods, a host outside, and a pod far away.
    pub fn node(label: &str) -> Self {
        let mut lab = Self::new(label);
        for name in ["lan", "node", "out", "far"] {
            lab.add(name);
        }
        lab.inside("lan", "ip link add lan type bridge mcast_snooping 0 forward_delay 0 && ip link set lan up");
        for (host, address) in [("node", "192.0.2.1"), ("far", "192.0.2.2"), ("out", "192.0.2.9")] {
            lab.link("lan", "lan", host, address);
        }
        lab.bridge("node", "br0", "10.244.1.1");
        lab.inside("far", "ip addr add 10.244.2.11/32 dev lo && ip addr add fd00:244:0:2::11/128 dev lo nodad");
        for (host, to, via) in [
            ("node", "default", "192.0.2.9"),
            ("node", "10.244.2.0/24", "192.0.2.2"),
            ("far", "10.244.1.0/24", "192.0.2.1"),
            ("out", "203.0.113.0/24", "192.0.2.1"),
        ] {
            let to6 = if to == "default" { to.to_owned() } else { six(to) };
            lab.inside(host, &format!("ip route add {to} via {via} && ip -6 route add {to6} via {}", six(via)));
        }
        for (pod, address) in [("p1", "10.244.1.11"), ("p2", "10.244.1.12")] {
            lab.pod("node", "br0", pod, address, "10.244.1.1");
        }
        lab
    }

    /// The namespace's name in the system.
    pub fn name(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// A namespace with only loopback.
    pub fn add(&mut self, host: &str) {
        run(Command::new("ip").args(["netns", "add", &self.name(host)]));
        self.names.push(host.to_owned());
        self.inside(host, "sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0 && ip link set lo up");
    }

    /// A bridge on a host, for pods.
    pub fn bridge(&self, host: &str, bridge: &str, address: &str) {
        self.inside(
            host,
            &format!(
                "ip link add {bridge} type bridge mcast_snooping 0 forward_delay 0 && ip addr add {address}/24 dev {bridge} && \
                 ip addr add {}/64 dev {bridge} nodad && ip link set {bridge} up && \
                 sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
                six(address)
            ),
        );
    }

    /// A cable between a bridge and a host's new `eth0`.
    pub fn link(&mut self, at: &str, bridge: &str, host: &str, address: &str) {
        self.links += 1;
        let port = format!("v{}", self.links);
        let own = self.name(host);
        self.inside(
            at,
            &format!(
                "ip link add {port} type veth peer name eth0 netns {own} && ip link set {port} master {bridge} && ip link set {port} up"
            ),
        );
        self.inside(
            host,
            &format!(
                "ip addr add {address}/24 dev eth0 && ip addr add {}/64 dev eth0 nodad && ip link set eth0 up",
                six(address)
            ),
        );
    }

    /// A pod on a host's bridge.
    pub fn pod(&mut self, host: &str, bridge: &str, pod: &str, address: &str, gateway: &str) {
        self.add(pod);
        self.link(host, bridge, pod, address);
        self.inside(pod, &format!("ip route add default via {gateway} && ip -6 route add default via {}", six(gateway)));
    }

    /// Runs a line of shell on a host, to its good end.
    #[track_caller]
    pub fn inside(&self, host: &str, line: &str) -> String {
        run(self.command(host, "sh").args(["-c", line]))
    }

    /// Gives a program on a host some input, to its good end.
    #[track_caller]
    pub fn feed(&self, host: &str, line: &str, input: &str) -> String {
        let mut child = self
            .command(host, "sh")
            .args(["-c", line])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{line} on {host}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn command(&self, host: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(host), program]).stdin(Stdio::null());
        command
    }

    /// This test program itself on a host, as one of its parts (`part.rs`).
    pub fn part(&self, host: &str, words: &str) -> Command {
        let own = std::env::current_exe().unwrap();
        let mut command = self.command(host, own.to_str().unwrap());
        command.args(["--ignored", "--exact", "part::part", "--nocapture"]).env("BRAMBLE_PART", words);
        command
    }

    /// A server on a host, at a port, for TCP and UDP, that says its name and who asks.
    pub fn serve(&mut self, host: &str, name: &str, address: &str) {
        let mut child = self.part(host, &format!("serve {name} {address}")).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("ready")), "{name} does not serve");
        self.children.push((name.to_owned(), child));
    }

    /// Ends the servers of this name.
    pub fn stop_serving(&mut self, name: &str) {
        for (_, child) in self.children.iter_mut().filter(|(one, _)| one == name) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks so often, each time anew; the answers, or why there is none.
    #[track_caller]
    pub fn ask_often(&self, host: &str, protocol: &str, to: &str, times: usize) -> Vec<String> {
        let said = run(&mut self.part(host, &format!("ask {protocol} {to} {times}")));
        let answers: Vec<String> =
            said.lines().filter_map(|line| line.split_once("answer: ")).map(|(_, text)| text.to_owned()).collect();
        assert_eq!(answers.len(), times, "{said}");
        answers
    }

    /// Asks once.
    #[track_caller]
    pub fn ask(&self, host: &str, protocol: &str, to: &str) -> String {
        self.ask_often(host, protocol, to, 1).remove(0)
    }

    /// A conversation in one connection.
    pub fn talk(&self, host: &str, protocol: &str, to: &str) -> Talk {
        Talk::new(self.part(host, &format!("talk {protocol} {to}")))
    }
}

/// The address or range of IPv6 that goes with one of IPv4 here.
pub fn six(address: &str) -> String {
    let (address, range) = address.split_once('/').map_or((address, false), |(address, _)| (address, true));
    let parts: Vec<&str> = address.split('.').collect();
    let [a, b, c, d] = parts[..] else { panic!("{address} is no address") };
    let number = |text: &str| text.parse::<u16>().unwrap();
    match (a, range) {
        ("127", _) => "::1".to_owned(),
        ("192", true) => "2001:db8::/64".to_owned(),
        ("192", false) => format!("2001:db8::{d}"),
        ("10", true) if b == "244" => format!("fd00:244:0:{c}::/64"),
        ("10", false) if b == "244" => format!("fd00:244:0:{c}::{d}"),
        ("10", true) => "fd00:96::/112".to_owned(),
        ("10", false) => format!("fd00:96::{:x}", number(c) << 8 | number(d)),
        // No whole number of bytes.
        (_, true) => format!("2001:db8:0:{c}::/63"),
        (_, false) => format!("2001:db8:0:{c}::{d}"),
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        for host in self.names.iter().rev() {
            let _ = Command::new("ip").args(["netns", "delete", &self.name(host)]).status();
        }
    }
}

/// A part that is told lines and answers with lines.
pub struct Talk {
    child: Child,
    into: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Talk {
    pub fn new(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (said, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some((_, text)) = line.split_once("answer: ") {
                    let _ = said.send(text.to_owned());
                }
            }
        });
        let into = child.stdin.take();
        Self { child, into, lines }
    }

    pub fn tell(&mut self, line: &str) {
        writeln!(self.into.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Tells a line and waits for the answer.
    #[track_caller]
    pub fn say(&mut self, line: &str) -> String {
        self.tell(line);
        self.lines.recv_timeout(Duration::from_secs(20)).expect("an answer")
    }

    /// What it says by itself within that time.
    pub fn hear(&self, within: Duration) -> Option<String> {
        self.lines.recv_timeout(within).ok()
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        drop(self.into.take());
        self.kill();
    }
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("iproute2");
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{command:?} (as root): {err}{out}");
    out
}

/// Waits for a state; says what was seen last.
#[track_caller]
pub fn wait_until(what: &str, mut look: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match look() {
            Ok(()) => return,
            Err(seen) if Instant::now() >= deadline => panic!("not in time: {what}; last seen: {seen}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
