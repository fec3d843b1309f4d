//! Hands: the kernel's link of kind `wireguard`, and its device over generic netlink.
//!
//! Each look has connections of its own, as `overlay/netlink.rs` has. Generic netlink is spoken on a plain socket: the connections of `rtnetlink` log
//! what goes over them where somebody asks for it, and here that has a private key in it.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::BytesMut;
use defguard_boringtun::x25519::StaticSecret;
use futures_util::{StreamExt as _, TryStreamExt as _};
use netlink_packet_generic::ctrl::GenlCtrl;
use netlink_packet_generic::{GenlFamily, GenlHeader};
use netlink_packet_wireguard::WireguardMessage;
use rtnetlink::packet_core::{DecodeError, Emitable, ParseableParametrized};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::sys::protocols::NETLINK_GENERIC;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use rtnetlink::{LinkUnspec, LinkWireguard};

use super::message::{self, Answer};
use super::{Change, Device};
use crate::agent::overlay::netlink::{NetlinkError, refused, with};

/// The kernel answers within the call; this is for one that does not.
const ANSWERS: Duration = Duration::from_secs(10);
/// The kernel's parts of a list have 32 KiB at most (`netlink_recvmsg`).
const DATAGRAM: usize = 64 * 1024;
const EPERM: i32 = 1;
const ENODEV: i32 = 19;
const EOPNOTSUPP: i32 = 95;
const EADDRINUSE: i32 = 98;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// It has no WireGuard, neither built in nor as a module that it can load.
    #[error("this kernel has no WireGuard (its module \"wireguard\" is missing)")]
    Missing,
    /// Another interface has the name.
    #[error("the interface {0} is there, and is none of the kernel's WireGuard")]
    Foreign(String),
    /// Somebody removed it a moment ago.
    #[error("the device {0} is gone")]
    Gone(String),
    /// A port that another program, or another agent, has.
    #[error("none of the UDP ports {} to {} can be had", super::super::PORT, super::super::PORT + super::super::PORTS - 1)]
    Ports,
    /// It takes no orders from this process.
    #[error("this process may not change the kernel's WireGuard (it needs CAP_NET_ADMIN)")]
    Denied,
    /// It refuses this.
    #[error("the kernel refuses to {what}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// It says what cannot be read.
    #[error("what the kernel says of its WireGuard cannot be read")]
    Unread(#[source] DecodeError),
    /// No socket to be had, or it failed.
    #[error("cannot speak to the kernel's WireGuard")]
    Socket(#[source] io::Error),
    /// The link or its address.
    #[error(transparent)]
    Link(#[from] NetlinkError),
}

/// An interface, as far as it concerns WireGuard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub number: u32,
    /// Whether it is up.
    pub up: bool,
    /// Whether the kernel's WireGuard is behind it.
    pub wireguard: bool,
}

/// The interface with this name.
///
/// # Errors
/// When the kernel cannot be read.
pub async fn link(name: &str) -> Result<Option<Link>, NetlinkError> {
    with(|handle| async move {
        let mut found = std::pin::pin!(handle.link().get().match_name(name.to_owned()).execute());
        match found.try_next().await {
            Ok(message) => Ok(message.as_ref().map(read_link)),
            Err(rtnetlink::Error::NetlinkError(message)) if message.raw_code() == -ENODEV => Ok(None),
            Err(error) => Err(refused("read a link", error)),
        }
    })
    .await
}

fn read_link(message: &LinkMessage) -> Link {
    let wireguard = message.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Wireguard)),
        _ => false,
    });
    Link { number: message.header.index, up: message.header.flags.contains(LinkFlags::Up), wireguard }
}

/// Makes the link; it is not up yet.
///
/// # Errors
/// [`KernelError::Missing`] when this kernel has no WireGuard; else when it refuses.
pub async fn make(name: &str, mtu: u32) -> Result<(), KernelError> {
    let made = with(|handle| async move { Ok(handle.link().add(LinkWireguard::new(name).mtu(mtu).build()).execute().await) });
    match made.await? {
        Ok(()) => Ok(()),
        Err(rtnetlink::Error::NetlinkError(message)) if message.raw_code() == -EOPNOTSUPP => Err(KernelError::Missing),
        Err(error) => Err(refused(format!("make the WireGuard device {name}"), error).into()),
    }
}

/// Sets it up: then it has its port. `false`: another program has that.
///
/// # Errors
/// When the kernel refuses.
pub async fn up(number: u32) -> Result<bool, NetlinkError> {
    with(|handle| async move {
        match handle.link().set(LinkUnspec::new_with_index(number).up().build()).execute().await {
            Ok(()) => Ok(true),
            Err(rtnetlink::Error::NetlinkError(message)) if message.raw_code() == -EADDRINUSE => Ok(false),
            Err(error) => Err(refused(format!("set interface {number} up"), error)),
        }
    })
    .await
}

