//! `bramble start`: a whole cluster on this machine.

use crate::error::Report;
use crate::local::layout::Layout;
use crate::local::runtime::WantedRuntime;
use crate::local::start::{IpFamily, Options};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: super::Place,
    /// How many nodes there shall be: bramble-1 … bramble-N [default: 1, or as many as there are]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    nodes: Option<u32>,
    /// Where containers run; auto: Docker, or simulated where there is none. Kept once chosen
    #[arg(long, value_enum, default_value_t)]
    runtime: WantedRuntime,
    /// Addresses of pods and services: IPv4, or dual: IPv4 and IPv6. Kept once chosen [default: ipv4]
    #[arg(long, value_enum, value_name = "FAMILY")]
    ip_family: Option<IpFamily>,
    /// Cores of each new node, like 0.5 [default: an equal share]
    #[arg(long, value_name = "CORES", value_parser = cpus)]
    cpus: Option<f64>,
    /// Memory of each new node, like 512m, 2g or 2Gi; a plain number is MiB [default: an equal share]
    #[arg(long, value_name = "SIZE", value_parser = memory_mib)]
    memory: Option<u64>,
    /// Port of the API; 0: any free one, kept [default: 6443]
    #[arg(long, value_name = "PORT")]
    api_port: Option<u16>,
    /// Port for nodes, MQTT over TLS; 0: any free one, kept, and another for people [default: 8883]
    #[arg(long, value_name = "PORT")]
    mqtt_port: Option<u16>,
    /// Port for people, MQTT on loopback; 0: any free one, kept [default: 1883]
    #[arg(long, value_name = "PORT")]
    viewer_port: Option<u16>,
    /// Taken for a dashboard, which this version does not have yet
    #[arg(long, value_name = "PORT")]
    dashboard_port: Option<u16>,
    /// How long to wait until everything is ready
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
}

pub(super) fn run(args: Args) -> Result<(), Report> {
    let options = Options {
        layout: Layout::find(args.place.data_dir)?,
        nodes: args.nodes,
        runtime: args.runtime,
        ip_family: args.ip_family,
        cpus: args.cpus,
        memory_mib: args.memory,
        api_port: args.api_port,
        mqtt_port: args.mqtt_port,
        viewer_port: args.viewer_port,
        dashboard_port: args.dashboard_port,
        timeout: std::time::Duration::from_secs(args.timeout),
    };
    crate::local::start::start(&options)
}

fn cpus(text: &str) -> Result<f64, &'static str> {
    text.parse().ok().filter(|&cpus| cpus > 0.0 && cpus <= 4096.0).ok_or("expected a number of cores above 0, like 0.5")
}

/// minikube's sizes and Kubernetes': `512`, `512m`, `512mb`, `2g`, `2Gi`, `2048Mi`; all in powers of two.
fn memory_mib(text: &str) -> Result<u64, &'static str> {
    const EXPECTED: &str = "expected a size of 1 MiB at least, like 512m, 2g or 2Gi";
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).ok_or(EXPECTED)?;
    let number: u64 = number.parse().map_err(|_| EXPECTED)?;
    let mib = match unit.to_ascii_lowercase().as_str() {
        "" | "m" | "mb" | "mi" | "mib" => Some(number),
        "k" | "kb" | "ki" | "kib" => Some(number / 1024),
        "g" | "gb" | "gi" | "gib" => number.checked_mul(1024),
        _ => None,
    };
    mib.filter(|&mib| mib > 0 && mib <= 1 << 30).ok_or(EXPECTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_minikube_and_kubernetes_write_them() {
        let cases = [
            ("512", Some(512)),
            ("512m", Some(512)),
            ("2g", Some(2048)),
            ("2Gi", Some(2048)),
            ("1024Ki", Some(1)),
            ("2000mb", Some(2000)),
        ];
        for (text, expected) in cases {
            assert_eq!(memory_mib(text).ok(), expected, "{text}");
        }
        for text in ["", "0", "-1", "g", "2t", "1023k", "99999999999999999999g", "9999999999999999999g"] {
            assert!(memory_mib(text).is_err(), "{text}");
        }
    }

    #[test]
    fn cores_are_positive_numbers() {
        assert_eq!(cpus("0.5"), Ok(0.5));
        for text in ["0", "-1", "NaN", "inf", "two", ""] {
            assert!(cpus(text).is_err(), "{text}");
        }
    }
}
