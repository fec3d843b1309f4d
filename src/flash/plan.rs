//! What is written: which files, from what lies on the boot partition and what was asked for.
//!
//! In:       [`Contents`], [`Settings`], the agent's program, a fresh instance id.
//! Out:      what sort of image it is, or a plain refusal; a [`Plan`].
//! Never:    reads or writes.
//! Source:   Raspberry Pi Imager's `doc/os_customisation_formats.md` and pi-gen's `stage2/04-cloud-init`: later images of Trixie have cloud-init's
//!           `user-data`, `network-config` and `meta-data` on the boot partition (NoCloud); before, the kernel's command line has systemd run
//!           `firstrun.sh` once.

use std::collections::{BTreeMap, BTreeSet};

use super::program::Machine;
use super::settings::Settings;
use super::{cloud_init, firstrun};

/// The kernel's command line, one line.
pub const CMDLINE: &str = "cmdline.txt";
/// Files of which the text counts.
pub const READ: &[&str] = &[CMDLINE, "user-data", "meta-data", "network-config", "issue.txt", firstrun::NAME];
/// In each text file of ours that may stand where another's was.
pub const MARK: &str = "Written by `bramble flash`";
/// What the name of somebody's own file ends with when ours took its place.
pub const KEPT: &str = ".old";
const SCRIPT: &str = include_str!("first_boot/install.sh");
const UNIT: &str = include_str!("../../systemd/bramble-agent.service");
/// Waits with the rest, and tells the image's sort while its seed is being replaced.
const BY_CLOUD_INIT: &str = "by-cloud-init";
/// Without it the kernel of Raspberry Pi OS cannot hold a container to its memory.
const MEMORY: [&str; 2] = ["cgroup_memory=1", "cgroup_enable=memory"];

/// What lies on a boot partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The names in its root.
    pub names: BTreeSet<String>,
    /// The text of those in [`READ`], by their names in lower case: FAT makes no difference.
    pub texts: BTreeMap<String, String>,
    /// What is free; `None`: not known.
    pub free_bytes: Option<u64>,
    /// What a file's length is rounded up to.
    pub cluster_bytes: u64,
    /// Whether somebody stopped half way through writing it.
    pub unfinished: bool,
}

/// How the first boot is told what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBoot {
    /// cloud-init reads its files.
    CloudInit,
    /// systemd runs a script, in the place where the partition is mounted.
    Script {
        /// `/boot/firmware`, before Bookworm `/boot`.
        mount: &'static str,
    },
}

/// An image that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// What its programs are for.
    pub machine: Machine,
    /// How the first boot goes.
    pub first_boot: FirstBoot,
}

/// Why an image cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another system's.
    #[error("it is no Raspberry Pi OS: its boot partition has no {}", .missing.join(", no "))]
    NotPi {
        /// What each such image has.
        missing: Vec<&'static str>,
    },
    /// The agent is for another processor.
    #[error("it is {}, and the agent's program is {agent}", match .image { Machine::Arm => "a 32-bit Raspberry Pi OS", _ => "a 64-bit Raspberry Pi OS" })]
    Machine {
        /// The image's.
        image: Machine,
        /// The program's.
        agent: Machine,
    },
    /// Nothing can be put at the end of the command line.
    #[error("its cmdline.txt {0}")]
    CommandLine(&'static str),
    /// The partition is too full.
    #[error("its boot partition has room for {free_bytes} bytes, and {needed_bytes} are needed")]
    Full {
        /// Free.
        free_bytes: u64,
        /// Needed.
        needed_bytes: u64,
    },
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// From the boot partition's root, with `/`.
    pub path: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// What is written. Files that are there already are replaced, the folder `bramble` as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they are written.
    pub files: Vec<File>,
    /// The command line, if it changes: what it was, with more at its end.
    pub cmdline: Option<String>,
}

impl Plan {
    /// The files in the partition's root.
    pub fn in_root(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.path.as_str()).filter(|path| !path.contains('/'))
    }

    fn add(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.files.push(File { path: path.to_owned(), bytes: bytes.into() });
    }

    fn needed(&self, cluster: u64) -> u64 {
        let round = |length: usize| (length as u64).div_ceil(cluster.max(1)) * cluster.max(1);
        // Folders and names: ours, pki, their parent, and a root that grows.
        self.files.iter().map(|file| round(file.bytes.len())).sum::<u64>() + 8 * cluster
    }
}

/// What sort of image this is.
///
/// # Errors
/// [`Refusal::NotPi`], [`Refusal::CommandLine`].
pub fn image(contents: &Contents) -> Result<Image, Refusal> {
    let has = |name: &str| contents.names.iter().any(|held| held.eq_ignore_ascii_case(name));
    // Those that 64-bit images have too come last.
    let arm = ["kernel.img", "kernel7.img", "kernel7l.img"].iter().any(|name| has(name));
    let aarch64 = ["kernel8.img", "kernel_2712.img"].iter().any(|name| has(name));
    let wanted = [("config.txt", has("config.txt")), (CMDLINE, has(CMDLINE)), ("kernel8.img or kernel7.img", arm || aarch64)];
    let missing: Vec<&str> = wanted.into_iter().filter(|(_, there)| !there).map(|(name, _)| name).collect();
    if !missing.is_empty() {
        return Err(Refusal::NotPi { missing });
    }
    // Without its root= the Pi would not start.
    match contents.texts.get(CMDLINE).map(|text| text.lines().filter(|line| !line.trim_matches(is_blank).is_empty()).count()) {
        Some(1) => {}
        Some(0) => return Err(Refusal::CommandLine("is empty")),
        Some(_) => return Err(Refusal::CommandLine("has more than one line, of which the Pi reads the first")),
        None => return Err(Refusal::CommandLine("is no text file that can be read")),
    }
    let first_boot = if ["user-data", "meta-data", "network-config", BY_CLOUD_INIT].iter().any(|name| has(name)) {
        FirstBoot::CloudInit
    } else {
        FirstBoot::Script { mount: firstrun::mount(contents.texts.get("issue.txt").map_or("", String::as_str)) }
    };
    Ok(Image { machine: if arm { Machine::Arm } else { Machine::Aarch64 }, first_boot })
}