/// Removes the kernel's WireGuard device of this name, if it is there.
///
/// # Errors
/// When the kernel refuses.
pub async fn remove(name: &str) -> Result<(), NetlinkError> {
    let Some(link) = link(name).await?.filter(|link| link.wireguard) else { return Ok(()) };
    with(|handle| async move {
        match handle.link().del(link.number).execute().await {
            Err(rtnetlink::Error::NetlinkError(message)) if message.raw_code() == -ENODEV => Ok(()),
            done => done.map_err(|error| refused(format!("remove the device {name}"), error)),
        }
    })
    .await
}

/// Makes this the link's only IPv4 address.
///
/// # Errors
/// When the kernel refuses.
pub async fn set_address(number: u32, wanted: Ipv4Addr) -> Result<(), NetlinkError> {
    with(|handle| async move {
        let mut all = std::pin::pin!(handle.address().get().set_link_index_filter(number).execute());
        let (mut here, mut others) = (false, Vec::new());
        while let Some(message) = all.next().await {
            let message = message.map_err(|error| refused("list addresses", error))?;
            match local(&message) {
                Some(address) if address == wanted => here = true,
                Some(_) => others.push(message),
                None => {}
            }
        }
        if !here {
            let added = handle.address().add(number, IpAddr::V4(wanted), 32).execute().await;
            added.map_err(|error| refused(format!("give interface {number} the address {wanted}"), error))?;
        }
        for other in others {
            let removed = handle.address().del(other).execute().await;
            removed.map_err(|error| refused(format!("take an address from interface {number}"), error))?;
        }
        Ok(())
    })
    .await
}

fn local(message: &AddressMessage) -> Option<Ipv4Addr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    })
}

/// The family `wireguard` of generic netlink.
pub struct Wireguard {
    socket: TokioSocket,
    family: u16,
}

impl Wireguard {
    /// Asks for the family.
    ///
    /// # Errors
    /// When there is none.
    pub async fn open() -> Result<Self, KernelError> {
        let mut socket = TokioSocket::new(NETLINK_GENERIC).map_err(KernelError::Socket)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0)).map_err(KernelError::Socket)?;
        let wireguard = Self { socket, family: 0 };
        let told: Vec<GenlCtrl> = wireguard.ask("name its WireGuard", message::ask_family()).await?;
        let family = told.iter().find_map(message::family).ok_or(KernelError::Missing)?;
        Ok(Self { family, ..wireguard })
    }

    /// Reads a device.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub async fn device(&self, link: u32) -> Result<Device, KernelError> {
        let parts: Vec<WireguardMessage> = self.ask("show the device", message::ask_device(self.family, link)).await?;
        let mut device = Device::default();
        for part in &parts {
            message::read(&mut device, part);
        }
        Ok(device)
    }

    /// Sets the device's key.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn set_key(&self, link: u32, key: &StaticSecret) -> Result<(), KernelError> {
        self.tell("take the key", message::set_key(self.family, link, key)).await
    }

    /// Sets the device's port. `false`: another program has it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn set_port(&self, link: u32, port: u16) -> Result<bool, KernelError> {
        match self.tell("take the port", message::set_port(self.family, link, port)).await {
            Err(KernelError::Refused { source, .. }) if source.raw_os_error() == Some(EADDRINUSE) => Ok(false),
            done => done.map(|()| true),
        }
    }

    /// Changes peers, in this order.
    ///
    /// # Errors
    /// At the first message that the kernel refuses.
    pub async fn set_peers(&self, link: u32, changes: &[Change]) -> Result<(), KernelError> {
        for bytes in message::set_peers(self.family, link, changes) {
            self.tell("take the peers", bytes).await?;
        }
        Ok(())
    }

    async fn tell(&self, what: &'static str, bytes: Vec<u8>) -> Result<(), KernelError> {
        self.ask::<WireguardMessage>(what, bytes).await.map(drop)
    }

    async fn ask<F>(&self, what: &'static str, bytes: Vec<u8>) -> Result<Vec<F>, KernelError>
    where
        F: GenlFamily + Emitable + ParseableParametrized<[u8], GenlHeader> + std::fmt::Debug,
    {
        let answer = async {
            self.socket.send(&bytes).await.map_err(KernelError::Socket)?;
            let (mut parts, mut datagram) = (Vec::new(), BytesMut::with_capacity(DATAGRAM));
            loop {
                datagram.clear();
                // Not `recv_from_full`, which logs what it read.
                self.socket.recv(&mut datagram).await.map_err(KernelError::Socket)?;
                for answer in message::answers(&datagram).map_err(KernelError::Unread)? {
                    match answer {
                        Answer::Part(part) => parts.push(part),
                        Answer::End(0) => return Ok(parts),
                        Answer::End(EPERM) => return Err(KernelError::Denied),
                        Answer::End(error) => {
                            return Err(KernelError::Refused { what, source: io::Error::from_raw_os_error(error) });
                        }
                    }
                }
            }
        };
        let slow = |_| Err(KernelError::Link(NetlinkError::Slow));
        tokio::time::timeout(ANSWERS, answer).await.unwrap_or_else(slow)
    }
}
