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
pub const READ: &[&str] = &[CMDLINE, "user-data", "meta-data", NETWORK, "network-config.old", ISSUE, firstrun::NAME];
/// Of those, a longer one is not read, in bytes.
pub const TEXT: u64 = 256 << 10;
/// What cloud-init reads of the network.
const NETWORK: &str = "network-config";
/// What the makers of an image say of it.
const ISSUE: &str = "issue.txt";
/// Where the agent and what is its lie until the first boot, and where that waits while it is written.
const FOLDERS: [&str; 2] = ["bramble", "bramble.new"];
/// What the smallest kernel takes of a command line (`COMMAND_LINE_SIZE` of 32-bit ARM), less what the firmware adds; as the doctor has it.
const MOST_BYTES: usize = 1024 - 300;
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
    /// Those of them that are folders.
    pub folders: BTreeSet<String>,
    /// The text of those in [`READ`], by their names in lower case: FAT makes no difference.
    pub texts: BTreeMap<String, String>,
    /// Those in [`READ`] that are there and are no text, or too long for one.
    pub strange: BTreeSet<String>,
    /// What is free; `None`: not known.
    pub free_bytes: Option<u64>,
    /// What a file's length is rounded up to.
    pub cluster_bytes: u64,
    /// Whether somebody stopped half way through writing it.
    pub unfinished: bool,
}

impl Contents {
    /// A file of [`READ`] that is there; `None`: it is longer than [`TEXT`].
    pub fn take(&mut self, name: &str, bytes: Option<Vec<u8>>) {
        let name = name.to_ascii_lowercase();
        match bytes.map(String::from_utf8) {
            Some(Ok(text)) => {
                self.texts.insert(name, text);
            }
            _ => {
                self.strange.insert(name);
            }
        }
    }

    fn is_folder(&self, name: &str) -> bool {
        self.folders.iter().any(|held| held.eq_ignore_ascii_case(name))
    }

    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|held| held.eq_ignore_ascii_case(name))
    }

    fn has_file(&self, name: &str) -> bool {
        self.has(name) && !self.is_folder(name)
    }

    fn text(&self, name: &str) -> &str {
        self.texts.get(name).map_or("", String::as_str)
    }
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
    /// A folder where a file goes, or a file where a folder goes.
    #[error("{name} on its boot partition is a {}, and a {} of that name is to be written", sort(*.is_folder), sort(!*.is_folder))]
    InTheWay {
        /// Which.
        name: String,
        /// What it is.
        is_folder: bool,
    },
    /// Somebody's own file, which would be replaced and cannot be kept beside.
    #[error("{name} on its boot partition is no text, or longer than {} KiB", TEXT >> 10)]
    Strange {
        /// Which.
        name: String,
    },
    /// The partition is too full.
    #[error("its boot partition has room for {free_bytes} bytes, and {needed_bytes} are needed")]
    Full {
        /// Free.
        free_bytes: u64,
        /// Needed.
        needed_bytes: u64,
    },
}

fn sort(is_folder: bool) -> &'static str {
    if is_folder { "folder" } else { "file" }
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
    let has = |name: &str| contents.has_file(name);
    // Those that 64-bit images have too come last.
    let arm = ["kernel.img", "kernel7.img", "kernel7l.img"].iter().any(|name| has(name));
    let aarch64 = ["kernel8.img", "kernel_2712.img"].iter().any(|name| has(name));
    let by_cloud_init = ["user-data", "meta-data", NETWORK, BY_CLOUD_INIT].iter().any(|name| has(name));
    let wanted = [
        ("config.txt", has("config.txt")),
        (CMDLINE, has(CMDLINE)),
        ("kernel8.img or kernel7.img", arm || aarch64),
        // Other systems for the Pi have all of the above.
        ("issue.txt or user-data", has(ISSUE) || by_cloud_init),
    ];
    let missing: Vec<&str> = wanted.into_iter().filter(|(_, there)| !there).map(|(name, _)| name).collect();
    if !missing.is_empty() {
        return Err(Refusal::NotPi { missing });
    }
    let line = contents.texts.get(CMDLINE).ok_or("is no text file that can be read");
    line.and_then(|line| can_be_continued(line)).map_err(Refusal::CommandLine)?;
    let first_boot =
        if by_cloud_init { FirstBoot::CloudInit } else { FirstBoot::Script { mount: firstrun::mount(contents.text(ISSUE)) } };
    Ok(Image { machine: if arm { Machine::Arm } else { Machine::Aarch64 }, first_boot })
}

