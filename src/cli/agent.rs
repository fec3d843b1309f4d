//! `bramble agent`: configuration, claim, then one node until it is told to stop. `bramble fleet` runs several by the same way.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::daemon::{ConfigArgs, Workers};
use crate::agent::clock_watch::{self, Doubt, words};
use crate::agent::config::{AgentConfig, DEFAULT_FILE};
use crate::clock::{Clock, SystemClock};
use crate::config::{Claim, Flag};
use crate::error::Report;
use crate::task::{Ended, Supervisor};
use crate::telemetry::{self, Systemd};

/// Of several nodes in one process so many join at once: each waits for the master more than it works, and the master answers strangers
/// only so fast.
const AT_ONCE: usize = 8;
/// The broker is told goodbye within a second; nothing else takes time.
const STOP: Duration = Duration::from_secs(5);

/// Arguments; each wins over its variable and over the file.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// The node's name [key: node]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Where the node keeps what it should run [key: data_dir]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where the broker is [key: mqtt.broker]
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// The master's API, for a node that joins [key: join.master; without it the master is looked for by mDNS]
    #[arg(long, value_name = "URL")]
    join: Option<String>,
    /// What `bramble token create` printed, for a node that joins [key: join.token; without it a person lets it in]
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// docker or simulated [key: runtime]
    #[arg(long, value_name = "RUNTIME")]
    runtime: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<(), Report> {
    let flags = [
        Flag { name: "--node", key: "node", value: args.node.clone() },
        Flag { name: "--data-dir", key: "data_dir", value: args.data_dir.clone() },
        Flag { name: "--broker", key: "mqtt.broker", value: args.broker.clone() },
        Flag { name: "--join", key: "join.master", value: args.join.clone() },
        Flag { name: "--token", key: "join.token", value: args.token.clone() },
        Flag { name: "--runtime", key: "runtime", value: args.runtime.clone() },
    ];
    let config = AgentConfig::load(Some(args.config.file(DEFAULT_FILE)), std::env::vars(), &flags)?;
    if args.config.check {
        super::print("the configuration is good\n");
        return Ok(());
    }
    run_nodes(vec![config])
}

/// Claims each node's directory and runs them all in this process.
pub(super) fn run_nodes(configs: Vec<AgentConfig>) -> Result<(), Report> {
    telemetry::init().map_err(|error| Report::usage(error.to_string()))?;
    let mut claims = Vec::with_capacity(configs.len());
    for config in &configs {
        claims.push(Claim::take(&config.data_dir, "agent")?);
    }
    serve(configs)
}

fn serve(configs: Vec<AgentConfig>) -> Result<(), Report> {
    super::daemon::run(Workers::One, move |stop| async move {
        let clock = SystemClock::start();
        let systemd = Arc::new(Systemd::from_environment());
        let mut supervisor = Supervisor::new(stop.clone());
        let wall = clock.now().wall;
        match clock_watch::run::doubt(Path::new("/"), wall) {
            Some(doubt @ Doubt::NotSet) => tracing::warn!("{}", words(doubt, wall)),
            Some(doubt @ Doubt::NotSynchronized) => tracing::info!("{}", words(doubt, wall)),
            None => {}
        }
        // Joining may take until a person comes by: no reason to be started again.
        systemd.ready();
        let mut waiting = configs.into_iter();
        let mut joining = JoinSet::new();
        loop {
            while joining.len() < AT_ONCE
                && let Some(config) = waiting.next()
            {
                let (systemd, stop) = (systemd.clone(), stop.clone());
                joining.spawn(async move { crate::agent::join::run::ready(config, &systemd, &stop).await });
            }
            let ready = tokio::select! {
                ready = joining.join_next() => ready,
                () = systemd.watchdog(stop.clone()) => return Ok(()),
            };
            let Some(ready) = ready else { break };
            let ready =
                ready.map_err(|error| Report::failed("a part of the agent died while a node joined").because(error))??;
            // Told to stop before it joined.
            let Some(config) = ready else { return Ok(()) };
            crate::agent::run::spawn(&config, clock, &mut supervisor)?;
        }
        let watched = stop.clone();
        supervisor.spawn("watchdog", async move {
            let told = clock_watch::run::follow(clock, &systemd, "runs", &watched);
            tokio::join!(told, systemd.watchdog(watched.clone()));
            systemd.stopping();
        });
        match supervisor.run(STOP).await {
            Ended::Finished => Ok(()),
            Ended::CutOff(tasks) => {
                Err(Report::failed(format!("the agent was told to end, and these parts did not: {}", tasks.join(", "))))
            }
        }
    })
}
