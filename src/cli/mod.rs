//! The command line: one file a subcommand; arguments → configuration → one call.
//!
//! Exit codes: 0 ok, 1 failed, 2 wrong usage or configuration. An error says what happened, why, and what to do about it.
//! A command exists when the feature behind it is built in.

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::error::{Chain, Report};

#[cfg(feature = "master")]
mod admin;
#[cfg(feature = "agent")]
mod agent;
mod completion;
#[cfg(any(feature = "agent", feature = "master"))]
mod daemon;
#[cfg(feature = "master")]
mod delete;
#[cfg(feature = "agent")]
mod doctor;
#[cfg(feature = "flash")]
mod flash;
#[cfg(feature = "agent")]
mod fleet;
#[cfg(feature = "master")]
mod identify;
#[cfg(feature = "master")]
mod kubectl;
#[cfg(feature = "agent")]
mod leds;
#[cfg(feature = "master")]
mod master;
#[cfg(feature = "master")]
mod node;
#[cfg(feature = "agent")]
mod sandbox;
#[cfg(feature = "master")]
mod service;
#[cfg(feature = "master")]
mod start;
#[cfg(feature = "master")]
mod status;
#[cfg(feature = "master")]
mod stop;
#[cfg(feature = "master")]
mod token;

/// Kubernetes for a shoebox of Raspberry Pis.
#[derive(Debug, Parser)]
#[command(name = "bramble", version, propagate_version = true, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts a whole cluster on this machine: master, broker and nodes; on one that stands, adds what is missing
    #[cfg(feature = "master")]
    Start(start::Args),
    /// Tells how the cluster on this machine is
    #[cfg(feature = "master")]
    Status(status::Args),
    /// Stops the cluster on this machine and keeps its data
    #[cfg(feature = "master")]
    Stop(stop::Args),
    /// Stops the cluster on this machine and removes everything that is its
    #[cfg(feature = "master")]
    Delete(delete::Args),
    /// Runs the machine's kubectl with the cluster's kubeconfig
    #[cfg(feature = "master")]
    Kubectl(kubectl::Args),
    /// Runs the master in the foreground
    #[cfg(feature = "master")]
    Master(master::Args),
    /// Runs a node's agent in the foreground
    #[cfg(feature = "agent")]
    Agent(agent::Args),
    /// Lists, lets in, adds and removes nodes
    #[cfg(feature = "master")]
    Node(node::Args),
    /// Makes a node's LEDs blink, so that a person finds its board
    #[cfg(feature = "master")]
    Identify(identify::Args),
    /// Makes, lists and deletes tokens with which nodes join
    #[cfg(feature = "master")]
    Token(token::Args),
    /// Tells where a service is reached; `list`: all of them
    #[cfg(feature = "master")]
    Service(service::Args),
    /// Puts a node into a Raspberry Pi OS image, or onto a card
    #[cfg(feature = "flash")]
    Flash(Box<flash::Args>),
    /// Runs many simulated nodes in one process
    #[cfg(feature = "agent")]
    Fleet(fleet::Args),
    /// Looks for what is wrong on this machine
    #[cfg(feature = "agent")]
    Doctor(doctor::Args),
    /// Shows, tests and checks a board's LEDs
    #[cfg(feature = "agent")]
    Leds(leds::Args),
    /// Waits inside a pod's sandbox container
    #[cfg(feature = "agent")]
    #[command(hide = true)]
    Sandbox,
    /// Prints the completion script for a shell
    Completion(completion::Args),
}

/// What the commands about the cluster on this machine have in common.
#[cfg(feature = "master")]
#[derive(Debug, clap::Args)]
struct Place {
    /// Where the cluster's data is [default: ~/.local/share/bramble]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<std::path::PathBuf>,
}

/// How data is printed.
#[cfg(any(feature = "master", feature = "agent"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

impl Command {
    fn run(self) -> Result<(), Report> {
        match self {
            #[cfg(feature = "master")]
            Command::Start(args) => start::run(args),
            #[cfg(feature = "master")]
            Command::Status(args) => status::run(args),
            #[cfg(feature = "master")]
            Command::Stop(args) => stop::run(args),
            #[cfg(feature = "master")]
            Command::Delete(args) => delete::run(args),
            #[cfg(feature = "master")]
            Command::Kubectl(args) => kubectl::run(args),
            #[cfg(feature = "master")]
            Command::Master(args) => master::run(&args),
            #[cfg(feature = "agent")]
            Command::Agent(args) => agent::run(&args),
            #[cfg(feature = "master")]
            Command::Node(args) => node::run(args),
            #[cfg(feature = "master")]
            Command::Identify(args) => identify::run(args),
            #[cfg(feature = "master")]
            Command::Token(args) => token::run(args),
            #[cfg(feature = "master")]
            Command::Service(args) => service::run(args),
            #[cfg(feature = "flash")]
            Command::Flash(args) => flash::run(*args),
            #[cfg(feature = "agent")]
            Command::Fleet(args) => fleet::run(&args),
            #[cfg(feature = "agent")]
            Command::Doctor(args) => doctor::run(args),
            #[cfg(feature = "agent")]
            Command::Leds(args) => leds::run(args),
            #[cfg(feature = "agent")]
            Command::Sandbox => sandbox::run(),
            Command::Completion(args) => completion::run(&args, Cli::command()),
        }
    }
}

