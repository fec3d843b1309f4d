//! What a node says it is: machine, board and configuration → [`Info`]. Pure.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use super::config::{Capacity, Runtime};
use super::devices::Offer;
use super::health::hardware::Medium;
use super::health::sysinfo::Machine;
use super::pods::resource_field::NodeAmounts;
use crate::api::image::{Platform, Platforms};
use crate::board::Board;
use crate::link::message::{Info, NodeImage, SCHEMA};

/// Pods on one node: the kubelet's default.
pub const PODS: u32 = 110;

/// The label that says what the node started from, in the words of [`Medium::word`].
pub const BOOT_MEDIUM: &str = "bramble/boot-medium";

/// Everything that `info` is made of.
pub struct Facts<'a> {
    /// The node's name.
    pub node: &'a str,
    /// What the machine is.
    pub machine: &'a Machine,
    /// Which board.
    pub board: &'a Board,
    /// What the owner says instead.
    pub capacity: Capacity,
    /// Where containers run.
    pub runtime: Runtime,
    /// The runtime's own words; empty while it is not known.
    pub container_runtime: &'a str,
    /// The one towards the master first.
    pub addresses: Vec<String>,
    /// Room for images and containers.
    pub storage_bytes: u64,
    /// What images it runs.
    pub platforms: &'a Platforms,
    /// The images that are here.
    pub images: &'a [NodeImage],
    /// Where volumes are made for claims.
    pub volumes_dir: &'a str,
    /// Its end of WireGuard.
    pub wireguard: &'a str,
    /// Its devices.
    pub offer: Offer,
}

/// Puts the devices into what the node says, in place of those that it said before.
pub fn offer(info: &mut Info, offer: &Offer) {
    let device = |label: &str| label.strip_prefix(super::devices::PREFIX).is_some_and(|tail| tail.starts_with("device-"));
    info.labels.retain(|label, _| !device(label));
    info.labels.extend(offer.labels.clone());
    info.resources.clone_from(&offer.resources);
    info.resources_taken.clone_from(&offer.taken);
}

/// What a board's agent is built for, as images name it: by the first word of the Rust target. A 32-bit ARM is told with its version.
#[must_use]
pub fn platform(board: &Board) -> Platform {
    match board.target.split('-').next().unwrap_or_default() {
        "armv7" => Platform::new("linux", "arm", "v7"),
        "arm" => Platform::new("linux", "arm", "v6"),
        "riscv64gc" => Platform::new("linux", "riscv64", ""),
        architecture => Platform::new("linux", architecture, ""),
    }
}

