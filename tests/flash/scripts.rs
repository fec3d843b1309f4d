//! The scripts of a first boot, run for real in a root of their own: busybox, and stand-ins that write down what the system was told.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::fixture;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl anna\n";
const HASH: &str = "$6$salt$abcdefgh";
const PSK: &str = "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e";
/// What the scripts use of busybox.
const APPLETS: &str = "cp chmod chown mv rm mkdir cat grep sed dirname find shred dd yes head wc cmp cut touch ls sync";
/// The identity on the card; the agent writes its board into `serial`.
const JOINED: &str = "{\n  \"serial\": \"\",\n  \"node\": \"shed\",\n  \"cluster\": \"SECRET\",\n  \"cluster_uid\": \"uid-1\",\n  \"broker\": \"mqtts://pi:8883\"\n}";
/// What is not in it, or must not be done here.
const STAND_INS: &str = "systemctl useradd usermod chpasswd getent rfkill raspi-config";

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_bramble"))
}

/// A root with a boot partition that `bramble flash` has filled.
struct Root {
    folder: tempfile::TempDir,
}

impl Root {
    fn new(with_seed: bool) -> Self {
        let folder = tempfile::Builder::new().prefix("bramble-root-").tempdir().unwrap();
        let root = Self { folder };
        let fresh = [
            ("etc/hostname", "raspberrypi\n"),
            ("etc/hosts", "127.0.0.1\tlocalhost\n127.0.1.1\traspberrypi\n::1\tlocalhost\n"),
            ("etc/NetworkManager/NetworkManager.conf", ""),
            ("etc/netplan/50-cloud-init.yaml", ""),
            ("var/lib/systemd/rfkill/platform-fe300000.mmcnr:wlan", "1"),
            ("dev/null", ""),
            ("tmp/commands", ""),
            ("boot/firmware/config.txt", "arm_64bit=1\n"),
            ("boot/firmware/issue.txt", "Raspberry Pi reference 2024-11-19\n"),
            ("boot/firmware/kernel8.img", "a kernel\n"),
            ("boot/firmware/cmdline.txt", fixture::LINE),
        ];
        let seed = [
            ("boot/firmware/user-data", "#cloud-config\n"),
            ("boot/firmware/meta-data", ""),
            ("boot/firmware/network-config", ""),
        ];
        for (path, text) in fresh.iter().chain(if with_seed { &seed[..] } else { &[] }) {
            root.write(path, text);
        }
        std::fs::create_dir_all(root.path("bin")).unwrap();
        std::fs::create_dir_all(root.path("cut")).unwrap();
        std::fs::copy("/bin/busybox", root.path("bin/busybox")).expect("Debian's busybox-static");
        // Debian's own shell: busybox' one would run its commands within itself, uncounted.
        std::fs::copy("/bin/dash", root.path("bin/sh")).unwrap();
        for library in fixture::tool("ldd", &["/bin/dash"]).split_whitespace().filter(|word| word.starts_with('/')) {
            let to = root.path(library.trim_start_matches('/'));
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(library, to).unwrap();
        }
        // Each command is counted, and before the one that was named the power goes: the whole group of processes ends at once.
        // A byte each, since in a pipe several count at once.
        let counted = "#!/bin/busybox sh\nprintf x >> /tmp/commands\n\
             [ \"$CUT\" -gt 0 ] && [ \"$(/bin/busybox wc -c < /tmp/commands)\" -ge \"$CUT\" ] && kill -9 0\n";
        for name in APPLETS.split(' ') {
            root.program(&format!("cut/{name}"), &format!("{counted}exec /bin/busybox {name} \"$@\"\n"));
        }
        let known = "case \"$1 $2\" in 'group sudo'|'group gpio') echo \"$2:x:27:\";; 'passwd anna') [ -d /home/anna ] && echo 'anna:x:1000:1000::/home/anna:/bin/bash';; *) exit 2;; esac\n";
        for name in STAND_INS.split(' ') {
            let more = match name {
                "useradd" => "/bin/busybox mkdir -p /home/anna\n",
                "getent" => known,
                "chpasswd" => "/bin/busybox cat > /etc/shadow.stand-in\n",
                _ => "",
            };
            let fails = format!("[ ! -e /tmp/fails/{name} ] || exit 1\n");
            root.program(&format!("cut/{name}"), &format!("{counted}{fails}echo \"{name} $*\" >> /tmp/told\n{more}"));
        }
        root.program("cut/id", &format!("{counted}[ -d /home/\"$1\" ]\n"));
        root.program("cut/chown", &format!("{counted}echo \"chown $*\" >> /tmp/told\n"));
        root
    }

