//! `bramble master`: configuration, claim, certificates, then the master until it is told to stop.

use std::path::Path;

use super::daemon::{ConfigArgs, Workers};
use crate::config::{Claim, Flag};
use crate::error::Report;
use crate::master::acl;
use crate::master::authority::{self, Authority, AuthorityError};
use crate::master::config::{DEFAULT_FILE, MasterConfig};
use crate::task::Ended;
use crate::telemetry;

/// Arguments; each wins over its variable and over the file.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Prints the access rules for a broker of your own (`mqtt.broker`) and exits
    #[arg(long, value_name = "BROKER", conflicts_with = "check")]
    print_acl: Option<Acl>,
    /// Where the store, the lock and the certificates are [key: data_dir]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where kubectl is served [key: api.listen]
    #[arg(long, value_name = "ADDRESS:PORT")]
    api_listen: Option<String>,
    /// Where nodes are served, over TLS [key: mqtt.listen]
    #[arg(long, value_name = "ADDRESS:PORT")]
    mqtt_listen: Option<String>,
}

/// Brokers whose rules can be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Acl {
    /// A file for its `acl_file`.
    Mosquitto,
}

pub(super) fn run(args: &Args) -> Result<(), Report> {
    let flags = [
        Flag { name: "--data-dir", key: "data_dir", value: args.data_dir.clone() },
        Flag { name: "--api-listen", key: "api.listen", value: args.api_listen.clone() },
        Flag { name: "--mqtt-listen", key: "mqtt.listen", value: args.mqtt_listen.clone() },
    ];
    let mut config = MasterConfig::load(Some(args.config.file(DEFAULT_FILE)), std::env::vars(), &flags)?;
    if args.config.check {
        super::print("the configuration is good\n");
        return Ok(());
    }
    if let Some(Acl::Mosquitto) = args.print_acl {
        let topics = crate::link::Topics::new(&config.cluster);
        super::print(&acl::mosquitto(&topics, crate::master::run::DISCOVERY_PREFIX, crate::broker::acl::MASTER));
        return Ok(());
    }
    telemetry::init().map_err(|error| Report::usage(error.to_string()))?;
    let _claim = Claim::take(&config.data_dir, "master")?;
    make_ready(&mut config).map_err(|error| certificates(&config.data_dir, error))?;
    serve(config)
}

/// What a first start makes: the cluster's uid and, unless the owner brings them, its certificates.
fn make_ready(config: &mut MasterConfig) -> Result<(), AuthorityError> {
    if config.cluster_uid.is_none() {
        config.cluster_uid = Some(authority::cluster_uid(&config.data_dir)?);
    }
    if config.tls.own {
        let ca = Authority::open_or_create(&config.data_dir.join("pki"), &config.cluster)?;
        let mut names = authority::server_names();
        names.extend(
            [config.api.listen, config.mqtt.listen]
                .iter()
                .map(std::net::SocketAddr::ip)
                .filter(|ip| !ip.is_unspecified())
                .map(|ip| ip.to_string()),
        );
        // As pods know it.
        names.insert(config.services.v4.kubernetes().to_string());
        names.insert(format!("kubernetes.default.svc.{}", config.network.domain));
        // By this name a node knows it at any address, also at one that it gets later.
        names.extend(config.cluster_uid.as_deref().and_then(crate::mdns::host_name));
        if ca.server(&names)?.signed {
            tracing::info!(names = names.len(), "server certificate signed");
        }
        ca.admin()?;
        ca.master()?;
    }
    Ok(())
}

fn certificates(data_dir: &Path, error: AuthorityError) -> Report {
    Report::failed("cannot set up the cluster's certificates")
        .because(error)
        .fix(format!("make {} writable for this user, or name files of your own in [tls]", data_dir.display()))
}

fn serve(config: MasterConfig) -> Result<(), Report> {
    super::daemon::run(Workers::Several, move |stop| async move {
        match crate::master::run::run(config, stop).await? {
            Ended::Finished => Ok(()),
            Ended::CutOff(tasks) => {
                Err(Report::failed(format!("the master was told to end, and these parts did not: {}", tasks.join(", "))))
            }
        }
    })
}
