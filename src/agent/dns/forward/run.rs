//! Hands: asks the host's servers, keeps what they said, and asks once when many want to know the same.
//!
//! In:       questions that are not the cluster's.
//! Out:      what was said, from the cache, from a server, or stale when no server answers.
//! Never:    asks without bound: `AT_ONCE` questions are under way at most, each for `LONGEST`. A question that comes while the same one
//!           is under way waits for its answer; so a host that sends ours back to us turns no circle.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Query, ResponseCode};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use super::{Reply, Upstreams, packet, reply, servers};
use crate::agent::dns::cache::{Cache, Key, Said};
use crate::agent::dns::resolv_conf::ResolvConf;
use crate::clock::{Clock, SystemClock, Tick};

/// Questions under way: each has a socket and some kB.
const AT_ONCE: usize = 256;
/// After that whoever asked asks again. Source: resolv.conf(5), RES_TIMEOUT is 5 s.
const LONGEST: Duration = Duration::from_millis(4500);
/// How long one server is waited for, before the next is asked, or the same once more.
const ONE: Duration = Duration::from_millis(1500);
/// How often the host's file is looked at, at most.
const LOOKS: Duration = Duration::from_secs(5);

type Outcome = Result<Arc<Said>, ResponseCode>;

/// Who asks the host's servers.
pub struct Forwarder {
    clock: SystemClock,
    files: Vec<PathBuf>,
    port: u16,
    random: SystemRandom,
    cache: Mutex<Cache>,
    upstreams: Mutex<Upstreams>,
    host: Mutex<Host>,
    under_way: Mutex<HashMap<Key, watch::Receiver<Option<Outcome>>>>,
    room: Semaphore,
}

/// What is known of the host's file.
#[derive(Default)]
struct Host {
    looked: Option<Tick>,
    text: String,
    searches: Arc<Vec<String>>,
    own: Vec<IpAddr>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whatever panicked while it was held, what is kept here is at worst asked for again.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a question from the list when it is answered, or nobody waits for it any more.
struct UnderWay<'a>(&'a Forwarder, Key);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        lock(&self.0.under_way).remove(&self.1);
    }
}

impl Forwarder {
    /// `files`: the host's `resolv.conf`, the first that names a server counts. `port`: where these servers listen, 53 but for tests.
    #[must_use]
    pub fn new(clock: SystemClock, files: Vec<PathBuf>, port: u16) -> Self {
        Self {
            clock,
            files,
            port,
            random: SystemRandom::new(),
            cache: Mutex::default(),
            upstreams: Mutex::default(),
            host: Mutex::default(),
            under_way: Mutex::default(),
            room: Semaphore::new(AT_ONCE),
        }
    }

    /// Our own addresses: a host that names them as its servers is not asked there.
    pub fn set_own(&self, own: Vec<IpAddr>) {
        let mut host = lock(&self.host);
        if host.own == own {
            return;
        }
        host.own = own;
        // The list is made anew at the next question.
        host.looked = None;
        host.text.clear();
    }

    /// Domains of the host's own.
    #[must_use]
    pub fn searches(&self) -> Arc<Vec<String>> {
        Arc::clone(&lock(&self.host).searches)
    }

    /// What is known without asking.
    #[must_use]
    pub fn known(&self, query: &Query) -> Option<Said> {
        let now = self.clock.now().tick;
        lock(&self.cache).fresh(&Key::of(query), now)
    }

    /// Asks, as far as it is not known.
    ///
    /// # Errors
    /// What the servers gave as their reason; `ServFail` when nobody answered.
    pub async fn ask(&self, query: &Query) -> Outcome {
        if let Some(said) = self.known(query) {
            return Ok(Arc::new(said));
        }
        let key = Key::of(query);
        let (told, answered) = watch::channel(None);
        let others = {
            let mut under_way = lock(&self.under_way);
            let others = under_way.get(&key).cloned();
            if others.is_none() {
                under_way.insert(key.clone(), answered);
            }
            others
        };
        if let Some(mut others) = others {
            // Whoever asked may be gone: then nobody knows.
            let waited = others.wait_for(Option::is_some).await.ok();
            return waited.and_then(|outcome| outcome.clone()).unwrap_or(Err(ResponseCode::ServFail));
        }
        let _under_way = UnderWay(self, key.clone());
        let outcome = self.ask_servers(&key).await;
        told.send_replace(Some(outcome.clone()));
        outcome
    }

