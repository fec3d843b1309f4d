//! From starting `bramble master` to the first answer of its API.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::Setup;
use crate::api::{Address, Client};
use crate::process;
use crate::table::{Table, milliseconds, quantile};

/// First starts, which make CA and certificates, and later ones.
pub fn measure(setup: &Setup, table: &mut Table) -> anyhow::Result<()> {
    let (mut first, mut later) = (Vec::new(), Vec::new());
    let mut work = Vec::new();
    for _ in 0..setup.choose(10, 3) {
        let folder = tempfile::tempdir()?;
        first.push(start(setup, folder.path())?.0);
        let (time, used) = start(setup, folder.path())?;
        later.push(time);
        work.push(used);
    }
    let middle = |samples: &[Duration]| milliseconds(quantile(samples, 0.5).unwrap_or_default());
    let most = |samples: &[Duration]| milliseconds(samples.iter().max().copied().unwrap_or_default());
    table.row(
        "process start to first answer, first start",
        "",
        &middle(&first),
        &format!(
            "median of {}, the longest {}; makes CA, certificates and store; 200 from `/readyz` over TLS",
            first.len(),
            most(&first)
        ),
    );
    table.row(
        "process start to first answer, later starts",
        "100 ms",
        &middle(&later),
        &format!("median of {}, the longest {}; of CPU time {}", later.len(), most(&later), middle(&work)),
    );
    Ok(())
}

/// Starts a master there and ends it after its first answer: how long that took, and the CPU time.
fn start(setup: &Setup, folder: &Path) -> anyhow::Result<(Duration, Duration)> {
    let [api, mqtt, viewer] = ports()?;
    let begun = Instant::now();
    let mut master = Command::new(&setup.program)
        .args(["master", "--data-dir"])
        .arg(folder)
        .args(["--api-listen", &format!("127.0.0.1:{api}"), "--mqtt-listen", &format!("127.0.0.1:{mqtt}")])
        .env("BRAMBLE_MQTT__VIEWER_LISTEN", format!("127.0.0.1:{viewer}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(folder.join("master.log"))?)
        .spawn()?;
    let answered = first_answer(&mut master, folder, api);
    let time = begun.elapsed();
    let used = process::cpu(master.id());
    process::signal(master.id(), "TERM")?;
    master.wait()?;
    if let Err(error) = answered {
        bail!("{error}\n{}", std::fs::read_to_string(folder.join("master.log")).unwrap_or_default());
    }
    Ok((time, used?))
}

fn first_answer(master: &mut std::process::Child, folder: &Path, port: u16) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if let Some(status) = master.try_wait()? {
            bail!("the master ended with {status}");
        }
        if Instant::now() > deadline {
            bail!("the master does not listen");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    // Who listens has its certificates already.
    let mut client = Client::connect(&Address::open(&folder.join("pki"), port)?)?;
    client.ask("GET", "/readyz", None).map(|_| ())
}

/// Free ports, all different.
fn ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let mut ports = [0; N];
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}