    /// One without cloud-init, flashed; FAT lets every file be run.
    fn with_first_run() -> Self {
        let root = Self::new(false);
        root.flash();
        std::fs::set_permissions(root.path("boot/firmware/firstrun.sh"), PermissionsExt::from_mode(0o755)).unwrap();
        root
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn program(&self, path: &str, text: &str) {
        self.write(path, text);
        std::fs::set_permissions(self.path(path), PermissionsExt::from_mode(0o755)).unwrap();
    }

    #[track_caller]
    fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn mode(&self, path: &str) -> u32 {
        self.path(path).metadata().unwrap_or_else(|error| panic!("{path}: {error}")).permissions().mode() & 0o7777
    }

    /// `bramble flash` onto the boot partition, as if it were mounted here.
    fn flash(&self) {
        self.flash_as("shed", Some(JOINED));
    }

    /// The same for another node; without an identity it joins by itself.
    fn flash_as(&self, node: &str, joined: Option<&str>) {
        let inputs = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = inputs.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, bytes).unwrap();
            path.display().to_string()
        };
        let agent = file("agent", &fixture::program(2, 183, 5000));
        let (key, wifi) = (file("key.pub", KEY.as_bytes()), file("wifi", b"password\n"));
        file("node/agent.toml", format!("node = \"{node}\"\n").as_bytes());
        file("node/bramble-agent/join.json", joined.unwrap_or_default().as_bytes());
        for name in ["pki/ca.crt", "pki/node.crt", "pki/node.key"] {
            file(&format!("node/bramble-agent/{name}"), format!("SECRET of {name}\n").as_bytes());
        }
        let folder = inputs.path().join("node").display().to_string();
        let boot = self.path("boot/firmware").display().to_string();
        let mut arguments = vec![
            "flash",
            &boot,
            "--name",
            node,
            "--agent",
            &agent,
            "--user",
            "anna",
            "--ssh-key",
            &key,
            "--password-hash",
            HASH,
            "--wifi",
            "IEEE",
            "--wifi-passphrase-file",
            &wifi,
            "--wifi-country",
            "DE",
        ];
        if joined.is_some() {
            arguments.extend(["--node-dir", &folder]);
        }
        fixture::tool(program().to_str().unwrap(), &arguments);
    }

    /// Runs a script in here; before the command with this number the power goes. Whether it came to its end.
    fn run(&self, script: &[&str], cut: Option<u32>) -> bool {
        self.write("tmp/commands", "");
        let mut command = Command::new("chroot");
        command
            .arg(self.folder.path())
            .args(script)
            .env_clear()
            .env("PATH", "/cut:/bin:/usr/sbin:/usr/bin:/sbin")
            .stdin(Stdio::null());
        command.env("CUT", cut.unwrap_or_default().to_string()).process_group(0);
        let output = command.output().unwrap();
        let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if cut.is_none() {
            assert!(output.status.success(), "{script:?}: {}: {told}", output.status);
        }
        output.status.success()
    }

    /// What every first boot ends with.
    fn expect_installed(&self, of: &str) {
        let there = |path: &str| self.path(path).exists();
        assert_eq!((self.mode("usr/local/bin/bramble"), self.mode("etc/bramble/agent.toml")), (0o755, 0o600), "{of}");
        assert_eq!(std::fs::read(self.path("usr/local/bin/bramble")).unwrap(), fixture::program(2, 183, 5000), "{of}");
        assert!(self.text("etc/bramble/agent.toml").contains("node = \"shed\""), "{of}");
        assert!(self.text("etc/systemd/system/bramble-agent.service").contains("ExecStart=/usr/local/bin/bramble agent"), "{of}");
        let data = "var/lib/bramble-agent";
        assert_eq!(self.text(&format!("{data}/join.json")), JOINED, "{of}");
        for name in ["pki/ca.crt", "pki/node.crt", "pki/node.key"] {
            assert_eq!(self.text(&format!("{data}/{name}")), format!("SECRET of {name}\n"), "{of}");
        }
        assert_eq!(
            (self.mode(data), self.mode(&format!("{data}/pki")), self.mode(&format!("{data}/pki/node.key"))),
            (0o700, 0o700, 0o600),
            "{of}"
        );
        assert_eq!(self.mode("etc/netplan/50-cloud-init.yaml"), 0o600, "{of}");
        assert!(self.text("tmp/told").contains("systemctl enable bramble-agent.service"), "{of}");
        // Nothing secret is left where anybody who takes the card out can read it.
        assert!(!there("boot/firmware/bramble") && !there("boot/firmware/bramble-failed.txt"), "{of}");
        let left =
            Command::new("grep").args(["-rlE", &format!("SECRET|abcdefgh|{PSK}")]).arg(self.path("boot")).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&left.stdout), "", "{of}");
    }

    fn expect_first_run(&self, of: &str) {
        self.expect_installed(of);
        assert_eq!(
            self.text("boot/firmware/cmdline.txt"),
            format!("{} cgroup_memory=1 cgroup_enable=memory\n", fixture::LINE.trim_end()),
            "{of}"
        );
        assert!(!self.path("boot/firmware/firstrun.sh").exists(), "{of}");
        assert_eq!(self.text("etc/hostname"), "shed\n", "{of}");
        assert_eq!(self.text("etc/hosts"), "127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\tshed\n", "{of}");
        assert_eq!(self.text("etc/shadow.stand-in"), format!("anna:{HASH}\n"), "{of}");
        assert_eq!(self.text("home/anna/.ssh/authorized_keys"), KEY, "{of}");
        assert_eq!((self.mode("home/anna/.ssh"), self.mode("home/anna/.ssh/authorized_keys")), (0o700, 0o600), "{of}");
        assert_eq!(
            (self.text("etc/sudoers.d/010_bramble"), self.mode("etc/sudoers.d/010_bramble")),
            ("anna ALL=(ALL) NOPASSWD: ALL\n".to_owned(), 0o440),
            "{of}"
        );
        let wifi = "etc/NetworkManager/system-connections/bramble.nmconnection";
        assert!(self.text(wifi).contains(&format!("psk={PSK}")) && self.mode(wifi) == 0o600, "{of}");
        assert_eq!(self.text("var/lib/systemd/rfkill/platform-fe300000.mmcnr:wlan"), "0\n", "{of}");
        let told = self.text("tmp/told");
        for line in [
            "systemctl enable ssh.service",
            "usermod -a -G sudo anna",
            "usermod -a -G gpio anna",
            "rfkill unblock wifi",
            "raspi-config nonint do_wifi_country DE",
        ] {
            assert!(told.contains(line), "{of}: {line} in {told}");
        }
        assert!(!told.contains("-G adm") && !told.contains("systemctl start"), "{of}: {told}");
    }
}

