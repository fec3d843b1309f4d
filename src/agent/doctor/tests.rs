//! Every check over trees of files: how a sound Pi looks, what is found where something is wrong with it, and that what is mended is
//! mended once and can be undone to the byte.

use std::path::PathBuf;

use super::disk::{Done, Life, Tree};
use super::run::mend;
use super::*;
use crate::agent::exec::ExecError;

mod cut;
mod fixture;

use fixture::{ENABLED, Fixture, LINE, NOTICE, SWAPS};

#[test]
fn nothing_is_wrong_with_a_sound_pi() {
    for life in [Life::Runs, Life::Still] {
        let pi = Fixture::sound(life);
        for finding in look(&pi.tree()) {
            assert_eq!(finding.state, State::Ok, "{finding:?}");
        }
        let before = pi.content();
        assert!(mend(&pi.tree(), &[]).iter().all(|visited| visited.done.is_empty()));
        assert_eq!(pi.content(), before);
        assert!(pi.ran().is_empty());
    }
}

#[test]
fn an_empty_root_and_one_full_of_nonsense_are_told_and_not_changed() {
    let empty = Fixture::new(Life::Still);
    assert!(look(&empty.tree()).iter().all(|finding| finding.state == State::Absent), "{:?}", look(&empty.tree()));
    let nonsense = [
        "",
        "\n\n",
        "-1",
        "0x",
        "memory",
        "\u{fffd}\u{0}\u{1}",
        "= = =\n[[\n\\",
        "a b c d e f g h\n1 2 3 4 5 6",
        "99999999999999999999999",
    ];
    for words in nonsense {
        let pi = Fixture::sound(Life::Still);
        let paths: Vec<PathBuf> = pi.content().into_keys().collect();
        for path in paths.iter().filter(|path| !pi.folder.path().join(path).is_symlink()) {
            std::fs::write(pi.folder.path().join(path), words).unwrap();
        }
        assert_eq!(look(&pi.tree()).len(), CHECKS.len());
    }
    // Not text, too large, a folder where a file should be.
    let pi = Fixture::sound(Life::Still);
    std::fs::write(pi.folder.path().join("etc/docker/daemon.json"), [0xff, 0xfe, 0]).unwrap();
    pi.is(docker_logs::ID, State::Warning, "it is not text");
    std::fs::write(pi.folder.path().join("etc/docker/daemon.json"), vec![b' '; 2 << 20]).unwrap();
    pi.is(docker_logs::ID, State::Warning, "larger than 1 MiB");
    pi.without("etc/docker/daemon.json").file("etc/docker/daemon.json/x", "");
    pi.is(docker_logs::ID, State::Warning, "cannot be used");
}

#[test]
fn a_kernel_without_memory_control_gets_its_words_in_the_right_file() {
    let off = |life| {
        let pi = Fixture::sound(life);
        pi.file("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n")
            .file("proc/cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t0\t70\t1\nmemory\t0\t70\t0\n")
            .file("proc/cmdline", LINE)
            .file("boot/firmware/cmdline.txt", &format!("{LINE}\n"));
        pi
    };
    let pi = off(Life::Runs);
    pi.is(memory_cgroup::ID, State::Problem, "without its memory controller");
    assert_eq!(
        pi.is_mended_and_undone(memory_cgroup::ID),
        ["boot/firmware/cmdline.txt", "boot/firmware/cmdline.txt.before-bramble"]
    );
    assert!(pi.ran().is_empty());

    // After the fix, and before the boot.
    mend(&pi.tree(), &[]);
    pi.is(memory_cgroup::ID, State::Warning, "from the next boot");
    assert_eq!(std::fs::read_to_string(pi.folder.path().join("boot/firmware/cmdline.txt")).unwrap(), format!("{ENABLED}\n"));
    assert_eq!(std::fs::read_to_string(pi.folder.path().join("boot/cmdline.txt")).unwrap(), NOTICE, "the notice is left alone");
    assert_eq!(pi.finds(memory_cgroup::ID).undo.split(' ').nth(1), Some("mv"), "what was changed before can be undone still");
    // After the boot: with another kernel it may be missing all the same.
    pi.file("proc/cmdline", ENABLED).is(memory_cgroup::ID, State::Problem, "without");
    assert!(pi.finds(memory_cgroup::ID).acts(&[]).is_empty());
    pi.file("sys/fs/cgroup/cgroup.controllers", "memory\n").is(memory_cgroup::ID, State::Ok, "limits and counts");

    // Control groups of version 1.
    let pi = off(Life::Runs);
    pi.without("sys/fs/cgroup/cgroup.controllers").file("proc/cgroups", "memory\t4\t13\t1\n").is(
        memory_cgroup::ID,
        State::Ok,
        "",
    );

    // Bullseye; a card whose boot partition alone is mounted; a notice that leads nowhere; no Pi.
    let pi = off(Life::Runs);
    pi.without("boot/firmware").file("boot/cmdline.txt", LINE);
    assert_eq!(pi.is_mended_and_undone(memory_cgroup::ID), ["boot/cmdline.txt", "boot/cmdline.txt.before-bramble"]);
    let card = Fixture::new(Life::Still);
    card.file("cmdline.txt", LINE).is(memory_cgroup::ID, State::Absent, "no cmdline.txt");
    card.file("config.txt", "").is(memory_cgroup::ID, State::Problem, "does not turn");
    assert_eq!(
        look(&card.tree()).iter().filter(|finding| finding.state != State::Absent).count(),
        1,
        "nothing else is told of it"
    );
    assert_eq!(card.is_mended_and_undone(memory_cgroup::ID), ["cmdline.txt", "cmdline.txt.before-bramble"]);
    let pi = off(Life::Runs);
    pi.without("boot/firmware").is(memory_cgroup::ID, State::Problem, "without");
    assert!(pi.finds(memory_cgroup::ID).acts(&[]).is_empty());

    // What is not safe to edit stays as it is.
    for text in ["", "quiet\ncgroup_enable=memory\n", "a=\"b"] {
        let pi = off(Life::Runs);
        pi.file("boot/firmware/cmdline.txt", text).is(memory_cgroup::ID, State::Problem, "without");
        assert!(pi.finds(memory_cgroup::ID).fix.contains("is left alone"), "{:?}", pi.finds(memory_cgroup::ID));
        assert!(mend(&pi.tree(), &[]).iter().all(|visited| visited.done.is_empty()));
    }
}

