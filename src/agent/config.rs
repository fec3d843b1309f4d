//! What `bramble agent` is told: each key, its default, and which values make sense together.
//!
//! In:       a file, `BRAMBLE_SECTION__KEY`, flags (through [`crate::config::Reader`]).
//! Out:      a checked [`AgentConfig`], or every fault at once.
//! Never:    opens what a key names. The one thing that it reads is the host name, for a node that was given none.
//!
//! `docs/configuration.md` lists the keys for people; a test holds the two together.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::dns;
use super::health::judge::Thresholds as Eviction;
use super::images::collect;
use super::join::{Join, Master};
use super::led::settings::Settings as Leds;
use super::node::MostPulls;
use super::overlay::wireguard::Choice;
use super::pods::admission::may_be_allowed;
use super::runtime::translate::LogCap;
use crate::api::core::join::{Token, dns_label, is_node_name};
use crate::api::image::Platform;
use crate::config::{BrokerUrl, Faults, FileMay, Flag, Reader};

/// Where the configuration is when nobody says.
pub const DEFAULT_FILE: &str = "/etc/bramble/agent.toml";
/// Where a daemon keeps its data when nobody says.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/bramble";

/// Where seccomp profiles lie when nobody says.
pub const DEFAULT_SECCOMP_DIR: &str = "/etc/bramble/seccomp";

/// The agent's configuration, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentConfig {
    /// `node`: its name in the cluster; the host name, made DNS-1123, when nobody says.
    pub node: String,
    /// `cluster`: the name in topics (`bramble/<cluster>/…`).
    pub cluster: String,
    /// `cluster_uid`: marks what belongs to this cluster in Docker.
    pub cluster_uid: String,
    /// `[join]`, for a node that was given no `cluster_uid`: it is told its cluster when it joins; until then `cluster_uid` is empty. Once
    /// it has joined, this is here only if a master that moves is to be looked for.
    pub join: Option<Join>,
    /// `data_dir`: the share that it holds, the lock and, by default, the certificates.
    pub data_dir: PathBuf,
    /// `run_dir`: the pods' own files, for this boot only.
    pub run_dir: PathBuf,
    /// `[mqtt]`.
    pub mqtt: Mqtt,
    /// `runtime`.
    pub runtime: Runtime,
    /// `docker.socket`.
    pub docker_socket: PathBuf,
    /// `board`: a board's name, a board file, or `None` for what this machine is. A simulated node is told so by `"auto"`;
    /// with `None` it is the simulated board.
    pub board: Option<String>,
    /// `[capacity]`: what the node says that it has, in place of what the machine or the board has.
    pub capacity: Capacity,
    /// `[pods]`.
    pub pods: Pods,
    /// `health.interval_seconds`: how often it tells how it is.
    pub health_interval: Duration,
    /// `health.clear_seconds`: so long under-voltage, throttling and heat stay in the node's conditions after their last sign.
    pub health_clears: Duration,
    /// `health.root`: below which folder the board's sensors are looked for; `None`: the node is a simulated one without any.
    pub health_root: Option<PathBuf>,
    /// `[eviction]`: when the node counts as short of something.
    pub eviction: Eviction,
    /// `[logs]`: how much of each container's log is kept.
    pub logs: LogCap,
    /// `[images]`.
    pub images: Images,
    /// `[ingress]`: where ingresses are served.
    pub ingress: Ingress,
    /// `leds.enabled`: whether the board's LEDs are driven.
    pub leds_enabled: bool,
    /// `[leds]`: how they show what they show.
    pub leds: Leds,
    /// `network.wireguard`: who encrypts where encryption is asked for.
    pub wireguard: Choice,
    /// `leds.hats`: names or files of the HATs on the board, or `None` for `"auto"`: what their EEPROM tells.
    pub hats: Option<Vec<String>>,
    /// `dns.port`: where the node answers its pods' questions for names; `None` without `dns.enabled`.
    pub dns_port: Option<u16>,
    /// `devices.root`: below which folder `/dev` and `/sys` are looked for; `None` without `devices.enabled`.
    pub devices_root: Option<PathBuf>,
}

