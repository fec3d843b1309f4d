//! `bramble start`: from nothing, or from whatever is left of a cluster, to a whole one.
//!
//! ```text
//! claim → what was chosen, or choose → cluster.json → certificates → configurations
//!       → master (if nobody holds its lock) → API answers → kubeconfig
//!       → nodes (those whose lock nobody holds; those whose configuration changed, again) → all Ready → what to do next
//! ```
//!
//! Each arrow may be the last one: the next `start` looks at what is there and goes on.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use ipnet::Ipv6Net;

use super::configs::{self, Written};
use super::daemon::{self, Seat, list};
use super::docker;
use super::kubeconfig::{self, Access};
use super::layout::Layout;
use super::ports::{self, Wanted};
use super::probe::{Api, ProbeError};
use super::progress::{self, Progress};
use super::runtime::{self, Chosen, WantedRuntime};
use super::share::Machine;
use super::state::{Cluster, Network, Runtime};
use crate::clock::{Clock, SystemClock, Tick};
use crate::config::Claim;
use crate::error::{Chain, Report};
use crate::master::authority::{self, Authority, AuthorityError};
use crate::master::ranges::{self, Ranges};
use crate::rng::Rng;
use crate::routes;

/// The pods' addresses when nothing is in the way. Source: the default of `network.pods`.
const USUAL_PODS: &str = "10.244.0.0/16";
/// This machine's IPv6 addresses, if its kernel knows any such thing.
const IF_INET6: &str = "/proc/thread-self/net/if_inet6";
/// `1` where somebody turned it off.
const DISABLE_IPV6: &str = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
/// How often the API is asked.
const EVERY: Duration = Duration::from_millis(50);

/// `--ip-family`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum IpFamily {
    /// IPv4 only.
    Ipv4,
    /// IPv4, and IPv6 beside it.
    Dual,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the cluster is.
    pub layout: Layout,
    /// `--nodes`.
    pub nodes: Option<u32>,
    /// `--runtime`.
    pub runtime: WantedRuntime,
    /// `--ip-family`, of a new cluster.
    pub ip_family: Option<IpFamily>,
    /// `--cpus`, of new nodes.
    pub cpus: Option<f64>,
    /// `--memory`, of new nodes.
    pub memory_mib: Option<u64>,
    /// `--api-port`.
    pub api_port: Option<u16>,
    /// `--mqtt-port`.
    pub mqtt_port: Option<u16>,
    /// `--viewer-port`.
    pub viewer_port: Option<u16>,
    /// `--dashboard-port`.
    pub dashboard_port: Option<u16>,
    /// How long the master, and then the nodes, may take.
    pub timeout: Duration,
}

/// A process that this start began.
struct Begun {
    process: String,
    child: Child,
}

/// Brings the cluster up and returns when it is ready.
///
/// # Errors
/// When something stands in the way; what was started runs on.
pub fn start(options: &Options) -> Result<(), Report> {
    let layout = &options.layout;
    let progress = Progress::default();
    expect_ours(layout)?;
    let _claim = Claim::take(layout.root(), "start")?;
    let interrupted = format!(
        "interrupted: what was started runs on. `bramble start{0}` goes on from here, `bramble stop{0}` ends it",
        layout.flag()
    );
    progress::on_interrupt(interrupted).map_err(|error| Report::failed("cannot watch for Ctrl-C").because(error))?;

    let (mut cluster, chosen) = chosen(options).inspect_err(|_| leave_no_trace(layout))?;
    let before = cluster.nodes.len();
    announce(&progress, options, &cluster, &chosen);
    cluster.grow(wanted_nodes(options, before), options.cpus, options.memory_mib);
    cluster.save(&layout.state())?;

    let authority = progress.step("certificates", |_| certificates(layout, &cluster))?;
    let changed = write_configs(layout, &cluster)?;
    start_master(&progress, options, &cluster)?;
    let context = install_kubeconfig(&progress, layout, &cluster, &authority)?;
    start_nodes(&progress, options, &cluster, &changed)?;
    let added = cluster.nodes.len() - before;
    sum_up(&progress, layout, &cluster, &chosen, &context, added);
    Ok(())
}