#[test]
fn links_of_a_card_in_a_reader_stay_on_the_card() {
    let card = Fixture::new(Life::Still);
    // `/outside` is on the card; the same path on this machine is not meant.
    card.file("outside/real.json", "{}\n").file("usr/bin/dockerd", "").link("etc/docker/daemon.json", "/outside/real.json");
    assert_eq!(
        card.is_mended_and_undone(docker_logs::ID),
        ["outside/real.json", "outside/real.json.before-bramble"],
        "the link stays, and what it leads to is changed"
    );
    card.link("etc/hosts", "/../../../../../../../../etc/hosts").file("usr/x", "");
    assert_eq!(
        card.tree().read("/etc/hosts"),
        Seen::Strange(std::io::Error::from_raw_os_error(40).to_string()),
        "it leads to itself"
    );
    card.link("passwd", "/etc/passwd");
    assert_eq!(card.tree().read("/passwd"), Seen::Missing);
}

#[test]
fn a_link_that_leads_nowhere_on_the_card_is_not_followed_out_of_it() {
    // There is such a file outside of the card only.
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    for (link, kept) in [("etc/docker/daemon.json", "a secret of this machine"), ("etc/docker", "")] {
        std::fs::write(&secret, kept).unwrap();
        let card = Fixture::sound(Life::Still);
        let target = if kept.is_empty() { outside.path() } else { &secret };
        card.without(link).link(link, target.to_str().unwrap());
        let before = card.content();
        let visited = mend(&card.tree(), &[docker_logs::ID.to_owned()]);
        let logs = visited.iter().find(|visited| visited.finding.id == docker_logs::ID).unwrap();
        let Some(disk::ActError::Disk { source, .. }) = &logs.failed else { panic!("{logs:?}") };
        assert!(source.to_string().contains("leads nowhere") && logs.done.is_empty(), "{logs:?}");
        assert_eq!(card.content(), before, "nothing of the machine comes onto the card");
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), kept);
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    }
}

#[test]
fn what_a_person_calls_new_is_left_alone() {
    let pi = Fixture::sound(Life::Still);
    pi.file("etc/docker/daemon.json", "{}")
        .file("etc/docker/daemon.json.new", "mine")
        .file("etc/docker/.daemon.json.bramble-new", "half");
    mend(&pi.tree(), &[]);
    pi.is(docker_logs::ID, State::Ok, "are bounded");
    assert_eq!(std::fs::read_to_string(pi.folder.path().join("etc/docker/daemon.json.new")).unwrap(), "mine");
    assert!(!pi.folder.path().join("etc/docker/.daemon.json.bramble-new").exists(), "left over from a write that was cut off");
}