/// `[mqtt]`: the node's one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mqtt {
    /// `broker`.
    pub broker: BrokerUrl,
    /// `ca`: PEM; who may be the broker.
    pub ca: PathBuf,
    /// `certificate`: PEM; CN is the node's name.
    pub certificate: PathBuf,
    /// `key`: PEM.
    pub key: PathBuf,
}

/// `[images]`: how they are fetched, and when they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// `parallel_pulls`.
    pub pulls: MostPulls,
    /// `auth_file`: Docker's `config.json` with credentials of the node's own.
    pub auth_file: Option<PathBuf>,
    /// `emulated`: platforms besides its own that the node runs.
    pub emulated: Vec<Platform>,
    /// `high_percent`, `low_percent`, `minimum_age_seconds`.
    pub limits: collect::Thresholds,
}

/// `[ingress]`: the ports that are open while the cluster has an ingress. `None`: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ingress {
    /// `http_port`.
    pub http: Option<u16>,
    /// `https_port`.
    pub https: Option<u16>,
}

/// Where containers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// In Docker.
    Docker,
    /// Nowhere: a model of it, for load and for demonstrations.
    Simulated,
}

/// `[pods]`: what holds for each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pods {
    /// `pids_limit`: processes and threads of one container; `None`: as many as the machine has.
    pub pids_limit: Option<u64>,
    /// `seccomp_dir`: where seccomp profiles of type Localhost lie.
    pub seccomp_dir: PathBuf,
    /// `allowed_unsafe_sysctls`: beyond the safe ones.
    pub allowed_sysctls: Vec<String>,
}

/// `[capacity]`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Capacity {
    /// `cpus`: cores, like 0.5.
    pub cpus: Option<f64>,
    /// `memory_mib`.
    pub memory_mib: Option<u64>,
}

impl AgentConfig {
    /// Reads and checks. The host name names a node that nobody named.
    ///
    /// # Errors
    /// Every fault that was found.
    pub fn load(
        file: Option<(&Path, FileMay)>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[Flag],
    ) -> Result<Self, Faults> {
        let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let environment: Vec<(String, String)> = environment.into_iter().collect();
        // Source: systemd.exec(5); the first of several.
        let given = environment.iter().find(|(name, _)| name == "RUNTIME_DIRECTORY");
        let runtime_directory = given.and_then(|(_, value)| value.split(':').next()).filter(|path| path.starts_with('/'));
        let runtime_directory = runtime_directory.map(PathBuf::from);
        let mut reader = Reader::open(file, environment, flags);
        let made = Self::read(&mut reader, host_name.trim(), runtime_directory);
        reader.finish(made)
    }