/// A folder with other things in it is not taken for ours: `delete` would remove them.
fn expect_ours(layout: &Layout) -> Result<(), Report> {
    if layout.state().exists() {
        return Ok(());
    }
    let entries = match std::fs::read_dir(layout.root()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unwritable(layout.root(), error)),
    };
    // What a start that was cut off at its very beginning leaves.
    let harmless = |name: &str| name == "start.lock" || name.starts_with(".cluster.json.");
    match entries.flatten().find(|entry| !harmless(&entry.file_name().to_string_lossy())) {
        None => Ok(()),
        Some(entry) => {
            Err(Report::failed(format!("{} holds something that is no cluster of bramble's", layout.root().display()))
                .because(format!("there is {} and no cluster.json", entry.file_name().to_string_lossy()))
                .fix("choose an empty or a new directory with --data-dir DIR"))
        }
    }
}

/// A start that made nothing but its lock takes that away again; the folder, too, when it is empty then.
fn leave_no_trace(layout: &Layout) {
    if !layout.state().exists() {
        let _ = std::fs::remove_file(crate::config::lock_file(layout.root(), "start"));
        let _ = std::fs::remove_dir(layout.root());
    }
}

fn unwritable(path: &Path, error: std::io::Error) -> Report {
    let file = crate::config::in_the_way(path, &error).map(crate::config::not_a_directory);
    let fix = match error.kind() {
        std::io::ErrorKind::StorageFull => "make room on the disk, then start again".to_owned(),
        _ => file.unwrap_or_else(|| {
            format!("make {} writable for this user, or choose another directory with --data-dir DIR", path.display())
        }),
    };
    Report::failed(format!("cannot write {}", path.display())).because(error).fix(fix)
}

/// The cluster that stands here, or a new one that is not written yet.
fn chosen(options: &Options) -> Result<(Cluster, Chosen), Report> {
    let layout = &options.layout;
    let wanted = Wanted { api: options.api_port, mqtts: options.mqtt_port, mqtt: options.viewer_port };
    let delete = format!("bramble delete{}", layout.flag());
    if let Some(cluster) = Cluster::load(&layout.state())? {
        let chosen = runtime::for_standing(options.runtime, &cluster, &delete)?;
        ports::agree(wanted, cluster.ports, &delete)?;
        agree(options.ip_family, &cluster, &delete)?;
        return Ok((cluster, chosen));
    }
    let chosen = runtime::for_new(options.runtime)?;
    let ports = ports::choose(wanted)?;
    let created = crate::api::time::rfc3339(SystemClock::start().now().wall);
    let uid = Rng::from_os("cluster").uuid();
    let mut cluster = Cluster::new(uid, created, chosen.runtime, chosen.socket.clone(), ports);
    // Addresses of simulated pods are nobody's.
    let real = chosen.runtime == Runtime::Docker;
    let dual = options.ip_family == Some(IpFamily::Dual);
    if real && dual {
        let told = |path: &str| std::fs::read_to_string(path).ok();
        expect_ipv6(told(IF_INET6).as_deref(), told(DISABLE_IPV6).as_deref())?;
    }
    if real || dual {
        let routes = if real { routes::of_this_machine() } else { Vec::new() };
        let second = if dual { ranges::unique_local(&cluster.uid) } else { None };
        cluster.network = ranges::choose(&routes).map(|first| network(first, second));
    }
    Ok((cluster, chosen))
}

fn is_dual(cluster: &Cluster) -> bool {
    cluster.network.as_ref().is_some_and(|network| network.pods.contains(','))
}

/// Checks that what is asked for is what the cluster speaks.
fn agree(wanted: Option<IpFamily>, cluster: &Cluster, delete: &str) -> Result<(), Report> {
    let (has, words) = if is_dual(cluster) { (IpFamily::Dual, "IPv4 and IPv6") } else { (IpFamily::Ipv4, "IPv4 only") };
    if wanted.is_none_or(|wanted| wanted == has) {
        return Ok(());
    }
    Err(Report::usage(format!("this cluster speaks {words}: families of addresses are chosen once"))
        .fix(format!("leave --ip-family out; or remove the cluster with `{delete}` and start anew")))
}

/// As the master's configuration has them.
fn network(first: Ranges, second: Option<(Ipv6Net, Ipv6Net)>) -> Network {
    let behind = |range: Option<Ipv6Net>| range.map(|range| format!(",{range}")).unwrap_or_default();
    let (pods, services) = second.unzip();
    Network { pods: format!("{}{}", first.pods, behind(pods)), services: format!("{}{}", first.services, behind(services)) }
}