/// What is written into an image. `instance` is another one each time: cloud-init takes a card with another for a machine that starts for the
/// first time.
///
/// # Errors
/// [`Refusal::Machine`], [`Refusal::CommandLine`], [`Refusal::Full`].
pub fn plan(image: Image, contents: &Contents, settings: &Settings, agent: &[u8], instance: &str) -> Result<Plan, Refusal> {
    let machine = Machine::of(agent);
    if machine != image.machine {
        return Err(Refusal::Machine { image: image.machine, agent: machine });
    }
    let mut plan = Plan::default();
    plan.add("bramble/bramble", agent);
    plan.add("bramble/bramble-agent.service", UNIT);
    plan.add("bramble/agent.toml", settings.agent_toml.as_str());
    plan.add("bramble/install.sh", SCRIPT);
    for (path, bytes) in &settings.node_files {
        plan.add(&format!("bramble/bramble-agent/{path}"), bytes.as_slice());
    }
    if settings.user.as_ref().is_some_and(|user| !user.keys.is_empty()) {
        plan.add("bramble/ssh", "The first boot turns the SSH server on.\n");
    }
    if let Some(wifi) = &settings.wifi {
        plan.add("bramble/country", format!("{}\n", wifi.country));
    }
    let text = |name: &str| contents.texts.get(name).map_or("", String::as_str);
    let mut words: Vec<&str> = MEMORY.to_vec();
    let run = match image.first_boot {
        FirstBoot::CloudInit => {
            plan.add(&format!("bramble/{BY_CLOUD_INIT}"), "");
            let mut seed =
                vec![("user-data", cloud_init::user_data(settings)), ("meta-data", cloud_init::meta_data(settings, instance))];
            seed.extend(settings.wifi.as_ref().map(|wifi| ("network-config", cloud_init::network_config(wifi))));
            for (name, new) in seed {
                // Somebody's own settings are kept beside.
                if is_somebodys(text(name)) {
                    plan.add(&format!("{name}{KEPT}"), text(name));
                }
                plan.add(name, new);
            }
            String::new()
        }
        FirstBoot::Script { mount } => {
            let command = firstrun::command(mount);
            let runs = |word: &&str| word.starts_with("systemd.run=");
            // systemd would run both; and the line only ever gets more at its end, so the other's word cannot be taken out.
            if text(CMDLINE).split_whitespace().filter(runs).any(|word| {
                !command
                    .split_whitespace()
                    .any(|ours| ours == word || (contents.unfinished && ours.starts_with(word.trim_matches(is_blank))))
            }) {
                return Err(Refusal::CommandLine("has systemd run another's script at the first boot (`systemd.run=`)"));
            }
            if is_somebodys(text(firstrun::NAME)) {
                plan.add(&format!("{}{KEPT}", firstrun::NAME), text(firstrun::NAME));
            }
            for (path, text) in firstrun::files(settings) {
                plan.add(&path, text);
            }
            command
        }
    };
    words.extend(run.split_whitespace());
    let line = with_words(text(CMDLINE), &words, contents.unfinished);
    plan.cmdline = (line != text(CMDLINE)).then_some(line);
    match contents.free_bytes {
        Some(free_bytes) if free_bytes < plan.needed(contents.cluster_bytes) => {
            Err(Refusal::Full { free_bytes, needed_bytes: plan.needed(contents.cluster_bytes) })
        }
        _ => Ok(plan),
    }
}

/// Whether a seed file says more than its comments, and is not ours.
fn is_somebodys(text: &str) -> bool {
    !text.contains(MARK) && text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
}

/// What a line may end with; zeros where a writer got as far as its length.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || c == '\0'
}

/// The command line with these words at its end, those that it has already left where they are. Of one that is `unfinished` the last word may be
/// the beginning of one of them.
fn with_words(line: &str, words: &[&str], unfinished: bool) -> String {
    let mut body = line.trim_end_matches(is_blank);
    let last = body.rsplit(is_blank).next().unwrap_or_default();
    if unfinished && words.iter().any(|word| word.starts_with(last) && *word != last) {
        body = body.strip_suffix(last).unwrap_or(body).trim_end_matches(is_blank);
    }
    let had: BTreeSet<&str> = body.split_whitespace().collect();
    let more: Vec<&str> = words.iter().copied().filter(|word| !had.contains(word)).collect();
    if more.is_empty() { line.to_owned() } else { format!("{body} {}\n", more.join(" ")).trim_start().to_owned() }
}