/// Whether words at the end of a command line are words for the kernel.
fn can_be_continued(text: &str) -> Result<(), &'static str> {
    let mut lines = text.lines().map(|line| line.trim_matches(is_blank)).filter(|line| !line.is_empty());
    // Without its root= the Pi would not start.
    let Some(line) = lines.next() else { return Err("is empty") };
    if lines.next().is_some() {
        return Err("has more than one line, of which the Pi reads the first");
    }
    if line.chars().any(|c| c.is_control() && c != '\t') {
        return Err("is no text file that can be read");
    }
    if line.matches('"').count() % 2 == 1 {
        return Err("has a quotation mark that is not closed");
    }
    if line.split_whitespace().any(|word| word == "--") {
        return Err("has a `--`: what comes behind it is not for the kernel");
    }
    Ok(())
}

/// What is written into an image. `instance` is another one each time: cloud-init takes a card with another for a machine that starts for the
/// first time.
///
/// # Errors
/// [`Refusal::Machine`], [`Refusal::CommandLine`], [`Refusal::InTheWay`], [`Refusal::Strange`], [`Refusal::Full`].
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
    let text = |name: &str| contents.text(name);
    let mut words: Vec<&str> = MEMORY.to_vec();
    let run = match image.first_boot {
        FirstBoot::CloudInit => {
            plan.add(&format!("bramble/{BY_CLOUD_INIT}"), "");
            let mut seed =
                vec![("user-data", cloud_init::user_data(settings)), ("meta-data", cloud_init::meta_data(settings, instance))];
            let network = match &settings.wifi {
                // Ours is of another time, and would join a network that nobody asks for: the image's own comes back.
                None if text(NETWORK).contains(MARK) => {
                    let own = text("network-config.old");
                    Some(if is_somebodys(own) { own.to_owned() } else { cloud_init::network_config(None) })
                }
                None => None,
                wifi => Some(cloud_init::network_config(wifi.as_ref())),
            };
            seed.extend(network.map(|network| (NETWORK, network)));
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
    if plan.cmdline.as_ref().is_some_and(|line| line.trim_end().len() > MOST_BYTES) {
        return Err(Refusal::CommandLine("is too long for the words that are to go to its end: the kernel would cut them off"));
    }
    nothing_in_the_way(contents, &plan)?;
    match contents.free_bytes {
        Some(free_bytes) if free_bytes < plan.needed(contents.cluster_bytes) => {
            Err(Refusal::Full { free_bytes, needed_bytes: plan.needed(contents.cluster_bytes) })
        }
        _ => Ok(plan),
    }
}

/// Whether each name that is written is free, or held by what may be replaced.
fn nothing_in_the_way(contents: &Contents, plan: &Plan) -> Result<(), Refusal> {
    if let Some(name) = plan.in_root().find(|name| contents.is_folder(name)) {
        return Err(Refusal::InTheWay { name: name.to_owned(), is_folder: true });
    }
    if let Some(name) = FOLDERS.into_iter().find(|name| contents.has_file(name)) {
        return Err(Refusal::InTheWay { name: name.to_owned(), is_folder: false });
    }
    if let Some(name) = plan.in_root().find(|name| contents.strange.contains(*name)) {
        return Err(Refusal::Strange { name: name.to_owned() });
    }
    Ok(())
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