/// A machine that speaks no IPv6 cannot have pods that do: by its addresses, and by the setting that forbids any.
fn expect_ipv6(addresses: Option<&str>, disabled: Option<&str>) -> Result<(), Report> {
    let why = match (addresses, disabled.map(str::trim)) {
        (None, _) => format!("its kernel has no IPv6: there is no {IF_INET6}"),
        (_, Some("1")) => format!("it is turned off: {DISABLE_IPV6} is 1"),
        _ => return Ok(()),
    };
    Err(Report::failed("this machine speaks no IPv6, so its pods cannot").because(why).fix(
        "turn it on (`sysctl -w net.ipv6.conf.all.disable_ipv6=0`; no `ipv6.disable=1` where the kernel is started), or leave `--ip-family dual` out",
    ))
}

fn wanted_nodes(options: &Options, before: usize) -> usize {
    let asked = options.nodes.and_then(|nodes| usize::try_from(nodes).ok());
    asked.unwrap_or(before).max(1)
}

/// The first lines.
fn announce(progress: &Progress, options: &Options, cluster: &Cluster, chosen: &Chosen) {
    let root = options.layout.root().display();
    let (before, wanted) = (cluster.nodes.len(), wanted_nodes(options, cluster.nodes.len()));
    let how = match (chosen.runtime, &chosen.simulated_because) {
        (Runtime::Docker, _) => {
            let engine = chosen.socket.as_deref().map_or("Docker", docker::engine_name);
            format!("containers run in {engine}")
        }
        (Runtime::Simulated, Some(because)) => format!("SIMULATED, nothing really runs: {because}"),
        (Runtime::Simulated, None) => "SIMULATED, nothing really runs".to_owned(),
    };
    progress.say(&match before {
        0 => format!("a new cluster with {}, {how}", nodes(wanted)),
        _ => format!("the cluster of {}, {how}", nodes(before)),
    });
    progress.say(&format!("data: {root}"));
    let network = cluster.network.as_ref();
    if is_dual(cluster) && before == 0 {
        progress.say("pods have an IPv6 address each as well, and services that ask for one (`ipFamilyPolicy: PreferDualStack`)");
    }
    if let Some(network) = network.filter(|network| before == 0 && !network.pods.starts_with(USUAL_PODS)) {
        let (pods, services) = (&network.pods, &network.services);
        progress.say(&format!(
            "pods have addresses of {pods} and services of {services}: this machine knows the way to the usual ones already"
        ));
    }
    if before > 0 && wanted < before {
        progress.say(&format!("! it has {}, and start takes none away; `--nodes {wanted}` changes nothing", nodes(before)));
    }
    if before > 0 && wanted <= before && (options.cpus.is_some() || options.memory_mib.is_some()) {
        progress.say("! --cpus and --memory are for new nodes, and there is none");
    }
    if options.dashboard_port.is_some_and(|port| port != 0) {
        progress.say("! --dashboard-port changes nothing: this version has no dashboard yet");
    }
}

fn nodes(count: usize) -> String {
    if count == 1 { "1 node".into() } else { format!("{count} nodes") }
}

fn certificates(layout: &Layout, cluster: &Cluster) -> Result<Authority, Report> {
    let make = || -> Result<Authority, AuthorityError> {
        let authority = Authority::open_or_create(&layout.pki(), configs::CLUSTER)?;
        authority.server(&authority::server_names())?;
        authority.admin()?;
        authority.master()?;
        for node in &cluster.nodes {
            authority.node(&layout.node(&node.name).join("pki"), &node.name)?;
        }
        Ok(authority)
    };
    make().map_err(|error| {
        Report::failed("cannot make the cluster's certificates")
            .because(error)
            .fix(format!("see that {} is writable for this user and the disk is not full", layout.pki().display()))
    })
}

/// Writes all configurations; tells the nodes whose daemon, if one lives, has an old one.
fn write_configs(layout: &Layout, cluster: &Cluster) -> Result<BTreeSet<String>, Report> {
    let file = layout.master_config();
    configs::write(&file, &configs::master(layout, cluster)).map_err(|error| unwritable(&file, error))?;
    let machine = Machine::this();
    let mut changed = BTreeSet::new();
    for node in &cluster.nodes {
        let file = layout.node_config(&node.name);
        let text = configs::agent(layout, cluster, node, machine);
        if configs::write(&file, &text).map_err(|error| unwritable(&file, error))? == Written::Changed {
            changed.insert(node.name.clone());
        }
    }
    Ok(changed)
}