/// The process: arguments in, exit code out.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout with 0, everything else to stderr with 2.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(report) => {
            if !report.what.is_empty() {
                // A closed stderr leaves the exit code to tell it.
                let _ = std::io::stderr().write_all(crate::telemetry::as_error(&told(&report)).as_bytes());
            }
            ExitCode::from(report.exit.code())
        }
    }
}

/// Where the local cluster's listener for viewers is, as `host:port`.
#[cfg(all(feature = "agent", feature = "master"))]
fn local_viewer(data_dir: Option<&std::path::Path>) -> Result<String, Report> {
    let layout = crate::local::layout::Layout::find(data_dir.map(std::path::Path::to_owned))?;
    Ok(crate::local::status::status(&layout)?.mqtt)
}

/// Where the local cluster's listener for viewers is: this program knows of no local cluster.
#[cfg(all(feature = "agent", not(feature = "master")))]
fn local_viewer(_data_dir: Option<&std::path::Path>) -> Result<String, Report> {
    Err(Report::usage("which broker?").fix("give --mqtt HOST:PORT: the master's listener for viewers"))
}

/// An error as a person reads it.
fn told(report: &Report) -> String {
    let mut text = format!("error: {}\n", report.what);
    if let Some(why) = &report.why {
        text.push_str(&format!("  why: {}\n", indented(&Chain(why.as_ref()).to_string())));
    }
    if let Some(fix) = &report.fix {
        text.push_str(&format!("  what to do: {}\n", indented(fix)));
    }
    text
}

fn indented(text: &str) -> String {
    text.trim_end().replace('\n', "\n    ")
}

/// Writes to stdout. Who stopped reading (`| head`) has what they wanted.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_parses_and_the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[cfg(all(feature = "master", feature = "agent"))]
    #[test]
    fn arguments_are_taken_or_refused() {
        let good = [
            "start",
            "start --nodes 3 --runtime simulated --cpus 0.5 --memory 512m --api-port 0 --mqtt-port 0 --dashboard-port 0 --data-dir /x",
            "status -o json",
            "status --output json --data-dir /x",
            "stop",
            "delete",
            "kubectl get pods -A -o wide",
            "kubectl --data-dir /x get pods --data-dir-of-mine",
            "kubectl --help",
            "master --config a.toml --check",
            "agent --config a.toml --node n --data-dir d --check",
            "fleet --config a.toml b.toml",
            "completion bash",
            "sandbox",
            "token create --ttl 2h -o json --data-dir /x",
            "token list",
            "token delete abcdef",
            "node list -o json",
            "node approve shed",
            "node remove shed",
            "node add shed -o /x",
            "agent --join https://pi --token a.b.c",
            "doctor",
            "doctor --list",
            "doctor --root /mnt -o json --fix",
            "doctor --fix swap clock",
            "doctor --fix=swap --root /mnt",
            "doctor network",
            "doctor network -o json --remove",
            "service hello -n home --url --wait 5 --data-dir /x",
            "service list -o json",
            "identify shed",
            "identify shed --seconds 5 --data-dir /x",
            #[cfg(feature = "flash")]
            "flash a.img.xz -o shed-{n}.img --name shed-{n} --count 3 --agent a --user anna --ssh-key k --wifi w --wifi-passphrase-file - --wifi-country DE",
            #[cfg(feature = "flash")]
            "flash /dev/sdx --name shed --add --data-dir /x --yes",
        ];
        for line in good {
            let parsed = Cli::try_parse_from(std::iter::once("bramble").chain(line.split(' ')));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
        let bad = [
            "start --nodes 0",
            "start --nodes many",
            "start --runtime podman",
            "start --cpus 0",
            "start --memory -1",
            "start --api-port 70000",
            "status -o yaml",
            "frobnicate",
            "completion tcsh",
            "fleet",
            "token create --ttl never",
            "node add shed",
            "node approve",
            "service",
            "service hello --wait soon",
            "identify",
            "identify shed --seconds 0",
            "identify shed --seconds 3601",
            "doctor --fix swap --list",
            "doctor --root",
            "doctor nothing",
            "flash a.img",
            "flash a.img --name shed --add --token t",
            "flash a.img --name shed --data-dir /x",
        ];
        for line in bad {
            let refused = Cli::try_parse_from(std::iter::once("bramble").chain(line.split(' ')));
            assert_eq!(refused.expect_err(line).exit_code(), 2, "{line}");
        }
    }

    #[cfg(feature = "master")]
    #[test]
    fn kubectl_gets_its_arguments_as_they_were() {
        let cli = Cli::try_parse_from("bramble kubectl --data-dir /x get pods -o wide --data-dir /y".split(' ')).unwrap();
        let Command::Kubectl(args) = cli.command else { panic!("another command") };
        assert_eq!(args.place.data_dir, Some("/x".into()));
        assert_eq!(args.arguments, ["get", "pods", "-o", "wide", "--data-dir", "/y"]);
    }

    #[test]
    fn an_error_says_what_why_and_what_to_do() {
        let report = Report::failed("port 1 is in use").because("somebody listens").fix("stop it\nor not");
        assert_eq!(told(&report), "error: port 1 is in use\n  why: somebody listens\n  what to do: stop it\n    or not\n");
        assert_eq!(told(&Report::usage("no")), "error: no\n");
    }
}