    fn read(r: &mut Reader, host_name: &str, runtime_directory: Option<PathBuf>) -> Option<Self> {
        const NAME: &str = "a DNS-1123 label: lower case letters, digits and `-`, at most 63";
        const UID: &str = "the cluster's uid (`cat /var/lib/bramble/cluster-uid` on the master)";
        let label = |name: &str| is_node_name(name).then(|| name.to_owned());
        let node = r.parsed("node", NAME, label).or_else(|| Some(dns_label(host_name)).filter(|name| !name.is_empty()));
        let node = r.required("node", NAME, node);
        let cluster = r.parsed("cluster", NAME, label).unwrap_or_else(|| "bramble".into());
        let cluster_uid = r.text("cluster_uid", UID);
        let data_dir = r.path("data_dir", "a directory").unwrap_or_else(|| DEFAULT_DATA_DIR.into());
        let run_dir = r.path("run_dir", "a directory").or(runtime_directory).unwrap_or_else(|| data_dir.join("run"));
        let pki = data_dir.join("pki");
        let broker = r.parsed("mqtt.broker", BrokerUrl::EXPECTED, BrokerUrl::parse);
        let (join, cluster_uid) = Self::join(r, cluster_uid, broker.clone());
        let mqtt = Mqtt {
            broker: broker.unwrap_or(BrokerUrl { tls: true, host: "127.0.0.1".into(), port: 8883 }),
            ca: r.path("mqtt.ca", "a PEM file").unwrap_or_else(|| pki.join("ca.crt")),
            certificate: r.path("mqtt.certificate", "a PEM file").unwrap_or_else(|| pki.join("node.crt")),
            key: r.path("mqtt.key", "a PEM file").unwrap_or_else(|| pki.join("node.key")),
        };
        let runtime = r.parsed("runtime", "\"docker\" or \"simulated\"", |text| match text {
            "docker" => Some(Runtime::Docker),
            "simulated" => Some(Runtime::Simulated),
            _ => None,
        });
        let docker_socket = r.path("docker.socket", "a unix socket").unwrap_or_else(|| "/var/run/docker.sock".into());
        let board = r
            .text("board", "a board's name, a board file, or \"auto\"")
            .filter(|board| board != "auto" || runtime == Some(Runtime::Simulated));
        let cpus = r.parsed("capacity.cpus", "a number of cores above 0, like 0.5", |text| {
            text.parse().ok().filter(|&cpus: &f64| cpus > 0.0 && cpus <= 4096.0)
        });
        let memory_mib = r.parsed("capacity.memory_mib", "a whole number of MiB above 0", |text| {
            text.parse().ok().filter(|&mib: &u64| mib > 0 && mib <= 1 << 30)
        });
        let pids_limit = r.parsed("pods.pids_limit", "a whole number of processes, or 0 for no limit", |text| text.parse().ok());
        let seccomp_dir = r.path("pods.seccomp_dir", "a directory").unwrap_or_else(|| DEFAULT_SECCOMP_DIR.into());
        let sysctls = "names of sysctls that the kernel keeps apart for each pod (net.…, kernel.msg…, kernel.shm…, kernel.sem, fs.mqueue.…), with commas between them; a `*` at the end stands for anything";
        let allowed_sysctls = r.parsed("pods.allowed_unsafe_sysctls", sysctls, |text| {
            let names: Vec<String> =
                text.split(',').map(|name| name.trim().replace('/', ".")).filter(|name| !name.is_empty()).collect();
            names.iter().all(|name| may_be_allowed(name)).then_some(names)
        });
        let health_interval = r.seconds("health.interval_seconds", 1).unwrap_or(Duration::from_secs(10));
        let health_clears = r.seconds("health.clear_seconds", 1).unwrap_or(Duration::from_secs(60));
        // What this machine suffers is not a simulated node's.
        let own_board = (runtime != Some(Runtime::Simulated)).then(|| PathBuf::from("/"));
        let health_root = r.path("health.root", "a directory").or(own_board);
        let above_zero = |most: u32| move |text: &str| text.parse().ok().filter(|&number: &u32| number > 0 && number <= most);
        let logs = LogCap {
            mib: r
                .parsed("logs.file_mib", "a whole number of MiB from 1 to 1024", above_zero(1024))
                .unwrap_or(LogCap::default().mib),
            files: r.parsed("logs.files", "a whole number from 1 to 100", above_zero(100)).unwrap_or(LogCap::default().files),
        };
        let percent = |text: &str| text.parse().ok().filter(|&percent: &u64| percent <= 100);
        const PERCENT: &str = "a whole number from 0 (never) to 100";
        let eviction = Eviction {
            memory_bytes: r
                .parsed("eviction.memory_available_mib", "a whole number of MiB; 0 for never", |text| text.parse::<u32>().ok())
                .map(|mib| u64::from(mib) << 20),
            nodefs_percent: r.parsed("eviction.nodefs_available_percent", PERCENT, percent),
            inodes_percent: r.parsed("eviction.nodefs_inodes_free_percent", PERCENT, percent).unwrap_or(5),
            imagefs_percent: r.parsed("eviction.imagefs_available_percent", PERCENT, percent),
            image_inodes_percent: r.parsed("eviction.imagefs_inodes_free_percent", PERCENT, percent).unwrap_or(5),
            pids_percent: r.parsed("eviction.pid_available_percent", PERCENT, percent).unwrap_or(5),
            transition: r.seconds("eviction.pressure_transition_seconds", 1).unwrap_or(Duration::from_secs(300)),
        };
        let images = Self::images(r);
        let ingress = Self::ingress(r, runtime);
        let leds_enabled = r.switch("leds.enabled").unwrap_or(true);
        let leds = Leds::read(r);
        let hats = r.list("leds.hats", "a list of HATs' names or files, like [\"blinkt\"], or \"auto\"");
        let hats = hats.filter(|hats| hats.as_slice() != ["auto"]);
        let dns_enabled = r.switch("dns.enabled").unwrap_or(true);
        let dns_port = r.parsed("dns.port", "a port, 1 to 65535", |text| text.parse().ok().filter(|port: &u16| *port > 0));
        let dns_port = dns_enabled.then(|| dns_port.unwrap_or(dns::run::PORT));
        let wireguard = r.parsed("network.wireguard", "\"auto\", \"kernel\" or \"user\"", Choice::parse);
        let devices_root = r.path("devices.root", "a directory");
        // A simulated node runs nothing that could use what this machine has.
        let own = runtime != Some(Runtime::Simulated) || devices_root.is_some();
        let devices_enabled = r.switch("devices.enabled").unwrap_or(own);
        let devices_root = devices_enabled.then(|| devices_root.unwrap_or_else(|| "/".into()));
        Some(Self {
            node: node?,
            cluster,
            cluster_uid,
            join,
            data_dir,
            run_dir,
            mqtt,
            // Never simulated unless it says so: a node that pretends to run things is worse than one that refuses.
            runtime: runtime.unwrap_or(Runtime::Docker),
            docker_socket,
            board,
            capacity: Capacity { cpus, memory_mib },
            pods: Pods {
                // A container that forks without end must not take the node.
                pids_limit: Some(pids_limit.unwrap_or(1024)).filter(|&limit: &u64| limit > 0),
                seccomp_dir,
                allowed_sysctls: allowed_sysctls.unwrap_or_default(),
            },
            health_interval,
            health_clears,
            health_root,
            eviction,
            logs,
            ingress,
            leds_enabled,
            leds,
            wireguard: wireguard.unwrap_or_default(),
            hats,
            dns_port,
            images,
            devices_root,
        })
    }