fn start_master(progress: &Progress, options: &Options, cluster: &Cluster) -> Result<(), Report> {
    let layout = &options.layout;
    progress.step("master", |step| {
        let seat = Seat::master(layout);
        let mut begun = Vec::new();
        if seat.pid()?.is_none() {
            ports::expect_free(cluster.ports)?;
            let arguments = ["master", "--config"].map(OsString::from).into_iter().chain([
                layout.master_config().into(),
                "--data-dir".into(),
                layout.root().into(),
            ]);
            let arguments: Vec<OsString> = arguments.collect();
            begun.push(Begun { process: "master".into(), child: daemon::spawn(layout, "master", &arguments)? });
        }
        let api = Api::open(&layout.pki(), cluster.ports.api)
            .map_err(|error| Report::failed("cannot use the admin's certificate").because(error))?;
        let ready = || api.ready().map(|()| Progressed::Done);
        wait(&mut begun, options.timeout, ready)
            .map_err(|waited| waited.report(layout, "the master does not answer", "master", options.timeout))?;
        let pid = seat.pid()?.map_or_else(String::new, |pid| format!(", pid {pid}"));
        step.say(if begun.is_empty() { format!("master runs already{pid}") } else { format!("master started{pid}") });
        Ok(())
    })
}

/// Our own kubeconfig, and the context in the user's; that the latter cannot be is told and stops nothing.
fn install_kubeconfig(progress: &Progress, layout: &Layout, cluster: &Cluster, authority: &Authority) -> Result<Context, Report> {
    let read = |name: &str| {
        let path = layout.pki().join(name);
        std::fs::read_to_string(&path).map_err(|error| Report::failed(format!("cannot read {}", path.display())).because(error))
    };
    let access = Access {
        server: cluster.api(),
        ca: authority.pem().to_owned(),
        certificate: read("bramble-admin.crt")?,
        key: read("bramble-admin.key")?,
    };
    let file = layout.kubeconfig();
    let text = kubeconfig::alone(&access).map_err(|error| Report::failed("cannot write a kubeconfig").because(error))?;
    authority::write_file(&file, text.as_bytes(), 0o600).map_err(|error| unwritable(&file, error))?;
    Ok(match kubeconfig::merge(&access) {
        Ok(merged) => {
            let path = merged.path.display();
            progress.say(&format!("✓ context {} in {path}, and it is the current one", kubeconfig::NAME));
            if let Some(server) = merged.replaced {
                progress.say(&format!("! it pointed to another cluster before, {server}"));
            }
            Context::Merged
        }
        Err(error) => {
            progress.say(&format!("! your kubeconfig is as it was: {}", Chain(&error)));
            Context::Apart
        }
    })
}

/// Whether plain `kubectl` finds the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Context {
    Merged,
    Apart,
}

fn start_nodes(progress: &Progress, options: &Options, cluster: &Cluster, changed: &BTreeSet<String>) -> Result<(), Report> {
    let layout = &options.layout;
    let count = nodes(cluster.nodes.len());
    progress.step(&format!("0 of {count} ready"), |step| {
        let mut begun = Vec::new();
        let (mut started, mut again) = (Vec::new(), Vec::new());
        for process in cluster.processes() {
            let members: Vec<&str> = members(cluster, process);
            let seats: Vec<Seat> = members.iter().map(|name| Seat::node(layout, name)).collect();
            let mut living = 0;
            for seat in &seats {
                living += usize::from(seat.pid()?.is_some());
            }
            let other = living > 0 && members.iter().any(|name| changed.contains(*name));
            if living == seats.len() && !other {
                continue;
            }
            // With another share: an agent leaves its containers running and takes them over again. Of a fleet, all or none.
            if living > 0 {
                daemon::end(&seats, daemon::GRACE)?;
            }
            if other {
                again.push(process);
            } else {
                started.push(process);
            }
            let arguments = arguments(layout, process, &members);
            begun.push(Begun { process: process.to_owned(), child: daemon::spawn(layout, process, &arguments)? });
        }
        let api = Api::open(&layout.pki(), cluster.ports.api)
            .map_err(|error| Report::failed("cannot use the admin's certificate").because(error))?;
        let wanted: BTreeSet<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
        let poll = || {
            let told = api.nodes()?;
            let ready: BTreeSet<&str> = told.iter().filter(|node| node.ready).map(|node| node.name.as_str()).collect();
            let missing: Vec<String> =
                wanted.iter().filter(|name| !ready.contains(*name)).map(|name| (*name).to_owned()).collect();
            // The API may still tell of an agent that was there before: a seat must be taken, too.
            let missing = match missing.is_empty() {
                true => absent(layout, &wanted),
                false => missing,
            };
            if missing.is_empty() {
                return Ok(Progressed::Done);
            }
            step.say(format!("{} of {count} ready", wanted.len() - missing.len()));
            Ok(Progressed::Waiting(missing))
        };
        wait(&mut begun, options.timeout, poll).map_err(|waited| {
            let first = waited.missing.first().and_then(|name| cluster.nodes.iter().find(|node| node.name == *name));
            let process = first.map_or("master", |node| node.process.as_str());
            let what = match waited.missing.as_slice() {
                [] => "the nodes cannot be asked for".to_owned(),
                [one] => format!("node {one} is not ready"),
                many if many.len() <= 5 => format!("nodes {} are not ready", list(many)),
                many => format!("{} of {count} are not ready", many.len()),
            };
            waited.report(layout, &what, process, options.timeout)
        })?;
        let mut told = vec![format!("{count} ready")];
        told.extend((!started.is_empty()).then(|| format!("started {}", short(&started))));
        told.extend((!again.is_empty()).then(|| format!("started {} again with another share of this machine", short(&again))));
        step.say(told.join("; "));
        Ok(())
    })
}

