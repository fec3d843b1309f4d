//! Emulated machines that start from what `bramble flash` wrote, and join a master on this one.
//!
//! QEMU has no Raspberry Pi firmware: kernel, first file system and command line are taken out of the image's boot partition, as the firmware
//! would, and given to QEMU's machine `virt`. From there on all is the image's own: systemd, cloud-init, the scripts, the agent.
//!
//! The image is Debian for arm64 (`rootfs.sh`, `image.sh`), kept in the user's cache: it takes minutes to make. Of Raspberry Pi OS it has
//! the boot partition's form, cloud-init with its data source, and nothing of `userconf-pi`, NetworkManager or `raspi-config`.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::fixture::{self, START};
use super::home::Home;
use super::shipped;
use super::support::{skipped, wait_until};

/// From QEMU's start to a node in the cluster: a minute on a quiet machine; this runs beside other tests, on what they leave.
const BOOT: Duration = Duration::from_secs(1800);
/// A first boot that ends with a restart, or a machine that is told to end.
const END: Duration = Duration::from_secs(1200);

fn here() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/flash"))
}

/// The image, made once a machine; it is copied, never changed. The lock keeps one test at a time here: two machines share two cores badly.
fn image(kind: &str) -> (PathBuf, std::fs::File) {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"), PathBuf::from);
    let cache = cache.join("bramble/flash");
    std::fs::create_dir_all(&cache).unwrap();
    let turn = std::fs::File::create(cache.join("lock")).unwrap();
    turn.lock().unwrap();
    let hash = |names: &[&str]| {
        let mut hasher = DefaultHasher::new();
        for name in names {
            std::fs::read(here().join(name)).unwrap().hash(&mut hasher);
        }
        format!("{:016x}", hasher.finish())
    };
    let rootfs = cache.join(format!("rootfs-{}", hash(&["rootfs.sh"])));
    if !rootfs.join("busybox.deb").exists() {
        println!("makes the root file system in {}: some minutes, once", rootfs.display());
        fixture::tool(here().join("rootfs.sh").to_str().unwrap(), &[rootfs.to_str().unwrap()]);
    }
    let image = cache.join(format!("{kind}-{}.img", hash(&["rootfs.sh", "image.sh", "init", "raspberry-pi.cfg"])));
    if !image.exists() {
        let part = cache.join(format!("{kind}.part"));
        fixture::tool(here().join("image.sh").to_str().unwrap(), &[rootfs.to_str().unwrap(), part.to_str().unwrap(), kind]);
        std::fs::rename(part, &image).unwrap();
    }
    (image, turn)
}

/// Where the second partition begins, in bytes.
fn root_start(image: &Path) -> u64 {
    use std::io::Read as _;
    let mut sector = [0; 512];
    std::fs::File::open(image).unwrap().read_exact(&mut sector).unwrap();
    u64::from(u32::from_le_bytes(sector[470..474].try_into().unwrap())) * 512
}

/// Runs commands of debugfs on the root file system of an image.
fn debugfs(image: &Path, commands: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), commands).unwrap();
    fixture::tool(
        "debugfs",
        &["-w", "-f", file.path().to_str().unwrap(), &format!("{}?offset={}", image.display(), root_start(image))],
    )
}

fn expect_sound(image: &Path) {
    fixture::tool("e2fsck", &["-fn", &format!("{}?offset={}", image.display(), root_start(image))]);
}

/// A master, and a folder with what a person has at hand.
struct Desk {
    home: Home,
    dir: tempfile::TempDir,
    /// The name by which nodes reach this machine; it stands in the master's certificate.
    name: String,
}