    /// A node with a `cluster_uid` was set up by hand, files and all; every other one joins.
    fn join(r: &mut Reader, cluster_uid: Option<String>, broker: Option<BrokerUrl>) -> (Option<Join>, String) {
        let master = r.parsed("join.master", Master::EXPECTED, Master::parse);
        let token = r.parsed("join.token", Token::EXPECTED, Token::parse);
        let root = r.path("join.identity_root", "a directory");
        let look = r.switch("mdns.look");
        if let Some(uid) = cluster_uid {
            let given = [
                ("join.master", master.is_some()),
                ("join.token", token.is_some()),
                ("join.identity_root", root.is_some()),
                ("mdns.look", look == Some(true)),
            ];
            for (key, _) in given.into_iter().filter(|(_, given)| *given) {
                r.fault(key, "a node that is given a cluster_uid does not join: leave one of both out");
            }
            return (None, uid);
        }
        const NEEDED: &str = "the master's API, like \"https://192.168.1.5:6443\", since it is not looked for (mdns.look is false); or a cluster_uid, for a node whose certificates are put in place by hand";
        let look = look.unwrap_or(true);
        // One that is given and faulty was meant, and has its fault already.
        let master = if look || r.names("cluster_uid") { master } else { r.required("join.master", NEEDED, master) };
        let join = Join { master, token, identity_root: root.unwrap_or_else(|| "/".into()), broker, look };
        (Some(join), String::new())
    }