#[test]
fn a_clock_that_nobody_sets_is_set() {
    let pi = Fixture::sound(Life::Runs);
    pi.without("run/systemd/timesync/synchronized").file("run/systemd/system/x", "");
    let asked = "timedatectl show --property=NTPSynchronized --value";
    pi.answers(asked, "yes\n").is(clock::ID, State::Ok, "by systemd-timesyncd.service");
    pi.answers(asked, "no\n").is(clock::ID, State::Problem, "no time has come yet");
    pi.file("sys/class/rtc/rtc0/name", "rpi-rtc").is(clock::ID, State::Warning, "no time has come yet").without("sys/class/rtc");
    pi.answers(asked, "nonsense").is(clock::ID, State::Ok, "sets it from the network");
    pi.answers(asked, "no\n").disabled("systemd-timesyncd.service").is(clock::ID, State::Problem, "no battery clock");
    assert!(pi.finds(clock::ID).fix.contains("fake-hwclock"));
    pi.file("etc/fake-hwclock.data", "");
    assert!(!pi.finds(clock::ID).fix.contains("fake-hwclock"));
    assert_eq!(pi.is_mended_and_undone(clock::ID), ["etc/systemd/system/multi-user.target.wants/systemd-timesyncd.service"]);
    assert_eq!(
        pi.ran(),
        ["systemctl enable --now systemd-timesyncd.service", "systemctl disable --now systemd-timesyncd.service"]
    );
    pi.without("usr/lib/systemd/systemd-timesyncd").is(clock::ID, State::Problem, "nothing sets it");
    assert!(pi.finds(clock::ID).fix.starts_with("sudo apt-get install -y systemd-timesyncd"));
    pi.unit("chrony.service", "").enabled("chrony.service").answers(asked, "yes").is(clock::ID, State::Ok, "by chrony.service");
    // On a card only what is stored counts.
    let card = Fixture::sound(Life::Still);
    card.without("run").disabled("systemd-timesyncd.service").is(clock::ID, State::Problem, "nothing sets it");
    card.is_mended_and_undone(clock::ID);
    assert_eq!(card.ran().first().map(String::as_str), Some("systemctl --root=ROOT enable systemd-timesyncd.service"));
    // Its board is not seen: it may be a Pi 5, which has a battery clock.
    assert_eq!(card.finds(clock::ID).what, "nothing sets it from the network");
    card.file("run/systemd/timesync/synchronized", "").is(clock::ID, State::Problem, "nothing sets it");
    card.link("etc/systemd/system/systemd-timesyncd.service", "/dev/null");
    assert!(card.finds(clock::ID).fix.contains("unmask"));
    let (wifi, power) = (Fixture::new(Life::Still).finds(wifi::ID), Fixture::new(Life::Still).finds(power::ID));
    assert!([&wifi, &power].iter().all(|seen| seen.what.ends_with("is seen only where it runs")), "{wifi:?} {power:?}");
}

#[test]
fn a_wifi_chip_that_dozes_is_kept_awake() {
    let conf = "etc/NetworkManager/conf.d/zz-bramble-wifi.conf";
    let pi = Fixture::sound(Life::Still);
    pi.without("etc/NetworkManager/conf.d/off.conf").is(wifi::ID, State::Warning, "nothing keeps wlan0 from saving power");
    assert_eq!(pi.is_mended_and_undone(wifi::ID), [conf]);
    // It runs: the chip itself is asked, and told.
    let pi = Fixture::sound(Life::Runs);
    let asked = "iw dev wlan0 get power_save";
    pi.answers(asked, "Power save: on\n").is(wifi::ID, State::Warning, "wlan0 saves power");
    assert!(pi.finds(wifi::ID).fix.contains("the configuration does already"));
    pi.without("etc/NetworkManager/conf.d/off.conf").is(wifi::ID, State::Warning, "wlan0 saves power");
    mend(&pi.tree(), &[]);
    assert_eq!(pi.ran(), ["iw dev wlan0 set power_save off"]);
    pi.answers(asked, "Power save: off\n").is(wifi::ID, State::Ok, "stays awake");
    assert!(pi.finds(wifi::ID).undo.starts_with("sudo rm "));
    // It runs, and `iw` is not there: then nothing is switched off now, and that is said.
    let pi = Fixture::sound(Life::Runs);
    pi.without("etc/NetworkManager/conf.d/off.conf").without("usr/sbin/iw").is(wifi::ID, State::Warning, "nothing keeps");
    assert!(!pi.finds(wifi::ID).fix.contains("now"), "{:?}", pi.finds(wifi::ID));
    let visited = mend(&pi.tree(), &[]);
    let wifi = &visited.iter().find(|visited| visited.finding.id == wifi::ID).unwrap().finding;
    assert_eq!((wifi.state, wifi.then.as_str()), (State::Warning, "sudo nmcli general reload, and reconnect"));
    // Without NetworkManager, by a rule; without `iw`, by a person.
    let pi = Fixture::sound(Life::Still);
    pi.without("usr/sbin/NetworkManager");
    assert_eq!(pi.is_mended_and_undone(wifi::ID), ["etc/udev/rules.d/70-bramble-wifi.rules"]);
    mend(&pi.tree(), &[]);
    let rule = std::fs::read_to_string(pi.folder.path().join("etc/udev/rules.d/70-bramble-wifi.rules")).unwrap();
    assert!(rule.ends_with("ENV{DEVTYPE}==\"wlan\", RUN+=\"/usr/sbin/iw dev $name set power_save off\"\n"), "{rule}");
    let pi = Fixture::sound(Life::Still);
    pi.without("usr/sbin/NetworkManager").without("usr/sbin/iw").is(wifi::ID, State::Warning, "nothing keeps");
    assert!(pi.finds(wifi::ID).acts(&[]).is_empty());
    pi.without("sys/class/net/wlan0").is(wifi::ID, State::Absent, "seen only where it runs");
    Fixture::new(Life::Runs).is(wifi::ID, State::Absent, "no Wi-Fi");
    // A PC: what its driver does is not known here.
    let pc = Fixture::new(Life::Runs);
    pc.file("sys/class/net/wlp1s0/phy80211/x", "").is(wifi::ID, State::Unseen, "`iw` is not here");
}

