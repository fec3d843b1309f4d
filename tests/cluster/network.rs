//! What nodes are told of the network: the whole truth after a start of the master, or nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bramble::api::discovery::endpoint_slice::EndpointSlice;
use bramble::clock::{Clock, SystemClock};
use bramble::link::bus::{BusEvent, Publish};
use bramble::link::codec::{decode, encode};
use bramble::link::message::{Info, SCHEMA};
use bramble::link::mqtt::{MqttConfig, Place, connect};
use bramble::link::session::{Session, SessionEffect, SessionInput};
use bramble::link::share::Share;
use bramble::link::{NodeTopic, Topics};
use bramble::rng::Rng;
use bramble::step::Machine;
use bramble::tls::Credentials;
use tokio_util::sync::CancellationToken;

use super::SOON;
use super::support::{Cluster, deployment, signal, wait_until};

/// Each share that was told, with the moment.
type Told = Vec<(Instant, Arc<Share>)>;

/// A node that wants to know the network and runs nothing: each share that it was given, with the moment.
struct Listener {
    shares: Arc<Mutex<Told>>,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Listener {
    fn join(cluster: &Cluster, name: &str, port: u16) -> Self {
        let dir = cluster.dir.with_file_name(name);
        let data_dir = cluster.dir.to_str().unwrap();
        let added = ["node", "add", "--data-dir", data_dir, name, "-o", dir.to_str().unwrap()];
        let said = std::process::Command::new(&cluster.program).args(added).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let read = |file: &str| std::fs::read(Path::new(&dir).join("bramble-agent/pki").join(file)).unwrap();
        let credentials = Credentials { ca: read("ca.crt"), chain: read("node.crt"), key: read("node.key") };
        let (shares, stop) = (Arc::<Mutex<Told>>::default(), CancellationToken::new());
        let (heard, token, name) = (shares.clone(), stop.clone(), name.to_owned());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(listen(name, port, credentials, heard, token));
        });
        Self { shares, stop, thread: Some(thread) }
    }

    fn all(&self) -> Told {
        self.shares.lock().unwrap().clone()
    }

    /// Ready endpoints of each service, as it was told last.
    fn last(&self) -> BTreeMap<String, usize> {
        self.all().last().map(|(_, share)| ready(share)).unwrap_or_default()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.cancel();
        let _ = self.thread.take().unwrap().join();
    }
}

/// The node's side of the link, as the agent has it.
async fn listen(name: String, port: u16, credentials: Credentials, heard: Arc<Mutex<Told>>, stop: CancellationToken) {
    let topics = Topics::new("bramble");
    let settings = MqttConfig {
        client_id: name.clone(),
        at: Place { host: "127.0.0.1".into(), port },
        moves: None,
        tls: Some(credentials.client().unwrap()),
        login: None,
        filters: topics.node_filters(&name),
        will: None,
    };
    let (bus, mut events, link) = connect(settings, stop.clone());
    let link = tokio::spawn(link);
    let clock = SystemClock::start();
    let mut session = Session::new(None, Rng::from_os("listener"));
    let info =
        Info { v: SCHEMA, node: name.clone(), pods: 110, addresses: vec!["192.0.2.7".into()], network: true, ..Info::default() };
    let publish = |topic: NodeTopic, payload, retain| {
        let topic = topics.node(&name, &topic);
        let _ = bus.publish(Publish { topic, payload, retain, expiry_seconds: None });
    };
    loop {
        let mut effects = Vec::new();
        tokio::select! {
            () = stop.cancelled() => break,
            event = events.recv() => match event {
                None => break,
                Some(BusEvent::Connected) => {
                    session.handle(clock.now(), SessionInput::Connected, &mut effects);
                    publish(NodeTopic::Availability, "online".into(), true);
                    publish(NodeTopic::Info, encode(&info), true);
                }
                Some(BusEvent::Disconnected) => session.handle(clock.now(), SessionInput::Disconnected, &mut effects),
                Some(BusEvent::Alive { .. }) => {}
                Some(BusEvent::Message { topic, payload, .. }) => match topics.parse(&topic) {
                    Some((_, NodeTopic::NetHead)) if !payload.is_empty() => {
                        session.handle(clock.now(), SessionInput::Head(decode(&payload).unwrap()), &mut effects);
                    }
                    Some((_, NodeTopic::NetAssignment)) => {
                        session.handle(clock.now(), SessionInput::Assignment(Box::new(decode(&payload).unwrap())), &mut effects);
                    }
                    _ => {}
                },
            },
            () = clock.sleep_until(session.next_wake()) => session.wake(clock.now(), &mut effects),
        }
        for effect in effects {
            match effect {
                SessionEffect::Desired { share, .. } => heard.lock().unwrap().push((Instant::now(), share)),
                SessionEffect::Ask(ask) => publish(NodeTopic::NetAsk, encode(&ask), false),
                SessionEffect::Confirmed | SessionEffect::Tell => {}
            }
        }
    }
    let _ = link.await;
}

