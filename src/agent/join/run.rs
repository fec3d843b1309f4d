//! Hands: joins, if the node has not joined yet; from then on its configuration is whole.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::http::{Asking, Issued, Session, look};
use super::progress::{Act, Outcome, Progress};
use super::{Fate, Join, Master, disk, fate};
use crate::agent::config::AgentConfig;
use crate::agent::search::{self, Verdict, Wanted};
use crate::api::core::join::{ClusterInfo, Joined, request_name};
use crate::config::BrokerUrl;
use crate::error::Report;
use crate::pkcs10;
use crate::telemetry::Systemd;
use crate::tls::pin;

/// Makes the configuration of a node whole: by what it keeps, or by joining. Waits as long as it takes; `None` when it was told to
/// stop before.
///
/// # Errors
/// When the disk refuses, or what is kept makes no sense.
pub async fn ready(mut config: AgentConfig, systemd: &Systemd, stop: &CancellationToken) -> Result<Option<AgentConfig>, Report> {
    let Some(join) = config.join.take() else { return Ok(Some(config)) };
    let failed = |error: disk::KeepError| Report::failed("cannot keep who this node is").because(error);
    std::fs::create_dir_all(&config.data_dir)
        .map_err(|error| Report::failed(format!("cannot make {}", config.data_dir.display())).because(error))?;
    let serial = disk::serial(&join.identity_root);
    let mut kept = disk::load(&config.data_dir).map_err(failed)?;
    match fate(kept.as_ref(), &serial) {
        Fate::Keep | Fate::Join => {}
        Fate::Bind => {
            if let Some(kept) = &mut kept {
                kept.serial.clone_from(&serial);
                disk::keep(&config.data_dir, kept).map_err(failed)?;
            }
        }
        Fate::SetAside => {
            let aside = disk::set_aside(&config.data_dir).map_err(failed)?;
            let was = kept.take().unwrap_or_default();
            tracing::warn!(was = was.node, its_board = was.serial, board = serial, aside = %aside.display(),
                "this card was copied from another board's: what is that node's is set aside, and this board joins as one of its own");
        }
    }
    let joined = match kept {
        Some(kept) => kept,
        None => {
            let told = Told { join: &join, data_dir: config.data_dir.clone(), wanted: config.node.clone(), serial };
            tokio::select! {
                joined = told.join(systemd) => joined?,
                () = stop.cancelled() => return Ok(None),
            }
        }
    };
    if joined.node != config.node {
        tracing::info!(node = joined.node, wanted = config.node, "the node's name in the cluster");
    }
    let broker = join.broker.clone().or_else(|| BrokerUrl::parse(&joined.broker)).ok_or_else(|| {
        Report::failed(format!("the broker {:?} in join.json is no address", joined.broker))
            .fix(format!("{}, or set mqtt.broker", BrokerUrl::EXPECTED))
    })?;
    config.mqtt.broker = broker;
    config.node = joined.node;
    config.cluster = joined.cluster;
    config.cluster_uid = joined.cluster_uid;
    // A broker that was named stays where it was named.
    config.join = Some(join).filter(|join| join.look && join.broker.is_none());
    Ok(Some(config))
}

/// A master that is who it should be.
struct Found {
    master: Master,
    session: Arc<Session>,
    info: ClusterInfo,
}

struct Told<'a> {
    join: &'a Join,
    data_dir: PathBuf,
    wanted: String,
    serial: String,
}

