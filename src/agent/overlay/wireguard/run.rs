//! The agent's end of WireGuard: in the kernel where it can do it, else in user space; and again later when it fails.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::kernel::netlink::KernelError;
use super::tunnels::run::TunnelsError;
use super::{Choice, Wanted, disk, kernel, tunnels};
use crate::agent::disk::DiskError;
use crate::backoff::Policy;
use crate::clock::SystemClock;
use crate::error::Chain;

/// Between tries.
const FAILED: Policy = Policy { first: Duration::from_secs(1), cap: Duration::from_secs(60) };
/// What the task is told and tells.
pub struct Parts {
    /// Who does it.
    pub choice: Choice,
    /// Where the key is kept.
    pub data_dir: PathBuf,
    /// What is wanted; `None`: no encryption.
    pub wanted: watch::Receiver<Option<Wanted>>,
    /// Counts up when the kernel's network changed: a device that somebody removes does not wake who reads from it.
    pub changed: watch::Receiver<u64>,
    /// Told: the `Identity` as the others should know it; empty without encryption.
    pub told: watch::Sender<String>,
    /// When.
    pub clock: SystemClock,
}

/// Why there are no tunnels.
#[derive(Debug, thiserror::Error)]
enum WireguardError {
    #[error("no key can be had")]
    Key(#[source] DiskError),
    #[error("network.wireguard is \"kernel\": load the kernel's module \"wireguard\", or set it to \"auto\"")]
    OnlyKernel(#[source] KernelError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    User(#[from] TunnelsError),
    #[error("a task of this process is no more")]
    Task,
}

/// What one try tells the next.
#[derive(Default)]
struct Past {
    /// What the share said of the peers' places.
    ends: kernel::Ends,
    /// It was said that this kernel cannot do it.
    said: bool,
}

/// Runs until `stop`.
pub async fn serve(mut parts: Parts, stop: CancellationToken) {
    let mut past = Past::default();
    let (mut failures, mut failure) = (0, None);
    loop {
        let wanted = parts.wanted.borrow_and_update().clone();
        let again = match wanted {
            None => {
                tell(&parts.told, String::new());
                None
            }
            Some(wanted) => match (Instant::now(), carry(&mut parts, wanted, &mut past, &stop).await) {
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

/// Tells it if it is another than before.
pub(super) fn tell(told: &watch::Sender<String>, identity: String) {
    told.send_if_modified(|known| std::mem::replace(known, identity.clone()) != identity);
}

/// Sees to the tunnels until something else than other peers is wanted, or `stop`.
async fn carry(parts: &mut Parts, wanted: Wanted, past: &mut Past, stop: &CancellationToken) -> Result<(), WireguardError> {
    let directory = parts.data_dir.clone();
    let key = tokio::task::spawn_blocking(move || disk::key(&directory)).await.map_err(|_| WireguardError::Task)?;
    let secret = key.map_err(WireguardError::Key)?;
    if parts.choice != Choice::User {
        match kernel::run::keep(parts, &secret, &mut past.ends, stop).await {
            Err(error @ KernelError::Missing) if parts.choice == Choice::Auto => {
                if !past.said {
                    tracing::info!(reason = %error, "WireGuard is the agent's own: pods elsewhere are not reached while it does not run");
                }
                past.said = true;
            }
            Err(error @ KernelError::Missing) => return Err(WireguardError::OnlyKernel(error)),
            done => return Ok(done?),
        }
    }
    Ok(tunnels::run::carry(parts, wanted, secret, stop).await?)
}