/// Ready endpoints of each service that a share names.
fn ready(share: &Share) -> BTreeMap<String, usize> {
    let mut count: BTreeMap<String, usize> = share.services.keys().map(|name| (name.clone(), 0)).collect();
    for slice in share.endpoint_slices.values() {
        let slice = EndpointSlice(slice);
        let place = format!("{}/{}", slice.0.namespace(), slice.service().unwrap());
        *count.entry(place).or_default() += slice.endpoints().filter(|endpoint| endpoint.is_ready()).count();
    }
    count
}

fn broker_port(cluster: &Cluster) -> u16 {
    cluster.status()["mqtts"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn what_serves_a_service_is_never_told_as_nobody_while_the_master_starts_again() {
    let cluster = Cluster::started(&["--runtime", "simulated", "--nodes", "2"]);
    for name in ["web", "api"] {
        cluster.apply(&deployment(name, 3, &format!("{name}:1"), ""));
        cluster.kubectl(&["expose", "deployment", name, "--port=80"]).expect();
    }
    cluster.apply("apiVersion: v1\nkind: Service\nmetadata: {name: nas}\nspec: {ports: [{port: 445}]}\n---\napiVersion: v1\nkind: Endpoints\nmetadata: {name: nas}\nsubsets: [{addresses: [{ip: 192.0.2.9}], ports: [{port: 445}]}]\n");
    cluster.wait_ready("app=web", 3, SOON);
    cluster.wait_ready("app=api", 3, SOON);
    let node = Listener::join(&cluster, "listener", broker_port(&cluster));
    let served: BTreeMap<String, usize> =
        [("api", 3), ("kubernetes", 0), ("nas", 1), ("web", 3)].map(|(name, count)| (format!("default/{name}"), count)).into();
    let told = |what: &str, expected: &BTreeMap<String, usize>| {
        wait_until(what, SOON, || if node.last() == *expected { Ok(()) } else { Err(format!("{:?}", node.last())) });
    };
    told("all services are told", &served);
    let (_, share) = node.all().pop().unwrap();
    let network = share.network.clone().unwrap();
    assert_eq!(
        (network.pods.as_str(), network.dns.as_str(), network.domain.as_str()),
        ("10.244.0.0/16", "10.96.0.10", "cluster.local")
    );
    assert_eq!(share.peers.keys().collect::<Vec<_>>(), ["bramble-1", "bramble-2", "listener"]);

    let before = node.all().len();
    for round in 0..3 {
        signal(cluster.master_pid(), "KILL");
        wait_until(
            "the master ends",
            SOON,
            || if cluster.status()["ready"] == false { Ok(()) } else { Err("it lives".to_owned()) },
        );
        let from = Instant::now();
        cluster.start(&[]).expect();
        // While it starts nothing says that nobody serves: there is no slice, or one with everybody.
        wait_until("the endpoints are there again", SOON, || {
            let said = cluster.kubectl(&["get", "endpoints", "web", "-o", "jsonpath={.subsets[*].addresses[*].ip}"]);
            let count = said.out.split_whitespace().count();
            assert!(!said.ok || count == 3, "round {round}: {count} of 3 after {:?}", from.elapsed());
            if said.ok { Ok(()) } else { Err(said.err) }
        });
        println!("round {round}: endpoints again after {:.1} s", from.elapsed().as_secs_f64());
        // A change passes, so the node follows this master.
        cluster.kubectl(&["annotate", "service", "web", "--overwrite", &format!("round=r{round}")]).expect();
        wait_until("the node hears of a change", SOON, || {
            let shares = node.all();
            let (at, share) = shares.last().unwrap();
            let told = share.services["default/web"].annotation("round") == Some(&format!("r{round}"));
            if told {
                println!("round {round}: told again after {:.1} s", (*at - from).as_secs_f64());
                Ok(())
            } else {
                Err(format!("{:?}", ready(share)))
            }
        });
    }
    let shares = node.all();
    for (_, share) in &shares[before..] {
        assert_eq!(ready(share), served, "in one of {} shares after the first start", shares.len() - before);
    }

    // What happens is told: a pod more, none at all.
    cluster.kubectl(&["scale", "deployment", "web", "--replicas=4"]).expect();
    told(
        "one more serves",
        &served.iter().map(|(name, count)| (name.clone(), count + usize::from(name == "default/web"))).collect(),
    );
    cluster.kubectl(&["scale", "deployment", "web", "--replicas=0"]).expect();
    told(
        "nobody serves",
        &served.iter().map(|(name, count)| (name.clone(), if name == "default/web" { 0 } else { *count })).collect(),
    );
}

#[test]
fn a_lost_node_holds_the_network_back_for_no_longer_than_the_grace() {
    let cluster = Cluster::started(&["--runtime", "simulated", "--nodes", "2"]);
    cluster.apply(&deployment("web", 2, "web:1", ""));
    cluster.kubectl(&["expose", "deployment", "web", "--port=80"]).expect();
    cluster.wait_ready("app=web", 2, SOON);
    let node = Listener::join(&cluster, "listener", broker_port(&cluster));
    let ready_of_web = || node.last().get("default/web").copied();
    wait_until("it is told", SOON, || if ready_of_web() == Some(2) { Ok(()) } else { Err(format!("{:?}", ready_of_web())) });
    let lost = cluster.agent_pid("bramble-2");
    signal(lost, "STOP");
    signal(cluster.master_pid(), "KILL");
    wait_until("the master ends", SOON, || if cluster.status()["ready"] == false { Ok(()) } else { Err("it lives".to_owned()) });
    let before = node.all().len();
    let from = Instant::now();
    // Only the master: `start` waits for all nodes.
    let master = std::process::Command::new(&cluster.program)
        .args(["master", "--config", cluster.dir.join("master.toml").to_str().unwrap()])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
    let mut master = master.unwrap();
    let seen = wait_until("told again, without the lost node's pod", Duration::from_secs(60), || {
        let shares = node.all();
        let counts: Vec<usize> = shares[before..].iter().map(|(_, share)| ready(share)["default/web"]).collect();
        assert!(!counts.contains(&0), "{counts:?}");
        if counts.contains(&1) || counts.contains(&2) { Ok(shares[before].0 - from) } else { Err(format!("{counts:?}")) }
    });
    println!("told after {:.1} s", seen.as_secs_f64());
    signal(lost, "CONT");
    master.kill().unwrap();
    master.wait().unwrap();
}

/// The agent of a node whose engine is away: it joins and hears all the same.
struct Agent {
    child: std::process::Child,
    log: std::path::PathBuf,
}

impl Agent {
    fn start(cluster: &Cluster, node: &str, port: u16) -> Self {
        let dir = cluster.dir.with_file_name(node);
        let (data, log) = (dir.join("bramble-agent"), dir.join("agent.log"));
        let uid = super::support::cluster_uid(cluster);
        let config = format!(
            "node = \"{node}\"\ncluster_uid = \"{uid}\"\ndata_dir = {data:?}\nruntime = \"docker\"\nboard = \"simulated\"\n[docker]\nsocket = \"/nonexistent/engine.sock\"\n[mqtt]\nbroker = \"mqtts://127.0.0.1:{port}\"\n[devices]\nenabled = false\n"
        );
        let file = dir.join("test.toml");
        std::fs::write(&file, config).unwrap();
        let out = std::fs::File::create(&log).unwrap();
        let child = std::process::Command::new(&cluster.program)
            .args(["agent", "--config", file.to_str().unwrap()])
            .env("BRAMBLE_LOG", "debug")
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn();
        Self { child: child.unwrap(), log }
    }

    /// Lines of its log with these words.
    fn said(&self, words: &str) -> usize {
        std::fs::read_to_string(&self.log).unwrap_or_default().lines().filter(|line| line.contains(words)).count()
    }

    fn stop(mut self) {
        signal(i32::try_from(self.child.id()).unwrap(), "TERM");
        self.child.wait().unwrap();
    }
}

#[test]
fn a_node_keeps_what_it_knows_of_the_network_and_writes_nothing_while_nothing_changes() {
    let cluster = Cluster::started(&["--runtime", "simulated"]);
    cluster.apply(&deployment("web", 2, "web:1", ""));
    cluster.kubectl(&["expose", "deployment", "web", "--port=80"]).expect();
    cluster.wait_ready("app=web", 2, SOON);
    let dir = cluster.dir.with_file_name("real");
    let added = ["node", "add", "--data-dir", cluster.dir.to_str().unwrap(), "real", "-o", dir.to_str().unwrap()];
    assert!(std::process::Command::new(&cluster.program).args(added).output().unwrap().status.success());
    let kept = dir.join("bramble-agent/net.json");
    let agent = Agent::start(&cluster, "real", broker_port(&cluster));
    wait_until("it knows the network", SOON, || {
        if agent.said("new network") > 0 { Ok(()) } else { Err(std::fs::read_to_string(&agent.log).unwrap_or_default()) }
    });
    wait_until("it is on its disk at once", SOON, || if kept.exists() { Ok(()) } else { Err(String::new()) });
    agent.stop();
    let share = bramble::agent::checkpoint::decode(&std::fs::read(&kept).unwrap()).unwrap().share;
    assert_eq!(ready(&share)["default/web"], 2);
    let written = std::fs::metadata(&kept).unwrap().modified().unwrap();

    // It begins with what it knew, hears that this is still so, and does not write it again.
    let agent = Agent::start(&cluster, "real", broker_port(&cluster));
    wait_until("it is there again", SOON, || if agent.said("connected to the broker") > 0 { Ok(()) } else { Err(String::new()) });
    std::thread::sleep(Duration::from_secs(2));
    let log = agent.log.clone();
    agent.stop();
    let heard = std::fs::read_to_string(log).unwrap().matches("new network").count();
    let same = std::fs::metadata(&kept).unwrap().modified().unwrap() == written;
    // Its own node may have become another for the others while it was away.
    assert!(same || heard > 0, "written again without a change");
}