impl Told<'_> {
    async fn join(self, systemd: &Systemd) -> Result<Joined, Report> {
        let keep = |error: disk::KeepError| Report::failed("cannot keep the node's key or certificate").because(error);
        let with_token = self.join.token.is_some();
        let mut progress = Progress::default();
        let mut act = Act::Look;
        let mut session = None::<Found>;
        let mut looks = 0;
        let mut asked = false;
        let (mut asking, mut fingerprint) = self.asking().map_err(keep)?;
        tracing::info!(name = self.wanted, board = self.serial, key = fingerprint, with_token, "joins a cluster");
        loop {
            let outcome = match act {
                Act::Look => {
                    let looked = self.look(looks).await;
                    looks += 1;
                    match looked {
                        Ok(found) => {
                            self.trust(&found.info).map_err(keep)?;
                            session = Some(found);
                            Outcome::Trusted
                        }
                        Err(outcome) => outcome,
                    }
                }
                Act::Ask => {
                    asked = true;
                    let (asking, session) = (asking.clone(), session.as_ref().map(|found| found.session.clone()));
                    off(move || session.map_or(Outcome::Gone, |session| session.ask(&asking))).await
                }
                Act::Poll => {
                    let (name, by) = (asking.name.clone(), session.as_ref().map(|found| found.session.clone()));
                    let polled = off(move || by.map_or(Err(Outcome::Gone), |session| session.poll(&name))).await;
                    match (polled, &session) {
                        (Ok(issued), Some(found)) => return self.keep(issued, &found.info, &found.master).map_err(keep),
                        // It is there, since it could not be made anew, and is not ours.
                        (Err(Outcome::Gone), _) if std::mem::take(&mut asked) => Outcome::Foreign,
                        (Err(outcome), _) => {
                            asked = false;
                            outcome
                        }
                        (Ok(_), _) => Outcome::Gone,
                    }
                }
                Act::NewKey => {
                    disk::forget_key(&self.data_dir).map_err(keep)?;
                    (asking, fingerprint) = self.asking().map_err(keep)?;
                    Outcome::Trusted
                }
            };
            let next = progress.after(&outcome, with_token, &fingerprint);
            if let Some(words) = &next.say {
                tracing::info!(name = self.wanted, key = fingerprint, "{words}");
                systemd.status(words);
            }
            tokio::time::sleep(next.wait).await;
            act = next.act;
        }
    }

    fn asking(&self) -> Result<(Asking, String), disk::KeepError> {
        let key = disk::key(&self.data_dir)?;
        let path = self.data_dir.join("pki/node.key");
        let (pem, spki) = pkcs10::write(&key, &self.wanted).map_err(|_| disk::KeepError::Unusable { path })?;
        let fingerprint = pkcs10::fingerprint(&spki);
        let name = request_name(&self.wanted, &fingerprint);
        let model = disk::model(&self.join.identity_root);
        Ok((Asking { name, pem, serial: self.serial.clone(), model }, fingerprint))
    }

    /// Asks the master who it is: the one that was named, or the one that is found. Of several places each gets its turn.
    async fn look(&self, turn: usize) -> Result<Found, Outcome> {
        let trusted = disk::ca(&self.data_dir);
        let master = match &self.join.master {
            Some(master) => master.clone(),
            None => self.find(turn, trusted.as_deref()).await?,
        };
        let (at, token) = (master.clone(), self.join.token.clone());
        let (session, info) = off(move || look(&at, token.as_ref(), trusted.as_deref())).await?;
        Ok(Found { master, session: Arc::new(session), info })
    }

    async fn find(&self, turn: usize, trusted: Option<&[u8]>) -> Result<Master, Outcome> {
        // A CA that it trusted before is the one that it wants, whatever the token said then.
        let trusted = trusted.and_then(|ca| pin(ca, 64).ok());
        let ca = trusted.or_else(|| self.join.token.as_ref().and_then(|token| token.pin.clone()));
        let known = ca.is_some();
        let (verdict, asked) = search::run::find(Wanted { ca, uid: None }).await;
        match verdict {
            Verdict::One { announcement, at } => {
                let nobody = || Outcome::Nobody("who answers has no address".to_owned());
                let master = at.get(turn % at.len().max(1)).cloned().ok_or_else(nobody)?;
                tracing::info!(%master, cluster = announcement.cluster, uid = announcement.uid, ca = announcement.ca,
                    version = announcement.version, "found a master by mDNS");
                Ok(master)
            }
            Verdict::Several(all) => Err(Outcome::Several(format!(
                "{} answer by mDNS: set join.master to the right one, or give this node its token",
                all.join(" and ")
            ))),
            Verdict::Nobody { others } if known && others > 0 => Err(Outcome::Nobody(format!(
                "{others} others answer by mDNS on {asked}, and none with the CA that this node wants; is the master on, and in this network? Otherwise set join.master"
            ))),
            Verdict::Nobody { .. } => Err(Outcome::Nobody(format!(
                "nobody answers by mDNS on {asked}; is the master on, and in this network? Otherwise set join.master"
            ))),
        }
    }

    /// The first CA that is seen, or that the token names, is the one that counts.
    fn trust(&self, info: &ClusterInfo) -> Result<(), disk::KeepError> {
        if disk::ca(&self.data_dir).is_some_and(|before| before == info.ca.as_bytes()) {
            return Ok(());
        }
        let digest = pin(info.ca.as_bytes(), 64).unwrap_or_default();
        if self.join.token.as_ref().is_some_and(|token| token.pin.is_some()) {
            tracing::info!(ca = digest, "the master is the one that the token names");
        } else {
            tracing::warn!(
                ca = digest,
                "trusts the first master that it met; compare with `bramble token create` or `bramble node list` there"
            );
        }
        disk::keep_ca(&self.data_dir, info.ca.as_bytes())
    }

    fn keep(&self, issued: Issued, info: &ClusterInfo, master: &Master) -> Result<Joined, disk::KeepError> {
        disk::keep_certificate(&self.data_dir, issued.certificate.as_bytes())?;
        let joined = Joined {
            serial: self.serial.clone(),
            node: issued.node,
            cluster: info.cluster.clone(),
            cluster_uid: info.cluster_uid.clone(),
            broker: info.broker_from(&master.host),
        };
        disk::keep(&self.data_dir, &joined)?;
        tracing::info!(node = joined.node, cluster = joined.cluster, %master, "joined");
        Ok(joined)
    }
}

/// Does what blocks off the runtime.
async fn off<T: From<Died> + Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(act).await.unwrap_or_else(|_| T::from(Died))
}

/// What blocks has died, which cannot be but by a fault of ours; it is tried again.
struct Died;

impl From<Died> for Outcome {
    fn from(_: Died) -> Self {
        Outcome::Unreached("a part of the agent died".to_owned())
    }
}

impl<T> From<Died> for Result<T, Outcome> {
    fn from(died: Died) -> Self {
        Err(died.into())
    }
}
