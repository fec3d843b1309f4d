//! The device and the socket of user space, and the loop between them. All of it goes when the agent ends: then peers' pods are not reached, and nothing
//! is sent to them.
//!
//! One task has everything; whatever waits, waits in the kernel's queues (the device's, the socket's), which drop what is too much. A packet that the
//! kernel does not take at once is dropped, as on any line that is full.
//!
//! Nothing happens, and no timer runs, while there is no peer with encryption, and while none sends.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use defguard_boringtun::x25519::StaticSecret;
use rustix::net::sockopt;
use tokio::net::UdpSocket;
use tokio_tun::Tun;
use tokio_util::sync::CancellationToken;

use super::{Step, Tunnels};
use crate::agent::overlay::netlink::NetlinkError;
use crate::agent::overlay::wireguard::run::{Parts, tell};
use crate::agent::overlay::wireguard::{Identity, PORT, PORTS, Wanted, kernel};
use crate::clock::Clock as _;
use crate::rng::Rng;

/// What the kernel keeps of datagrams that were not read yet, and sent: about a hundredth of a second at a gigabit.
const SOCKET_BYTES: usize = 1 << 20;
/// Packets of one direction before the other has its turn.
const BATCH: usize = 64;
/// The largest packet of a device.
const LARGEST: usize = 65_535;

/// Why there are no tunnels.
#[derive(Debug, thiserror::Error)]
pub enum TunnelsError {
    /// All are taken.
    #[error("none of the UDP ports {PORT} to {} can be had", PORT + PORTS - 1)]
    Port(#[source] io::Error),
    /// No device.
    #[error("the device {0} cannot be made (it needs /dev/net/tun, the kernel's module \"tun\" and CAP_NET_ADMIN)")]
    Device(String, #[source] tokio_tun::Error),
    /// No device any more.
    #[error("the device {0} is gone")]
    Gone(String, #[source] tokio_tun::Error),
    /// No socket any more.
    #[error("the socket is gone")]
    Socket(#[source] io::Error),
    /// One of the kernel's own is in its place.
    #[error("the kernel's own device {0} cannot be removed")]
    Place(String, #[source] NetlinkError),
}

/// Carries packets until something else than other peers is wanted, or `stop`.
///
/// # Errors
/// When there is no device or no port to be had, and when they go.
pub async fn carry(
    parts: &mut Parts,
    wanted: Wanted,
    secret: StaticSecret,
    stop: &CancellationToken,
) -> Result<(), TunnelsError> {
    // One that an agent left which had the kernel do it.
    kernel::netlink::remove(&wanted.link).await.map_err(|error| TunnelsError::Place(wanted.link.clone(), error))?;
    let mut tunnels = Tunnels::new(secret, Rng::from_os("wireguard").bits() as u32);
    let (socket, port) = bind().map_err(TunnelsError::Port)?;
    let device = device(&wanted)?;
    let identity = Identity { key: tunnels.public_key(), port };
    tracing::info!(device = wanted.link, port, key = %identity.key, "WireGuard in user space");
    tunnels.set(&wanted.tunnels);
    tell(&parts.told, identity.to_string());
    // Until it was told so by the kernel, the runtime takes it that nothing can be sent.
    socket.writable().await.map_err(TunnelsError::Socket)?;
    let mut packet = vec![0; LARGEST];
    let mut sink = |step: Step<'_>| {
        let sent = match step {
            Step::Send(to, bytes) => socket.try_send_to(bytes, to.into()),
            Step::Deliver(bytes) => device.try_send(bytes),
        };
        if let Err(error) = sent {
            tracing::trace!(%error, "a packet is dropped");
        }
    };
    let gone = |error: tokio_tun::Error| TunnelsError::Gone(wanted.link.clone(), error);
    loop {
        tokio::select! {
            () = stop.cancelled() => {
                tracing::debug!(refused = tunnels.refused(), "the tunnels end");
                return Ok(());
            }
            changed = parts.wanted.changed() => {
                let now = parts.wanted.borrow_and_update().clone();
                let same = |now: &Wanted| (&now.link, now.address) == (&wanted.link, wanted.address);
                let Some(now) = now.filter(same).filter(|_| changed.is_ok()) else { return Ok(()) };
                tunnels.set(&now.tunnels);
            }
            got = device.recv(&mut packet) => {
                let mut got = got.map_err(|error| gone(error.into()))?;
                let now = parts.clock.now().tick;
                for _ in 0..BATCH {
                    tunnels.outgoing(now, packet.get(..got).unwrap_or_default(), &mut sink);
                    match device.try_recv(&mut packet) {
                        Ok(length) => got = length,
                        Err(_) => break,
                    }
                }
            }
            Ok(()) = parts.changed.changed() => {
                device.index().map_err(&gone)?;
            }
            ready = socket.readable() => {
                ready.map_err(TunnelsError::Socket)?;
                let now = parts.clock.now().tick;
                for _ in 0..BATCH {
                    match socket.try_recv_from(&mut packet) {
                        Ok((length, SocketAddr::V4(from))) => {
                            tunnels.incoming(now, from, packet.get(..length).unwrap_or_default(), &mut sink);
                        }
                        Ok(_) => {}
                        // A peer's machine that refuses says so here.
                        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                        Err(_) => break,
                    }
                }
            }
            () = parts.clock.sleep_until(tunnels.next_wake()) => tunnels.look(parts.clock.now().tick, &mut sink),
        }
    }
}

/// The first port that is free: agents of one machine have one each.
fn bind() -> io::Result<(UdpSocket, u16)> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for port in PORT..PORT + PORTS {
        match std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)) {
            Ok(socket) => {
                socket.set_nonblocking(true)?;
                // Without the right for it the kernel's usual size does.
                let _ = sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BYTES);
                let _ = sockopt::set_socket_send_buffer_size_force(&socket, SOCKET_BYTES);
                return Ok((UdpSocket::from_std(socket)?, port));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The device, up. It goes with its handle.
fn device(wanted: &Wanted) -> Result<Tun, TunnelsError> {
    let failed = |error| TunnelsError::Device(wanted.link.clone(), error);
    let mtu = i32::try_from(wanted.mtu).unwrap_or(i32::MAX);
    let built = Tun::builder().name(&wanted.link).mtu(mtu).address(wanted.address).up().build().map_err(failed)?;
    built.into_iter().next().ok_or_else(|| failed(io::Error::from(io::ErrorKind::NotFound).into()))
}
