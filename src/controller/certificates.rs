//! Requests for certificates: who is let in without a person, which name a node gets, and when requests and tokens go.
//!
//! ```text
//! pending ─┬─ asked with a token ─▶ Approved ─ master/signer.rs ─▶ Approved,Issued ─ 1 h ─▶ gone
//!          ├─ a person says yes ──▶    "
//!          ├─ a person says no ───▶ Denied ─ 1 h ─▶ gone
//!          └─ nobody says anything ─ 24 h ─▶ gone
//! ```
//! In:       the view, now.
//! Out:      approvals, deletions; for the signer: what to sign under which name, and the writes that come with it.
//! Never:    signs: that takes the CA's key (`master/signer.rs`).
//! Source:   kube-controller-manager's `csrapproving`, `csrcleaner` and `tokencleaner`; the name that a node gets is ours.

use serde_json::{Value, json};

use super::{Ids, Plan, Reconciler, update};
use crate::api::certificates::Request;
use crate::api::core::join::{
    MODEL, NODE, SERIAL, TOKEN_GROUP, TOKEN_TYPE, TOKEN_USER, record_key, record_refuses, token_expired,
};
use crate::api::registry::{CERTIFICATE_SIGNING_REQUESTS, NODES, SECRETS};
use crate::api::{Key, Object, Resource, time};
use crate::clock::Now;
use crate::store::{ChangeEvent, Op, View};

/// A request that nobody answered goes after this. Upstream: 24 h.
const PENDING_MS: i64 = 24 * 3600 * 1000;
/// One that was answered goes after this. Upstream: 1 h.
const DONE_MS: i64 = 3600 * 1000;
/// What an approval without a person says.
const BY_TOKEN: &str = "BootstrapToken";

/// The controller.
pub struct Certificates;

impl Reconciler for Certificates {
    fn name(&self) -> &'static str {
        "certificates"
    }

    fn watches(&self, resource: &Resource) -> bool {
        *resource == CERTIFICATE_SIGNING_REQUESTS
    }

    fn keys(&self, event: &ChangeEvent, _view: &View) -> Vec<Key> {
        vec![event.key.clone()]
    }

    fn all_keys(&self, view: &View) -> Vec<Key> {
        let requests = view.list(&CERTIFICATE_SIGNING_REQUESTS, None).map(|one| Key::of(&CERTIFICATE_SIGNING_REQUESTS, one));
        let secrets = view.list(&SECRETS, Some(crate::api::core::join::NAMESPACE));
        let tokens = secrets.filter(|one| one.str_at(&["type"]) == TOKEN_TYPE).map(|one| Key::of(&SECRETS, one));
        requests.chain(tokens).collect()
    }

    fn reconcile(&mut self, view: &View, key: &Key, now: Now, _ids: &mut Ids) -> Plan {
        let Some(object) = view.get(key) else { return Plan::nothing() };
        let writes = if *key.resource == SECRETS {
            token_expired(object, now.wall).then(|| Op::delete(key.clone(), object.revision()))
        } else if is_over(object, now) {
            Some(Op::delete(key.clone(), object.revision()))
        } else {
            came_with_token(object).then(|| update(key, object, approved(object, now)))
        };
        Plan { writes: writes.into_iter().collect(), ..Plan::default() }
    }
}

fn is_over(object: &Object, now: Now) -> bool {
    let request = Request(object);
    let made = time::parse(object.str_at(&["metadata", "creationTimestamp"])).unwrap_or(now.wall);
    // Approved and not signed waits for its signer as a pending one waits for a person.
    let done = request.is_issued() || request.is("Denied") || request.is("Failed");
    now.wall.0.saturating_sub(made.0) > if done { DONE_MS } else { PENDING_MS }
}

fn came_with_token(object: &Object) -> bool {
    let request = Request(object);
    let groups = object.list_at(&["spec", "groups"]);
    request.is_pending()
        && request.is_of_a_node()
        && request.user().starts_with(TOKEN_USER)
        && groups.iter().any(|group| group.as_str() == Some(TOKEN_GROUP))
}

fn approved(object: &Object, now: Now) -> Object {
    let mut next = object.clone();
    condition(&mut next, "Approved", BY_TOKEN, "approved because it came with a valid token", now);
    next
}

fn condition(object: &mut Object, kind: &str, reason: &str, message: &str, now: Now) {
    let stamp = time::rfc3339(now.wall);
    let mut conditions = object.list_at(&["status", "conditions"]).to_vec();
    conditions.push(json!({"type": kind, "status": "True", "reason": reason, "message": message,
        "lastUpdateTime": stamp, "lastTransitionTime": stamp}));
    object.set_at(&["status", "conditions"], conditions);
}

