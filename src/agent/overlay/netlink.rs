//! The kernel's links, routes and neighbours, read and changed over rtnetlink; and a bell that rings when they change.
//!
//! Each look and each change opens a connection of its own and closes it: they are rare, and nothing waits for anything between them. The bell reads
//! no message that it gets, it only says "look": what is lost (the kernel drops for slow readers) has rung as well.

use std::net::IpAddr;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::{Stream, StreamExt};
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType};
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use rtnetlink::{Handle, LinkUnspec, LinkVxlan, RouteMessageBuilder};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::plan::Change;
use super::seen::{Link, Route, Seen, Vxlan};
use super::{Mac, PROTOCOL};

/// The kernel answers in microseconds; this is for one that does not.
const ANSWERS: Duration = Duration::from_secs(10);
/// Changes come in flocks, as when a container starts.
const FLOCK: Duration = Duration::from_millis(200);
/// Between tries to hear of changes.
const REOPEN: Duration = Duration::from_secs(30);
/// Groups of messages, as bits: links, addresses and routes of IPv4, those of IPv6 (`RTMGRP_*` of `linux/rtnetlink.h`).
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket to be had.
    #[error("cannot speak to the kernel's network")]
    Open(#[source] std::io::Error),
    /// It takes no orders from this process.
    #[error("this process may not change the machine's network (it needs CAP_NET_ADMIN)")]
    Denied,
    /// It refuses this.
    #[error("the kernel refuses to {what}")]
    Refused {
        /// What was asked.
        what: String,
        /// Its answer.
        source: rtnetlink::Error,
    },
    /// It says nothing.
    #[error("the kernel's network does not answer")]
    Slow,
}

/// Does something with a connection.
pub(crate) async fn with<T, F: Future<Output = Result<T, NetlinkError>>>(
    work: impl FnOnce(Handle) -> F,
) -> Result<T, NetlinkError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
    tokio::select! {
        result = work(handle) => result,
        () = connection => Err(NetlinkError::Slow),
        () = tokio::time::sleep(ANSWERS) => Err(NetlinkError::Slow),
    }
}

pub(crate) fn refused(what: impl Into<String>, source: rtnetlink::Error) -> NetlinkError {
    // EPERM
    match &source {
        rtnetlink::Error::NetlinkError(message) if message.raw_code() == -1 => NetlinkError::Denied,
        _ => NetlinkError::Refused { what: what.into(), source },
    }
}

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// In a cluster of IPv4 only.
    Ipv4,
    /// In one of both.
    Both,
}

/// Reads what concerns the overlay.
///
/// # Errors
/// When the kernel cannot be read.
pub async fn read(families: Families) -> Result<Seen, NetlinkError> {
    let listed: &[AddressFamily] = match families {
        Families::Ipv4 => &[AddressFamily::Inet],
        Families::Both => &[AddressFamily::Inet, AddressFamily::Inet6],
    };
    with(|handle| async move {
        let mut seen = Seen::default();
        for message in all("list links", handle.link().get().execute()).await? {
            seen.links.insert(message.header.index, link(&message));
        }
        for message in all("list addresses", handle.address().get().execute()).await? {
            if let Some(address) = address(&message).filter(|_| listed.contains(&message.header.family)) {
                seen.addresses.insert((message.header.index, address, message.header.prefix_len));
            }
        }
        for family in listed {
            let mut every = RouteMessageBuilder::<IpAddr>::new().build();
            every.header.address_family = *family;
            seen.routes.extend(all("list routes", handle.route().get(every).execute()).await?.iter().filter_map(route));
        }
        let of_vxlan = |message: &NeighbourMessage, links: &Seen| {
            let number = message.header.ifindex;
            let is = links.links.get(&number).is_some_and(|link| link.vxlan.is_some());
            is.then(|| Some((number, mac(message)?, destination(message)?))).flatten()
        };
        for family in listed {
            let neighbours = handle.neighbours().get().set_address_family(*family).execute();
            for message in all("list neighbours", neighbours).await? {
                let lasts = message.header.state == NeighbourState::Permanent;
                if let Some((number, mac, address)) = of_vxlan(&message, &seen).filter(|_| lasts) {
                    seen.neighbours.insert((number, address, mac));
                }
            }
        }
        let forwards = handle.neighbours().get().set_address_family(AddressFamily::Bridge).execute();
        for message in all("list forwarding entries", forwards).await? {
            if let Some((number, mac, IpAddr::V4(machine))) = of_vxlan(&message, &seen) {
                seen.forwards.insert((number, mac, machine));
            }
        }
        Ok(seen)
    })
    .await
}