const FIRST_RUN: &[&str] = &["/boot/firmware/firstrun.sh"];
const BY_CLOUD_INIT: &[&str] =
    &["/bin/sh", "-c", "[ ! -f /boot/firmware/bramble/install.sh ] || sh /boot/firmware/bramble/install.sh /boot/firmware start"];

#[test]
fn the_first_boot_without_cloud_init_does_all_of_it_and_takes_what_is_secret_away() {
    let root = Root::with_first_run();
    assert!(root.text("boot/firmware/cmdline.txt").contains("systemd.run=/boot/firmware/firstrun.sh"));
    root.run(FIRST_RUN, None);
    root.expect_first_run("in one go");
    let commands = root.text("tmp/commands").len();
    println!("{commands} commands");
    assert!(commands > 40);
}

#[test]
fn power_that_goes_before_any_command_of_the_first_boot_is_made_up_for_by_the_next() {
    let mut cut = 0;
    loop {
        cut += 1;
        let root = Root::with_first_run();
        if root.run(FIRST_RUN, Some(cut)) {
            break;
        }
        // systemd starts it again as long as the command line says so.
        if root.text("boot/firmware/cmdline.txt").contains("systemd.run") {
            root.run(FIRST_RUN, None);
        }
        let _ = std::fs::remove_file(root.path("boot/firmware/firstrun.sh"));
        root.expect_first_run(&format!("cut before command {cut}"));
    }
    println!("cut before each of {cut} commands");
    assert!(cut > 40, "{cut}");
}

#[test]
fn what_cloud_init_starts_is_cut_short_and_made_up_for_too_and_its_seed_stays_a_seed() {
    let mut cut = 0;
    loop {
        cut += 1;
        let root = Root::new(true);
        root.flash();
        let length = |name: &str| root.path(&format!("boot/firmware/{name}")).metadata().unwrap().len();
        let before = (length("user-data"), length("network-config"));
        let meta_data = root.text("boot/firmware/meta-data");
        let done = root.run(BY_CLOUD_INIT, Some(cut));
        root.run(BY_CLOUD_INIT, None);
        let of = format!("cut before command {cut}");
        root.expect_installed(&of);
        assert_eq!((length("user-data"), length("network-config")), before, "{of}");
        assert_eq!(root.text("boot/firmware/meta-data"), meta_data, "{of}: the same machine as before");
        let seed = root.text("boot/firmware/user-data");
        let says = |text: &str| text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect::<String>();
        assert!(seed.starts_with("#cloud-config\n") && says(&seed) == "{}", "{of}: {seed}");
        assert_eq!(says(&root.text("boot/firmware/network-config")), "", "{of}");
        if done {
            assert_eq!(fixture::invalid_for_cloud_init(&seed), None);
        }
        let told = root.text("tmp/told");
        assert!(!told.contains("useradd"), "{of}: the person is cloud-init's to make");
        if done {
            assert!(told.contains("systemctl start --no-block bramble-agent.service"), "{told}");
            break;
        }
    }
    println!("cut before each of {cut} commands");
    assert!(cut > 30, "{cut}");
}