/// What the node says.
#[must_use]
pub fn info(facts: &Facts<'_>) -> Info {
    let Facts { node, machine, board, capacity, runtime, .. } = facts;
    let (cores, memory) = match runtime {
        Runtime::Docker => (machine.cpus, machine.memory_bytes),
        Runtime::Simulated => (board.simulated.cpus, board.simulated.memory_mib << 20),
    };
    let own = platform(board);
    let architecture = match runtime {
        Runtime::Docker => machine.architecture,
        Runtime::Simulated => own.architecture.as_str(),
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked to be positive and small by the configuration
    let cpu_capacity_milli = capacity.cpus.map_or(cores * 1000, |cpus| (cpus * 1000.0).round() as u64);
    let memory_capacity_bytes = capacity.memory_mib.map_or(memory, |mib| mib << 20);
    // What a person says is what pods get; else the board's share for the system is taken off.
    let cpu_milli =
        if capacity.cpus.is_some() { cpu_capacity_milli } else { cpu_capacity_milli.saturating_sub(board.reserved.cpu_milli) };
    let memory_bytes = if capacity.memory_mib.is_some() {
        memory_capacity_bytes
    } else {
        memory_capacity_bytes.saturating_sub(board.reserved.memory_mib << 20)
    };
    let labels = [
        ("kubernetes.io/hostname", *node),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture),
        ("node.kubernetes.io/instance-type", board.instance_type.as_str()),
        ("bramble/board", board.name.as_str()),
    ];
    let mut info = Info {
        v: SCHEMA,
        node: (*node).to_owned(),
        board: board.name.clone(),
        model: if machine.model.is_empty() { board.title.clone() } else { machine.model.clone() },
        operating_system: "linux".to_owned(),
        os_image: machine.os_image.clone(),
        kernel_version: machine.kernel_version.clone(),
        architecture: architecture.to_owned(),
        cpu_milli,
        cpu_capacity_milli,
        memory_bytes,
        memory_capacity_bytes,
        storage_bytes: facts.storage_bytes,
        pods: PODS,
        addresses: facts.addresses.clone(),
        host_name: machine.host_name.clone(),
        boot_id: machine.boot_id.clone(),
        machine_id: machine.machine_id.clone(),
        system_uuid: machine.system_uuid.clone(),
        serial: machine.serial.clone(),
        revision: machine.revision.clone(),
        kernel_bits: machine.kernel_bits,
        boot_medium: machine.boot.medium.map(Medium::word).unwrap_or_default().to_owned(),
        boot_device: machine.boot.device.clone(),
        card_name: machine.boot.card_name.clone(),
        card_date: machine.boot.card_date.clone(),
        card_manufacturer_id: machine.boot.card_manufacturer_id.clone(),
        card_serial: machine.boot.card_serial.clone(),
        rtc: Some(machine.has_rtc),
        memory_cgroup: machine.memory_cgroup,
        container_runtime: facts.container_runtime.to_owned(),
        volumes_dir: facts.volumes_dir.to_owned(),
        bramble_version: env!("CARGO_PKG_VERSION").to_owned(),
        platforms: std::iter::once(&facts.platforms.own)
            .chain(&facts.platforms.emulated)
            .filter(|platform| !platform.architecture.is_empty())
            .map(ToString::to_string)
            .collect(),
        images: facts.images.to_vec(),
        // Nothing of a simulated node is reached by anybody.
        network: *runtime == Runtime::Docker,
        wireguard: facts.wireguard.to_owned(),
        labels: labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>(),
        ..Info::default()
    };
    // For pods that write much. What a simulated node's host started from is nobody's business.
    if *runtime == Runtime::Docker && !info.boot_medium.is_empty() {
        info.labels.insert(BOOT_MEDIUM.to_owned(), info.boot_medium.clone());
    }
    offer(&mut info, &facts.offer);
    info
}

/// The IPv6 address by which others know the machine: of those that its interface `device` has, by the text of `/proc/net/if_inet6`.
/// Unique-local ones come before global ones, which change with the provider; those that the kernel makes for a while only, gives up or
/// is not sure of do not count, nor do link-local ones.
#[must_use]
pub fn ipv6_of(if_inet6: &str, device: &str) -> Option<Ipv6Addr> {
    // Source: the kernel's uapi/linux/if_addr.h: temporary, that somebody else has too, deprecated, tentative.
    const NOT_FOR_OTHERS: u8 = 0x01 | 0x08 | 0x20 | 0x40;
    const GLOBAL_SCOPE: u8 = 0;
    let read = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[address, _, _, scope, flags, name] = words.as_slice() else { return None };
        let number = |text: &str| u8::from_str_radix(text, 16).ok();
        let counts = name == device && number(scope)? == GLOBAL_SCOPE && number(flags)? & NOT_FOR_OTHERS == 0;
        counts.then_some(Ipv6Addr::from(u128::from_str_radix(address, 16).ok()?))
    };
    if_inet6.lines().filter_map(read).min_by_key(|address| (!address.is_unique_local(), *address))
}

