//! One emulated Pi: QEMU, its serial console, and its GPIO registers as they are seen from outside.
//!
//! The guest does what is written on its console (`init`), so nothing of the product knows of the test. What the pins do is read
//! through QEMU's monitor (QMP), from the registers of the emulated processor.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::guest::{self, Guest};
use super::trace::{Sample, Trace};
use crate::support::wait_until;

/// From QEMU's start to the guest's own words: 7 s on a quiet machine, and CI is none.
const BOOT: Duration = Duration::from_secs(180);
/// For one command on the console.
const COMMAND: Duration = Duration::from_secs(60);
/// How often the pins are looked at. The fastest thing to be seen lasts 100 ms.
const SAMPLING: Duration = Duration::from_millis(15);

/// Which Pi, and how it is started.
pub struct Setup {
    /// QEMU's name of the machine.
    pub machine: &'static str,
    /// The file of the device tree in the guest's folder; none: QEMU makes one.
    pub device_tree: Option<&'static str>,
    /// Where the GPIO registers are on it: BCM2835 and BCM2837 ARM Peripherals, chapter 6.
    pub gpio: u64,
    /// QEMU's options for a network, on which this machine is 10.0.2.2.
    pub network: &'static [&'static str],
    /// More words for the kernel.
    pub kernel: &'static str,
    /// The host's name.
    pub host: &'static str,
}

/// A Pi 3 Model B.
pub const PI_3B: Setup = Setup {
    machine: "raspi3b",
    device_tree: Some("bcm2837-rpi-3-b.dtb"),
    gpio: 0x3f20_0000,
    network: &["-netdev", "user,id=n0", "-device", "usb-net,netdev=n0"],
    kernel: "console=ttyAMA0,115200 iomem=relaxed",
    host: "pi-3b",
};

/// A Pi Zero W.
pub const PI_ZERO_W: Setup = Setup {
    machine: "raspi0",
    device_tree: Some("bcm2835-rpi-zero-w.dtb"),
    gpio: 0x2020_0000,
    kernel: "console=ttyAMA0,115200 earlycon=pl011,0x20201000 iomem=relaxed",
    host: "pi-zero",
    ..PI_3B
};

/// A machine that is no Pi, with the same processor.
pub const NO_PI: Setup = Setup {
    machine: "virt",
    device_tree: None,
    gpio: 0,
    network: &["-cpu", "cortex-a53", "-m", "512"],
    kernel: "console=ttyAMA0",
    host: "no-pi",
};

/// A running machine; killed when it is dropped.
pub struct Pi {
    qemu: Child,
    console: ChildStdin,
    said: Arc<Mutex<String>>,
    monitor: Option<Arc<Mutex<Monitor>>>,
    gpio: u64,
    /// What its pins did since it was started.
    pub trace: Trace,
    commands: u32,
    /// Its log of the agent, for a failure.
    logs: Vec<String>,
    folder: tempfile::TempDir,
    /// One machine at a time: two would be too slow for each other's LEDs.
    _turn: File,
}