/// What the agent makes of its identity at its first start, and a pod of its data directory.
fn starts(root: &Root, joined: &str) {
    root.write("var/lib/bramble-agent/join.json", &joined.replace("\"serial\": \"\"", "\"serial\": \"100000003d1d1c36\""));
    root.write("var/lib/bramble-agent/volumes/photos/1", "a photo\n");
}

#[test]
fn a_node_that_is_flashed_again_after_it_ran_keeps_its_data() {
    let root = Root::new(true);
    root.flash();
    root.run(BY_CLOUD_INIT, None);
    for _ in 0..2 {
        starts(&root, JOINED);
        root.flash();
        root.run(BY_CLOUD_INIT, None);
        root.expect_installed("again");
        assert_eq!(root.text("var/lib/bramble-agent/volumes/photos/1"), "a photo\n");
        assert!(!root.path("var/lib/bramble-agent.old").exists());
    }
}

#[test]
fn the_data_of_another_node_or_cluster_is_set_aside_each_time_and_never_removed() {
    let root = Root::new(true);
    let others = [("\"shed\"", "\"attic\""), ("uid-1", "uid-2"), (JOINED, "of nobody\n")];
    for ((from, to), aside) in others.iter().zip(["", "-2", "-3"]) {
        starts(&root, &JOINED.replace(from, to));
        root.write("var/lib/bramble-agent/of", to);
        root.flash();
        root.run(BY_CLOUD_INIT, None);
        root.expect_installed("over another node");
        assert!(!root.path("var/lib/bramble-agent/volumes").exists());
        assert_eq!(root.text(&format!("var/lib/bramble-agent.old{aside}/of")), *to);
        assert_eq!(root.text(&format!("var/lib/bramble-agent.old{aside}/volumes/photos/1")), "a photo\n");
    }
}

#[test]
fn a_card_that_joins_by_itself_is_not_the_node_that_it_was_before_under_another_name() {
    let root = Root::new(true);
    starts(&root, JOINED);
    root.flash_as("shed", None);
    root.run(BY_CLOUD_INIT, None);
    assert!(root.text("var/lib/bramble-agent/join.json").contains("shed"), "the same node stays in");
    root.flash_as("attic", None);
    root.run(BY_CLOUD_INIT, None);
    assert!(root.text("etc/bramble/agent.toml").contains("node = \"attic\""));
    assert!(!root.path("var/lib/bramble-agent/join.json").exists(), "it asks to be let in");
    assert_eq!(root.text("var/lib/bramble-agent.old/volumes/photos/1"), "a photo\n");
}

#[test]
fn a_step_that_fails_keeps_what_it_needs_and_nothing_else_that_is_secret_and_the_next_boot_makes_up_for_it() {
    let root = Root::with_first_run();
    root.write("tmp/fails/useradd", "");
    for _ in 0..2 {
        root.run(FIRST_RUN, None);
        let there = |name: &str| root.path(&format!("boot/firmware/bramble/{name}")).exists();
        assert!(root.text("boot/firmware/cmdline.txt").contains("systemd.run="), "it is tried again");
        assert!(root.text("boot/firmware/bramble-failed.txt").contains(": user. It is tried again"));
        assert!(there("user") && there("password") && there("authorized_keys") && there("install.sh"));
        assert!(!there("bramble-agent/pki/node.key") && !there("agent.toml") && !there("wifi.nmconnection"));
        assert!(root.path("usr/local/bin/bramble").exists() && root.text("etc/hostname") == "shed\n");
    }
    std::fs::remove_file(root.path("tmp/fails/useradd")).unwrap();
    root.run(FIRST_RUN, None);
    root.expect_first_run("at the third boot");
}

#[test]
fn after_three_boots_the_pi_starts_without_and_a_person_may_try_again() {
    let root = Root::with_first_run();
    root.write("tmp/fails/systemctl", "");
    for boot in 1..=3 {
        root.run(FIRST_RUN, None);
        assert_eq!(root.text("boot/firmware/cmdline.txt").contains("systemd."), boot < 3, "boot {boot}");
        let there = |name: &str| root.path(&format!("boot/firmware/bramble/{name}")).exists();
        assert!(there("bramble-agent/pki/node.key") && there("agent.toml") && !there("password"), "boot {boot}");
    }
    let told = root.text("boot/firmware/bramble-failed.txt");
    assert!(told.contains("three boots: agent.") && told.contains("sudo sh /boot/firmware/firstrun.sh"), "{told}");
    std::fs::remove_file(root.path("tmp/fails/systemctl")).unwrap();
    root.run(&["/bin/sh", "/boot/firmware/firstrun.sh"], None);
    root.expect_first_run("by hand");
}
