//! What is said over the link. Compact JSON, flat snake_case, `v` the schema version, each under [`super::codec::MOST_BYTES`].
//!
//! People read [`Info`] and [`Health`] too (MQTT Explorer, Home Assistant, Node-RED): their field names stay.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::call::{CallError, LogRequest, Question};
use super::share::{Share, ShareNames};
use crate::api::{Generation, Uid};

/// The schema version of all messages.
pub const SCHEMA: u32 = 1;

/// Which version of its share a node holds or should hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Numbered {
    /// One a start of the master; never goes back while the store lives.
    pub epoch: u64,
    /// Counts changes within the epoch.
    pub number: u64,
}

/// `down/head`, retained: what the node should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// [`SCHEMA`].
    pub v: u32,
    /// The id of the store that decides. A share from another is not obeyed.
    pub store: String,
    /// Its number.
    #[serde(flatten)]
    pub at: Numbered,
    /// [`Share::digest`].
    pub digest: String,
    /// A person wants the node to obey this store, whichever it obeyed before (`bramble node adopt`). An older node passes it over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopt: bool,
}

/// `down/assignment`: a change of a share, or one part of the whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// What the node has when this is applied.
    #[serde(flatten)]
    pub head: Head,
    /// How to get there.
    #[serde(flatten)]
    pub body: AssignmentBody,
}

/// The two ways to say a share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)] // one at a time is held, while it is applied
pub enum AssignmentBody {
    /// The difference to the share with this number of the same epoch.
    Change {
        /// The number that it applies to.
        from: u64,
        /// What is new or other than before.
        set: Share,
        /// What is no longer there.
        unset: ShareNames,
    },
    /// Part `part` (from 1) of `of` of the share's canonical JSON.
    Part {
        /// From 1.
        part: u32,
        /// How many there are.
        of: u32,
        /// This part of the text.
        text: String,
    },
}

/// `up/ask`: "I hold this: send me the whole share".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// [`SCHEMA`].
    pub v: u32,
    /// What the node holds.
    #[serde(flatten)]
    pub at: Numbered,
}

/// What a node says of one pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodReport {
    /// Which pod.
    pub uid: Uid,
    /// Its namespace, to find it by.
    pub namespace: String,
    /// Its name, to find it by.
    pub name: String,
    /// Which generation of its spec this tells of.
    pub generation: Generation,
    /// Counts the reports of this agent process about this pod: an older one is dropped.
    pub attempt: u64,
    /// A whole `v1` PodStatus.
    pub status: Value,
    /// The deletion is done: nothing of the pod is left in the runtime.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
}

/// Something that a person may want to know of a pod or a service, as `kubectl describe` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEvent {
    /// `Pod` or `Service`.
    #[serde(default = "pod", skip_serializing_if = "is_pod")]
    pub kind: String,
    /// Which pod; empty for a service, whose uid nodes do not know.
    pub uid: Uid,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// For example `spec.containers{web}`; empty for the pod itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field_path: String,
    /// Whether it is a `Warning`.
    pub warning: bool,
    /// For example `Pulled`.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

fn pod() -> String {
    "Pod".to_owned()
}

fn is_pod(kind: &String) -> bool {
    kind == "Pod"
}

/// `up/report`: the newest of each pod that changed, and what happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub v: u32,
    /// One a start of the agent: `attempt` counts within it.
    pub incarnation: u64,
    /// Everything is told again from here on: forget what was said of pods before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anew: bool,
    /// What the times in `pods` are worth. Without it they are taken as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<NodeClock>,
    /// Newest state per pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<PodReport>,
    /// In the order in which they happened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<NodeEvent>,
    /// What became of volumes that were to be removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeReport>,
}

/// How a node's clock stands, by which the times in its reports were read: a Pi has no battery for one, and what it shows jumps when a
/// time server answers. All in milliseconds since 1970, as that clock shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeClock {
    /// When the message was made.
    pub shows_milliseconds: i64,
    /// When the agent began: of times before that nothing is known.
    pub began_milliseconds: i64,
    /// How it was put forward since, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jumps: Vec<ClockJump>,
}

