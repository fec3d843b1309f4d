//! Which backend a connection gets where the kernel does not choose: in turn, and the same one again for a client that is remembered.
//!
//! In:       a forward, the client's address, `now`.
//! Out:      a backend, if there is one.
//! Flow:     from `run/fallback.rs`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::table::{Backend, Forward, Policy};
use crate::clock::Tick;

/// How many clients one port remembers; the one that was silent longest goes first.
const CLIENTS: usize = 4096;

/// What is remembered for one port.
#[derive(Debug, Default)]
pub struct Balancer {
    turn: usize,
    clients: BTreeMap<IpAddr, (Backend, Tick)>,
}

impl Balancer {
    /// The backend of a new connection from outside.
    pub fn pick(&mut self, forward: &Forward, client: IpAddr, now: Tick) -> Option<Backend> {
        let backends = match forward.outside_policy {
            Policy::Cluster => &forward.all,
            Policy::Local => &forward.local,
        };
        let Some(time) = forward.affinity else { return self.next(backends) };
        let known = self.clients.get(&client).filter(|(backend, at)| backends.contains(backend) && now.since(*at) < time);
        let backend = known.map(|(backend, _)| *backend).or_else(|| self.next(backends))?;
        if self.clients.len() >= CLIENTS && !self.clients.contains_key(&client) {
            self.clients.retain(|_, (_, at)| now.since(*at) < time);
            if let Some(oldest) = self.clients.iter().min_by_key(|(_, (_, at))| *at).map(|(client, _)| *client)
                && self.clients.len() >= CLIENTS
            {
                self.clients.remove(&oldest);
            }
        }
        self.clients.insert(client, (backend, now));
        Some(backend)
    }

    fn next(&mut self, backends: &[Backend]) -> Option<Backend> {
        let turn = self.turn.checked_rem(backends.len())?;
        self.turn = turn + 1;
        backends.get(turn).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::table;
    use super::super::table::tests::{here, share};
    use super::*;
    use serde_json::json;

    #[test]
    fn backends_take_turns_and_a_remembered_client_keeps_its_own() {
        let spec = |more: &str| {
            json!({"type": "NodePort", "clusterIP": "10.96.0.20", "sessionAffinity": more,
                   "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10}}, "ports": [{"port": 80, "nodePort": 30080}]})
        };
        let ends = [("default/web", "10.244.1.2", "pi-1", json!({})), ("default/web", "10.244.2.3", "pi-2", json!({}))];
        let forward =
            |more: &str| table(&share(&[("default/web", spec(more))], &ends), &here()).forwards["default/web/tcp/80"].clone();
        let (plain, sticky) = (forward("None"), forward("ClientIP"));
        let (a, b): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let host = |backend: Option<Backend>| {
            backend.map(|backend| backend.address.to_string().rsplit_once('.').unwrap().1.parse::<u8>().unwrap())
        };
        let mut balancer = Balancer::default();
        let mut pick = |forward: &Forward, client, ms| host(balancer.pick(forward, client, Tick(ms)));
        assert_eq!([pick(&plain, a, 0), pick(&plain, a, 0), pick(&plain, a, 0)], [Some(2), Some(3), Some(2)]);
        assert_eq!(
            [pick(&sticky, a, 0), pick(&sticky, b, 0), pick(&sticky, a, 9_000), pick(&sticky, a, 18_000)],
            [Some(3), Some(2), Some(3), Some(3)]
        );
        assert_eq!(pick(&sticky, b, 20_000), Some(3));
        let mut nobody = plain.clone();
        nobody.all.clear();
        assert_eq!(pick(&nobody, a, 0), None);
        let mut local = plain.clone();
        local.outside_policy = Policy::Local;
        assert_eq!([pick(&local, a, 0), pick(&local, a, 0)], [Some(2), Some(2)]);
    }

    #[test]
    fn clients_are_bounded() {
        let forward = table(
            &share(
                &[("default/web", json!({"clusterIP": "10.96.0.20", "sessionAffinity": "ClientIP", "ports": [{"port": 80}]}))],
                &[("default/web", "10.244.1.2", "pi-1", json!({}))],
            ),
            &here(),
        )
        .forwards["default/web/tcp/80"]
            .clone();
        let mut balancer = Balancer::default();
        for number in 0..u32::try_from(CLIENTS).unwrap() + 100 {
            let client = IpAddr::from(std::net::Ipv4Addr::from_bits(number));
            assert!(balancer.pick(&forward, client, Tick(u64::from(number))).is_some());
        }
        assert_eq!(balancer.clients.len(), CLIENTS);
    }
}