#[test]
fn swap_on_the_card_is_switched_off() {
    let with_file = format!("{SWAPS}/var/swap                               file\t\t102396\t\t0\t\t-2\n");
    let pi = Fixture::sound(Life::Runs);
    pi.file("proc/swaps", &with_file).unit("dphys-swapfile.service", "").enabled("dphys-swapfile.service");
    pi.is(swap::ID, State::Warning, "memory is swapped to /var/swap");
    mend(&pi.tree(), &[]);
    assert_eq!(pi.ran(), ["systemctl disable --now dphys-swapfile.service", "dphys-swapfile swapoff"]);
    pi.is(swap::ID, State::Warning, "memory is swapped to /var/swap");
    assert!(pi.finds(swap::ID).fix.contains("at the next boot nothing known switches it on again"));
    pi.file("proc/swaps", SWAPS).is(swap::ID, State::Ok, "no swap");
    pi.enabled("dphys-swapfile.service").is(swap::ID, State::Warning, "at each boot");
    pi.is_mended_and_undone(swap::ID);
    // Reading it back may fail: at the next boot it is gone all the same.
    let failing = Fixture::sound(Life::Runs);
    failing.file("proc/swaps", &with_file).unit("dphys-swapfile.service", "").enabled("dphys-swapfile.service");
    failing.recorded.refused.borrow_mut().push("dphys-swapfile");
    assert!(mend(&failing.tree(), &[]).iter().any(|visited| visited.finding.id == swap::ID && visited.failed.is_some()));
    assert_eq!(failing.ran(), ["systemctl disable --now dphys-swapfile.service"]);
    // Its file is on a disk.
    pi.file("etc/dphys-swapfile", "# x\nCONF_SWAPFILE=\"/mnt/ssd/swap\"\n")
        .file("proc/mounts", "/dev/mmcblk0p2 / ext4 rw 0 0\n/dev/sda1 /mnt/ssd ext4 rw 0 0\n")
        .file("proc/swaps", &with_file.replace("/var/swap", "/mnt/ssd/swap"))
        .is(swap::ID, State::Ok, "not on a card");

    // Trixie.
    let pi = Fixture::sound(Life::Runs);
    pi.file("etc/rpi/swap.conf", "[Main]\n#Mechanism=auto\n").is(swap::ID, State::Ok, "not on a card");
    pi.file("proc/swaps", &with_file).is(swap::ID, State::Warning, "/var/swap");
    assert_eq!(pi.is_mended_and_undone(swap::ID), ["etc/rpi/swap.conf.d/zz-bramble.conf"]);
    pi.file("proc/swaps", SWAPS).file("etc/rpi/swap.conf.d/80-file.conf", "[Main]\nMechanism = swapfile\n");
    pi.is(swap::ID, State::Warning, "rpi-swap puts swap on the card");
    pi.is_mended_and_undone(swap::ID);
    mend(&pi.tree(), &[]);
    assert!(pi.finds(swap::ID).undo.starts_with("sudo rm "));

    // By hand.
    let pi = Fixture::sound(Life::Runs);
    pi.file("proc/swaps", &format!("{SWAPS}/dev/mmcblk0p3 partition\t2097148\t\t0\t\t100\n"))
        .file("etc/fstab", "/dev/mmcblk0p3 none swap sw 0 0\n");
    pi.is(swap::ID, State::Warning, "/dev/mmcblk0p3");
    assert!(pi.finds(swap::ID).fix.contains("sudo swapoff /dev/mmcblk0p3, and take its line out of /etc/fstab"));
    for (device, state) in
        [("/dev/sda2", State::Ok), ("/dev/nvme0n1p3", State::Ok), ("/dev/zram0", State::Ok), ("/dev/mmcblk1p1", State::Warning)]
    {
        pi.file("proc/swaps", &format!("{SWAPS}{device} partition\t2097148\t\t0\t\t100\n")).is(swap::ID, state, "");
    }
    // A name of two words, and one that would be heard by the terminal.
    let odd = Fixture::sound(Life::Runs);
    odd.file("proc/swaps", &format!("{SWAPS}/var/my\\040swap file 9 0 -2\n/var/x\\033 file 9 0 -3\n"));
    assert!(odd.finds(swap::ID).fix.starts_with(r"sudo swapoff '/var/my swap' $'/var/x\033'; "), "{:?}", odd.finds(swap::ID));
    // The root file system under its old name.
    pi.file("proc/mounts", "/dev/root / ext4 rw 0 0\n").file("proc/swaps", &with_file).is(swap::ID, State::Ok, "");
    pi.link("dev/disk/by-partuuid/4e639091-02", "../../mmcblk0p2").is(swap::ID, State::Warning, "/var/swap");
}

