//! Keeps the kernel's device as it is wanted, for as long as the agent lives. It stays when the agent ends, with keys, sessions and all.
//!
//! Level-triggered: what is wanted, the kernel's bell and a slow timer all say only "look".

use std::time::Duration;

use defguard_boringtun::x25519::{PublicKey as X25519, StaticSecret};
use tokio_util::sync::CancellationToken;

use super::netlink::{self, KernelError, Link, Wireguard};
use super::{Ends, invitations};
use crate::agent::overlay::wireguard::run::{Parts, tell};
use crate::agent::overlay::wireguard::{Identity, PORT, PORTS, PublicKey, Wanted};
use crate::clock::Clock as _;

/// What nobody tells of: a peer that somebody removed, one that was not heard for long.
const ANYWAY: Duration = Duration::from_secs(60);

/// Looks until no encryption is wanted any more, or `stop`.
///
/// # Errors
/// [`KernelError::Missing`] when this kernel has no WireGuard; else when it refuses.
pub async fn keep(
    parts: &mut Parts,
    secret: &StaticSecret,
    ends: &mut Ends,
    stop: &CancellationToken,
) -> Result<(), KernelError> {
    let key = PublicKey(X25519::from(secret).to_bytes());
    let mut said = None;
    loop {
        parts.changed.borrow_and_update();
        let Some(wanted) = parts.wanted.borrow_and_update().clone() else { return Ok(()) };
        let (port, made) = look(&wanted, secret, key, ends, parts).await?;
        if made || said != Some(port) {
            let what = if made { "made" } else { "adopted" };
            tracing::info!(device = wanted.link, port, %key, what, "WireGuard in the kernel");
            said = Some(port);
        }
        tell(&parts.told, Identity { key, port }.to_string());
        tokio::select! { biased;
            () = stop.cancelled() => return Ok(()),
            changed = parts.wanted.changed() => if changed.is_err() { return Ok(()) },
            Ok(()) = parts.changed.changed() => {}
            () = tokio::time::sleep(ANYWAY) => {}
        }
    }
}

/// Makes the device as it is wanted; its port, and whether it was not there.
async fn look(
    wanted: &Wanted,
    secret: &StaticSecret,
    key: PublicKey,
    ends: &mut Ends,
    parts: &Parts,
) -> Result<(u16, bool), KernelError> {
    let (link, made) = match netlink::link(&wanted.link).await? {
        Some(link) => (link, false),
        None => {
            netlink::make(&wanted.link, wanted.mtu).await?;
            (netlink::link(&wanted.link).await?.ok_or_else(|| KernelError::Gone(wanted.link.clone()))?, true)
        }
    };
    if !link.wireguard {
        return Err(KernelError::Foreign(wanted.link.clone()));
    }
    let wireguard = Wireguard::open().await?;
    let device = wireguard.device(link.number).await?;
    if device.key != Some(key) {
        wireguard.set_key(link.number, secret).await?;
    }
    let changes = ends.changes(&wanted.tunnels, &device.peers, parts.clock.now().wall);
    if !changes.is_empty() {
        tracing::debug!(?changes, "the kernel's WireGuard changes");
        wireguard.set_peers(link.number, &changes).await?;
    }
    netlink::set_address(link.number, wanted.address).await?;
    let port = open(&wireguard, link, device.port).await?;
    if made {
        for turn in invitations(&wanted.tunnels) {
            wireguard.set_peers(link.number, &turn).await?;
        }
    }
    Ok((port, made))
}

/// Sets it up on the port that it has, if that is one of ours, else on the first that is free.
async fn open(wireguard: &Wireguard, link: Link, port: u16) -> Result<u16, KernelError> {
    let ours = PORT..PORT + PORTS;
    let has = Some(port).filter(|port| ours.contains(port));
    if let Some(port) = has.filter(|_| link.up) {
        return Ok(port);
    }
    for port in has.into_iter().chain(ours) {
        if wireguard.set_port(link.number, port).await? && netlink::up(link.number).await? {
            return Ok(port);
        }
    }
    Err(KernelError::Ports)
}