impl Desk {
    fn new() -> Self {
        let home = Home::new();
        let dir = tempfile::Builder::new().prefix("bramble-desk-").tempdir().unwrap();
        let uid = std::fs::read_to_string(home.dir.path().join("master/cluster-uid")).unwrap();
        let desk = Self { home, dir, name: format!("bramble-{}.local", uid.trim()) };
        fixture::tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", desk.path("key").to_str().unwrap()]);
        let text = std::fs::read_to_string(desk.home.dir.path().join("master/master.toml")).unwrap();
        let config: toml::Table = text.parse().unwrap();
        let port = config["mqtt"]["listen"].as_str().unwrap().rsplit_once(':').unwrap().1;
        // The containers are a model: there is no Docker in the image.
        let more = format!(
            "runtime = \"simulated\"\n[join]\nmaster = \"https://{}:{}\"\n[mqtt]\nbroker = \"mqtts://{}:{port}\"\n",
            desk.name, desk.home.api, desk.name
        );
        std::fs::write(desk.path("more.toml"), more).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A copy of the image whose system knows the name of this machine: in a home the router or mDNS does.
    fn copy(&self, image: &Path, name: &str) -> PathBuf {
        let copy = self.path(name);
        fixture::tool("cp", &["--sparse=always", image.to_str().unwrap(), copy.to_str().unwrap()]);
        let hosts = format!("127.0.0.1 localhost\n10.0.2.2 {}\n", self.name);
        std::fs::write(self.path("hosts"), &hosts).unwrap();
        std::fs::write(self.path("template"), format!("## template:jinja\n127.0.1.1 {{{{hostname}}}}\n{hosts}")).unwrap();
        let (hosts, template) = (self.path("hosts"), self.path("template"));
        debugfs(
            &copy,
            &format!(
                "rm /etc/hosts\nwrite {} /etc/hosts\nrm /etc/cloud/templates/hosts.debian.tmpl\nwrite {} /etc/cloud/templates/hosts.debian.tmpl\n",
                hosts.display(),
                template.display()
            ),
        );
        copy
    }

    fn flash(&self, arguments: &[&str]) -> String {
        let key = self.path("key.pub");
        let more = self.path("more.toml");
        let common = ["--user", "anna", "--ssh-key", key.to_str().unwrap(), "--config", more.to_str().unwrap(), "--agent"];
        let agent = shipped::built("rpi-4b").display().to_string();
        fixture::tool(env!("CARGO_BIN_EXE_bramble"), &[&["flash"], arguments, &common[..], &[&agent]].concat())
    }

    fn nodes(&self) -> Vec<Value> {
        let said = self.home.bramble(&["node", "list", "-o", "json"]).good();
        serde_json::from_str::<Value>(&said).unwrap().as_array().unwrap().clone()
    }

    /// Waits until each of these nodes has this status; says how the machines are if not.
    fn wait(&self, names: &[&str], status: &str, machines: &mut [Machine]) -> Vec<Value> {
        let from = Instant::now();
        let found = wait_until(&format!("{names:?} are {status}"), BOOT, || {
            for machine in machines.iter_mut() {
                machine.expect_running();
            }
            let nodes = self.nodes();
            let found: Vec<Value> = names
                .iter()
                .filter_map(|name| nodes.iter().find(|node| node["name"] == *name && node["status"] == status).cloned())
                .collect();
            if found.len() == names.len() { Ok(found) } else { Err(format!("{nodes:?}")) }
        });
        println!("{names:?}: {status} after {:.0} s", from.elapsed().as_secs_f64());
        found
    }
}

/// A running machine; killed when it is dropped.
struct Machine {
    qemu: Child,
    console: PathBuf,
    ssh: u16,
    key: PathBuf,
    _folder: tempfile::TempDir,
}

impl Machine {
    /// Starts what is on the image.
    fn start(desk: &Desk, image: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("bramble-boot-").tempdir().unwrap();
        for name in ["kernel8.img", "initramfs8"] {
            std::fs::write(folder.path().join(name), fixture::get(image, name).unwrap()).unwrap();
        }
        let line = fixture::text(image, "cmdline.txt");
        assert_eq!(line.lines().count(), 1, "{line}");
        let ssh = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let console = folder.path().join("console");
        let mut command = Command::new("qemu-system-aarch64");
        command.args([
            "-M",
            "virt",
            "-cpu",
            "cortex-a53",
            "-smp",
            "2",
            "-m",
            "768",
            "-display",
            "none",
            "-monitor",
            "none",
            "-no-reboot",
        ]);
        command.arg("-kernel").arg(folder.path().join("kernel8.img")).arg("-initrd").arg(folder.path().join("initramfs8"));
        command.arg("-append").arg(line.trim_end().replace("ttyAMA0,115200", "ttyAMA0"));
        command.arg("-drive").arg(format!("if=none,id=card,format=raw,file={}", image.display()));
        command.args([
            "-device",
            "virtio-blk-device,drive=card",
            "-device",
            "virtio-rng-device",
            "-device",
            "virtio-net-device,netdev=net",
        ]);
        command.arg("-netdev").arg(format!("user,id=net,hostfwd=tcp:127.0.0.1:{ssh}-:22"));
        command.arg("-serial").arg(format!("file:{}", console.display()));
        let qemu = command.stdin(Stdio::null()).spawn().expect("Debian's qemu-system-arm");
        Self { qemu, console, ssh, key: desk.path("key"), _folder: folder }
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    fn expect_running(&mut self) {
        let status = self.qemu.try_wait().unwrap();
        assert!(status.is_none(), "QEMU ended: {status:?}\n{}", self.said());
    }

    /// What a command says there, as the person who was put onto the card.
    fn ssh(&self, command: &str) -> String {
        let port = self.ssh.to_string();
        let key = self.key.to_str().unwrap();
        let options = [
            "-i",
            key,
            "-p",
            &port,
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "BatchMode=yes",
            "-o",
            "LogLevel=ERROR",
            "-o",
            "ConnectTimeout=300",
        ];
        wait_until(&format!("ssh does {command:?}"), END, || {
            let output = fixture::said("ssh", &[&options[..], &["anna@127.0.0.1", command]].concat());
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            // 255 is ssh's own: nobody answers yet.
            if output.status.code() == Some(255) {
                Err(text(&output.stderr))
            } else {
                Ok(text(&output.stdout) + &text(&output.stderr))
            }
        })
    }

    /// cloud-init has done all of it, and has nothing to say against what was flashed, nor against that with the image's own settings.
    fn expect_cloud_init_content(&self) {
        assert!(self.ssh("cloud-init status --wait").contains("status: done"), "{}", self.said());
        // Its checker, and who puts the settings together.
        let faults = self.ssh("sudo grep -E '(schema|cloud_config)\\.py.(WARNING|ERROR)' /var/log/cloud-init.log");
        assert_eq!(faults, "");
        assert!(!self.said().contains("Invalid cloud-config"), "{}", self.said());
        let told = self.ssh("sudo cloud-init schema --system");
        assert!(told.contains("Valid cloud-config"), "{told}");
    }

    /// Waits until it ends by itself.
    fn wait_end(mut self) {
        wait_until("the machine's end", END, || {
            let ended = self.qemu.try_wait().unwrap();
            ended.map(|_| ()).ok_or_else(|| self.said().lines().rev().take(5).collect::<Vec<_>>().join("\n"))
        });
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        if std::thread::panicking() {
            eprintln!("── console\n{}", self.said());
        }
    }
}

#[test]
fn a_card_with_a_certificate_is_a_node_from_its_first_start_and_after_the_next() {
    if skipped("flash") {
        return;
    }
    let (image, _turn) = image("cloud-init");
    let desk = Desk::new();
    let card = desk.copy(&image, "card.img");
    let data = desk.home.dir.path().join("master").display().to_string();
    let said = desk.flash(&[card.to_str().unwrap(), "--name", "shed", "--add", "--data-dir", &data]);
    assert!(said.contains("it is in the cluster from its first start"), "{said}");
    let mut machines = [Machine::start(&desk, &card)];
    desk.wait(&["shed"], "Ready", &mut machines);
    let [machine] = machines;
    // As anna, by her key; what root has is asked by sudo, without a password.
    assert_eq!(
        machine.ssh("hostname; id -un; sudo id -un; sudo cat /etc/bramble/agent.toml | grep ^node"),
        "shed\nanna\nroot\nnode = \"shed\"\n"
    );
    assert_eq!(machine.ssh("systemctl is-enabled bramble-agent; systemctl is-active bramble-agent"), "enabled\nactive\n");
    let modes = machine.ssh("sudo stat -c '%a %U %n' /usr/local/bin/bramble /etc/bramble/agent.toml /var/lib/bramble-agent /var/lib/bramble-agent/pki/node.key");
    assert_eq!(
        modes,
        "755 root /usr/local/bin/bramble\n600 root /etc/bramble/agent.toml\n700 root /var/lib/bramble-agent\n600 root /var/lib/bramble-agent/pki/node.key\n"
    );
    let left = machine.ssh("cloud-init status --wait | grep status; ls /boot/firmware; cat /boot/firmware/user-data; sudo passwd -S anna | cut -d' ' -f2");
    assert!(
        !left.lines().any(|line| line == "bramble" || line.contains("anna"))
            && left.contains("#cloud-config")
            && left.contains("status: done"),
        "{left}"
    );
    assert!(left.ends_with("L\n"), "no password lets anybody in: {left}");
    machine.expect_cloud_init_content();
    machine.ssh("sudo systemctl poweroff");
    machine.wait_end();
    expect_sound(&card);
    let bytes = std::fs::read(&card).unwrap();
    let boot = &bytes[usize::try_from(START).unwrap()..usize::try_from(root_start(&card)).unwrap()];
    assert!(
        !boot.windows(27).any(|part| part == b"-----BEGIN PRIVATE KEY-----"),
        "the key is not in the boot partition's free space either"
    );

    // Started again, it is the same node, and its person is still there.
    wait_until("the master sees it go", BOOT, || {
        if desk.nodes()[0]["status"] == "Ready" { Err(format!("{:?}", desk.nodes())) } else { Ok(()) }
    });
    let mut machines = [Machine::start(&desk, &card)];
    desk.wait(&["shed"], "Ready", &mut machines);
    assert_eq!(machines[0].ssh("hostname; id -un"), "shed\nanna\n");
    machines[0].expect_cloud_init_content();
}

#[test]
fn one_image_flashed_twice_is_two_nodes_that_a_person_lets_in() {
    if skipped("flash") {
        return;
    }
    let (image, _turn) = image("cloud-init");
    let desk = Desk::new();
    let prepared = desk.copy(&image, "pios.img");
    let output = desk.path("pi-{n}.img");
    let said =
        desk.flash(&[prepared.to_str().unwrap(), "--output", output.to_str().unwrap(), "--name", "pi-{n}", "--count", "2"]);
    assert!(said.contains("it waits for a person to let it in"), "{said}");
    let mut machines = [Machine::start(&desk, &desk.path("pi-1.img")), Machine::start(&desk, &desk.path("pi-2.img"))];
    let waiting = desk.wait(&["pi-1", "pi-2"], "Waiting", &mut machines);
    assert_ne!(waiting[0]["key"], waiting[1]["key"], "each made a key of its own: {waiting:?}");
    assert_ne!(waiting[0]["serial"], waiting[1]["serial"], "and is a board of its own: {waiting:?}");
    for name in ["pi-1", "pi-2"] {
        desk.home.bramble(&["node", "approve", name]).good();
    }
    desk.wait(&["pi-1", "pi-2"], "Ready", &mut machines);
}

#[test]
fn a_card_without_cloud_init_sets_itself_up_starts_anew_and_joins_by_its_token() {
    if skipped("flash") {
        return;
    }
    let (image, _turn) = image("firstrun");
    let desk = Desk::new();
    let card = desk.copy(&image, "card.img");
    let token = desk.home.token(&[]);
    desk.flash(&[card.to_str().unwrap(), "--name", "attic", "--token", &token]);
    assert!(fixture::text(&card, "cmdline.txt").contains("systemd.run=/boot/firmware/firstrun.sh"));
    Machine::start(&desk, &card).wait_end();
    assert!(!fixture::text(&card, "cmdline.txt").contains("systemd."), "{}", fixture::text(&card, "cmdline.txt"));
    assert_eq!(fixture::get(&card, "bramble-failed.txt"), None);
    assert!(fixture::get(&card, "firstrun.sh").is_none() && fixture::get(&card, "bramble/agent.toml").is_none());
    let read = |path: &str| debugfs(&card, &format!("cat {path}\n"));
    assert!(read("/etc/hostname").contains("attic"), "{}", read("/etc/hostname"));
    assert!(read("/etc/passwd").contains("\nanna:x:"), "{}", read("/etc/passwd"));
    assert!(read("/etc/shadow").contains("anna:*:"), "nobody gets in by a password");
    assert!(read("/home/anna/.ssh/authorized_keys").contains(std::fs::read_to_string(desk.path("key.pub")).unwrap().trim()));
    assert!(read("/etc/group").lines().any(|line| line.starts_with("sudo:") && line.ends_with("anna")), "{}", read("/etc/group"));
    expect_sound(&card);
    let mut machines = [Machine::start(&desk, &card)];
    desk.wait(&["attic"], "Ready", &mut machines);
}