#[test]
fn docker_is_installed_only_when_it_is_named() {
    let pi = Fixture::sound(Life::Runs);
    pi.without("usr/bin/dockerd").is(docker::ID, State::Problem, "no Docker and no Podman");
    assert!(pi.finds(docker::ID).fix.starts_with("sudo apt-get install -y docker.io"));
    mend(&pi.tree(), &[]);
    assert!(pi.ran().is_empty());
    let visited = mend(&pi.tree(), &["docker".to_owned()]);
    assert_eq!(pi.ran(), ["apt-get install docker.io"]);
    let docker = visited.iter().find(|visited| visited.finding.id == docker::ID).unwrap();
    assert_eq!(
        (docker.done.as_slice(), docker.undo.as_slice()),
        (&[Done::Ran("apt-get install -y docker.io".to_owned())][..], &["sudo apt-get remove docker.io".to_owned()][..])
    );
    pi.file("usr/bin/podman", "").unit("podman.socket", "").disabled("docker.service").is(
        docker::ID,
        State::Warning,
        "does not start at boot",
    );
    // Another system; a card.
    let pi = Fixture::sound(Life::Runs);
    pi.without("usr/bin/dockerd").without("usr/bin/apt-get").is(docker::ID, State::Problem, "no Docker");
    assert!(pi.finds(docker::ID).acts(&["docker".to_owned()]).is_empty());
    let card = Fixture::sound(Life::Still);
    card.without("usr/bin/dockerd").is(docker::ID, State::Problem, "no Docker");
    assert!(card.finds(docker::ID).acts(&["docker".to_owned()]).is_empty());

    // A daemon without a unit: nobody starts it.
    let pi = Fixture::sound(Life::Runs);
    pi.disabled("docker.service").without("usr/lib/systemd/system/docker.service").is(
        docker::ID,
        State::Warning,
        "no unit starts it",
    );
    pi.unit("snap.docker.dockerd.service", "").enabled("snap.docker.dockerd.service").is(docker::ID, State::Ok, "snap.docker");

    let pi = Fixture::sound(Life::Still);
    pi.disabled("docker.service").is(docker::ID, State::Warning, "does not start at boot");
    assert_eq!(pi.is_mended_and_undone(docker::ID), ["etc/systemd/system/multi-user.target.wants/docker.service"]);
}

#[test]
fn logs_without_bound_get_one() {
    let json = "etc/docker/daemon.json";
    let pi = Fixture::sound(Life::Runs);
    pi.file(json, "{\"live-restore\": true}").is(docker_logs::ID, State::Warning, "without bound");
    assert!(pi.finds(docker_logs::ID).then.contains("live-restore is on"));
    assert_eq!(pi.is_mended_and_undone(docker_logs::ID), [json, "etc/docker/daemon.json.before-bramble"]);
    // What runs has its old settings: that is told until somebody restarts it, with the command.
    let other = Fixture::sound(Life::Runs);
    other.file(json, "{}");
    let visited = mend(&other.tree(), &[]);
    let logs = &visited.iter().find(|visited| visited.finding.id == docker_logs::ID).unwrap().finding;
    assert!(logs.state == State::Warning && logs.what.ends_with("does not know it yet") && !logs.why.is_empty(), "{logs:?}");
    assert!(logs.then.starts_with("sudo systemctl restart docker"), "{logs:?}");
    let card = Fixture::sound(Life::Still);
    card.file(json, "{}");
    assert_eq!(card.finds(docker_logs::ID).then, "", "nothing runs on a card");
    assert!(mend(&card.tree(), &[]).iter().all(|visited| visited.finding.state == State::Ok));
    // A copy from before is kept, and the next one has a name of its own.
    pi.file("etc/docker/daemon.json.before-bramble", "old");
    assert_eq!(pi.is_mended_and_undone(docker_logs::ID), [json, "etc/docker/daemon.json.before-bramble-2"]);
    pi.without("etc/docker").is(docker_logs::ID, State::Warning, "without bound");
    assert_eq!(pi.is_mended_and_undone(docker_logs::ID), [json]);
    for broken in ["{", "[]", "{\"log-opts\": 3}"] {
        pi.file(json, broken).is(docker_logs::ID, State::Problem, "is not what Docker reads");
        assert!(mend(&pi.tree(), &[]).iter().all(|visited| visited.done.is_empty()));
    }
    // Docker does not start when the same option is in both places.
    pi.file(json, "{}").file(
        "etc/systemd/system/docker.service.d/a.conf",
        "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd \\\n  --log-opt labels=a\n",
    );
    pi.is(docker_logs::ID, State::Warning, "by flags of its unit");
    assert!(pi.finds(docker_logs::ID).acts(&[]).is_empty());
    pi.file(
        "etc/systemd/system/docker.service.d/b.conf",
        "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd --log-opt max-size=1m\n",
    );
    pi.is(docker_logs::ID, State::Ok, "by the daemon's flags");
    pi.without("usr/bin/dockerd").without(json).is(docker_logs::ID, State::Absent, "no Docker");
}

