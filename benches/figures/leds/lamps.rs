//! LEDs of the kernel's class that are files: the agent's own driver writes to them as to a Pi's, and each write is seen when it is done.
//!
//! The agent runs in a mount namespace of its own, whose `/sys/class/leds` they are; the files are in memory, as the kernel's are. That
//! needs root.

use std::fs;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use rustix::fs::inotify;

use crate::Setup;
use crate::alone::Alone;
use crate::cluster::Cluster;
use crate::process;

/// An agent that cannot start has ended by then, and one that can has its link.
const SETTLE: Duration = Duration::from_secs(5);

/// `/sys/class` with one class more; everything else in it stays, and only who is started here sees it.
const MOUNT: &str = r#"set -e
if [ ! -d /sys/class/leds ]; then
  mkdir -p "$0/class"
  mount --bind /sys/class "$0/class"
  mount -t tmpfs leds /sys/class
  for one in "$0"/class/*; do
    mkdir "/sys/class/${one##*/}"
    mount --bind "$one" "/sys/class/${one##*/}"
  done
  mkdir /sys/class/leds
fi
mount --bind "$0/leds" /sys/class/leds
exec "$@""#;

/// What an LED can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On and off, as a plain one on a pin.
    Plain,
    /// Any colour.
    Rgb,
}

/// What an LED was told to show: red, green, blue; a plain one is as bright as all three say.
pub type Light = [u8; 3];

/// All dark.
pub const DARK: Light = [0; 3];
/// What an LED of any colour shows of a pod that is ready, and no other.
pub const READY: Light = [0, 255, 0];

/// A driver's call.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// The number of the LED: pods have those from 1, the node 0.
    pub led: usize,
    /// What it shows.
    pub light: Light,
    /// When the driver had written it.
    pub at: SystemTime,
}

/// A board with such LEDs.
pub struct Lamps {
    folder: tempfile::TempDir,
    kinds: Vec<Kind>,
}

impl Lamps {
    /// One for the node, and these for pods, `pod-1`, `pod-2`, ….
    pub fn new(pods: impl IntoIterator<Item = Kind>) -> anyhow::Result<Self> {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = tempfile::Builder::new().prefix("bramble-leds-").tempdir_in(place)?;
        let kinds: Vec<Kind> = std::iter::once(Kind::Plain).chain(pods).collect();
        let lamps = Self { folder, kinds };
        let mut board = "format = 1\nkind = \"board\"\nname = \"figures\"\ntitle = \"LEDs of the kernel's class\"\n\
                         instance_type = \"figures\"\nmatch = []\ntarget = \"x86_64-unknown-linux-musl\"\nhot_celsius = 90.0\n\n\
                         [reserved]\ncpu_milli = 0\nmemory_mib = 0\n\n\
                         [simulated]\ncpus = 4\nmemory_mib = 4096\npull_milliseconds = 400\n"
            .to_owned();
        for (led, kind) in lamps.kinds.iter().enumerate() {
            let at = lamps.class().join(Self::name(led));
            fs::create_dir_all(&at)?;
            let mut files = vec![("trigger", "[none]\n"), ("max_brightness", "255\n"), ("brightness", "0\n")];
            if *kind == Kind::Rgb {
                files.extend([("multi_index", "red green blue\n"), ("multi_intensity", "0 0 0\n")]);
            }
            for (file, text) in files {
                fs::write(at.join(file), text)?;
            }
            let (colour, shows) = (if *kind == Kind::Rgb { "rgb" } else { "green" }, if led == 0 { "node" } else { "pod" });
            let name = Self::name(led);
            board.push_str(&format!(
                "\n[[led]]\nname = \"{name}\"\nclass = [\"{name}\"]\ncolour = \"{colour}\"\nshows = \"{shows}\"\n"
            ));
        }
        fs::write(lamps.board(), board)?;
        Ok(lamps)
    }

    /// As `bramble/led` names it.
    pub fn name(led: usize) -> String {
        if led == 0 { "node".to_owned() } else { format!("pod-{led}") }
    }

    /// The board's file.
    fn board(&self) -> PathBuf {
        self.folder.path().join("board.toml")
    }

    fn class(&self) -> PathBuf {
        self.folder.path().join("leds")
    }

    /// The agent of a cluster's only node, on this board; `more` lines of configuration, and what it logs.
    pub fn agent(&self, setup: &Setup, cluster: &Cluster, folder: &Path, more: &str, log: &str) -> anyhow::Result<Alone> {
        let written = fs::read_to_string(Alone::config(cluster))?;
        let board = format!("board = {:?}\n{more}", self.board().display().to_string());
        let config = written.replace("board = \"simulated\"\n", &board);
        anyhow::ensure!(config != written, "no board to replace in\n{written}");
        let file = folder.join("agent.toml");
        fs::write(&file, config)?;
        let program = Alone::vacate(setup, cluster, folder)?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", MOUNT]).arg(self.folder.path()).arg(program).args(["agent", "--config"]).arg(file);
        let agent = Alone::spawn(command.env("BRAMBLE_LOG", log), folder)?;
        cluster.wait_nodes(1)?;
        // The one before may still count as ready.
        std::thread::sleep(SETTLE);
        let lives = process::lives(agent.pid());
        anyhow::ensure!(lives, "an agent on LEDs that are files, which needs root, ended:\n{}", Alone::log(folder));
        Ok(agent)
    }

    /// What the driver is told from now on.
    pub fn watch(&self) -> anyhow::Result<mpsc::Receiver<Shown>> {
        let watcher = inotify::init(inotify::CreateFlags::CLOEXEC)?;
        let mut lamps = Vec::new();
        for led in 0..self.kinds.len() {
            let folder = self.class().join(Self::name(led));
            // Written last, of an LED of any colour too.
            let watch = inotify::add_watch(&watcher, folder.join("brightness"), inotify::WatchFlags::CLOSE_WRITE)?;
            lamps.push((watch, led, folder));
        }
        let (send, shown) = mpsc::channel();
        // It ends with what the agent's end writes, or with this program.
        std::thread::spawn(move || {
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(watcher, &mut buffer);
            while let Ok(event) = events.next() {
                let at = SystemTime::now();
                let Some((_, led, folder)) = lamps.iter().find(|(watch, ..)| *watch == event.wd()) else { continue };
                let Some(light) = reads(folder) else { continue };
                if send.send(Shown { led: *led, light, at }).is_err() {
                    return;
                }
            }
        });
        Ok(shown)
    }
}

/// What an LED's files say.
fn reads(folder: &Path) -> Option<Light> {
    let number = |text: &str| text.trim().parse::<u8>().ok();
    let level = number(&fs::read_to_string(folder.join("brightness")).ok()?)?;
    let Ok(colours) = fs::read_to_string(folder.join("multi_intensity")) else { return Some([level; 3]) };
    let mut parts = colours.split_whitespace().map(number);
    let light = [parts.next()??, parts.next()??, parts.next()??];
    Some(if level == 0 { DARK } else { light })
}
