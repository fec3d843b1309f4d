//! Hands: the kernel's nftables and its list of connections, over a netlink socket.
//!
//! In:       batches (`batch.rs`), questions and orders (`conntrack.rs`).
//! Out:      whether it is done; how the kernel's rules are numbered, so that a change by somebody else shows.
//! Never:    waits for long: the kernel does all of it within the call. Callers keep it off the runtime nevertheless.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};

use super::change::Step;
use super::conntrack::{self, Judge};
use super::message::{DONE, Message, Messages, Writer};
use super::{batch, text};
use crate::agent::family::Family;

/// No answer of the kernel takes longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Room for a batch on its way: 500 services with 5,000 backends are some 1.5 MB.
const ROOM: usize = 32 * 1024 * 1024;
/// One answer, or a part of a list.
const ANSWER: usize = 64 * 1024;
const GET_TABLE: u16 = 1;
const GET_GENERATION: u16 = 16;

/// Why the kernel has not done it.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The process lacks `CAP_NET_ADMIN`.
    #[error("the right to change the network's rules is missing (CAP_NET_ADMIN)")]
    Rights,
    /// No nftables in this kernel.
    #[error("this kernel has no nftables")]
    Missing,
    /// It has refused a step.
    #[error("the kernel refuses `{step}`")]
    Refused {
        /// In nft's words.
        step: String,
        /// Why.
        source: io::Error,
    },
    /// The socket failed.
    #[error("cannot speak with the kernel about the network's rules")]
    Socket(#[source] io::Error),
}

impl From<Errno> for KernelError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::PERM | Errno::ACCESS => KernelError::Rights,
            Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT | Errno::OPNOTSUPP => KernelError::Missing,
            other => KernelError::Socket(other.into()),
        }
    }
}

/// Makes all of these steps, or none.
///
/// # Errors
/// When the kernel does not.
pub fn apply(family: Family, table: &str, steps: &[Step]) -> Result<(), KernelError> {
    if steps.is_empty() {
        return Ok(());
    }
    let socket = open()?;
    net::send(&socket, &batch::batch(family, table, steps), SendFlags::empty())?;
    // All answers are there when the call returns.
    let mut answered = false;
    let mut buffer = vec![0; ANSWER];
    loop {
        let length = match net::recv(&socket, buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
            Ok((length, _)) => length,
            Err(Errno::AGAIN) => break,
            Err(errno) => return Err(errno.into()),
        };
        for message in Messages(buffer.get(..length).unwrap_or_default()) {
            match message.error() {
                None => {}
                Some(0) => answered = true,
                Some(number) => return Err(refusal(family, table, steps, message.sequence, number)),
            }
        }
    }
    if answered { Ok(()) } else { Err(KernelError::Socket(io::Error::from(io::ErrorKind::TimedOut))) }
}

fn refusal(family: Family, table: &str, steps: &[Step], sequence: u32, number: i32) -> KernelError {
    let step = usize::try_from(sequence).ok().and_then(|sequence| steps.get(sequence.checked_sub(1)?));
    match step {
        Some(step) => KernelError::Refused {
            step: text::text(family, table, std::slice::from_ref(step))
                .chars()
                .take(300)
                .collect::<String>()
                .trim_end()
                .to_owned(),
            source: io::Error::from_raw_os_error(number),
        },
        None => Errno::from_raw_os_error(number).into(),
    }
}

/// The number of the kernel's rules, which every change of anybody moves.
///
/// # Errors
/// When the kernel does not say.
pub fn generation() -> Result<u32, KernelError> {
    let mut found = None;
    ask(request(Family::V4, GET_GENERATION, |_| {}), |message| found = message.attributes().number(1).or(found))?;
    found.ok_or(KernelError::Missing)
}

/// How much is in a table; `None`: it is not there.
///
/// # Errors
/// When the kernel does not say.
pub fn content(family: Family, table: &str) -> Result<Option<u32>, KernelError> {
    let mut found = None;
    match ask(request(family, GET_TABLE, |out| out.text(1, table)), |message| found = message.attributes().number(3).or(found)) {
        Err(KernelError::Socket(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(()) => Ok(found),
    }
}

/// Forgets the UDP flows of this family that lead to nobody; says how many there were.
///
/// # Errors
/// When the kernel does not list them.
pub fn forget_stale(family: Family, judge: &Judge) -> Result<usize, KernelError> {
    let mut stale = Vec::new();
    ask(conntrack::list(family, 1), |message| stale.extend(conntrack::read(&message).filter(|flow| judge.is_stale(flow))))?;
    for flow in &stale {
        match ask(conntrack::forget(family, flow, 1), |_| {}) {
            // It has ended by itself.
            Err(KernelError::Socket(error)) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(stale.len())
}

fn request(family: Family, kind: u16, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::default();
    out.message(batch::SUBSYSTEM << 8 | kind, super::message::ACK, 1, family.number(), 0, body);
    out.into_bytes()
}

/// Sends a request, and reads answers to their end.
fn ask(request: Vec<u8>, mut each: impl FnMut(Message)) -> Result<(), KernelError> {
    let socket = open()?;
    net::send(&socket, &request, SendFlags::empty())?;
    let mut buffer = vec![0; ANSWER];
    loop {
        let (length, _) = net::recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        for message in Messages(buffer.get(..length).unwrap_or_default()) {
            match message.error() {
                Some(0) => return Ok(()),
                Some(number) => return Err(Errno::from_raw_os_error(number).into()),
                None if message.kind == DONE => return Ok(()),
                None => each(message),
            }
        }
    }
}

fn open() -> Result<OwnedFd, KernelError> {
    let socket = net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::NETFILTER))?;
    net::bind(&socket, &netlink::SocketAddrNetlink::new(0, 0))?;
    // Without the right to it the usual size is left; then what comes fails by the right, not by the size.
    let _ = sockopt::set_socket_send_buffer_size_force(&socket, ROOM);
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
    Ok(socket)
}
