//! Asks the kernel whether a wireless interface sleeps between packets: two questions of generic netlink, for which no right is needed.
//!
//! Source: the kernel's `uapi/linux/genetlink.h` and `uapi/linux/nl80211.h`. Its header is as long as netfilter's, so the writer and
//! the reader of the proxy's messages serve: command, version, and two bytes that are zero.

use std::time::Duration;

use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};

use crate::agent::proxy::message::{Message, Messages, Writer};

/// The family that tells the numbers of the others.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const GET_POWER_SAVE: u8 = 62;
const INTERFACE: u16 = 3;
const STATE: u16 = 93;
/// The kernel answers within the call; a driver may ask its chip.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether it does; `None` when the kernel does not say.
pub(super) fn of(interface_index: u32) -> Option<bool> {
    let family = ask(&family_question("nl80211"), |answer| family_id(&answer))?;
    ask(&state_question(family, interface_index), |answer| state(&answer))
}

fn family_question(name: &str) -> Vec<u8> {
    let mut out = Writer::default();
    out.message(CONTROL, 0, 1, GET_FAMILY, 0, |out| out.text(FAMILY_NAME, name));
    out.into_bytes()
}

fn family_id(answer: &Message<'_>) -> Option<u16> {
    Some(u16::from_ne_bytes(answer.attributes().find(FAMILY_ID)?.try_into().ok()?))
}

fn state_question(family: u16, interface_index: u32) -> Vec<u8> {
    let mut out = Writer::default();
    out.message(family, 0, 2, GET_POWER_SAVE, 0, |out| out.bytes(INTERFACE, &interface_index.to_ne_bytes()));
    out.into_bytes()
}

fn state(answer: &Message<'_>) -> Option<bool> {
    match u32::from_ne_bytes(answer.attributes().find(STATE)?.try_into().ok()?) {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// Asks, and reads the first answer; an error is none.
fn ask<T>(question: &[u8], read: impl FnOnce(Message<'_>) -> Option<T>) -> Option<T> {
    let socket = net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::GENERIC)).ok()?;
    net::bind(&socket, &netlink::SocketAddrNetlink::new(0, 0)).ok()?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE)).ok()?;
    net::send(&socket, question, SendFlags::empty()).ok()?;
    let mut buffer = vec![0; 8192];
    let (length, _) = net::recv(&socket, buffer.as_mut_slice(), RecvFlags::empty()).ok()?;
    let answer = Messages(buffer.get(..length)?).next()?;
    if answer.error().is_some() { None } else { read(answer) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_the_number_of_a_family_that_it_has_and_of_no_other() {
        assert_eq!(ask(&family_question("nlctrl"), |answer| family_id(&answer)), Some(CONTROL));
        assert_eq!(ask(&family_question("bramble-none"), |answer| family_id(&answer)), None);
        assert_eq!(of(u32::MAX), None, "no such interface, or no wireless at all");
    }

    #[test]
    fn an_answer_is_read_and_one_without_sense_is_none() {
        let answer = |kind: u16, value: &[u8]| {
            let mut out = Writer::default();
            out.message(28, 0, 2, GET_POWER_SAVE, 0, |out| out.bytes(kind, value));
            let bytes = out.into_bytes();
            Messages(&bytes).next().and_then(|answer| state(&answer))
        };
        assert_eq!(answer(STATE, &1u32.to_ne_bytes()), Some(true));
        assert_eq!(answer(STATE, &0u32.to_ne_bytes()), Some(false));
        for (kind, value) in [(STATE, vec![1]), (STATE, 7u32.to_ne_bytes().to_vec()), (INTERFACE, 1u32.to_ne_bytes().to_vec())] {
            assert_eq!(answer(kind, &value), None, "{kind} {value:?}");
        }
        let question = state_question(28, 3);
        assert_eq!(question.len(), 16 + 4 + 8);
        assert_eq!(question.get(16), Some(&GET_POWER_SAVE));
    }
}