async fn all<T>(what: &str, stream: impl Stream<Item = Result<T, rtnetlink::Error>>) -> Result<Vec<T>, NetlinkError> {
    let mut stream = std::pin::pin!(stream);
    let mut all = Vec::new();
    while let Some(one) = stream.next().await {
        all.push(one.map_err(|error| refused(what, error))?);
    }
    Ok(all)
}

/// An address that may be spoken from: of IPv6 not one that is still asked for on the segment (or was found there).
fn address(message: &AddressMessage) -> Option<IpAddr> {
    let tentative = message.header.flags.contains(AddressHeaderFlags::Tentative);
    message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(IpAddr::V4(*address)),
        AddressAttribute::Address(IpAddr::V6(address)) if !tentative => Some(IpAddr::V6(*address)),
        _ => None,
    })
}

fn link(message: &LinkMessage) -> Link {
    // Plugged in, too: a card without a cable leads nowhere.
    let up = message.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp);
    let mut link = Link { up, ..Link::default() };
    let mut own_mac = None;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(bytes) => own_mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac),
            LinkAttribute::LinkInfo(infos) if infos.contains(&LinkInfo::Kind(InfoKind::Vxlan)) => link.vxlan = vxlan(infos),
            LinkAttribute::LinkInfo(infos) => link.wireguard = infos.contains(&LinkInfo::Kind(InfoKind::Wireguard)),
            _ => {}
        }
    }
    if let Some(vxlan) = &mut link.vxlan {
        vxlan.mac = own_mac;
    }
    link
}

fn vxlan(infos: &[LinkInfo]) -> Option<Vxlan> {
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vxlan(data)) => Some(data),
        _ => None,
    })?;
    let mut vxlan = Vxlan { vni: 0, port: 0, local: None, mac: None, learning: false };
    for info in data {
        match info {
            InfoVxlan::Id(vni) => vxlan.vni = *vni,
            InfoVxlan::Port(port) => vxlan.port = *port,
            InfoVxlan::Local(address) => vxlan.local = Some(*address),
            InfoVxlan::Learning(learning) => vxlan.learning = *learning,
            _ => {}
        }
    }
    Some(vxlan)
}

fn route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    if header.protocol != RouteProtocol::from(PROTOCOL) || header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let (mut to, mut via, mut link, mut source, mut metric) = (None, None, None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = ip(address),
            RouteAttribute::Gateway(address) => via = ip(address),
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Oif(number) => link = Some(*number),
            RouteAttribute::Priority(priority) => metric = *priority,
            _ => {}
        }
    }
    let to = IpNet::new(to?, header.destination_prefix_length).ok()?;
    // The kernel names loopback as the interface of an unreachable route of IPv6, and none for one of IPv4.
    let link = link.filter(|_| header.kind != RouteType::Unreachable);
    Some(Route { to, via, link, source, metric })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

fn mac(message: &NeighbourMessage) -> Option<Mac> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac),
        _ => None,
    })
}

fn destination(message: &NeighbourMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        // Of forwarding entries the family says nothing about the address.
        NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
            <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from)
        }
        _ => None,
    })
}

/// Carries out steps in their order; all of them are tried, and the first that fails is told.
///
/// # Errors
/// When the kernel refuses one. Something that is gone already is as it should be.
pub async fn apply(device: &str, changes: Vec<Change>) -> Result<(), NetlinkError> {
    with(|handle| async move {
        let mut first = Ok(());
        for change in changes {
            let removes = matches!(
                change,
                Change::RemoveDevice(_) | Change::RemoveNeighbour(..) | Change::RemoveForward(..) | Change::RemoveRoute(_)
            );
            let what = words(&change);
            let done = one(&handle, device, change).await.map_err(|error| match error {
                // ESRCH, ENOENT, ENODEV
                rtnetlink::Error::NetlinkError(message) if removes && matches!(message.raw_code(), -3 | -2 | -19) => None,
                error => Some(refused(what, error)),
            });
            if let Err(Some(error)) = done {
                first = first.and(Err(error));
            }
        }
        first
    })
    .await
}

