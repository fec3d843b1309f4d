//! `bramble node`: who is in, who waits, and who is no more.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::admin::{Admin, Which, refused, table};
use crate::api::Object;
use crate::api::certificates::Request;
use crate::api::core::join::{ADDRESS, FINGERPRINT, Joined, MODEL, NODE, SERIAL, is_node_name};
use crate::api::core::node::{ADOPT, Node};
use crate::api::time;
use crate::clock::{Clock, SystemClock};
use crate::error::Report;
use crate::master::authority::{Authority, cluster_uid, write_file};
use crate::pkcs10;

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const RECORDS: &str = "/api/v1/namespaces/kube-system/configmaps";
/// A certificate is signed within moments of a yes.
const SIGNED: Duration = Duration::from_secs(10);
/// A node that is connected asks within 5 s, is answered at once, and says so in its health.
const OBEYS: Duration = Duration::from_secs(20);

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lists nodes, and who waits to be let in
    List {
        #[command(flatten)]
        which: Which,
        /// How it is printed
        #[arg(short, long, value_enum, default_value_t)]
        output: super::Output,
    },
    /// Lets a node in that waits
    Approve {
        #[command(flatten)]
        which: Which,
        /// The node's name, or its request's
        name: String,
    },
    /// Removes a node: its object goes, and its certificate lets nobody in any more
    Remove {
        #[command(flatten)]
        which: Which,
        /// The node's name
        name: String,
    },
    /// Lets a node that runs the pods of another store obey this master: its pods are replaced by what this master wants there
    Adopt {
        #[command(flatten)]
        which: Which,
        /// The node's name
        name: String,
    },
    /// Writes what a card needs for a node that is in from its first start
    Add {
        #[command(flatten)]
        which: Which,
        /// The node's name
        name: String,
        /// The folder that is made
        #[arg(short, long, value_name = "DIR")]
        output: PathBuf,
    },
}

pub(super) fn run(args: Args) -> Result<(), Report> {
    match args.command {
        Command::List { which, output } => list(&which.open()?, output),
        Command::Approve { which, name } => approve(&which.open()?, &name),
        Command::Remove { which, name } => remove(&which.open()?, &name),
        Command::Adopt { which, name } => adopt(&which.open()?, &name),
        Command::Add { which, name, output } => add(&which.open()?, &name, &output),
    }
}

fn items(list: &Object) -> Vec<Object> {
    list.list_at(&["items"]).iter().filter_map(|item| Object::from_value(item.clone())).collect()
}

/// Whose name a request asks for.
fn asked(request: &Object) -> String {
    pkcs10::read(&Request(request).pem()).map(|asked| asked.common_name).unwrap_or_default()
}

fn waiting(admin: &Admin) -> Result<Vec<Object>, Report> {
    let all = items(&admin.expect("requests cannot be listed", "GET", REQUESTS, None)?);
    Ok(all.into_iter().filter(|one| Request(one).is_of_a_node() && Request(one).is_pending()).collect())
}

fn list(admin: &Admin, output: super::Output) -> Result<(), Report> {
    let nodes = items(&admin.expect("nodes cannot be listed", "GET", "/api/v1/nodes", None)?);
    let mut all: Vec<Value> = nodes
        .iter()
        .map(|node| {
            let ready =
                node.list_at(&["status", "conditions"]).iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
            let address = node.list_at(&["status", "addresses"]).first().map_or(Value::Null, |one| one["address"].clone());
            let status = if Node(node).is_of_another_store() {
                "OtherStore"
            } else if ready {
                "Ready"
            } else {
                "NotReady"
            };
            json!({"name": node.name(), "status": status, "address": address,
                "model": node.annotation("bramble/model"), "serial": node.annotation("bramble/serial")})
        })
        .collect();
    all.extend(waiting(admin)?.iter().map(|request| {
        json!({"name": asked(request), "status": "Waiting", "request": request.name(), "key": request.annotation(FINGERPRINT),
            "address": request.annotation(ADDRESS), "model": request.annotation(MODEL), "serial": request.annotation(SERIAL)})
    }));
    let text = |one: &Value, key: &str| one.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    super::print(&match output {
        super::Output::Json => format!("{}\n", Value::from(all)),
        super::Output::Text => {
            let mut rows = vec![["NAME", "STATUS", "ADDRESS", "BOARD", "SERIAL", "KEY"].map(str::to_owned).to_vec()];
            rows.extend(
                all.iter().map(|one| ["name", "status", "address", "model", "serial", "key"].map(|key| text(one, key)).to_vec()),
            );
            table(&rows)
        }
    });
    Ok(())
}

