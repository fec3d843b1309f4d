//! The device, the socket and the loop between them. All of it goes when the agent ends: then peers' pods are not reached, and nothing is sent to them.
//!
//! One task has everything; whatever waits, waits in the kernel's queues (the device's, the socket's), which drop what is too much. A packet that the
//! kernel does not take at once is dropped, as on any line that is full.
//!
//! Nothing happens, and no timer runs, while there is no peer with encryption, and while none sends.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_tun::Tun;
use tokio_util::sync::CancellationToken;

use super::tunnels::{Step, Tunnels};
use super::{Identity, PORT, PORTS, Wanted, disk};
use crate::agent::disk::DiskError;
use crate::backoff::Policy;
use crate::clock::{Clock, SystemClock};
use crate::error::Chain;
use crate::rng::Rng;

/// Between tries.
const FAILED: Policy = Policy { first: Duration::from_secs(1), cap: Duration::from_secs(60) };
/// What the kernel keeps of datagrams that were not read yet, and sent: about a hundredth of a second at a gigabit.
const SOCKET_BYTES: usize = 1 << 20;
/// Packets of one direction before the other has its turn.
const BATCH: usize = 64;
/// The largest packet of a device.
const LARGEST: usize = 65_535;

/// What the task is told and tells.
pub struct Parts {
    /// Where the key is kept.
    pub data_dir: PathBuf,
    /// What is wanted; `None`: no encryption.
    pub wanted: watch::Receiver<Option<Wanted>>,
    /// Counts up when the kernel's network changed: a device that somebody removes does not wake who reads from it.
    pub changed: watch::Receiver<u64>,
    /// Told: the [`Identity`] as the others should know it; empty without encryption.
    pub told: watch::Sender<String>,
    /// When.
    pub clock: SystemClock,
}

/// Why there are no tunnels.
#[derive(Debug, thiserror::Error)]
enum WireguardError {
    #[error("no key can be had")]
    Key(#[source] DiskError),
    #[error("none of the UDP ports {PORT} to {} can be had", PORT + PORTS - 1)]
    Port(#[source] io::Error),
    #[error("the device {0} cannot be made (it needs /dev/net/tun, the kernel's module \"tun\" and CAP_NET_ADMIN)")]
    Device(String, #[source] tokio_tun::Error),
    #[error("the device {0} is gone")]
    Gone(String, #[source] tokio_tun::Error),
    #[error("the socket is gone")]
    Socket(#[source] io::Error),
    #[error("a task of this process is no more")]
    Task,
}

/// Runs until `stop`.
pub async fn serve(mut parts: Parts, stop: CancellationToken) {
    let (mut failures, mut failure) = (0, None);
    loop {
        let wanted = parts.wanted.borrow_and_update().clone();
        let again = match wanted {
            None => {
                tell(&parts.told, String::new());
                None
            }
            Some(wanted) => match (Instant::now(), carry(&mut parts, wanted, &stop).await) {
                (_, Ok(())) if stop.is_cancelled() => return,
                // Something else is wanted.
                (_, Ok(())) => {
                    (failures, failure) = (0, None);
                    continue;
                }
                (began, Err(error)) => {
                    if began.elapsed() > FAILED.cap {
                        // It went well for a while.
                        (failures, failure) = (0, None);
                    }
                    let words = Chain(&error).to_string();
                    if failure.as_ref() != Some(&words) {
                        tracing::warn!(
                            error = words,
                            "no WireGuard; pods behind it are not reached, and nothing is sent unencrypted instead"
                        );
                    }
                    failure = Some(words);
                    failures += 1;
                    Some(FAILED.delay(failures))
                }
            },
        };
        let later = async {
            match again {
                Some(delay) => tokio::time::sleep(delay).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! { biased;
            () = stop.cancelled() => return,
            changed = parts.wanted.changed() => if changed.is_err() { return },
            () = later => {}
        }
    }
}

fn tell(told: &watch::Sender<String>, identity: String) {
    told.send_if_modified(|known| std::mem::replace(known, identity.clone()) != identity);
}

/// Carries packets until something else than other peers is wanted, or `stop`.
async fn carry(parts: &mut Parts, wanted: Wanted, stop: &CancellationToken) -> Result<(), WireguardError> {
    let directory = parts.data_dir.clone();
    let key = tokio::task::spawn_blocking(move || disk::key(&directory)).await.map_err(|_| WireguardError::Task)?;
    let mut tunnels = Tunnels::new(key.map_err(WireguardError::Key)?, Rng::from_os("wireguard").bits() as u32);
    let (socket, port) = bind().map_err(WireguardError::Port)?;
    let device = device(&wanted)?;
    let identity = Identity { key: tunnels.public_key(), port };
    tracing::info!(device = wanted.link, port, key = %identity.key, "WireGuard in user space");
    tunnels.set(&wanted.tunnels);
    tell(&parts.told, identity.to_string());
    // Until it was told so by the kernel, the runtime takes it that nothing can be sent.
    socket.writable().await.map_err(WireguardError::Socket)?;
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
    let gone = |error: tokio_tun::Error| WireguardError::Gone(wanted.link.clone(), error);
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
                ready.map_err(WireguardError::Socket)?;
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
fn device(wanted: &Wanted) -> Result<Tun, WireguardError> {
    let failed = |error| WireguardError::Device(wanted.link.clone(), error);
    let mtu = i32::try_from(wanted.mtu).unwrap_or(i32::MAX);
    let built = Tun::builder().name(&wanted.link).mtu(mtu).address(wanted.address).up().build().map_err(failed)?;
    built.into_iter().next().ok_or_else(|| failed(io::Error::from(io::ErrorKind::NotFound).into()))
}
