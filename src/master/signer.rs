//! Signs what was approved, keeps `kube-public/cluster-info` true, and has the broker drop whoever is no node any more.
//!
//! Flow:     from `controller/certificates.rs`, which decides; the CA's key is here.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::authority::Authority;
use crate::api::certificates::Request;
use crate::api::core::join::{CLUSTER_INFO, ClusterInfo, SERIAL, record_key, record_of, record_refuses};
use crate::api::{Key, Object, Revision, registry, time};
use crate::broker;
use crate::clock::{Clock, SystemClock};
use crate::controller::certificates::{self, Claim};
use crate::error::Chain;
use crate::pkcs10;
use crate::rng::Rng;
use crate::store::{Batch, Op, Store, View, WriteError};
use crate::tls::Refusals;

/// Without a bell it looks again after this: a write may have lost a race.
const ROUND: Duration = Duration::from_secs(10);

/// Who is refused, by the records in the store; nobody before it is open.
#[derive(Clone, Default)]
pub struct Records(Arc<OnceLock<Store>>);

impl Records {
    /// From now on the store says it.
    pub fn open(&self, store: Store) {
        // Set once, at the start.
        let _ = self.0.set(store);
    }
}

impl Refusals for Records {
    fn refuses(&self, common_name: &str, fingerprint: &str) -> bool {
        let refused = |view: &View| view.get(&record_key(common_name)).is_some_and(|record| record_refuses(record, fingerprint));
        self.0.get().is_some_and(|store| store.view(refused))
    }
}

/// What it works with.
pub struct Parts {
    /// The truth.
    pub store: Store,
    /// The time.
    pub clock: SystemClock,
    /// The CA; nothing when its owner keeps the key elsewhere.
    pub authority: Option<Authority>,
    /// The embedded broker, if it is one.
    pub broker: Option<broker::Handle>,
    /// What nodes are told.
    pub info: ClusterInfo,
}

/// Signs and tells until `stop`.
pub async fn run(parts: Parts, stop: CancellationToken) {
    let mut bell = parts.store.bell();
    let mut cursor = parts.store.view(View::revision);
    let mut ids = Rng::from_os("signer");
    loop {
        tell(&parts, &mut ids).await;
        sign(&parts, &mut ids).await;
        cursor = expel(&parts, cursor);
        tokio::select! { biased;
            () = stop.cancelled() => return,
            changed = bell.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(ROUND) => {}
        }
    }
}

async fn sign(parts: &Parts, ids: &mut Rng) {
    for key in parts.store.view(certificates::to_sign) {
        let now = parts.clock.now();
        let ops = match parts.store.view(|view| signed(view, &key, parts.authority.as_ref())) {
            Ok((name, fingerprint, pem)) => {
                tracing::info!(node = name, request = key.name, key = fingerprint, "a node's certificate is signed");
                let uid = ids.uuid();
                parts.store.view(|view| certificates::issued(view, &key, &name, &fingerprint, &pem, now, uid))
            }
            Err(why) => {
                tracing::warn!(request = key.name, why, "a certificate cannot be signed");
                parts.store.view(|view| certificates::failed(view, &key, &why, now))
            }
        };
        write(parts, ops).await;
    }
}

/// The node's name, the fingerprint of its key, and its certificate; or why there is none.
fn signed(view: &View, key: &Key, authority: Option<&Authority>) -> Result<(String, String, String), String> {
    let authority = authority.ok_or("the key of this cluster's CA is not here: sign it where it is kept ([tls] names files)")?;
    let object = view.get(key).ok_or("it is gone")?;
    let asked = pkcs10::read(&Request(object).pem()).map_err(|error| error.to_string())?;
    if !crate::api::core::join::is_node_name(&asked.common_name) {
        return Err("the subject's common name is no DNS-1123 label".to_owned());
    }
    let fingerprint = pkcs10::fingerprint(&asked.spki);
    let claim = Claim { name: &asked.common_name, key: &fingerprint, serial: object.annotation(SERIAL).unwrap_or_default() };
    let name = certificates::name_for(view, claim);
    let pem = authority.sign_node(&name, asked.point).map_err(|error| Chain(&error).to_string())?;
    Ok((name, fingerprint, pem))
}

async fn tell(parts: &Parts, ids: &mut Rng) {
    let key = Key::new(&registry::CONFIG_MAPS, CLUSTER_INFO.0, CLUSTER_INFO.1);
    let data = parts.info.data();
    let op = parts.store.view(|view| match view.get(&key) {
        Some(known) if known.at(&["data"]) == Some(&data) => None,
        Some(known) => {
            let mut next = Object::clone(known);
            next.set_at(&["data"], data.clone());
            Some(Op::update(key.clone(), known.revision(), next))
        }
        None => {
            let made = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": key.name, "namespace": key.namespace,
                "uid": ids.uuid(), "creationTimestamp": time::rfc3339(parts.clock.now().wall)}, "data": data});
            Object::from_value(made).map(|object| Op::create(key.clone(), object))
        }
    });
    write(parts, op.into_iter().collect()).await;
}

/// Drops the sessions of every node whose record changed: who is still welcome comes back at once.
fn expel(parts: &Parts, cursor: Revision) -> Revision {
    let Some(broker) = &parts.broker else { return cursor };
    let next = parts.store.view(View::revision);
    let names: Vec<String> = match parts.store.changes_since(cursor, usize::MAX) {
        Ok(changes) => changes.iter().filter_map(|change| record_of(&change.key).map(str::to_owned)).collect(),
        Err(_) => parts.store.view(|view| {
            let maps = view.list(&registry::CONFIG_MAPS, Some(crate::api::core::join::NAMESPACE));
            maps.filter_map(|map| record_of(&Key::of(&registry::CONFIG_MAPS, map)).map(str::to_owned)).collect()
        }),
    };
    for name in names {
        broker.expel(&name);
    }
    next
}

async fn write(parts: &Parts, ops: Vec<Op>) {
    if ops.is_empty() {
        return;
    }
    match parts.store.write(Batch(ops)).await {
        // Whoever was faster rang the bell.
        Ok(_) | Err(WriteError::Conflict { .. }) => {}
        Err(error) => tracing::error!(error = %Chain(&error), "cannot keep what was signed"),
    }
}