fn approve(admin: &Admin, name: &str) -> Result<(), Report> {
    let waiting = waiting(admin)?;
    let matching: Vec<&Object> = waiting.iter().filter(|one| one.name() == name || asked(one) == name).collect();
    let request = match matching.as_slice() {
        [one] => *one,
        [] => {
            let names: Vec<String> = waiting.iter().map(asked).collect();
            let fix = if names.is_empty() {
                "nobody waits: see the node's log".to_owned()
            } else {
                format!("these wait: {}", names.join(", "))
            };
            return Err(Report::failed(format!("no node called {name} waits to be let in")).fix(fix));
        }
        several => {
            let names: Vec<&str> = several.iter().map(|one| one.name()).collect();
            return Err(Report::failed(format!("several nodes called {name} wait")).fix(format!(
                "compare their keys (`bramble node list`) with what stands in the nodes' logs, and approve one of {}",
                names.join(", ")
            )));
        }
    };
    let stamp = time::rfc3339(SystemClock::start().now().wall);
    let mut yes = request.clone();
    let mut conditions = yes.list_at(&["status", "conditions"]).to_vec();
    conditions.push(json!({"type": "Approved", "status": "True", "reason": "BrambleApprove",
        "message": "This CSR was approved by bramble node approve.", "lastUpdateTime": stamp}));
    yes.set_at(&["status", "conditions"], conditions);
    let path = format!("{REQUESTS}/{}", request.name());
    admin.expect("the node is not let in", "PUT", &format!("{path}/approval"), Some(&yes.into_value()))?;
    let words = |key| request.annotation(key).unwrap_or("unknown");
    super::print(&format!(
        "key {}\nboard {}, serial {}, from {}\n",
        words(FINGERPRINT),
        words(MODEL),
        words(SERIAL),
        words(ADDRESS)
    ));
    let clock = SystemClock::start();
    let deadline = clock.now().tick.after(SIGNED);
    while clock.now().tick < deadline {
        let now = admin.expect("the request is gone", "GET", &path, None)?;
        if let Some(node) = now.annotation(NODE) {
            super::print(&format!("node {node} is let in\n"));
            return Ok(());
        }
        if Request(&now).is("Failed") {
            return Err(Report::failed("its certificate could not be signed").because(Request(&now).message("Failed").to_owned()));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(Report::failed("the yes is given, and nothing was signed").fix("see the master's log"))
}

/// Says whom a node's name belongs to from now on.
fn put_record(admin: &Admin, name: &str, data: &Value) -> Result<(), Report> {
    let record = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data,
        "metadata": {"name": format!("bramble-node-{name}"), "namespace": "kube-system", "labels": {"bramble/record": "node"}}});
    match admin.call("POST", RECORDS, Some(&record))? {
        (201, _) => Ok(()),
        (409, _) => {
            let path = format!("{RECORDS}/bramble-node-{name}");
            admin.expect("the node's record is not changed", "PUT", &path, Some(&record)).map(drop)
        }
        (code, said) => Err(refused("the node's record is not made", code, &said)),
    }
}

pub(super) fn expect_name(name: &str) -> Result<(), Report> {
    if is_node_name(name) {
        return Ok(());
    }
    Err(Report::usage(format!("{name:?} is no node's name")).fix("lower case letters, digits and `-`, at most 63"))
}

fn remove(admin: &Admin, name: &str) -> Result<(), Report> {
    expect_name(name)?;
    let (node, _) = admin.call("GET", &format!("/api/v1/nodes/{name}"), None)?;
    let (record, known) = admin.call("GET", &format!("{RECORDS}/bramble-node-{name}"), None)?;
    let joined = record == 200 && !known.str_at(&["data", "key"]).is_empty();
    if node == 404 && !joined {
        return Err(Report::failed(format!("there is no node {name}")).fix("`bramble node list` shows them"));
    }
    let since = time::rfc3339(SystemClock::start().now().wall);
    // First the door, then the object: a node that lives would register again.
    put_record(admin, name, &json!({"key": "", "state": "removed", "since": since}))?;
    if node != 404 {
        match admin.call("DELETE", &format!("/api/v1/nodes/{name}"), None)? {
            (200 | 202 | 404, _) => {}
            (code, said) => {
                return Err(refused("the node's certificate is refused from now on, and its object is not removed", code, &said));
            }
        }
    }
    super::print(&format!("node {name} removed: its certificate lets nobody in any more\n"));
    if admin.config.mqtt.broker.is_some() {
        super::print(
            "your own broker still takes its certificate: revoke it there (a CRL), or take the name out of its access rules\n",
        );
    }
    Ok(())
}