/// The nodes in whose place nobody sits.
fn absent(layout: &Layout, names: &BTreeSet<&str>) -> Vec<String> {
    let sits = |name: &str| Seat::node(layout, name).pid().is_ok_and(|pid| pid.is_some());
    names.iter().filter(|name| !sits(name)).map(|name| (*name).to_owned()).collect()
}

/// At most five names.
fn short(processes: &[&str]) -> String {
    match processes {
        [first, .., last] if processes.len() > 5 => format!("{first} … {last} ({} processes)", processes.len()),
        few => list(few),
    }
}

fn members<'a>(cluster: &'a Cluster, process: &str) -> Vec<&'a str> {
    cluster.nodes.iter().filter(|node| node.process == process).map(|node| node.name.as_str()).collect()
}

/// What `ps` shows: data directory and node name.
fn arguments(layout: &Layout, process: &str, members: &[&str]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    match members {
        [name] if *name == process => {
            arguments.extend(["agent", "--node", name, "--data-dir"].map(OsString::from));
            arguments.push(layout.node(name).into());
            arguments.push("--config".into());
        }
        _ => {
            arguments.extend(["fleet", "--data-dir"].map(OsString::from));
            arguments.push(layout.root().into());
            arguments.push("--config".into());
        }
    }
    arguments.extend(members.iter().map(|name| layout.node_config(name).into()));
    arguments
}

/// How far a wait is.
enum Progressed {
    Done,
    /// Who is not ready yet.
    Waiting(Vec<String>),
}

/// Why a wait was given up.
struct Waited {
    /// A daemon that ended, and how.
    ended: Option<(String, String)>,
    missing: Vec<String>,
    /// What the API last said in place of an answer.
    last: Option<String>,
}

impl Waited {
    fn report(self, layout: &Layout, what: &str, process: &str, timeout: Duration) -> Report {
        let flag = layout.flag();
        let (what, process) = match &self.ended {
            Some((process, how)) => (format!("{process} ended at once: {how}"), process.as_str()),
            None => (format!("{what} after {} s", timeout.as_secs()), process),
        };
        let mut why = daemon::tail(&layout.log(process));
        if let (None, Some(error)) = (&self.ended, &self.last) {
            why = format!("{error}; {why}");
        }
        Report::failed(what).because(why).fix(format!(
            "mend what the log says and run `bramble start{flag}` again: it goes on from here (`{LOG}=debug bramble start{flag}` tells more, `bramble stop{flag}` ends what runs)",
            LOG = crate::telemetry::LOG_VARIABLE
        ))
    }
}

