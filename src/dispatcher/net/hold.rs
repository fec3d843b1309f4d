//! When the network may be told after a start of the master.
//!
//! In:       whether the nodes have said how their pods are, the view, now.
//! Out:      yes, once and for all; or not yet.
//! Never:    waits for longer than the grace after the start and a moment for the controllers.
//!
//! Which pods are ready is not stored: a master that has just started knows it from its nodes only. Until then its services would be
//! served by nobody. So nodes are told nothing, and go on with what they have:
//!
//! ```text
//! start ── every pod that was there is reported, or the grace is over ── every service that was there has its slices ──▶ told
//!          (controller/signs.rs)                                         (controller/endpoint_slice.rs waits for its own pods)
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use crate::api::core::service::Service;
use crate::api::discovery::endpoint_slice::SERVICE_NAME;
use crate::api::registry::{ENDPOINT_SLICES, ENDPOINTS, SERVICES};
use crate::api::{Key, Object};
use crate::clock::Tick;
use crate::store::View;

/// After the grace the controllers make the slices of a large cluster in less.
const MOMENT: Duration = Duration::from_secs(5);

/// What is waited for.
#[derive(Debug)]
pub struct Hold {
    /// Then it is told, whatever is missing.
    until: Tick,
    /// Services that were there at the start and are without slices; nobody has looked yet when `None`.
    unserved: Option<BTreeSet<(String, String)>>,
    open: bool,
}

impl Hold {
    /// Of a master that started then and has this grace.
    #[must_use]
    pub fn new(started: Tick, grace: Duration) -> Self {
        Self { until: started.after(grace + MOMENT), unserved: None, open: false }
    }

    /// Whether it is over; asks nothing anew.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.open
    }

    /// Whether the network may be told. `all_told`: of every pod that was there at the start it is known how it is, or the grace is over.
    pub fn ends(&mut self, view: &View, all_told: bool, now: Tick) -> bool {
        if !self.open && all_told {
            let unserved = self.unserved.get_or_insert_with(|| to_be_served(view));
            let slices = view.list(&ENDPOINT_SLICES, None);
            for (namespace, service) in slices.filter_map(|slice| Some((slice.namespace(), slice.label(SERVICE_NAME)?))) {
                unserved.remove(&(namespace.to_owned(), service.to_owned()));
            }
            unserved.retain(|(namespace, name)| view.get(&Key::new(&SERVICES, namespace, name)).is_some());
            self.open = unserved.is_empty();
        }
        self.open |= self.until <= now;
        self.open
    }
}

/// The services of which a controller will make slices.
fn to_be_served(view: &View) -> BTreeSet<(String, String)> {
    let awaited = |service: &Object| {
        if Service(service).is_external_name() || service.is_deleting() {
            return false;
        }
        // By hand: what somebody wrote is mirrored.
        let by_hand = || view.get(&Key::new(&ENDPOINTS, service.namespace(), service.name()));
        Service(service).selector().is_some() || by_hand().is_some_and(|endpoints| has_addresses(endpoints))
    };
    let services = view.list(&SERVICES, None).filter(|service| awaited(service));
    services.map(|service| (service.namespace().to_owned(), service.name().to_owned())).collect()
}

fn has_addresses(endpoints: &Object) -> bool {
    let any = |subset: &serde_json::Value| {
        let list = |field: &str| subset.get(field).and_then(serde_json::Value::as_array).is_some_and(|list| !list.is_empty());
        list("addresses") || list("notReadyAddresses")
    };
    endpoints.label("endpointslice.kubernetes.io/skip-mirror") != Some("true") && endpoints.list_at(&["subsets"]).iter().any(any)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Resource, Revision};
    use crate::store::Op;
    use serde_json::{Value, json};

    fn put(view: &mut View, resource: &'static Resource, object: Value) {
        let object = Object::from_value(object).unwrap();
        view.apply(view.revision().next(), Op::create(Key::of(resource, &object), object).into());
    }

    fn named(name: &str, spec: Value) -> Value {
        json!({"metadata": {"name": name, "namespace": "a"}, "spec": spec})
    }

    fn slice(service: &str) -> Value {
        json!({"metadata": {"name": format!("{service}-x"), "namespace": "a", "labels": {SERVICE_NAME: service}}})
    }

    #[test]
    fn the_network_is_told_when_every_pod_is_known_and_every_service_has_its_slices() {
        let mut view = View::new(Revision(1));
        put(&mut view, &SERVICES, named("web", json!({"selector": {"app": "web"}})));
        put(&mut view, &SERVICES, named("gone", json!({"selector": {"app": "gone"}})));
        put(&mut view, &SERVICES, named("nas", json!({})));
        put(&mut view, &SERVICES, named("by-hand", json!({})));
        put(&mut view, &SERVICES, named("outside", json!({"type": "ExternalName", "selector": {"a": "b"}})));
        put(
            &mut view,
            &ENDPOINTS,
            json!({"metadata": {"name": "nas", "namespace": "a"}, "subsets": [{"addresses": [{"ip": "192.168.1.9"}]}]}),
        );
        let mut hold = Hold::new(Tick(1000), Duration::from_secs(30));
        assert!(!hold.ends(&view, false, Tick(2000)));
        put(&mut view, &ENDPOINT_SLICES, slice("web"));
        put(&mut view, &ENDPOINT_SLICES, slice("nas"));
        assert!(!hold.ends(&view, false, Tick(3000)), "slices alone say nothing");
        assert!(!hold.ends(&view, true, Tick(3000)), "one is missing");
        // One that is new waits for nobody, and one that goes is not waited for.
        put(&mut view, &SERVICES, named("new", json!({"selector": {"app": "new"}})));
        view.apply(view.revision().next(), Op::delete(Key::new(&SERVICES, "a", "gone"), Revision(3)).into());
        assert!(hold.ends(&view, true, Tick(3000)));
        assert!(hold.ends(&View::new(Revision(9)), false, Tick(3001)) && hold.is_over(), "once and for all");
    }

    #[test]
    fn it_never_waits_for_longer_than_the_grace_and_a_moment() {
        let view = View::new(Revision(1));
        let mut hold = Hold::new(Tick(1000), Duration::from_secs(30));
        assert!(!hold.ends(&view, false, Tick(35_999)));
        assert!(hold.ends(&view, false, Tick(36_000)));
        assert!(Hold::new(Tick(0), Duration::from_secs(30)).ends(&view, true, Tick(1)), "an empty cluster waits for nothing");
    }
}