fn adopt(admin: &Admin, name: &str) -> Result<(), Report> {
    expect_name(name)?;
    let path = format!("/api/v1/nodes/{name}");
    let (code, node) = admin.call("GET", &path, None)?;
    if code == 404 {
        return Err(Report::failed(format!("there is no node {name}"))
            .fix("`bramble node list` shows them; one that runs registers within seconds of the master's start"));
    }
    if code != 200 {
        return Err(refused("the node cannot be read", code, &node));
    }
    if !Node(&node).is_of_another_store() {
        return Err(Report::failed(format!("node {name} runs no pods of another store: there is nothing to adopt")));
    }
    let word = json!({"metadata": {"annotations": {ADOPT: node.uid().0}}});
    admin.expect("the node is not told", "PATCH", &path, Some(&word))?;
    let clock = SystemClock::start();
    let deadline = clock.now().tick.after(OBEYS);
    while clock.now().tick < deadline {
        let now = admin.expect("the node is gone", "GET", &path, None)?;
        if !Node(&now).is_of_another_store() {
            super::print(&format!("node {name} obeys this master\n"));
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Err(Report::failed(format!("node {name} is told to obey this master, and has not said yet that it does"))
        .fix("it does when it is connected again; an agent of an older version cannot: upgrade it"))
}

/// Makes the folder for a new node of the master with this data directory, for `bramble flash`.
#[cfg(feature = "flash")]
pub(super) fn make(data_dir: Option<PathBuf>, name: &str, dir: &Path) -> Result<(), Report> {
    make_at(&Which::of_data(data_dir).open()?, name, dir)
}

fn add(admin: &Admin, name: &str, dir: &Path) -> Result<(), Report> {
    make_at(admin, name, dir)?;
    super::print(&format!(
        "{0}/agent.toml      → /etc/bramble/agent.toml on the card\n{0}/bramble-agent/  → /var/lib/bramble-agent/ on the card, mode 0700\nthe first board that starts with it is node {name}\n",
        dir.display()
    ));
    Ok(())
}

fn make_at(admin: &Admin, name: &str, dir: &Path) -> Result<(), Report> {
    expect_name(name)?;
    if !admin.config.tls.own {
        return Err(
            Report::usage("the key of this cluster's CA is not the master's").fix("sign the node's certificate where it is")
        );
    }
    let (node, _) = admin.call("GET", &format!("/api/v1/nodes/{name}"), None)?;
    let (record, known) = admin.call("GET", &format!("{RECORDS}/bramble-node-{name}"), None)?;
    if node == 200 || (record == 200 && !known.str_at(&["data", "key"]).is_empty()) {
        return Err(Report::failed(format!("there is a node {name}"))
            .fix(format!("choose another name, or `bramble node remove {name}` first")));
    }
    if dir.exists() {
        return Err(Report::usage(format!("{} is there already", dir.display())).fix("name a folder that is not there"));
    }
    let failed = |error: std::io::Error| Report::failed(format!("cannot write {}", dir.display())).because(error);
    let data_dir = dir.join("bramble-agent");
    let pki = data_dir.join("pki");
    {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&pki).map_err(failed)?;
    }
    let master = &admin.config;
    let ca = Authority::open_or_create(&master.data_dir.join("pki"), &master.cluster);
    let ca = ca.map_err(|error| Report::failed("cannot use the cluster's CA").because(error))?;
    let key = pkcs10::new_key().map_err(|error| Report::failed("cannot make a key").because(error))?;
    write_file(&pki.join("node.key"), key.as_bytes(), 0o600).map_err(failed)?;
    let pair = ca.node(&pki, name).map_err(|error| Report::failed("cannot sign the certificate").because(error))?;
    write_file(&pki.join("ca.crt"), ca.pem().as_bytes(), 0o644).map_err(failed)?;
    let url = admin.url();
    let host = url.trim_start_matches("https://").rsplit_once(':').map_or("", |(host, _)| host).to_owned();
    let uid = match &master.cluster_uid {
        Some(uid) => uid.clone(),
        None => cluster_uid(&master.data_dir).map_err(|error| Report::failed("cannot read the cluster's uid").because(error))?,
    };
    let broker = match &master.mqtt.broker {
        Some(broker) => broker.to_string(),
        None => format!("mqtts://{host}:{}", master.mqtt.listen.port()),
    };
    let joined =
        Joined { serial: String::new(), node: name.to_owned(), cluster: master.cluster.clone(), cluster_uid: uid, broker };
    let text = serde_json::to_vec_pretty(&joined).map_err(|error| Report::failed("cannot write join.json").because(error))?;
    write_file(&data_dir.join("join.json"), &text, 0o600).map_err(failed)?;
    let config = format!(
        "# Written by `bramble node add`. To /etc/bramble/agent.toml; the folder bramble-agent beside it to /var/lib/bramble-agent.\nnode = \"{name}\"\n\n[join]\n# Should this card be copied to another board, that one asks here to be let in.\nmaster = \"{url}\"\n"
    );
    write_file(&dir.join("agent.toml"), config.as_bytes(), 0o644).map_err(failed)?;
    let certificate = std::fs::read(&pair.certificate).map_err(failed)?;
    let spki = rustls::pki_types::pem::PemObject::from_pem_slice(&certificate)
        .ok()
        .and_then(|der| crate::tls::public_key(&der).ok())
        .ok_or_else(|| Report::failed("cannot read the certificate that was signed"))?;
    let since = time::rfc3339(SystemClock::start().now().wall);
    put_record(admin, name, &json!({"key": pkcs10::fingerprint(&spki), "serial": "", "state": "joined", "since": since}))
}