/// Asks until it is done, a daemon that was begun ends, or `timeout` has passed.
fn wait(begun: &mut [Begun], timeout: Duration, mut poll: impl FnMut() -> Result<Progressed, ProbeError>) -> Result<(), Waited> {
    let clock = SystemClock::start();
    let mut waited = Waited { ended: None, missing: Vec::new(), last: None };
    loop {
        match poll() {
            Ok(Progressed::Done) => return Ok(()),
            Ok(Progressed::Waiting(missing)) => (waited.missing, waited.last) = (missing, None),
            Err(error) => waited.last = Some(Chain(&error).to_string()),
        }
        for one in begun.iter_mut() {
            if let Ok(Some(status)) = one.child.try_wait() {
                waited.ended = Some((one.process.clone(), status.to_string()));
                return Err(waited);
            }
        }
        if clock.now().tick.since(Tick(0)) >= timeout {
            return Err(waited);
        }
        std::thread::sleep(EVERY);
    }
}

/// The last lines: addresses, what to watch, what to try.
fn sum_up(progress: &Progress, layout: &Layout, cluster: &Cluster, chosen: &Chosen, context: &Context, added: usize) {
    let flag = layout.flag();
    let kubectl = match context {
        Context::Merged => "kubectl".to_owned(),
        Context::Apart => format!("bramble kubectl{flag}"),
    };
    let new = if added > 0 && added < cluster.nodes.len() { format!(" ({added} of them new)") } else { String::new() };
    let elapsed = progress.elapsed().as_secs_f64();
    progress.say(&format!("\n{}{new} ready in {elapsed:.1} s\n", nodes(cluster.nodes.len())));
    progress.say(&format!("  API               {}", cluster.api()));
    progress.say(&format!("  MQTT for people   {}   (plain, this machine only, reading only)", cluster.mqtt()));
    progress.say(&format!("  MQTT for nodes    {}  (TLS, each with its certificate)", cluster.mqtts()));
    progress.say(&format!("  kubeconfig        {}\n", layout.kubeconfig().display()));
    progress.say("see everything that it says:");
    progress.say(&format!("  mosquitto_sub -h 127.0.0.1 -p {} -t '{c}/{c}/#' -v\n", cluster.ports.mqtt, c = configs::CLUSTER));
    progress.say("try next:");
    progress.say(&format!("  {kubectl} get nodes"));
    progress.say(&format!("  {kubectl} create deployment hello --image=nginx:alpine --replicas=3"));
    progress.say(&format!("  {kubectl} get pods -o wide -w"));
    let has_kubectl =
        std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("kubectl").exists()));
    if !has_kubectl {
        progress.say("! there is no kubectl in PATH: https://kubernetes.io/docs/tasks/tools/ says how to get it");
    }
    if chosen.runtime == Runtime::Simulated {
        let delete = format!("then `bramble delete{flag}` and `bramble start{flag}`");
        progress.say(&match &chosen.simulated_because {
            Some(because) => format!("\nSIMULATED, nothing really runs: {because}, {delete}"),
            None => "\nSIMULATED, nothing really runs".to_owned(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::Ports;
    use super::*;

    #[test]
    fn a_folder_with_something_else_in_it_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::find(Some(dir.path().to_path_buf())).unwrap();
        assert!(expect_ours(&layout).is_ok(), "an empty one");
        std::fs::write(dir.path().join("start.lock"), "").unwrap();
        assert!(expect_ours(&layout).is_ok(), "one where a start was cut off");
        std::fs::write(dir.path().join("thesis.txt"), "").unwrap();
        let told = expect_ours(&layout).unwrap_err();
        assert!(told.why.unwrap().to_string().contains("thesis.txt") && told.fix.is_some());
        std::fs::write(layout.state(), "{}").unwrap();
        assert!(expect_ours(&layout).is_ok(), "a cluster's");
        assert!(expect_ours(&Layout::find(Some(dir.path().join("new"))).unwrap()).is_ok());
    }

    #[test]
    fn a_start_that_may_not_begin_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::find(Some(dir.path().join("c"))).unwrap();
        drop(Claim::take(layout.root(), "start").unwrap());
        leave_no_trace(&layout);
        assert!(!layout.root().exists());
        drop(Claim::take(layout.root(), "start").unwrap());
        std::fs::write(layout.state(), "{}").unwrap();
        leave_no_trace(&layout);
        assert!(crate::config::lock_file(layout.root(), "start").exists(), "a cluster's lock stays");
    }

    #[test]
    fn a_dual_stack_cluster_has_ranges_by_its_uid_and_a_machine_without_ipv6_is_refused() {
        let first = ranges::choose(&[]).unwrap();
        let told = network(first, ranges::unique_local("1234abcd-9f01"));
        let (pods, services) = ("10.244.0.0/16,fd12:34ab:cd9f:100::/56", "10.96.0.0/16,fd12:34ab:cd9f::/112");
        assert_eq!((told.pods.as_str(), told.services.as_str()), (pods, services));
        assert_eq!(network(first, None).pods, "10.244.0.0/16");
        let ports = Ports { api: 1, mqtts: 2, mqtt: 3 };
        let mut cluster = Cluster::new("u".into(), String::new(), Runtime::Docker, None, ports);
        let agreed = |wanted, cluster: &Cluster| agree(wanted, cluster, "bramble delete").map_err(|report| report.what);
        assert!(agreed(None, &cluster).is_ok() && agreed(Some(IpFamily::Ipv4), &cluster).is_ok());
        assert!(agreed(Some(IpFamily::Dual), &cluster).unwrap_err().contains("speaks IPv4 only"));
        cluster.network = Some(told);
        assert!(agreed(None, &cluster).is_ok() && agreed(Some(IpFamily::Dual), &cluster).is_ok());
        assert!(agreed(Some(IpFamily::Ipv4), &cluster).unwrap_err().contains("speaks IPv4 and IPv6"));
        assert!(expect_ipv6(Some(""), Some("0\n")).is_ok() && expect_ipv6(Some(""), None).is_ok());
        for (addresses, disabled, words) in [
            (None, None, "there is no /proc"),
            (Some(""), Some("1\n"), "disable_ipv6 is 1"),
            (None, Some("0"), "its kernel has no IPv6"),
        ] {
            let report = expect_ipv6(addresses, disabled).unwrap_err();
            assert!(report.why.unwrap().to_string().contains(words) && report.fix.is_some());
        }
    }

    #[test]
    fn ps_shows_data_directory_and_node() {
        let layout = Layout::find(Some("/d".into())).unwrap();
        let words = |arguments: Vec<OsString>| arguments.join(&OsString::from(" ")).into_string().unwrap();
        assert_eq!(
            words(arguments(&layout, "bramble-1", &["bramble-1"])),
            "agent --node bramble-1 --data-dir /d/nodes/bramble-1 --config /d/nodes/bramble-1/agent.toml"
        );
        assert_eq!(
            words(arguments(&layout, "fleet-1", &["bramble-11", "bramble-12"])),
            "fleet --data-dir /d --config /d/nodes/bramble-11/agent.toml /d/nodes/bramble-12/agent.toml"
        );
        assert!(words(arguments(&layout, "fleet-1", &["bramble-11"])).starts_with("fleet "), "a fleet of one is a fleet");
    }

    #[test]
    fn all_that_a_first_start_writes_is_there_and_a_second_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::find(Some(dir.path().join("c"))).unwrap();
        let ports = Ports { api: 1, mqtts: 2, mqtt: 3 };
        let mut cluster = Cluster::new("u".into(), String::new(), Runtime::Docker, Some("/d.sock".into()), ports);
        cluster.grow(1, None, None);
        certificates(&layout, &cluster).unwrap();
        assert_eq!(write_configs(&layout, &cluster).unwrap().len(), 1);
        let ca = std::fs::read(layout.pki().join("ca.crt")).unwrap();
        certificates(&layout, &cluster).unwrap();
        assert!(write_configs(&layout, &cluster).unwrap().is_empty());
        assert_eq!(std::fs::read(layout.pki().join("ca.crt")).unwrap(), ca);
        cluster.grow(2, None, None);
        let changed: Vec<String> = write_configs(&layout, &cluster).unwrap().into_iter().collect();
        assert_eq!(changed, ["bramble-1", "bramble-2"], "the first one's share is smaller now");
    }

    #[test]
    fn a_daemon_that_ends_is_told_with_the_end_of_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::find(Some(dir.path().to_path_buf())).unwrap();
        std::fs::create_dir_all(dir.path().join("logs")).unwrap();
        std::fs::write(layout.log("master"), "the disk is full").unwrap();
        let child = std::process::Command::new("false").spawn().unwrap();
        let mut begun = [Begun { process: "master".into(), child }];
        let waited = wait(&mut begun, Duration::from_secs(20), || Ok(Progressed::Waiting(vec![])));
        let told = waited.unwrap_err().report(&layout, "no", "master", Duration::from_secs(20));
        assert!(told.what.starts_with("master ended at once: exit status: 1"), "{}", told.what);
        assert!(told.why.unwrap().to_string().ends_with("the disk is full"));
    }
}