/// What pods are told that the node has.
#[must_use]
pub fn amounts(info: &Info) -> NodeAmounts {
    NodeAmounts {
        cpu_milli: info.cpu_milli,
        memory_bytes: info.memory_bytes,
        memory_capacity_bytes: info.memory_capacity_bytes,
        storage_bytes: info.storage_bytes,
        pids: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::health::hardware::Boot;

    static NOWHERE: Platforms = Platforms {
        own: crate::api::image::Platform { os: String::new(), architecture: String::new(), variant: String::new() },
        emulated: Vec::new(),
    };

    fn facts<'a>(machine: &'a Machine, board: &'a Board, capacity: Capacity, runtime: Runtime) -> Facts<'a> {
        Facts {
            node: "pi",
            machine,
            board,
            capacity,
            runtime,
            container_runtime: "",
            addresses: Vec::new(),
            storage_bytes: 1,
            platforms: &NOWHERE,
            images: &[],
            volumes_dir: "/v",
            wireguard: "",
            offer: Offer::default(),
        }
    }

    #[test]
    fn pods_get_what_the_system_leaves_or_what_the_owner_says() {
        let machine = Machine { cpus: 4, memory_bytes: 4 << 30, architecture: "arm64", ..Machine::default() };
        let board = Board::named("rpi-4b").unwrap();
        let by_itself = info(&facts(&machine, &board, Capacity::default(), Runtime::Docker));
        assert_eq!((by_itself.cpu_capacity_milli, by_itself.cpu_milli), (4000, 3900));
        assert_eq!(by_itself.memory_bytes, (4 << 30) - (150 << 20));
        assert_eq!(by_itself.labels["node.kubernetes.io/instance-type"], "raspberry-pi-4b");
        let told = Capacity { cpus: Some(0.5), memory_mib: Some(256) };
        let told = info(&facts(&machine, &board, told, Runtime::Docker));
        assert_eq!((told.cpu_milli, told.memory_bytes), (500, 256 << 20));
    }

    #[test]
    fn of_an_interfaces_ipv6_addresses_the_one_that_stays_is_told() {
        let line = |address: &str, flags: &str, device: &str| {
            let (address, scope) = (address.parse::<Ipv6Addr>().unwrap(), if address.starts_with("fe80") { "20" } else { "00" });
            format!("{:032x} 02 40 {scope} {flags} {device:>8}\n", u128::from(address))
        };
        let (global, local) = (line("2001:db8::21", "00", "eth0"), line("fd00::21", "80", "eth0"));
        let link = line("fe80::21", "80", "eth0");
        for (lines, told) in [
            (vec![&link, &global, &local], Some("fd00::21")),
            (vec![&link, &global], Some("2001:db8::21")),
            (vec![&link], None),
            (vec![&line("2001:db8::99", "01", "eth0"), &global], Some("2001:db8::21")),
            (vec![&line("fd00::5", "20", "eth0"), &line("fd00::6", "40", "eth0"), &line("fd00::7", "08", "eth0")], None),
            (vec![&line("fd00::5", "80", "wlan0")], None),
            (vec![&"nonsense\n".to_owned(), &local], Some("fd00::21")),
        ] {
            let text: String = lines.into_iter().cloned().collect();
            assert_eq!(ipv6_of(&text, "eth0").map(|address| address.to_string()).as_deref(), told, "{text}");
        }
    }

    #[test]
    fn a_board_has_the_platform_of_its_target() {
        for (target, told) in [
            ("aarch64-unknown-linux-musl", "linux/arm64"),
            ("armv7-unknown-linux-musleabihf", "linux/arm/v7"),
            ("arm-unknown-linux-musleabihf", "linux/arm/v6"),
            ("x86_64-unknown-linux-musl", "linux/amd64"),
            ("riscv64gc-unknown-linux-musl", "linux/riscv64"),
        ] {
            let board = Board { target: target.to_owned(), ..Board::named("generic").unwrap() };
            assert_eq!(platform(&board).to_string(), told);
        }
    }

    #[test]
    fn a_simulated_node_is_what_its_board_says() {
        let boot = Boot { medium: Some(Medium::Nvme), device: "nvme0n1".into(), ..Boot::default() };
        let machine = Machine { cpus: 64, architecture: "amd64", boot, ..Machine::default() };
        for (board, cpu_milli, architecture) in [("simulated", 4000, "amd64"), ("rpi-4b", 3900, "arm64")] {
            let board = Board::named(board).unwrap();
            let said = info(&facts(&machine, &board, Capacity::default(), Runtime::Simulated));
            assert_eq!((said.cpu_milli, said.architecture.as_str(), said.network), (cpu_milli, architecture, false));
            assert_eq!(said.labels["kubernetes.io/arch"], architecture);
            let real = info(&facts(&machine, &board, Capacity::default(), Runtime::Docker));
            assert_eq!((real.architecture.as_str(), real.labels["kubernetes.io/arch"].as_str()), ("amd64", "amd64"));
            assert!(real.network);
            let medium = |info: &Info| info.labels.get(BOOT_MEDIUM).cloned();
            assert_eq!((medium(&said), medium(&real), real.boot_device.as_str()), (None, Some("nvme".to_owned()), "nvme0n1"));
        }
    }
}
