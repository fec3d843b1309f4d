//! Addresses on loopback, read and changed over rtnetlink.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use futures_util::StreamExt as _;
use rtnetlink::Handle;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressScope};

use crate::agent::overlay::netlink::{NetlinkError, refused, with};

/// Loopback is the first interface of every network namespace.
const LOOPBACK: u32 = 1;

fn address(message: &AddressMessage) -> Option<Ipv4Addr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    })
}

async fn labelled(handle: &Handle, label: &str) -> Result<Vec<AddressMessage>, NetlinkError> {
    let mut stream = std::pin::pin!(handle.address().get().execute());
    let mut all = Vec::new();
    while let Some(message) = stream.next().await {
        let message = message.map_err(|error| refused("list addresses", error))?;
        let ours = message.attributes.iter().any(|one| matches!(one, AddressAttribute::Label(text) if text == label));
        if message.header.index == LOOPBACK && ours {
            all.push(message);
        }
    }
    Ok(all)
}

/// Makes these the only addresses with this label; returns which are new.
///
/// # Errors
/// When the kernel refuses.
pub async fn set(label: &str, wanted: &BTreeSet<Ipv4Addr>) -> Result<Vec<Ipv4Addr>, NetlinkError> {
    with(|handle| async move {
        let mut here = BTreeSet::new();
        for message in labelled(&handle, label).await? {
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
