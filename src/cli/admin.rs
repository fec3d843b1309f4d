//! The master on this machine, spoken to as its administrator: what `bramble node` and `bramble token` have in common.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::api::Object;
use crate::config::{FileMay, Flag};
use crate::error::Report;
use crate::https::{self, Call, Server};
use crate::local::layout::Layout;
use crate::master::config::{DEFAULT_FILE, MasterConfig};
use crate::tls::Credentials;

/// Which master.
#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// The master's configuration [default: that of the data directory, of /etc/bramble, or of `bramble start`]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The master's data directory
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// The way to it.
pub(super) struct Admin {
    pub(super) config: MasterConfig,
    tls: Arc<rustls::ClientConfig>,
    host: String,
}

impl Which {
    /// That with this data directory; `None`: as without any flag.
    #[cfg(feature = "flash")]
    pub(super) fn of_data(data_dir: Option<PathBuf>) -> Self {
        Self { config: None, data_dir }
    }

    /// Its configuration.
    pub(super) fn config(&self) -> Result<MasterConfig, Report> {
        let of_data = self.data_dir.as_ref().map(|dir| dir.join("master.toml")).filter(|file| file.exists());
        let of_start = || Layout::find(None).ok().map(|layout| layout.master_config()).filter(|file| file.exists());
        let installed = Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists());
        let none_named = self.config.is_none() && self.data_dir.is_none();
        let file = self.config.clone().or(of_data).or(installed).or_else(|| none_named.then(of_start).flatten());
        let flag = self.data_dir.as_ref().map(|dir| dir.display().to_string());
        let flags = [Flag { name: "--data-dir", key: "data_dir", value: flag }];
        let file = file.as_deref().map(|file| (file, FileMay::NotBeMissing));
        Ok(MasterConfig::load(file, std::env::vars(), &flags)?)
    }

    /// The way to it.
    pub(super) fn open(&self) -> Result<Admin, Report> {
        let config = self.config()?;
        let pki = config.data_dir.join("pki");
        let read = |path: PathBuf| {
            std::fs::read(&path).map_err(|error| {
                Report::failed(format!("cannot read {}", path.display()))
                    .because(error)
                    .fix("run this on the master's machine, as the master's user, or name its folder with --data-dir")
            })
        };
        let credentials = Credentials {
            ca: read(config.tls.ca.clone())?,
            chain: read(pki.join("bramble-admin.crt"))?,
            key: read(pki.join("bramble-admin.key"))?,
        };
        let tls =
            credentials.client().map_err(|error| Report::failed("cannot use the administrator's certificate").because(error))?;
        let ip = config.api.listen.ip();
        let host = if ip.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { ip }.to_string();
        Ok(Admin { config, tls, host })
    }
}

impl Admin {
    /// Asks; gives the code and what came.
    pub(super) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Object), Report> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let content_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let call = Call { method, path, content_type, bearer: None, body: body.as_bytes() };
        let port = self.config.api.listen.port();
        let (code, bytes) = https::call(&self.tls, Server { host: &self.host, port }, &call).map_err(|error| {
            Report::failed(format!("the master at https://{}:{port} does not answer", self.host)).because(error).fix(
                "start it (`systemctl start bramble-master`, or `bramble start`), or name another with --data-dir or --config",
            )
        })?;
        Ok((code, serde_json::from_slice(&bytes).ok().and_then(Object::from_value).unwrap_or_default()))
    }

    /// The same, where anything but good is an error.
    pub(super) fn expect(&self, what: &str, method: &str, path: &str, body: Option<&Value>) -> Result<Object, Report> {
        match self.call(method, path, body)? {
            (200..=299, object) => Ok(object),
            (code, said) => Err(refused(what, code, &said)),
        }
    }

    /// Where nodes reach the API: the address that it listens on, else this machine's own towards the world.
    pub(super) fn url(&self) -> String {
        let listen = self.config.api.listen;
        let own = || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
            // TEST-NET-1 lies behind the default route. Nothing is sent.
            socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
            socket.local_addr().ok().map(|address| address.ip())
        };
        let ip = if listen.ip().is_unspecified() { own().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)) } else { listen.ip() };
        format!("https://{}", std::net::SocketAddr::new(ip, listen.port()))
    }
}

/// What the API said, as an error.
pub(super) fn refused(what: &str, code: u16, said: &Object) -> Report {
    Report::failed(what).because(format!("the master answered {code}: {}", said.str_at(&["message"])))
}

/// Columns for people.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}
