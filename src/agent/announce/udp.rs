//! Lets the neighbours hear where an address is now, without a right of its own.
//!
//! A datagram from the address to one that nobody has: before the kernel could send it, it asks the whole network by ARP who that is,
//! and says from where it asks. Who had kept the address's place from before learns the new one (RFC 826). Nobody answers, the kernel
//! asks three times, and the datagram is dropped.

use std::net::{Ipv4Addr, UdpSocket};

/// Of the service that throws away what it gets.
const DISCARD: u16 = 9;

/// Says that `address` is here.
///
/// # Errors
/// When the kernel does not send from it.
pub fn tell(address: Ipv4Addr, nobody: Ipv4Addr) -> std::io::Result<()> {
    let socket = UdpSocket::bind((address, 0))?;
    socket.set_nonblocking(true)?;
    socket.send_to(&[], (nobody, DISCARD)).map(drop)
}