/// A clock that was put forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockJump {
    /// What it would have shown at that moment.
    pub until_milliseconds: i64,
    /// By so much times before that are too early.
    pub by_milliseconds: i64,
}

/// What became of a volume that the share's `discard` names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeReport {
    /// The volume's name.
    pub name: String,
    /// Its uid.
    pub uid: Uid,
    /// Nothing of it is left on the node.
    pub removed: bool,
    /// Why something is left.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// `info`, retained: what a node is. It changes rarely.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Info {
    /// [`SCHEMA`].
    pub v: u32,
    /// The node's name.
    pub node: String,
    /// The board file's name, such as `rpi-4b`.
    pub board: String,
    /// The board in words, as the firmware gives it.
    pub model: String,
    /// `linux`.
    pub operating_system: String,
    /// For example `Debian GNU/Linux 12 (bookworm)`.
    pub os_image: String,
    /// For example `6.1.0-rpi7`.
    pub kernel_version: String,
    /// In Go's words, as Kubernetes has it: `arm64`, `arm`, `amd64`.
    pub architecture: String,
    /// What pods may use, in thousandths of a core.
    pub cpu_milli: u64,
    /// All there is, in thousandths of a core.
    pub cpu_capacity_milli: u64,
    /// What pods may use.
    pub memory_bytes: u64,
    /// All there is.
    pub memory_capacity_bytes: u64,
    /// Room for images and containers.
    pub storage_bytes: u64,
    /// How many pods.
    pub pods: u32,
    /// Addresses of the node, the one towards the master first.
    pub addresses: Vec<String>,
    /// The name in the network.
    pub host_name: String,
    /// Changes at each boot of the machine.
    pub boot_id: String,
    /// Of the operating system's installation.
    pub machine_id: String,
    /// Of the hardware; empty where it says nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub system_uuid: String,
    /// A Pi's serial number.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serial: String,
    /// A Pi's revision code, such as `c03114`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// Of the kernel: 32 or 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_bits: Option<u8>,
    /// What it started from: `sd`, `emmc`, `usb`, `nvme`, `disk`, `network` or `memory`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub boot_medium: String,
    /// The kernel's name of that device, such as `mmcblk0`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub boot_device: String,
    /// The card's own name, such as `SC32G`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub card_name: String,
    /// When the card was made, month and year: `03/2021`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub card_date: String,
    /// Who made the card, by number: `0x000003`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub card_manufacturer_id: String,
    /// The card's serial number.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub card_serial: String,
    /// Whether there is a clock that runs on without power.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtc: Option<bool>,
    /// Whether the kernel can limit the memory of containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_cgroup: Option<bool>,
    /// For example `docker://20.10.24` or `simulated://0.1.0`.
    pub container_runtime: String,
    /// The agent's version, `0.1.0`.
    pub bramble_version: String,
    /// Labels that the node has by what it is.
    pub labels: BTreeMap<String, String>,
    /// Where volumes are made for claims: an absolute path. Empty when the node does not say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volumes_dir: String,
    /// What images it runs, its own first: `linux/arm64`, and what its owner set up besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
    /// The largest images that are here, at most 50.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<NodeImage>,
    /// Devices: `bramble/serial` and the like, how many there are.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<String, u64>,
    /// How many of these cannot be had, because a pod has them under their other name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub resources_taken: BTreeMap<String, u64>,
    /// It wants the network's share.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub network: bool,
    /// Its end of WireGuard, `KEY` (base64) or `KEY:PORT`; empty when nobody asked for encryption.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub wireguard: String,
}

/// An image on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeImage {
    /// `name@sha256:…` and `name:tag`, at most 5.
    pub names: Vec<String>,
    /// What it takes on the disk.
    pub size_bytes: u64,
}

