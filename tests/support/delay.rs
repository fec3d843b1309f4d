//! A line that takes its time: what a router passes on is held for a while, each way. The kernel's own `netem` is not in every kernel, so it is done here:
//!
//! ```text
//!   eth0 ─▶ router ─▶ delay0 (a TUN device) ─▶ held here ─▶ delay0 ─▶ router ─▶ eth1, and so back
//! ```
//!
//! A queue is as long as a card's usually is; what does not fit is dropped, as a router does.

use std::collections::VecDeque;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_tun::Tun;
use tokio_util::sync::CancellationToken;

use super::inside::enter;

const QUEUE: usize = 1000;
const DEVICE: &str = "delay0";

/// Packets of a router are held for as long as this lives.
pub struct Delay {
    namespace: String,
    stop: CancellationToken,
    thread: Option<JoinHandle<Carried>>,
}

/// What went through.
#[derive(Clone, Copy, Debug, Default)]
pub struct Carried {
    pub packets: u64,
    pub dropped: u64,
}

impl Delay {
    /// Holds all that the router in this network namespace passes on, which it gets by `eth0` and `eth1`, for so long.
    pub fn start(namespace: &str, of: Duration) -> Self {
        let stop = CancellationToken::new();
        let (up, is_up) = std::sync::mpsc::channel();
        let (within, stopped) = (namespace.to_owned(), stop.clone());
        let thread = std::thread::spawn(move || {
            enter(&within);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let device = Tun::builder().name(DEVICE).mtu(1500).up().build().unwrap().pop().unwrap();
                up.send(()).unwrap();
                carry(&device, of, &stopped).await
            })
        });
        is_up.recv().expect("a TUN device (/dev/net/tun, as root)");
        let lines = "for each in all delay0; do echo 0 > /proc/sys/net/ipv4/conf/$each/rp_filter; done
            ip route add default dev delay0 table 98
            for each in eth0 eth1; do ip rule add iif $each lookup 98; done";
        shell(namespace, lines);
        Self { namespace: namespace.to_owned(), stop, thread: Some(thread) }
    }

    /// Ends it; what went through until then.
    pub fn end(mut self) -> Carried {
        shell(&self.namespace, "for each in eth0 eth1; do ip rule del iif $each lookup 98; done");
        self.finish()
    }

    fn finish(&mut self) -> Carried {
        self.stop.cancel();
        self.thread.take().map(|thread| thread.join().unwrap()).unwrap_or_default()
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.finish();
    }
}

fn shell(namespace: &str, lines: &str) {
    let done = Command::new("ip").args(["netns", "exec", namespace, "sh", "-ec", lines]).status().unwrap();
    assert!(done.success(), "{lines} in {namespace}");
}

async fn carry(device: &Tun, of: Duration, stop: &CancellationToken) -> Carried {
    let mut carried = Carried::default();
    let mut held: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut buffer = vec![0; 65536];
    loop {
        let next = held.front().map(|(due, _)| *due);
        tokio::select! {
            () = stop.cancelled() => return carried,
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                let Some((_, packet)) = held.pop_front() else { continue };
                // One that the router does not take is lost, as on any line.
                carried.packets += u64::from(device.send(&packet).await.is_ok());
            }
            read = device.recv(&mut buffer) => match read {
                Ok(length) if held.len() < QUEUE => held.push_back((Instant::now() + of, buffer[..length].to_vec())),
                Ok(_) => carried.dropped += 1,
                Err(_) => return carried,
            },
        }
    }
}