/// The requests that wait for a signature.
#[must_use]
pub fn to_sign(view: &View) -> Vec<Key> {
    let wait = view.list(&CERTIFICATE_SIGNING_REQUESTS, None).filter(|object| {
        let request = Request(object);
        request.is_of_a_node() && request.is("Approved") && !request.is("Failed") && !request.is_issued()
    });
    wait.map(|object| Key::of(&CERTIFICATE_SIGNING_REQUESTS, object)).collect()
}

/// A node that asks for a name.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// What it would like to be called.
    pub name: &'a str,
    /// The fingerprint of its key.
    pub key: &'a str,
    /// Its board's serial number or its machine's id; may be empty.
    pub serial: &'a str,
}

/// The name that a node gets: the one it asks for, unless that belongs to another board and key; then with the beginning of
/// its serial number's digest behind it, four hex digits and more if they are taken too.
#[must_use]
pub fn name_for(view: &View, claim: Claim<'_>) -> String {
    if is_free(view, claim.name, claim) {
        return claim.name.to_owned();
    }
    let of = if claim.serial.is_empty() { claim.key } else { claim.serial };
    let digest = crate::pkcs10::fingerprint(of.as_bytes());
    let digits = digest.trim_start_matches("SHA256:");
    let named = |length: usize| {
        let room = 63usize.saturating_sub(length + 1);
        let stem: String = claim.name.chars().take(room).collect();
        format!("{}-{}", stem.trim_end_matches('-'), digits.chars().take(length).collect::<String>())
    };
    (4..=32).step_by(2).map(named).find(|name| is_free(view, name, claim)).unwrap_or_else(|| named(40))
}

fn is_free(view: &View, name: &str, claim: Claim<'_>) -> bool {
    if let Some(record) = view.get(&record_key(name)) {
        let (key, serial) = (record.str_at(&["data", "key"]), record.str_at(&["data", "serial"]));
        return key.is_empty() || key == claim.key || (!serial.is_empty() && serial == claim.serial);
    }
    // A node that did not join by itself: of a local cluster, or made before.
    let Some(node) = view.get(&Key::new(&NODES, "", name)) else { return true };
    let told = [node.annotation(SERIAL).unwrap_or_default(), node.str_at(&["status", "nodeInfo", "machineID"])];
    !claim.serial.is_empty() && told.contains(&claim.serial)
}

/// What is written when a request is signed: the certificate, the node's name, and the record of whom that name belongs to.
#[must_use]
pub fn issued(view: &View, key: &Key, name: &str, fingerprint: &str, certificate: &str, now: Now, uid: String) -> Vec<Op> {
    use base64::Engine as _;
    let Some(object) = view.get(key) else { return Vec::new() };
    let mut next = Object::clone(object);
    next.set_at(&["metadata", "annotations", NODE], name);
    next.set_at(&["status", "certificate"], base64::engine::general_purpose::STANDARD.encode(certificate));
    let annotation = |name| object.annotation(name).unwrap_or_default();
    let data = json!({"key": fingerprint, "serial": annotation(SERIAL), "model": annotation(MODEL), "state": "joined",
        "since": time::rfc3339(now.wall)});
    vec![update(key, object, next), record(view, name, data, now, uid)]
}

/// What is written when a request cannot be signed.
#[must_use]
pub fn failed(view: &View, key: &Key, why: &str, now: Now) -> Vec<Op> {
    let Some(object) = view.get(key) else { return Vec::new() };
    let mut next = Object::clone(object);
    condition(&mut next, "Failed", "SignerValidationFailure", why, now);
    vec![update(key, object, next)]
}

fn record(view: &View, name: &str, data: Value, now: Now, uid: String) -> Op {
    let key = record_key(name);
    match view.get(&key) {
        Some(known) => {
            let mut next = Object::clone(known);
            next.set_at(&["data"], data);
            update(&key, known, next)
        }
        None => {
            let made = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": key.name, "namespace": key.namespace,
                "uid": uid, "creationTimestamp": time::rfc3339(now.wall), "labels": {"bramble/record": "node"}}, "data": data});
            Op::create(key, Object::from_value(made).unwrap_or_default())
        }
    }
}