/// `health`, retained, about every 10 s: how a node is. For people, and for the digests; not for finding dead nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// [`SCHEMA`].
    pub v: u32,
    /// When, RFC 3339, by the node's clock.
    pub time: String,
    /// Changes at each boot of the machine.
    pub boot_id: String,
    /// Since the machine was started.
    pub uptime_seconds: u64,
    /// Average number of running processes over a minute.
    pub load_1m: f64,
    /// Of all cores together, 0 to 100.
    pub cpu_percent: f32,
    /// All there is.
    pub memory_total_bytes: u64,
    /// What could be had.
    pub memory_available_bytes: u64,
    /// Of the file system with images and containers.
    pub disk_total_bytes: u64,
    /// Of the same.
    pub disk_available_bytes: u64,
    /// The processor's, where there is a sensor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature_celsius: Option<f32>,
    /// Whether the processor is hotter than its board should be, now or less than a minute ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hot: Option<bool>,
    /// Whether the firmware slows the processor down, now or less than a minute ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled: Option<bool>,
    /// Whether the power supply is too weak, now or less than a minute ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub under_voltage: Option<bool>,
    /// All bits of the firmware's `get_throttled` as they were read: `0x50005`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware_throttled: Option<String>,
    /// Whether the power supply was too weak since the machine was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub under_voltage_since_boot: Option<bool>,
    /// Whether the processor's rate was capped since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_capped_since_boot: Option<bool>,
    /// Whether the processor was throttled since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled_since_boot: Option<bool>,
    /// Whether the soft temperature limit held since then (3A+ and 3B+).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_temperature_limit_since_boot: Option<bool>,
    /// The processor's rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_mhz: Option<u32>,
    /// The most that it may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_max_mhz: Option<u32>,
    /// Written on the device that the machine started from, since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_disk_written_bytes: Option<u64>,
    /// The same since Bramble came to it, at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_disk_written_total_bytes: Option<u64>,
    /// How much of its life an eMMC has used, in steps of 10; 110: more than it was made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emmc_life_used_percent: Option<u8>,
    /// How many spare blocks of an eMMC are left: `normal`, `warning` (80 % used) or `urgent` (90 %).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emmc_spare: Option<String>,
    /// The signal of the wireless network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wifi_signal_dbm: Option<i32>,
    /// Whether the wireless interface sleeps between packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wifi_power_save: Option<bool>,
    /// Whether the clock follows another, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_synchronized: Option<bool>,
    /// Bytes that this agent has written to disk since it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_written_bytes: Option<u64>,
    /// Whether the node can run pods: its container runtime answers.
    pub ready: bool,
    /// Why it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_ready_because: Option<String>,
    /// Less memory left than is healthy.
    pub memory_pressure: bool,
    /// Less disk left than is healthy.
    pub disk_pressure: bool,
    /// What of which disk is short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_pressure_because: Option<String>,
    /// Fewer process numbers left than is healthy.
    pub pid_pressure: bool,
    /// How many pods run here.
    pub pods: u32,
    /// Which share the node holds.
    #[serde(flatten)]
    pub at: Numbered,
    /// [`super::report::Said::digest`] of what the node says of its pods.
    pub pods_digest: String,
    /// One a start of the agent.
    pub incarnation: u64,
    /// A store whose shares this node does not obey, if one tries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foreign_store: Option<String>,
}

/// `down/call/<id>/request`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRequest {
    /// [`SCHEMA`].
    pub v: u32,
    /// What is wanted.
    #[serde(flatten)]
    pub body: CallBody,
    /// How many bytes may be sent before more credit comes.
    pub credit: u64,
}

/// What is wanted of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallBody {
    /// A container's log, as a stream of bytes.
    Logs(LogRequest),
    /// One JSON document.
    Ask(Question),
}

/// `down/call/<id>/credit`: so many more bytes may be sent; `None` ends the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    /// [`SCHEMA`].
    pub v: u32,
    /// More bytes, or the end.
    pub bytes: Option<u64>,
}

/// `up/call/<id>/data`: the next piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamFrame {
    /// [`SCHEMA`].
    pub v: u32,
    /// Counts from 0: a gap ends the call.
    pub sequence: u64,
    /// Base64.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub data: String,
    /// This is the last frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// All was said.
    Done,
    /// It failed.
    Error(CallError),
}