    /// A simulated node has nobody to send a request to.
    fn ingress(r: &mut Reader, runtime: Option<Runtime>) -> Ingress {
        const PORT: &str = "a port, or 0 for none";
        let enabled = r.parsed("ingress.enabled", "\"auto\", true or false", |text| match text {
            "auto" => Some(None),
            "true" => Some(Some(true)),
            "false" => Some(Some(false)),
            _ => None,
        });
        let mut port = |key, usual| r.parsed(key, PORT, |text| text.parse().ok()).unwrap_or(usual);
        let (http, https): (u16, u16) = (port("ingress.http_port", 80), port("ingress.https_port", 443));
        if http == https && http != 0 {
            r.fault("ingress.https_port", format!("expected another port than ingress.http_port, found {https}"));
        }
        let enabled = enabled.flatten().unwrap_or(true) && runtime != Some(Runtime::Simulated);
        let open = |port: u16| Some(port).filter(|port| enabled && *port != 0);
        Ingress { http: open(http), https: open(https) }
    }

    fn images(r: &mut Reader) -> Images {
        const PERCENT: &str = "a whole number of percent, 0 to 100";
        let percent = |text: &str| text.parse().ok().filter(|percent: &u8| *percent <= 100);
        let usual = collect::Thresholds::default();
        let high = r.parsed("images.high_percent", PERCENT, percent).unwrap_or(usual.high_percent);
        let low = r.parsed("images.low_percent", PERCENT, percent).unwrap_or(usual.low_percent.min(high));
        if low > high {
            r.fault("images.low_percent", format!("expected at most images.high_percent, {high}, found {low}"));
        }
        let emulated = r.parsed("images.emulated", "platforms divided by commas, like \"linux/amd64,linux/386\"", |text| {
            text.split(',').map(|part| Platform::parse(part.trim())).collect::<Option<Vec<_>>>()
        });
        let pulls = r.parsed("images.parallel_pulls", "a whole number, 1 to 16", |text| {
            text.parse().ok().filter(|pulls: &usize| (1..=16).contains(pulls)).map(MostPulls)
        });
        Images {
            pulls: pulls.unwrap_or_default(),
            auth_file: r.path("images.auth_file", "Docker's config.json"),
            emulated: emulated.unwrap_or_default(),
            limits: collect::Thresholds {
                high_percent: high,
                low_percent: low,
                minimum_age: r.seconds("images.minimum_age_seconds", 0).unwrap_or(usual.minimum_age),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<AgentConfig, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.toml");
        std::fs::write(&file, text).unwrap();
        AgentConfig::load(Some((&file, FileMay::NotBeMissing)), [], &[]).map_err(|faults| faults.to_string())
    }

    #[test]
    fn who_encrypts_is_the_kernel_if_it_can_unless_somebody_says_otherwise() {
        let choice = |text: &str| load(text).map(|config| config.wireguard);
        assert_eq!(choice(""), Ok(Choice::Auto));
        assert_eq!(choice("network.wireguard = 'user'"), Ok(Choice::User));
        assert_eq!(choice("network.wireguard = 'kernel'"), Ok(Choice::Kernel));
        assert!(choice("network.wireguard = 'yes'").unwrap_err().contains("network.wireguard: expected \"auto\""));
    }

    #[test]
    fn a_node_without_a_cluster_joins_one() {
        assert_eq!(load("").unwrap().join.map(|join| (join.master, join.look)), Some((None, true)), "it is looked for");
        assert!(load("mdns.look = false").unwrap_err().contains("join.master: expected the master's API"));
        let told = load("[join]\nmaster = 'https://10.0.0.1'\ntoken = 'abcdef.0123456789abcdef'").unwrap().join.unwrap();
        assert_eq!(
            (told.master.unwrap().to_string().as_str(), told.token.unwrap().id.as_str()),
            ("https://10.0.0.1:6443", "abcdef")
        );
        assert_eq!(load("cluster_uid = 'u'").unwrap().join, None);
    }

    #[test]
    fn ingresses_are_served_at_the_usual_ports_or_at_others_or_not() {
        let ports =
            |text: &str| load(&format!("cluster_uid = 'u'\n{text}")).map(|config| (config.ingress.http, config.ingress.https));
        for (text, expected) in [
            ("", (Some(80), Some(443))),
            ("ingress.enabled = 'auto'", (Some(80), Some(443))),
            ("ingress = { http_port = 8080, https_port = 0 }", (Some(8080), None)),
            ("ingress.enabled = false", (None, None)),
            ("runtime = 'simulated'", (None, None)),
        ] {
            assert_eq!(ports(text), Ok(expected), "{text}");
        }
        assert!(
            ports("ingress = { http_port = 70000, enabled = 'maybe' }")
                .unwrap_err()
                .contains("ingress.http_port: expected a port")
        );
        assert!(ports("ingress.https_port = 80").unwrap_err().contains("another port than ingress.http_port"));
    }

    #[test]
    fn a_uid_and_a_name_are_enough() {
        let config = load("node = 'shed'\ncluster_uid = 'u1'").unwrap();
        assert_eq!(config.mqtt.broker.to_string(), "mqtts://127.0.0.1:8883");
        assert_eq!(config.runtime, Runtime::Docker);
        assert_eq!(config.mqtt.key, Path::new("/var/lib/bramble/pki/node.key"));
        assert!(config.leds_enabled && config.board.is_none());
        assert_eq!(config.pods.pids_limit, Some(1024));
        let pods = load(
            "node = 'a'\ncluster_uid = 'u'\n[pods]\npids_limit = 0\nallowed_unsafe_sysctls = 'net/core/somaxconn, kernel.msg*'",
        );
        let pods = pods.unwrap().pods;
        assert_eq!((pods.pids_limit, pods.allowed_sysctls.join(" ")), (None, "net.core.somaxconn kernel.msg*".into()));
        assert_eq!(config.devices_root.as_deref(), Some(Path::new("/")));
        for none in ["runtime = 'simulated'", "devices.enabled = false"] {
            assert_eq!(load(&format!("node = 'a'\ncluster_uid = 'u'\n{none}")).unwrap().devices_root, None);
        }
        assert_eq!(load("node = 'a'\ncluster_uid = 'u'\nboard = 'auto'").unwrap().board, None);
        let simulated =
            |board: &str| load(&format!("node = 'a'\ncluster_uid = 'u'\nruntime = 'simulated'\n{board}")).unwrap().board;
        assert_eq!((simulated(""), simulated("board = 'auto'").as_deref()), (None, Some("auto")));
        assert_eq!(load("node = 'a'\ncluster_uid = 'u'\ncapacity.cpus = 2").unwrap().capacity.cpus, Some(2.0));
    }

    #[test]
    fn the_pods_own_files_lie_where_systemd_says_else_with_the_data() {
        let flags = |run_dir: Option<&str>| {
            [("node", Some("a")), ("cluster_uid", Some("u")), ("data_dir", Some("/d")), ("run_dir", run_dir)]
                .map(|(key, value)| Flag { name: key, key, value: value.map(str::to_owned) })
        };
        for (given, systemd, run_dir) in [
            (None, None, "/d/run"),
            (None, Some("/run/bramble-agent:/run/other"), "/run/bramble-agent"),
            (Some("/r"), Some("/run/bramble-agent"), "/r"),
        ] {
            let environment = systemd.map(|path| ("RUNTIME_DIRECTORY".to_owned(), path.to_owned()));
            let config = AgentConfig::load(None, environment, &flags(given)).unwrap();
            assert_eq!(config.run_dir, Path::new(run_dir));
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        let cases = [
            ("node = 'a'\ncluster_uid = ''", "cluster_uid: expected the cluster's uid"),
            ("node = 'a'\njoin.master = 'pi'", "join.master: expected the master's API"),
            ("node = 'a'\njoin.token = 'abc'", "join.token: expected a token"),
            ("cluster_uid = 'u'\njoin.master = 'https://pi'", "does not join: leave one of both out"),
            ("node = 'Shed Pi'\ncluster_uid = 'u'", "node: expected a DNS-1123 label"),
            (
                "node = 'a'\ncluster_uid = 'u'\nruntime = 'auto'",
                "runtime: expected \"docker\" or \"simulated\", found the text \"auto\"",
            ),
            ("node = 'a'\ncluster_uid = 'u'\ncapacity.cpus = 0", "capacity.cpus: expected a number of cores above 0"),
            ("node = 'a'\ncluster_uid = 'u'\ncapacity.memory_mib = 0.5", "capacity.memory_mib: expected a whole number"),
            ("node = 'a'\ncluster_uid = 'u'\nimages.low_percent = 90", "expected at most images.high_percent, 85, found 90"),
            ("node = 'a'\ncluster_uid = 'u'\nimages.emulated = 'amd64'", "like \"linux/amd64,linux/386\""),
            ("node = 'a'\ncluster_uid = 'u'\nimages.parallel_pulls = 0", "1 to 16"),
            ("node = 'a'\ncluster_uid = 'u'\npods.pids_limit = -1", "pods.pids_limit: expected a whole number"),
            (
                "node = 'a'\ncluster_uid = 'u'\npods.allowed_unsafe_sysctls = 'kernel.msg*, vm.swappiness'",
                "pods.allowed_unsafe_sysctls: expected names of sysctls",
            ),
            ("node = 'a'\ncluster_uid = 'u'\nhealth.interval_seconds = 0", "1 to 1000000"),
            ("node = 'a'\ncluster_uid = 'u'\nmqtt.brocker = 'x'", "did you mean `mqtt.broker`?"),
        ];
        for (text, expected) in cases {
            let told = load(text).unwrap_err();
            assert!(told.contains(expected), "{text}: {told}");
        }
    }

    #[test]
    fn hats_are_a_list_of_names_and_files_or_found_by_themselves() {
        let hats = |text: &str| load(&format!("cluster_uid = 'u'\n{text}")).map(|config| config.hats);
        let list = |names: &[&str]| Ok(Some(names.iter().map(|name| (*name).to_owned()).collect()));
        assert_eq!(hats(""), Ok(None));
        assert_eq!(hats("leds.hats = 'auto'"), Ok(None));
        assert_eq!(hats("leds.hats = ['auto']"), Ok(None));
        assert_eq!(hats("leds.hats = []"), list(&[]));
        assert_eq!(hats("leds.hats = ['plain', '/etc/bramble/x.toml']"), list(&["plain", "/etc/bramble/x.toml"]));
        assert_eq!(hats("leds.hats = 'plain, blinkt'"), list(&["plain", "blinkt"]));
        for wrong in ["['plain', 3]", "['']", "{ a = 1 }"] {
            let told = hats(&format!("leds.hats = {wrong}")).unwrap_err();
            assert!(told.contains("leds.hats"), "{told}");
        }
    }

    #[test]
    fn a_host_name_becomes_a_node_name() {
        for (host, node) in
            [("raspberrypi", "raspberrypi"), ("Living Room_Pi", "living-room-pi"), ("-pi.local-", "pi-local"), ("ü", "")]
        {
            assert_eq!(dns_label(host), node);
        }
    }

    #[test]
    fn the_documentation_lists_just_these_keys() {
        let mut reader = Reader::open(None, [], &[]);
        let _ = AgentConfig::read(&mut reader, "host", None);
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).unwrap();
        let section = text.split("\n## ").find(|section| section.starts_with("Agent\n")).unwrap();
        let listed: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        let mut sorted = listed.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, reader.known().iter().copied().collect::<Vec<_>>());
    }
}