impl Pi {
    /// Boots, with these files in the guest besides its own; returns when it takes commands.
    pub fn boot(setup: &Setup, guest: &Guest, files: &[guest::File]) -> Self {
        let turn = guest::turn();
        let folder = tempfile::Builder::new().prefix("bramble-pi-").tempdir().unwrap();
        let initrd = folder.path().join("initrd.gz");
        guest.with(files, &initrd);
        let socket = folder.path().join("qmp");
        let mut command = Command::new(guest.qemu());
        command.args(["-M", setup.machine, "-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot"]);
        command.arg("-kernel").arg(guest.file("kernel")).arg("-initrd").arg(&initrd);
        if let Some(tree) = setup.device_tree {
            command.arg("-dtb").arg(guest.file(tree));
        }
        let net = if setup.network.contains(&"-netdev") { "yes" } else { "no" };
        command
            .arg("-append")
            .arg(format!("{} quiet loglevel=2 panic=1 bramble.host={} bramble.net={net}", setup.kernel, setup.host));
        command.args(setup.network);
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", socket.display()));
        let from = Instant::now();
        let mut qemu = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        listen(qemu.stdout.take().unwrap(), &said);
        listen(qemu.stderr.take().unwrap(), &said);
        let console = qemu.stdin.take().unwrap();
        let trace = Trace::default();
        let mut pi = Self {
            qemu,
            console,
            said,
            monitor: None,
            gpio: setup.gpio,
            trace,
            commands: 0,
            logs: Vec::new(),
            folder,
            _turn: turn,
        };
        // The socket is there before QEMU answers on it.
        let monitor = wait_until("QEMU's monitor answers", Duration::from_secs(30), || Monitor::open(&socket));
        pi.monitor = Some(Arc::new(Mutex::new(monitor)));
        wait_until(&format!("{} has booted", setup.machine), BOOT, || {
            let said = pi.said.lock().unwrap().clone();
            if said.contains("[guest is up after") {
                return Ok(());
            }
            // A panic ends QEMU: why stands in what it said.
            if let Some(status) = pi.qemu.try_wait().unwrap() {
                panic!("QEMU ended ({status}):\n{said}");
            }
            Err(said)
        });
        println!("{}: takes commands {:.1} s after QEMU's start", setup.machine, from.elapsed().as_secs_f64());
        pi
    }

    /// From now on its pins are looked at.
    pub fn watch_pins(&mut self) {
        let (monitor, trace, gpio) = (Arc::clone(self.monitor.as_ref().unwrap()), self.trace.clone(), self.gpio);
        // It ends with QEMU, which answers no more.
        std::thread::spawn(move || {
            loop {
                let before = Instant::now();
                // GPLEV0: the level of pins 0 to 31.
                let Some(&[levels]) = monitor.lock().unwrap().words(gpio + 0x34, 1).as_deref() else { return };
                let took = before.elapsed();
                trace.push(Sample { at: before + took / 2, levels });
                std::thread::sleep(SAMPLING.saturating_sub(took));
            }
        });
    }

    /// GPFSEL0 to GPFSEL5: what each pin is, three bits a pin.
    pub fn functions(&self) -> [u32; 6] {
        let words = self.monitor.as_ref().unwrap().lock().unwrap().words(self.gpio, 6).expect("QEMU answers");
        words.try_into().unwrap()
    }

    /// Runs a command in the guest: its exit code and its words.
    pub fn run(&mut self, command: &str) -> (i32, String) {
        self.commands += 1;
        let number = self.commands;
        self.console.write_all(format!("{number} {command}\n").as_bytes()).unwrap();
        let (begin, end) = (format!("[{number} begin]\n"), format!("[{number} end "));
        wait_until(&format!("the guest has done {command:?}"), COMMAND, || {
            let said = self.said.lock().unwrap().clone();
            let answer = said.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
            let Some((words, rest)) = answer else {
                return Err(said.chars().rev().take(500).collect::<Vec<_>>().iter().rev().collect());
            };
            let Some((code, _)) = rest.split_once(']') else { return Err("half an answer".to_owned()) };
            Ok((code.parse().unwrap(), words.to_owned()))
        })
    }

    /// The words of a command that must go well.
    #[track_caller]
    pub fn good(&mut self, command: &str) -> String {
        let (code, words) = self.run(command);
        assert_eq!(code, 0, "{command}: {words}");
        words
    }

    /// Starts the agent as a daemon of the guest; gives its process number there. Its log is `/run/NAME.log`.
    pub fn start_agent(&mut self, name: &str, command: &str) -> u32 {
        let log = format!("/run/{name}.log");
        self.logs.push(log.clone());
        // `exec`, so that the process is the agent and no shell.
        let started = self.good(&format!("sh -c 'exec {command}' >{log} 2>&1 & echo $!"));
        started.trim().parse().unwrap_or_else(|error| panic!("{error}: {started}"))
    }