/// Whether a node's name belongs to nobody any more: what still speaks under it is not listened to.
#[must_use]
pub fn is_removed(view: &View, name: &str) -> bool {
    view.get(&record_key(name)).is_some_and(|record| !record_refuses(record, ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Revision;
    use crate::clock::{Tick, Wall};
    use crate::rng::Rng;

    const NOW: Now = Now { tick: Tick(0), wall: Wall(1_767_229_200_000) };

    fn view(objects: &[(&'static Resource, Value)]) -> View {
        let objects = objects.iter().map(|(resource, value)| {
            let object = Object::from_value(value.clone()).unwrap();
            (Key::of(resource, &object), std::sync::Arc::new(object))
        });
        View::with(Revision(1), objects)
    }

    fn csr(user: &str, made: &str, status: Value) -> Value {
        json!({"metadata": {"name": "shed-1", "creationTimestamp": made, "annotations": {SERIAL: "1000"}},
            "spec": {"signerName": "bramble/node", "username": user, "groups": [TOKEN_GROUP]}, "status": status})
    }

    #[test]
    fn requests_are_approved_by_token_wait_for_a_person_or_go() {
        let answered = |kind: &str| json!({"conditions": [{"type": kind, "status": "True"}]});
        for (user, made, status, expected) in [
            ("system:bootstrap:abcdef", "2026-01-01T00:59:00Z", json!({}), "approve"),
            ("system:bootstrap:abcdef", "2026-01-01T00:59:00Z", answered("Denied"), ""),
            ("system:anonymous", "2026-01-01T00:59:00Z", json!({}), ""),
            ("system:anonymous", "2025-12-31T00:59:00Z", json!({}), "delete"),
            ("system:anonymous", "2025-12-31T23:59:00Z", answered("Denied"), "delete"),
            ("system:anonymous", "2026-01-01T00:10:00Z", answered("Denied"), ""),
            ("system:anonymous", "2025-12-31T23:59:00Z", answered("Approved"), ""),
        ] {
            let view = view(&[(&CERTIFICATE_SIGNING_REQUESTS, csr(user, made, status.clone()))]);
            let key = Certificates.all_keys(&view).remove(0);
            let plan = Certificates.reconcile(&view, &key, NOW, &mut Ids::new(Rng::seeded(1, "ids")));
            let did = match plan.writes.first().map(|op| &op.change) {
                None => "",
                Some(crate::store::Change::Delete) => "delete",
                Some(crate::store::Change::Put(object)) if Request(object).is("Approved") => "approve",
                Some(other) => panic!("{other:?}"),
            };
            assert_eq!(did, expected, "{user} {made} {status}");
        }
    }

    #[test]
    fn a_name_belongs_to_a_board_or_a_key() {
        let record = |name: &str, key: &str, serial: &str| {
            (
                &crate::api::registry::CONFIG_MAPS,
                json!({"metadata": {"name": format!("bramble-node-{name}"), "namespace": "kube-system"}, "data": {"key": key, "serial": serial}}),
            )
        };
        let view = view(&[
            record("shed", "k1", "1000"),
            record("gone", "", "1000"),
            record("bare", "k1", ""),
            (&NODES, json!({"metadata": {"name": "old"}, "status": {"nodeInfo": {"machineID": "m1"}}})),
        ]);
        for (name, key, serial, expected) in [
            ("attic", "k9", "9", "attic"),
            ("shed", "k1", "1000", "shed"),
            ("shed", "k2", "1000", "shed"),
            ("shed", "k1", "2000", "shed"),
            ("shed", "k2", "2000", "shed-81a8"),
            ("bare", "k2", "", "bare-b85b"),
            ("gone", "k2", "2000", "gone"),
            ("old", "k2", "m1", "old"),
            ("old", "k2", "2000", "old-81a8"),
        ] {
            let got = name_for(&view, Claim { name, key, serial });
            let stem = expected.split('-').next().unwrap();
            assert_eq!(
                (got.as_str() == name, got.starts_with(stem), got.len()),
                (expected == name, true, expected.len()),
                "{name} {key} {serial}: {got}"
            );
        }
        let long = "a".repeat(63);
        let view = super::tests::view(&[record(&long, "k1", "1")]);
        let got = name_for(&view, Claim { name: &long, key: "k2", serial: "2" });
        assert!(got.len() == 63 && got.starts_with("aaa") && got != long, "{got}");
    }

    #[test]
    fn signing_writes_the_certificate_and_whom_the_name_belongs_to() {
        let mut view = view(&[(
            &CERTIFICATE_SIGNING_REQUESTS,
            csr("x", "2026-01-01T00:59:00Z", json!({"conditions": [{"type": "Approved"}]})),
        )]);
        let key = to_sign(&view).remove(0);
        let ops = issued(&view, &key, "shed", "k1", "PEM", NOW, "uid".into());
        view.apply(Revision(2), crate::store::Batch(ops));
        assert!(to_sign(&view).is_empty());
        assert_eq!(view.get(&key).unwrap().annotation(NODE), Some("shed"));
        assert_eq!(view.get(&record_key("shed")).unwrap().str_at(&["data", "serial"]), "1000");
        assert!(!is_removed(&view, "shed"));
    }
}
