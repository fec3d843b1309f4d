//! Hosts of a test's own: network namespaces on a bridge, each with an interface `eth0` and an address. Nothing of it is in the
//! machine's own network, and all of it goes with the [`Hosts`]. Several segments with a router: `segments.rs`.
//!
//! ```text
//!   namespace bt-LABEL-PID-lan: br0 ── ports p1, p2, …
//!                                │       │
//!   namespaces bt-LABEL-PID-NAME:      eth0 10.77.0.N/24
//! ```

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

/// A network of hosts, of one segment or more.
pub struct Hosts {
    prefix: String,
    names: Vec<String>,
    /// By host and interface: its segment, and its port there.
    ports: BTreeMap<(String, String), (String, usize)>,
}

impl Hosts {
    /// A network with one segment, `lan`, and no host; the label tells it from others.
    pub fn new(label: &str) -> Self {
        let prefix = format!("bt-{label}-{}", std::process::id());
        let mut hosts = Self { prefix, names: Vec::new(), ports: BTreeMap::new() };
        hosts.segment("lan");
        hosts
    }

    /// The network namespace that is this host.
    pub fn name(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// The network namespace of a host.
    #[allow(dead_code)] // for who needs it
    pub fn namespace_of(&self, host: &str) -> String {
        self.name(host)
    }

    fn namespace(&mut self, host: &str) {
        ip(&["netns", "add", &self.name(host)]);
        self.names.push(host.to_owned());
        self.inside(host, "ip link set lo up");
    }

    /// Adds a segment: a bridge in a namespace of its own.
    pub fn segment(&mut self, segment: &str) {
        self.namespace(segment);
        self.inside(segment, "ip link add br0 type bridge mcast_snooping 0 forward_delay 0 && ip link set br0 up");
    }

    /// Adds a host on the segment `lan` with an address, like `10.77.0.1/24`.
    #[allow(dead_code)] // for who needs it
    pub fn add(&mut self, host: &str, address: &str) {
        self.namespace(host);
        self.connect("lan", host, "eth0", address);
    }

    /// Adds a host without any interface.
    #[allow(dead_code)] // for who needs it
    pub fn add_bare(&mut self, host: &str) {
        self.namespace(host);
    }

    /// Gives a host an interface on a segment.
    pub fn connect(&mut self, segment: &str, host: &str, interface: &str, address: &str) {
        let port = self.ports.len() + 1;
        self.ports.insert((host.to_owned(), interface.to_owned()), (segment.to_owned(), port));
        let (lan, own) = (self.name(segment), self.name(host));
        ip(&["-n", &lan, "link", "add", &format!("p{port}"), "type", "veth", "peer", "name", interface, "netns", &own]);
        self.inside(segment, &format!("ip link set p{port} master br0 && ip link set p{port} up"));
        self.inside(host, &format!("ip addr add {address} dev {interface} && ip link set {interface} up"));
    }

    /// Gives a host another address in place of those that it has, as a new lease would.
    #[allow(dead_code)] // for who needs it
    pub fn readdress(&self, host: &str, address: &str) {
        self.inside(host, &format!("ip addr flush dev eth0 scope global && ip addr add {address} dev eth0"));
    }

    /// Plugs a host's cable in, or out.
    #[allow(dead_code)] // for who needs it
    pub fn plug(&self, host: &str, in_: bool) {
        let (segment, port) = &self.ports[&(host.to_owned(), "eth0".to_owned())];
        self.inside(segment, &format!("ip link set p{port} {}", if in_ { "up" } else { "down" }));
    }

    /// A command on this host, ready to be given arguments. The process that it becomes is the program itself.
    pub fn run(&self, host: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(host), program]);
        command
    }

    /// The same in this machine's own mounts, for who needs cgroups: `ip netns exec` hides them.
    #[allow(dead_code)] // for who needs it
    pub fn enter(&self, host: &str, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/var/run/netns/{}", self.name(host))).args(["--", program]);
        command
    }

    /// Runs a line of shell on a host, to its good end.
    #[track_caller]
    pub fn inside(&self, host: &str, line: &str) -> String {
        let output = self.run(host, "sh").args(["-c", line]).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{line} on {host}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // The interfaces go with the namespaces.
        for host in self.names.iter().rev() {
            let _ = Command::new("ip").args(["netns", "delete", &self.name(host)]).status();
        }
    }
}

#[track_caller]
fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output().expect("iproute2");
    assert!(output.status.success(), "ip {arguments:?} (as root): {}", String::from_utf8_lossy(&output.stderr));
}