async fn one(handle: &Handle, name: &str, change: Change) -> Result<(), rtnetlink::Error> {
    match change {
        Change::AddDevice(vxlan, mtu) => {
            let mut message = LinkVxlan::new(name, vxlan.vni).port(vxlan.port).learning(vxlan.learning).mtu(mtu).up();
            if let Some(local) = vxlan.local {
                message = message.local(local);
            }
            if let Some(Mac(mac)) = vxlan.mac {
                message = message.address(mac.to_vec());
            }
            handle.link().add(message.build()).execute().await
        }
        Change::SetDevice(number, mtu) => {
            handle.link().set(LinkUnspec::new_with_index(number).mtu(mtu).up().build()).execute().await
        }
        Change::RemoveDevice(number) => handle.link().del(number).execute().await,
        Change::SetNeighbour(number, end, Mac(mac)) => {
            handle.neighbours().add(number, end).link_layer_address(&mac).replace().execute().await
        }
        Change::RemoveNeighbour(number, end, _) => {
            handle.neighbours().del(neighbour(family(end), number, end, None)).execute().await
        }
        Change::SetForward(number, Mac(mac), address) => {
            let request = handle.neighbours().add_bridge(number, &mac).destination(address.into());
            request.flags(NeighbourFlags::Own).replace().execute().await
        }
        Change::RemoveForward(number, mac, address) => {
            handle.neighbours().del(neighbour(AddressFamily::Bridge, number, address.into(), Some(mac))).execute().await
        }
        Change::SetRoute(route) => handle.route().add(route_message(&route)).replace().execute().await,
        Change::RemoveRoute(route) => handle.route().del(route_message(&route)).execute().await,
    }
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn neighbour(family: AddressFamily, number: u32, address: IpAddr, mac: Option<Mac>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    message.header.ifindex = number;
    if let Some(Mac(mac)) = mac {
        message.header.flags = NeighbourFlags::Own;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
    }
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    message
}

fn route_message(route: &Route) -> RouteMessage {
    let builder = RouteMessageBuilder::<IpAddr>::new().protocol(RouteProtocol::from(PROTOCOL)).priority(route.metric);
    // A tunnel's end is in no subnet of the device; one of IPv6 is link-local, which needs none.
    let mut message = if matches!(route.via, Some(IpAddr::V4(_))) { builder.onlink() } else { builder }.build();
    message.header.address_family = family(route.to.addr());
    message.header.destination_prefix_length = route.to.prefix_len();
    message.attributes.push(RouteAttribute::Destination(route.to.network().into()));
    message.attributes.extend(route.via.map(|via| RouteAttribute::Gateway(via.into())));
    match route.link {
        Some(link) => message.attributes.push(RouteAttribute::Oif(link)),
        None => message.header.kind = RouteType::Unreachable,
    }
    message.attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(source.into())));
    message
}

/// A step in words.
fn words(change: &Change) -> String {
    match change {
        Change::AddDevice(vxlan, _) => format!("make the VXLAN device of network {}", vxlan.vni),
        Change::SetDevice(number, mtu) => format!("set interface {number} up with an MTU of {mtu}"),
        Change::RemoveDevice(number) => format!("remove interface {number}"),
        Change::SetNeighbour(_, end, _) => format!("make the neighbour {end}"),
        Change::RemoveNeighbour(_, end, _) => format!("remove the neighbour {end}"),
        Change::SetForward(_, _, address) => format!("forward to {address}"),
        Change::RemoveForward(_, _, address) => format!("forward no longer to {address}"),
        Change::SetRoute(route) => format!("make a route to {}", route.to),
        Change::RemoveRoute(route) => format!("remove the route to {}", route.to),
    }
}

/// Counts up whenever links, addresses or routes may have changed. Needs no rights.
pub async fn follow(changed: watch::Sender<u64>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            error = listen(&changed) => tracing::debug!(%error, "does not hear of changes of the machine's network"),
        }
        // What was missed is looked for.
        changed.send_modify(|count| *count += 1);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(REOPEN) => {}
        }
    }
}

/// Until it fails.
async fn listen(changed: &watch::Sender<u64>) -> std::io::Error {
    let open = || {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind(&SocketAddr::new(0, GROUPS))?;
        Ok(socket)
    };
    let socket: TokioSocket = match open() {
        Ok(socket) => socket,
        Err(error) => return error,
    };
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    loop {
        if let Err(error) = heard(&socket, &mut buffer).await {
            return error;
        }
        let flock = async {
            loop {
                if let Err(error) = heard(&socket, &mut buffer).await {
                    return error;
                }
            }
        };
        if let Ok(error) = tokio::time::timeout(FLOCK, flock).await {
            return error;
        }
        changed.send_modify(|count| *count += 1);
    }
}

async fn heard(socket: &TokioSocket, buffer: &mut BytesMut) -> std::io::Result<()> {
    buffer.clear();
    match socket.recv(buffer).await {
        // ENOBUFS: more came than we read. It rang all the same.
        Err(error) if error.raw_os_error() == Some(105) => Ok(()),
        result => result,
    }
}
