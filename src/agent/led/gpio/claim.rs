//! Hands: which program drives the LEDs of a machine.
//!
//! `rppal` writes to registers, where nobody is refused, and a bus takes frames from anybody: two programs each undo what the other shows. So
//! who drives LEDs holds a name among the kernel's abstract sockets (unix(7)). It needs no file and no right, is seen whoever the other
//! runs as and wherever it has its data, and goes with its process, however that ends.
//!
//! It holds off a test of the LEDs, not an agent: anybody can take a name, and LEDs that show pods are not to be had by that. An agent that
//! finds it taken drives its LEDs, says so, and draws them anew once it has the name.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The name, of the machine's network namespace.
const NAME: &str = "bramble-leds";
/// Another look at LEDs is over in less.
const PATIENCE: u32 = 10;
const PAUSE: Duration = Duration::from_millis(50);

/// Who holds it drives the LEDs.
#[derive(Debug)]
pub struct Claim {
    _name: UnixDatagram,
}

impl Claim {
    /// Takes it, at once. `None`: somebody has it.
    ///
    /// # Errors
    /// The system's: it has no such sockets, or no more of them.
    pub fn take() -> io::Result<Option<Self>> {
        Self::named(NAME)
    }

    /// [`Claim::take`] for a command: blocks for half a second at most while somebody has it, who may only have looked.
    ///
    /// # Errors
    /// As [`Claim::take`].
    pub fn take_patiently() -> io::Result<Option<Self>> {
        Self::patiently(NAME)
    }

    fn patiently(name: &str) -> io::Result<Option<Self>> {
        for _ in 0..PATIENCE {
            if let Some(claim) = Self::named(name)? {
                return Ok(Some(claim));
            }
            std::thread::sleep(PAUSE);
        }
        Self::named(name)
    }

    pub(super) fn named(name: &str) -> io::Result<Option<Self>> {
        match UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?) {
            Ok(name) => Ok(Some(Self { _name: name })),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_until_it_ends_and_who_waits_a_little_gets_it() {
        // Another one's than this machine's: an agent may run here.
        let name = format!("bramble-leds-test-{}", std::process::id());
        let first = Claim::named(&name).unwrap().unwrap();
        assert!(Claim::named(&name).unwrap().is_none() && Claim::patiently(&name).unwrap().is_none());
        let ends = std::thread::spawn(move || {
            std::thread::sleep(PAUSE);
            drop(first);
        });
        assert!(Claim::patiently(&name).unwrap().is_some());
        ends.join().unwrap();
        assert!(Claim::named(&name).unwrap().is_some());
    }
}
