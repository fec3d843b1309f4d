//! What the node's HTTP door goes by: all routes with who is behind them, made anew from each share.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::backends::{Services, Upstream};
use super::route::{Route, Routes};
use crate::api::Object;
use crate::api::networking::ingress::{Backend, PortRef};
use crate::link::share::Share;

/// A service's port, by namespace, service and port; `None` for what is no service.
type Place<'a> = (&'a str, Option<(&'a str, PortRef<'a>)>);

/// Routes, and who is behind them.
#[derive(Debug, Default)]
pub(super) struct Table {
    routes: Routes,
}

impl Table {
    /// Of this share. `may_reach` says which addresses may be asked; `turn` which of several begins.
    pub fn of(share: &Share, may_reach: fn(&IpAddr) -> bool, turn: usize) -> Self {
        let services = Services::of(share);
        // One for each port of a service, so that turns are taken across ingresses.
        let mut known: BTreeMap<Place<'_>, Arc<Upstream>> = BTreeMap::new();
        let ingresses = share.ingresses.iter().map(|(name, object)| (name.as_str(), &**object));
        let ingresses = ingresses.filter(|(_, object): &(&str, &Object)| !object.is_deleting());
        let routes = Routes::of(ingresses, |namespace, backend: Option<Backend<'_>>| {
            let key = (namespace, backend.map(|backend| (backend.service, backend.port)));
            let made = || Arc::new(services.upstream(namespace, backend, may_reach, turn));
            known.entry(key).or_insert_with(made).clone()
        });
        Self { routes }
    }

    /// Where a request goes: its host in lower case, without a port; its path as it was sent.
    pub fn choose(&self, host: &str, path: &str) -> Option<&Route> {
        self.routes.choose(host, path)
    }
}