    async fn ask_servers(&self, key: &Key) -> Outcome {
        let Ok(_room) = self.room.try_acquire() else { return Err(ResponseCode::ServFail) };
        self.look_at_host().await;
        let query = key.query();
        let until = Instant::now() + LONGEST;
        let mut last = ResponseCode::ServFail;
        let mut refused: Vec<SocketAddr> = Vec::new();
        let order = lock(&self.upstreams).order(self.clock.now().tick);
        // Who is alone is asked three times: packets get lost on Wi-Fi.
        for server in order.iter().cycle().take(order.len().max(3)) {
            if Instant::now() >= until {
                break;
            }
            // Who cannot say now cannot say in a millisecond either.
            if refused.contains(server) {
                continue;
            }
            let asked = self.ask_one(*server, &query, (Instant::now() + ONE).min(until), until).await;
            let now = self.clock.now().tick;
            match asked {
                Ok(Reply::Said(said)) => {
                    lock(&self.upstreams).answered(*server);
                    lock(&self.cache).keep(key.clone(), &said, now);
                    return Ok(Arc::new(said));
                }
                Ok(Reply::Failed(code)) => {
                    refused.push(*server);
                    last = code;
                }
                Ok(Reply::Cut | Reply::Other) => {}
                Err(error) => {
                    tracing::debug!(%server, %error, "a name server of the host does not answer");
                    lock(&self.upstreams).failed(*server, now);
                }
            }
        }
        let stale = lock(&self.cache).stale(key, self.clock.now().tick);
        stale.map(Arc::new).ok_or(last)
    }

    async fn ask_one(&self, server: SocketAddr, query: &Query, soon: Instant, until: Instant) -> io::Result<Reply> {
        let mut said = self.over_udp(server, query, true, soon).await?;
        if matches!(said, Reply::Failed(ResponseCode::FormErr | ResponseCode::NotImp)) {
            said = self.over_udp(server, query, false, soon).await?;
        }
        if said == Reply::Cut {
            said = self.over_tcp(server, query, until).await?;
        }
        Ok(said)
    }

    fn id(&self) -> io::Result<u16> {
        let mut id = [0; 2];
        self.random.fill(&mut id).map_err(|_| io::Error::other("no randomness"))?;
        Ok(u16::from_be_bytes(id))
    }

    /// From a port of its own, which the kernel chooses at random.
    async fn over_udp(&self, server: SocketAddr, query: &Query, edns: bool, until: Instant) -> io::Result<Reply> {
        let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(server).await?;
        let id = self.id()?;
        socket.send(&packet(id, query, edns).ok_or(io::ErrorKind::InvalidInput)?).await?;
        let mut buffer = vec![0; 4096];
        loop {
            let length = timeout_at(until, socket.recv(&mut buffer)).await??;
            match reply(buffer.get(..length).unwrap_or_default(), id, query) {
                Reply::Other => {}
                said => return Ok(said),
            }
        }
    }

    async fn over_tcp(&self, server: SocketAddr, query: &Query, until: Instant) -> io::Result<Reply> {
        let id = self.id()?;
        let question = packet(id, query, true).ok_or(io::ErrorKind::InvalidInput)?;
        let asked = async {
            let mut stream = TcpStream::connect(server).await?;
            let length = u16::try_from(question.len()).map_err(io::Error::other)?;
            stream.write_all(&[&length.to_be_bytes(), question.as_slice()].concat()).await?;
            let mut bytes = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut bytes).await?;
            Ok(reply(&bytes, id, query))
        };
        timeout_at(until, asked).await?
    }

    /// Looks whether the host has other servers now.
    pub async fn look_at_host(&self) {
        let now = self.clock.now().tick;
        {
            let mut host = lock(&self.host);
            if host.looked.is_some_and(|looked| now.since(looked) < LOOKS) {
                return;
            }
            host.looked = Some(now);
        }
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || {
            let texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
            texts.collect::<Vec<String>>()
        });
        let Ok(texts) = read.await else { return };
        let mut host = lock(&self.host);
        let conf = |text: &String| servers(&ResolvConf::read(text), &host.own, self.port);
        let text = texts.iter().find(|text| !conf(text).is_empty()).or(texts.first()).cloned().unwrap_or_default();
        let addresses = conf(&text);
        if text != host.text {
            host.searches = Arc::new(ResolvConf::read(&text).searches);
            host.text = text;
        }
        if lock(&self.upstreams).set(&addresses) {
            let servers = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            if addresses.is_empty() {
                tracing::warn!("the host's resolv.conf names no server; only names of the cluster are answered");
            } else {
                tracing::info!(servers, "names that are not the cluster's are asked for at the host's servers");
            }
        }
    }
}
