//! Addresses on loopback, read and changed over rtnetlink.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use futures_util::StreamExt as _;
use rtnetlink::Handle;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressScope};

use super::LABEL_PREFIX;
use crate::agent::overlay::netlink::{NetlinkError, refused, with};

/// Loopback is the first interface of every network namespace.
const LOOPBACK: u32 = 1;

fn address(message: &AddressMessage) -> Option<Ipv4Addr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    })
}

fn label_of(message: &AddressMessage) -> Option<&str> {
    message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Label(text) => Some(text.as_str()),
        _ => None,
    })
}

async fn labelled(handle: &Handle, is_ours: impl Fn(&str) -> bool) -> Result<Vec<AddressMessage>, NetlinkError> {
    let mut stream = std::pin::pin!(handle.address().get().execute());
    let mut all = Vec::new();
    while let Some(message) = stream.next().await {
        let message = message.map_err(|error| refused("list addresses", error))?;
        if message.header.index == LOOPBACK && label_of(&message).is_some_and(&is_ours) {
            all.push(message);
        }
    }
    Ok(all)
}

/// All addresses of load balancers on this machine, each with its label.
///
/// # Errors
/// When the kernel does not say.
pub async fn all() -> Result<Vec<(String, Ipv4Addr)>, NetlinkError> {
    with(|handle| async move {
        let all = labelled(&handle, |label| label.starts_with(LABEL_PREFIX)).await?;
        Ok(all.iter().filter_map(|message| Some((label_of(message)?.to_owned(), address(message)?))).collect())
    })
    .await
}

/// Makes these the only addresses with this label; returns which are new.
///
/// # Errors
/// When the kernel refuses.
pub async fn set(label: &str, wanted: &BTreeSet<Ipv4Addr>) -> Result<Vec<Ipv4Addr>, NetlinkError> {
    with(|handle| async move {
        let mut here = BTreeSet::new();
        for message in labelled(&handle, |text| text == label).await? {
            let Some(address) = address(&message) else { continue };
            if wanted.contains(&address) {
                here.insert(address);
                continue;
            }
            match handle.address().del(message).execute().await {
                // EADDRNOTAVAIL: it is gone already.
                Err(rtnetlink::Error::NetlinkError(message)) if message.raw_code() == -99 => {}
                done => done.map_err(|error| refused(format!("take {address} from loopback"), error))?,
            }
        }
        let mut new = Vec::new();
        for &address in wanted.difference(&here) {
            let mut add = handle.address().add(LOOPBACK, IpAddr::V4(address), 32);
            let message = add.message_mut();
            message.header.scope = AddressScope::Host;
            message.attributes.push(AddressAttribute::Label(label.to_owned()));
            match add.execute().await {
                Ok(()) => new.push(address),
                // EEXIST: another agent of this machine has it on loopback, until it hears who has it now.
                Err(rtnetlink::Error::NetlinkError(message)) if message.raw_code() == -17 => {}
                Err(error) => return Err(refused(format!("put {address} on loopback"), error)),
            }
        }
        Ok(new)
    })
    .await
}