    /// What an agent has logged.
    pub fn log(&mut self, name: &str) -> String {
        self.good(&format!("cat /run/{name}.log"))
    }

    /// Waits until these words stand in an agent's log; gives all of it.
    #[track_caller]
    pub fn log_with(&mut self, name: &str, words: &str) -> String {
        wait_until(&format!("{words:?} in the log of {name}"), Duration::from_secs(90), || {
            let (code, _) = self.run(&format!("grep -qF '{words}' /run/{name}.log"));
            if code == 0 { Ok(()) } else { Err("the log stands below".to_owned()) }
        });
        self.log(name)
    }

    /// Ends a process in order, as systemd does; waits until it is gone. Gives the seconds that took.
    pub fn end(&mut self, process: u32) -> f64 {
        let from = Instant::now();
        self.good(&format!("kill -TERM {process}"));
        wait_until("the agent's end in the guest", Duration::from_secs(60), || {
            let (code, words) = self.run(&format!("[ ! -e /proc/{process} ] || grep -q '^State:.Z' /proc/{process}/status"));
            if code == 0 { Ok(()) } else { Err(format!("it lives {words}")) }
        });
        from.elapsed().as_secs_f64()
    }
}

impl Drop for Pi {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut told = String::new();
            for log in std::mem::take(&mut self.logs) {
                // By the same console, and without a wait that could panic.
                let _ = writeln!(self.console, "0 echo '── {log}'; tail -n 60 {log}");
                std::thread::sleep(Duration::from_secs(2));
                let _ = write!(told, " {log}");
            }
            eprintln!("── the serial console ({told} at its end)\n{}", self.said.lock().unwrap());
        }
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        // The monitor's socket lies there: it goes after QEMU.
        let _ = std::fs::remove_dir_all(self.folder.path());
    }
}

/// Collects what a stream says, with a line's end as Unix has it.
fn listen(mut stream: impl std::io::Read + Send + 'static, into: &Arc<Mutex<String>>) {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).replace('\r', "");
            into.lock().unwrap().push_str(&text);
        }
    });
}

/// QEMU's monitor: a line of JSON each way (QEMU Machine Protocol).
struct Monitor {
    lines: BufReader<UnixStream>,
}

impl Monitor {
    fn open(socket: &PathBuf) -> Result<Self, String> {
        let stream = UnixStream::connect(socket).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut monitor = Self { lines: BufReader::new(stream) };
        monitor.read().ok_or("no greeting")?;
        monitor.ask("qmp_capabilities", json!({})).ok_or("no capabilities")?;
        Ok(monitor)
    }

    fn read(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.lines.read_line(&mut line).ok().filter(|&length| length > 0)?;
        serde_json::from_str(&line).ok()
    }

    fn ask(&mut self, command: &str, arguments: Value) -> Option<Value> {
        let line = json!({"execute": command, "arguments": arguments}).to_string();
        self.lines.get_mut().write_all(format!("{line}\n").as_bytes()).ok()?;
        loop {
            // Events come in between.
            let answer = self.read()?;
            if let Some(answer) = answer.get("return") {
                return Some(answer.clone());
            }
            assert!(answer.get("error").is_none(), "{command}: {answer}");
        }
    }

    /// Words of the machine's physical memory. `None`: QEMU is gone.
    fn words(&mut self, address: u64, count: usize) -> Option<Vec<u32>> {
        let answer = self.ask("human-monitor-command", json!({"command-line": format!("xp /{count}wx {address:#x}")}))?;
        // `000000003f200034: 0x00020000`, four a line.
        let text = answer.as_str()?;
        let words: Vec<u32> =
            text.split_ascii_whitespace().filter_map(|word| u32::from_str_radix(word.strip_prefix("0x")?, 16).ok()).collect();
        assert_eq!(words.len(), count, "{text}");
        Some(words)
    }
}

/// The folder of this test's files.
pub fn here() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/emulated_pi"))
}
