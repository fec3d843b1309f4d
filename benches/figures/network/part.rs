//! What runs inside a namespace: this program once more, told by [`PART`] what to be.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bramble::agent::dns::{self, NameServer};
use bramble::agent::exec;
use bramble::agent::node_network::NodeNetwork;
use bramble::agent::overlay;
use bramble::agent::pod_network::guard::Guard;
use bramble::agent::proxy::change::{change, whole};
use bramble::agent::proxy::ruleset::{Base, Ruleset, ruleset};
use bramble::agent::proxy::table::{Here, table};
use bramble::agent::proxy::{netlink, run};
use bramble::clock::SystemClock;
use bramble::link::share::Share;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{names, traffic};

/// Says what to be.
pub const PART: &str = "BRAMBLE_FIGURES_PART";
/// The cluster of all parts.
const CLUSTER: &str = "figures";

/// Whether this process is a part, and what became of it.
pub fn part() -> Option<anyhow::Result<()>> {
    let words = std::env::var(PART).ok()?;
    Some(be(&words.split(' ').collect::<Vec<_>>()))
}

fn be(words: &[&str]) -> anyhow::Result<()> {
    let figures = match *words {
        ["serve", at] => return traffic::serve(at.parse()?),
        ["node", name, range] => return node(name, range),
        ["rules"] => return rules(),
        ["names", gateway, resolv_conf, upstream_port] => {
            return name_server(gateway.parse()?, resolv_conf.into(), upstream_port.parse()?);
        }
        ["upstream", at] => return names::upstream(at.parse()?),
        ["stream", to, ms] => traffic::stream(to.parse()?, Duration::from_millis(ms.parse()?))?,
        ["trips", to, ms] => traffic::trips(to.parse()?, Duration::from_millis(ms.parse()?))?,
        ["connections", to, count] => traffic::connections(to.parse()?, count.parse()?)?,
        ["questions", to, window, count, ref names @ ..] => {
            names::questions(to.parse::<SocketAddr>()?, window.parse()?, count.parse()?, names)?
        }
        _ => bail!("no such part: {words:?}"),
    };
    println!("{figures}");
    Ok(())
}

fn lines() -> impl Iterator<Item = String> {
    BufReader::new(std::io::stdin()).lines().map_while(Result::ok)
}

/// Shares as they are told, a line each.
fn told() -> watch::Receiver<Arc<Share>> {
    let (net, shares) = watch::channel(Arc::new(Share::default()));
    std::thread::spawn(move || {
        for line in lines() {
            if let Ok(share) = serde_json::from_str(&line) {
                net.send_replace(Arc::new(share));
            }
        }
    });
    shares
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// What an agent does for packets: NAT, ways to other nodes, services.
fn node(name: &str, range: &str) -> anyhow::Result<()> {
    let range: ipnet::Ipv4Net = range.parse()?;
    let gateway = range.hosts().next().context("a range without addresses")?;
    let bridge = "br-pods".to_owned();
    let guard = Guard {
        id: name.to_owned(),
        range: range.into(),
        bridge: bridge.clone(),
        pods: "10.244.0.0/16".parse()?,
        direct: Default::default(),
    };
    let (_own, own) = watch::channel(Some(NodeNetwork { range, gateway, bridge: Some(bridge), v6: None }));
    let net = told();
    let (changes, changed) = watch::channel(0);
    let direct = watch::channel(Default::default()).0;
    let (cluster, node) = (CLUSTER.to_owned(), name.to_owned());
    let ways = overlay::run::Parts {
        cluster_uid: cluster.clone(),
        node: node.clone(),
        net: net.clone(),
        own: own.clone(),
        changed,
        direct,
        tunnels: watch::channel(None).0,
    };
    let (events, _unread) = mpsc::channel(1);
    let services = run::Parts { node, cluster, net, network: own, events, clock: SystemClock::start(), check: run::CHECK };
    let stop = CancellationToken::new();
    runtime()?.block_on(async {
        exec::transaction(&guard.batch()).await?;
        println!("ready");
        tokio::join!(
            overlay::netlink::follow(changes, stop.clone()),
            overlay::run::keep(ways, stop.clone()),
            run::run(services, stop),
        );
        Ok(())
    })
}

/// The name server of a node.
fn name_server(gateway: Ipv4Addr, resolv_conf: PathBuf, upstream_port: u16) -> anyhow::Result<()> {
    let network =
        NodeNetwork { range: ipnet::Ipv4Net::new(gateway, 24)?.trunc(), gateway, bridge: Some("br-pods".to_owned()), v6: None };
    let (_own, network) = watch::channel(Some(network));
    let (port, clock) = (dns::run::PORT, SystemClock::start());
    let parts = dns::run::Parts {
        port,
        net: told(),
        network,
        // It says so once it was told a share: who asks waits for that.
        serving: watch::channel(NameServer::NotYet).0,
        resolv_conf: vec![resolv_conf],
        upstream_port,
        clock,
    };
    println!("ready");
    runtime()?.block_on(dns::run::serve(parts, CancellationToken::new()));
    Ok(())
}

/// Makes the kernel hold one share's services after the other, as the proxy does; says how long each took.
fn rules() -> anyhow::Result<()> {
    let addresses = ["192.0.2.1".parse()?];
    let range: ipnet::IpNet = "10.244.1.0/24".parse()?;
    let gateway = "10.244.1.1".parse()?;
    let base = Base {
        table: "bramble-figures".to_owned(),
        bridge: "br-pods".to_owned(),
        range,
        pods: "10.244.0.0/16".parse()?,
        services: Some("10.96.0.0/16".parse()?),
        bridge_filter: true,
        gateway,
        tunnel: "bvx-figures".to_owned(),
    };
    println!("ready");
    let mut held: Option<Ruleset> = None;
    for line in lines() {
        let share: Share = serde_json::from_str(&line)?;
        let here = Here { node: "n1", range, gateway, addresses: &addresses, relay: None };
        let begun = Instant::now();
        let new = ruleset(&base, &table(&share, &here));
        let steps = held.as_ref().map_or_else(|| whole(&new), |old| change(old, &new));
        let decided = begun.elapsed();
        netlink::apply(base.family(), &base.table, &steps)?;
        let all = begun.elapsed();
        println!("{}", json!({"steps": steps.len(), "decided": decided.as_nanos() as u64, "all": all.as_nanos() as u64}));
        held = Some(new);
    }
    Ok(())
}