#[test]
fn supply_and_heat_are_told_as_the_firmware_has_them() {
    let file = "sys/devices/platform/soc/soc:firmware/get_throttled";
    for (bits, state, what) in [
        ("0\n", State::Ok, "no under-voltage"),
        ("0x50005", State::Problem, "too little voltage now"),
        ("50000\n", State::Warning, "too little voltage since"),
        ("20002", State::Warning, "slowed down now"),
        ("0x80008\n", State::Warning, "slowed down now"),
        ("e0000", State::Warning, "slowed down since"),
        ("nonsense", State::Unseen, "does not tell"),
        ("", State::Unseen, "does not tell"),
        ("-1", State::Unseen, "does not tell"),
        ("fffffffff", State::Unseen, "does not tell"),
        ("ffffffff", State::Unseen, "does not tell"),
    ] {
        Fixture::sound(Life::Runs).file(file, bits).is(power::ID, state, what);
    }
    // A Pi 5; a mainline kernel; vcgencmd; nothing at all; a PC.
    let pi = Fixture::sound(Life::Runs);
    pi.without("sys/devices/platform/soc");
    pi.file("sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled", "1").is(
        power::ID,
        State::Problem,
        "0x1",
    );
    pi.without("sys/devices/platform");
    pi.file("sys/class/hwmon/hwmon0/name", "cpu_thermal\n").file("sys/class/hwmon/hwmon1/name", "rpi_volt\n");
    pi.file("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n").is(power::ID, State::Problem, "now");
    pi.file("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "x\n").is(power::ID, State::Unseen, "");
    pi.answers("vcgencmd get_throttled", "throttled=0x10000\n").is(power::ID, State::Warning, "since");
    let pc = Fixture::new(Life::Runs);
    pc.file("etc/os-release", "").is(power::ID, State::Absent, "no sensor");
}

#[test]
fn wear_is_told_by_registers_or_by_what_was_written() {
    let emmc = |life: &str, spare: &str| {
        let pi = Fixture::sound(Life::Runs);
        pi.file("sys/block/mmcblk0/device/type", "MMC\n")
            .file("sys/block/mmcblk0/device/life_time", life)
            .file("sys/block/mmcblk0/device/pre_eol_info", spare);
        pi
    };
    emmc("0x01 0x02\n", "0x01\n").is(card::ID, State::Ok, "eMMC is 10 to 20 % used");
    emmc("0x03 0x09\n", "0x01\n").is(card::ID, State::Warning, "80 to 90 % used");
    emmc("0x0b 0x01\n", "0x01\n").is(card::ID, State::Problem, "beyond its rated life");
    emmc("0x01 0x01\n", "0x02\n").is(card::ID, State::Warning, "80 % of its spare");
    emmc("0x00 0x00\n", "0x03\n").is(card::ID, State::Problem, "90 % of its spare");
    emmc("0x00 0x00\n", "0x00\n").is(card::ID, State::Ok, "GB were written to the eMMC");
    emmc("0xff rubbish", "").is(card::ID, State::Ok, "GB were written to the eMMC");
    // 32 GB, written over 250 times: 8 TB.
    let pi = Fixture::sound(Life::Runs);
    pi.is(card::ID, State::Ok, "83 GB were written to the SD card, about 1 %");
    pi.file("sys/fs/ext4/mmcblk0p2/lifetime_write_kbytes", "7000000000").is(card::ID, State::Warning, "about 89 %");
    pi.file("sys/fs/ext4/mmcblk0p2/lifetime_write_kbytes", "x").is(card::ID, State::Unseen, "no register");
    pi.file("proc/mounts", "/dev/nvme0n1p2 / ext4 rw 0 0\n").is(card::ID, State::Absent, "not on an SD card");
}

#[test]
fn a_32_bit_kernel_is_told_where_it_is_in_the_way() {
    let pi = Fixture::sound(Life::Runs);
    pi.file("proc/sys/kernel/arch", "armv7l\n").is(kernel::ID, State::Warning, "32-bit kernel");
    pi.file("proc/meminfo", "MemTotal:         439332 kB\n").is(kernel::ID, State::Ok, "suits its little memory");
    pi.without("proc/sys").without("proc/meminfo").file("proc/cpuinfo", "processor\t: 0\nCPU architecture: 7\n").is(
        kernel::ID,
        State::Warning,
        "32-bit",
    );
    pi.file("proc/cpuinfo", "CPU architecture: 8\n").is(kernel::ID, State::Ok, "64-bit kernel");
    pi.file("proc/cpuinfo", "rubbish").file("proc/device-tree/compatible", "raspberrypi,model-zero-w\0brcm,bcm2835\0").is(
        kernel::ID,
        State::Absent,
        "32 bits only",
    );
}

/// A machine with another room.
struct WithRoom(Tree, Room);

impl Host for WithRoom {
    fn read(&self, path: &str) -> Seen {
        self.0.read(path)
    }
    fn list(&self, folder: &str) -> Vec<String> {
        self.0.list(folder)
    }
    fn exists(&self, path: &str) -> bool {
        self.0.exists(path)
    }
    fn link(&self, path: &str) -> Option<String> {
        self.0.link(path)
    }
    fn room(&self, _path: &str) -> Option<Room> {
        Some(self.1)
    }
    fn runs(&self) -> bool {
        self.0.runs()
    }
    fn ask(&self, program: &str, arguments: &[&str]) -> Option<String> {
        self.0.ask(program, arguments)
    }
    fn shown(&self, path: &str) -> String {
        self.0.shown(path)
    }
    fn resolved(&self, path: &str) -> String {
        self.0.resolved(path)
    }
    fn backup(&self, path: &str) -> String {
        self.0.backup(path)
    }
}

#[test]
fn a_data_folder_that_is_full_or_read_only_is_told() {
    let pi = Fixture::sound(Life::Runs);
    let room = |bytes: u64, files: u64| {
        let room = Room { total_bytes: 100 << 20, available_bytes: bytes << 20, files: 100, files_free: files };
        data_dir::look(&WithRoom(pi.tree(), room))
    };
    assert_eq!(room(10, 5).state, State::Ok);
    assert!(room(9, 50).what.ends_with("has 9 % (9 MiB) left"), "{:?}", room(9, 50));
    assert!(room(50, 4).what.ends_with("has 4 % of its files left"));
    let nothing = Room { total_bytes: 0, available_bytes: 0, files: 0, files_free: 0 };
    assert_eq!(data_dir::look(&WithRoom(pi.tree(), nothing)).state, State::Ok, "a file system that does not count");
    pi.file("proc/mounts", "/dev/mmcblk0p2 / ext4 ro,noatime 0 0\n").is(data_dir::ID, State::Problem, "read-only file system");
    // Somewhere else, as the unit has it: `%S` is /var/lib, and what is put upon the unit counts.
    pi.file(
        "etc/systemd/system/bramble-agent.service.d/a.conf",
        "[Service]\nExecStart=\nExecStart=/usr/local/bin/bramble agent --data-dir /mnt/ssd\n",
    )
    .file("mnt/ssd/x", "")
    .file("proc/mounts", "/dev/mmcblk0p2 / ext4 ro 0 0\n/dev/sda1 /mnt/ssd ext4 rw 0 0\n")
    .is(data_dir::ID, State::Ok, "/mnt/ssd can be written");
    // Not there yet, and right below the root: the root counts. Of a boot partition alone it does not.
    for (card, state) in [(Fixture::sound(Life::Still), State::Ok), (Fixture::new(Life::Still), State::Absent)] {
        for folder in ["/bramble-data", "/bramble-data/a/b", "/"] {
            card.unit("bramble-agent.service", &format!("[Service]\nExecStart=/usr/bin/bramble agent --data-dir {folder}\n"));
            let folder =
                data_dir::look(&WithRoom(card.tree(), Room { total_bytes: 9, available_bytes: 9, files: 9, files_free: 9 }));
            // The unit lies in `/usr`, and that is all that the second one has.
            assert_eq!(folder.state, state, "{folder:?}");
        }
    }
    for word in ["--data-dir=/mnt/other", "--data-dir=\"/mnt/other/\""] {
        pi.file(
            "etc/systemd/system/bramble-agent.service.d/b.conf",
            &format!("[Service]\nExecStart=\nExecStart=/usr/local/bin/bramble agent {word}\n"),
        )
        .is(data_dir::ID, State::Problem, "/mnt/other is on a read-only");
    }
}

#[test]
fn an_agent_that_does_not_start_at_boot_is_told() {
    let unit = "bramble-agent.service";
    let pi = Fixture::sound(Life::Runs);
    pi.disabled(unit).is(agent_unit::ID, State::Warning, "is not enabled");
    assert_eq!(pi.finds(agent_unit::ID).fix, "sudo systemctl enable --now bramble-agent.service");
    pi.link("etc/systemd/system/bramble-agent.service", "/dev/null").is(agent_unit::ID, State::Warning, "masked");
    pi.without("etc/systemd/system/bramble-agent.service").without("usr/lib/systemd/system/bramble-agent.service");
    pi.is(agent_unit::ID, State::Warning, "not installed");
    let card = Fixture::sound(Life::Still);
    card.without("usr/lib/systemd/system/bramble-agent.service").is(agent_unit::ID, State::Warning, "not installed");
    let fix = card.finds(agent_unit::ID).fix;
    assert!(
        fix.contains(" to /dev/shm/") && fix.contains("sudo systemctl --root=/dev/shm/"),
        "of the card, not of this machine: {fix}"
    );
    Fixture::new(Life::Runs).file("etc/x", "").is(agent_unit::ID, State::Absent, "");
}

#[test]
fn a_unit_file_of_0_bytes_is_masked_and_the_way_out_is_told() {
    let unit = "bramble-agent.service";
    let [etc, run, usr] = ["etc", "run", "usr/lib"].map(|folder| format!("{folder}/systemd/system/{unit}"));
    for (void, fix) in [
        (&etc, "sudo systemctl unmask bramble-agent.service && sudo systemctl enable --now bramble-agent.service"),
        (&run, "sudo systemctl unmask --runtime bramble-agent.service && sudo systemctl enable --now bramble-agent.service"),
        (&usr, "bramble-agent.service, then install bramble-agent.service again: no other file has it"),
    ] {
        let pi = Fixture::sound(Life::Runs);
        pi.file(void, "").is(agent_unit::ID, State::Warning, "has 0 bytes, which masks the unit");
        assert!(pi.finds(agent_unit::ID).fix.ends_with(fix), "{:?}", pi.finds(agent_unit::ID));
        assert!(pi.finds(agent_unit::ID).acts(&[]).is_empty());
        // A blank line is no mask; a link is one, whatever folder it is in.
        pi.file(void, "\n").is(agent_unit::ID, State::Ok, "").without(void);
        pi.link(void, "/dev/null").is(agent_unit::ID, State::Warning, "masks the unit").without(void);
    }
    // The strongest file counts: this one is not masked.
    let pi = Fixture::sound(Life::Runs);
    pi.file(&usr, "").file(&run, "").file(&etc, "[Unit]\n").is(agent_unit::ID, State::Ok, "");
    // Docker and the clock: nothing is enabled that cannot be.
    for (id, unit) in [(docker::ID, "docker.service"), (clock::ID, "systemd-timesyncd.service")] {
        let card = Fixture::sound(Life::Still);
        card.file(&format!("etc/systemd/system/{unit}"), "");
        assert!(card.finds(id).state.is_wrong() && card.finds(id).acts(&[]).is_empty(), "{:?}", card.finds(id));
        let lifted = format!(
            "has 0 bytes, which masks the unit: sudo systemctl --root={}/ unmask {unit} && ",
            card.folder.path().display()
        );
        assert!(card.finds(id).fix.contains(&lifted), "{:?}", card.finds(id));
    }
}

#[test]
fn a_user_who_may_not_use_the_pins_is_told() {
    let pi = Fixture::sound(Life::Runs);
    pi.is(pins::ID, State::Ok, "").file("etc/systemd/system/bramble-agent.service.d/user.conf", "[Service]\nUser=bramble\n");
    pi.file("etc/group", "gpio:x:986:pi\nother:x:1:bramble\n").is(
        pins::ID,
        State::Warning,
        "\"bramble\" is not in the group gpio",
    );
    pi.file("etc/group", "gpio:x:986:pi,bramble\n").is(pins::ID, State::Ok, "is in the group");
    pi.file("etc/group", "").file(
        "etc/systemd/system/bramble-agent.service.d/user.conf",
        "[Service]\nUser=bramble\nSupplementaryGroups=video gpio\n",
    );
    pi.is(pins::ID, State::Ok, "is in the group").without("dev/gpiomem").is(pins::ID, State::Ok, "").without("dev/gpiochip0");
    pi.is(pins::ID, State::Warning, "neither /dev/gpiomem nor");
}

#[test]
fn a_write_that_fails_half_way_leaves_the_old_file_alone() {
    let pi = Fixture::sound(Life::Still);
    // Something stands where the new one is written beside.
    pi.file("etc/docker/daemon.json", "{}").file("etc/docker/.daemon.json.bramble-new/x", "");
    let before = pi.content();
    let visited = mend(&pi.tree(), &[]);
    let failed = visited.iter().find(|visited| visited.failed.is_some()).unwrap();
    assert!(
        failed.failed.as_ref().unwrap().to_string().starts_with("cannot write /dev/shm/")
            && failed.done.is_empty()
            && failed.undo.is_empty()
    );
    assert_eq!(pi.content(), before);
    // And the copy.
    pi.without("etc/docker/.daemon.json.bramble-new").file("etc/docker/.daemon.json.before-bramble.bramble-new/x", "");
    let before = pi.content();
    let visited = mend(&pi.tree(), &[]);
    assert!(
        visited
            .iter()
            .any(|visited| visited.failed.as_ref().is_some_and(|error| error.to_string().starts_with("cannot keep a copy as")))
    );
    assert_eq!(pi.content(), before);
}

#[test]
fn a_fix_that_stops_half_way_tells_what_was_done() {
    let pi = Fixture::sound(Life::Runs);
    pi.without("etc/NetworkManager/conf.d/off.conf").answers("iw dev wlan0 get power_save", "Power save: on\n");
    pi.recorded.refused.borrow_mut().push("iw");
    let visited = mend(&pi.tree(), &["wifi-power-save".to_owned()]);
    let wifi = visited.iter().find(|visited| visited.finding.id == wifi::ID).unwrap();
    assert!(matches!(wifi.failed, Some(disk::ActError::Program(ExecError::Missing(_)))));
    assert!(matches!(wifi.done.as_slice(), [Done::Wrote { backup: None, .. }]) && wifi.undo.len() == 1, "{wifi:?}");
}

#[test]
fn a_replaced_file_keeps_its_mode_and_its_owner() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let pi = Fixture::sound(Life::Still);
    pi.file("etc/docker/daemon.json", "{}");
    let path = pi.folder.path().join("etc/docker/daemon.json");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let owner = if rustix::process::geteuid().is_root() { 4321 } else { rustix::process::getgid().as_raw() };
    std::os::unix::fs::chown(&path, None, Some(owner)).unwrap();
    mend(&pi.tree(), &[]);
    for path in [&path, &path.with_file_name("daemon.json.before-bramble")] {
        let file = std::fs::metadata(path).unwrap();
        assert_eq!((file.mode() & 0o777, file.gid()), (0o640, owner), "{}", path.display());
    }
}

#[test]
fn names_are_there_once_and_fit_their_column() {
    let names: std::collections::BTreeSet<&str> = CHECKS.iter().map(|check| check.id).collect();
    assert_eq!(names.len(), CHECKS.len());
    assert!(names.iter().all(|name| name.len() <= 15), "a column of the table");
}
