//! Hands: looks for masters by mDNS; once to join, and again when a node's link is down for long.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Hunt, Verdict, Wanted};
use crate::agent::join::{Master, disk, http};
use crate::backoff::Policy;
use crate::config::BrokerUrl;
use crate::error::Chain;
use crate::link::mqtt::Place;
use crate::mdns::udp;
use crate::rng::Rng;
use crate::tls::pin;

/// How long the link is down before the master is looked for: a master that is started anew, and a switch, are back before.
const AWAY: Duration = Duration::from_secs(30);
/// Between looks. The jitter spreads the nodes of a house.
const LOOKS: Policy = Policy { first: AWAY, cap: Duration::from_secs(300) };
/// A link to a broker that is there stands by then, the client's own pauses included.
const LINKED: Duration = Duration::from_secs(20);

/// Looks once; also tells where it asked.
pub async fn find(wanted: Wanted) -> (Verdict, String) {
    let mut hunt = Hunt::new(wanted);
    let asked = udp::look(udp::PORT, udp::WINDOW, |master, from| hunt.take(master, from)).await;
    let networks = asked.iter().filter(|one| !one.address.is_loopback());
    let networks: Vec<String> = networks.map(|one| format!("{} ({})", one.address, one.name)).collect();
    (hunt.verdict(), if networks.is_empty() { "no network at all".to_owned() } else { networks.join(", ") })
}

/// What the follower of a master works with.
pub struct Parts {
    /// The node's data directory: its CA and `join.json`.
    pub data_dir: PathBuf,
    /// The cluster.
    pub cluster_uid: String,
    /// Where the broker is.
    pub at: Place,
    /// Whether the link stands.
    pub linked: watch::Receiver<bool>,
    /// Tells the link where to go.
    pub moves: watch::Sender<Option<Place>>,
}

/// Follows the master to another address, until `stop`.
pub async fn follow(parts: Parts, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = look_when_away(parts) => stop.cancelled().await,
    }
}

async fn look_when_away(mut parts: Parts) {
    let mut rng = Rng::from_os("search");
    let mut looks = 0;
    loop {
        if parts.linked.wait_for(|linked| !linked).await.is_err() {
            return;
        }
        if linked_within(&mut parts.linked, LOOKS.jittered(looks, &mut rng).max(AWAY)).await {
            looks = 0;
            continue;
        }
        looks += 1;
        let Some(found) = parts.find().await.filter(|found| *found != parts.at) else { continue };
        tracing::warn!(was = %parts.at.host, host = %found.host, port = found.port, "the master is at another address; goes there");
        parts.moves.send_replace(Some(found.clone()));
        parts.at = found;
        if linked_within(&mut parts.linked, LINKED).await {
            looks = 0;
            parts.keep().await;
        }
    }
}

async fn linked_within(linked: &mut watch::Receiver<bool>, most: Duration) -> bool {
    // A sender that is gone takes the whole agent with it.
    timeout(most, linked.wait_for(|linked| *linked)).await.is_ok_and(|waited| waited.is_ok())
}

impl Parts {
    /// Where the broker of this node's cluster is now, if its master answers and proves by its certificate that it is the one.
    async fn find(&self) -> Option<Place> {
        let ca = disk::ca(&self.data_dir)?;
        let wanted = Wanted { ca: pin(&ca, 64).ok(), uid: Some(self.cluster_uid.clone()) };
        let (verdict, asked) = find(wanted).await;
        let Verdict::One { at, .. } = verdict else {
            tracing::debug!(asked, ?verdict, "the master is not found by mDNS");
            return None;
        };
        for master in at {
            match self.ask(master.clone(), ca.clone()).await {
                Ok(broker) => return Some(broker),
                Err(why) => tracing::debug!(%master, why, "it answers by mDNS, and is not this node's master"),
            }
        }
        // Not at once again: an address that takes packets and answers nothing costs its time each.
        sleep(Duration::from_secs(1)).await;
        None
    }

    async fn ask(&self, master: Master, ca: Vec<u8>) -> Result<Place, String> {
        let at = master.clone();
        let asked = tokio::task::spawn_blocking(move || http::look(&at, None, Some(&ca))).await;
        let (_, info) = asked.map_err(|error| error.to_string())?.map_err(|outcome| format!("{outcome:?}"))?;
        if info.cluster_uid != self.cluster_uid {
            return Err("it is of another cluster".to_owned());
        }
        let broker = info.broker_from(&master.host);
        let broker = BrokerUrl::parse(&broker).ok_or_else(|| format!("{broker} is no broker"))?;
        Ok(Place { host: broker.host, port: broker.port })
    }

    /// The next start finds it at once.
    async fn keep(&self) {
        let (data_dir, at) = (self.data_dir.clone(), self.at.clone());
        let kept = tokio::task::spawn_blocking(move || {
            let Some(mut joined) = disk::load(&data_dir)? else { return Ok(()) };
            joined.broker = BrokerUrl { tls: true, host: at.host, port: at.port }.to_string();
            disk::keep(&data_dir, &joined)
        });
        if let Ok(Err(error)) = kept.await {
            tracing::warn!(error = %Chain(&error), "cannot keep where the master is; a start looks for it again");
        }
    }
}
