//! The command as people use it: good images, packed ones, many at once; and everything that is wrong, told before a byte is written.

use std::path::Path;
use std::process::{Command, Stdio};

use bramble::flash::disk;

use super::fixture::{self, Sort};
use super::support::wait_until;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl anna\n";

/// With the files of [`folder_with_agent`].
const FOR_ANNA: [&str; 6] = ["--agent", "agent", "--user", "anna", "--ssh-key", "key.pub"];

/// What `bramble flash` said: exit code, standard output, standard error.
fn flash(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_bramble"))
        .arg("flash")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn good(folder: &Path, arguments: &[&str]) -> String {
    let (code, out, err) = flash(folder, arguments);
    assert_eq!(code, 0, "{arguments:?}: {out}\n{err}");
    out
}

fn folder_with_agent() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("bramble-flash-").tempdir().unwrap();
    std::fs::write(folder.path().join("agent"), fixture::program(2, 183, 50_000)).unwrap();
    std::fs::write(folder.path().join("key.pub"), KEY).unwrap();
    folder
}

#[test]
fn one_packed_image_gives_as_many_nodes_as_are_asked_for_and_stays_as_it_was() {
    let folder = folder_with_agent();
    let at = folder.path();
    let image = fixture::image(at, "pios.img", Sort::CloudInit);
    fixture::tool("xz", &["-T1", "-0", "-k", image.to_str().unwrap()]);
    fixture::tool("gzip", &["-1", "-k", image.to_str().unwrap()]);
    // As they come from a tape, or from a card: zeros behind the end, and two members.
    let half = image.metadata().unwrap().len() / 2;
    let halves = format!(
        "(head -c {half} pios.img | gzip -1; tail -c +{} pios.img | gzip -1; head -c 3000000 /dev/zero) > more.img.gz",
        half + 1
    );
    fixture::tool("sh", &["-c", &format!("cd '{}' && {halves}", at.display())]);
    for packed in ["pios.img.xz", "pios.img.gz", "more.img.gz", "pios.img"] {
        let before = std::fs::read(at.join(packed)).unwrap();
        let said =
            good(at, &[&[packed, "--output", "shed-{n}.img", "--name", "shed-{n}", "--count", "3"], &FOR_ANNA[..]].concat());
        assert!(said.contains("node shed-2 is on shed-2.img;") && said.contains("shed-3.img is node shed-3's card"), "{said}");
        assert!(said.contains("100 %"), "it shows how far it is: {said}");
        assert!(std::fs::read(at.join(packed)).unwrap() == before, "{packed} is as it was");
        let mut instances = Vec::new();
        for number in 1..=3 {
            let card = at.join(format!("shed-{number}.img"));
            assert_eq!(card.metadata().unwrap().len(), image.metadata().unwrap().len());
            assert_eq!(fixture::faults(&card), "");
            assert!(fixture::text(&card, "bramble/agent.toml").contains(&format!("node = \"shed-{number}\"")));
            assert!(fixture::text(&card, "user-data").contains(&format!("hostname: \"shed-{number}\"")));
            instances
                .push(fixture::text(&card, "meta-data").lines().find(|line| line.starts_with("instance-id")).unwrap().to_owned());
            std::fs::remove_file(&card).unwrap();
        }
        instances.sort();
        instances.dedup();
        assert_eq!(instances.len(), 3, "each a machine of its own: {instances:?}");
        let left: Vec<String> = std::fs::read_dir(at)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with('.'))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn an_image_is_flashed_in_its_place_twice_and_its_seed_is_valid_for_cloud_init() {
    let folder = folder_with_agent();
    let at = folder.path();
    let image = fixture::image(at, "pios.img", Sort::CloudInit);
    std::fs::write(at.join("wifi"), "password\n").unwrap();
    let hash = "$6$salt$abc";
    let wifi = ["--wifi", "IEEE \"5\" GHz: #1", "--wifi-passphrase-file", "wifi", "--wifi-country", "DE"];
    let more = ["--password-hash", hash, "--token", "k7wq2h.x3v8m2c9d4f6h7j5"];
    let arguments = [&["pios.img", "--name", "shed"], &FOR_ANNA[..], &wifi, &more].concat();
    let said = good(at, &arguments);
    assert!(said.contains("it joins by its token"), "{said}");
    let (first, listing) = (fixture::text(&image, "meta-data"), fixture::listing(&image));
    let said = good(at, &arguments);
    assert!(said.contains("in place of what was there"), "{said}");
    assert_ne!(fixture::text(&image, "meta-data"), first, "another instance each time");
    assert_eq!(fixture::listing(&image), listing);
    assert_eq!(fixture::faults(&image), "");

    // As cloud-init's own checker sees it; a fault in it is found.
    let text = fixture::text(&image, "user-data");
    assert_eq!(fixture::invalid_for_cloud_init(&text), None);
    for (from, to) in [
        ("bootcmd:", "bootcmd: yes\nbootcmds:"),
        ("hostname:", "locale: false\nhostname:"),
        ("hostname: \"shed\"\n", "hostname: 3\n"),
    ] {
        assert!(text.contains(from), "{from}");
        assert!(fixture::invalid_for_cloud_init(&text.replacen(from, to, 1)).is_some(), "the checker takes {to:?}");
    }
    let network = fixture::text(&image, "network-config");
    let netplan = fixture::by_cloud_init_for_netplan(&network).unwrap();
    assert!(netplan.contains("'IEEE \"5\" GHz: #1':") && netplan.contains("regulatory-domain: DE"), "{netplan}");
    assert!(fixture::by_cloud_init_for_netplan(&network.replace("version: 2", "version: 9")).is_err(), "the converter can fail");
    assert!(
        network.contains("\"IEEE \\\"5\\\" GHz: #1\": {password: \"") && network.contains("regulatory-domain: \"DE\""),
        "{network}"
    );
    assert!(!network.contains("{password: \"password\"}"), "the passphrase itself is not there: {network}");
}

#[test]
fn whatever_is_asked_for_cloud_init_finds_it_valid() {
    let folder = folder_with_agent();
    let at = folder.path();
    let image = fixture::image(at, "pios.img", Sort::CloudInit);
    std::fs::write(at.join("two.pub"), format!("{KEY}{KEY}")).unwrap();
    std::fs::write(at.join("wifi"), "password\n").unwrap();
    std::fs::write(at.join("odd.pub"), format!("{} \u{2028}\u{fffe}🍓\n", KEY.trim_end())).unwrap();
    let person = ["--user", "anna"];
    let (key, keys, hash) = (["--ssh-key", "key.pub"], ["--ssh-key", "two.pub"], ["--password-hash", "$6$salt$a/b.c"]);
    let (open, closed) = (["--wifi", "café", "--wifi-country", "FR"], ["--wifi-passphrase-file", "wifi"]);
    let (odd_key, odd_wifi) = (["--ssh-key", "odd.pub"], ["--wifi", "café\u{2028}\u{fffe}🍓", "--wifi-country", "FR"]);
    let cases: &[&[&[&str]]] = &[
        &[],
        &[&person, &odd_key, &odd_wifi],
        &[&person, &key],
        &[&person, &keys],
        &[&person, &hash],
        &[&person, &keys, &hash],
        &[&open],
        &[&person, &key, &open, &closed],
    ];
    for case in cases {
        let asked = case.concat();
        good(at, &[&["pios.img", "--name", "shed", "--agent", "agent"], &asked[..]].concat());
        let user_data = fixture::text(&image, "user-data");
        assert_eq!(fixture::invalid_for_cloud_init(&user_data), None, "{asked:?}");
        // A boot checks it together with the image's own settings.
        let of_image = include_str!("raspberry-pi.cfg");
        assert_eq!(fixture::invalid_for_cloud_init(&format!("{user_data}{of_image}")), None, "{asked:?}");
        if asked.contains(&"--wifi") {
            let netplan = fixture::by_cloud_init_for_netplan(&fixture::text(&image, "network-config")).unwrap();
            let locked = asked.contains(&"--wifi-passphrase-file");
            assert!(netplan.contains("caf") && netplan.contains("password: ") == locked, "{asked:?}: {netplan}");
        }
    }
}

#[test]
fn what_cannot_be_used_is_told_with_what_to_do_and_nothing_is_written() {
    let folder = folder_with_agent();
    let at = folder.path();
    let image = fixture::image(at, "good.img", Sort::CloudInit);
    let whole = std::fs::read(&image).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(at.join(name), bytes).unwrap();
    write("short.img", &whole[..whole.len() - (3 << 20)]);
    write("half.img", &whole[..20 << 20]);
    write("tiny.img", b"not an image");
    write("zero.img", &vec![0; 1 << 20]);
    write("partition.img", &whole[1 << 20..]);
    let mut gpt = whole.clone();
    gpt[446 + 4] = 0xee;
    write("gpt.img", &gpt);
    let mut broken = whole.clone();
    broken[(1 << 20) + 13] = 0;
    write("broken.img", &broken);
    write("linux.img", &whole);
    fixture::tool("mdel", &["-i", &format!("{}@@{}", at.join("linux.img").display(), fixture::START), "::cmdline.txt"]);
    write("narrow.img", &whole);
    fixture::put(&at.join("narrow.img"), "kernel7.img", b"x");
    fixture::tool("xz", &["-T1", "-0", "-k", image.to_str().unwrap()]);
    let packed = std::fs::read(at.join("good.img.xz")).unwrap();
    write("cut.img.xz", &packed[..packed.len() / 2]);
    fixture::tool("gzip", &["-1", "-k", image.to_str().unwrap()]);
    let packed = std::fs::read(at.join("good.img.gz")).unwrap();
    write("cut.img.gz", &packed[..packed.len() - 9]);
    write("tail.img.gz", &[&packed[..], b"\0\0x"].concat());
    write("packed", &packed);
    write("it's a.zip", b"PK\x03\x04xx");
    write("a.zip", b"PK\x03\x04xx");
    // As the tools themselves begin their files.
    write("good.img.zst", b"\x28\xb5\x2f\xfdxx");
    write("good.img.bz2", b"BZh91AY&SY");
    write("good.7z", b"7z\xbc\xaf\x27\x1cxx");
    write("other", &fixture::program(2, 62, 100));
    write("old.img", b"somebody's");
    let mut bootable = whole.clone();
    bootable[446 + 16 + 4] = 0;
    write("bootable.img", &bootable);
    for (name, make) in [("folder.img", "mmd"), ("file.img", "mcopy")] {
        write(name, &whole);
        let disk = format!("{}@@{}", at.join(name).display(), fixture::START);
        let meta_data = ["-i", &disk, "::meta-data"];
        match make {
            "mmd" => {
                fixture::tool("mdel", &meta_data);
                fixture::tool("mmd", &["-i", &disk, "::meta-data"]);
            }
            _ => fixture::put(&at.join(name), "bramble", b"a file"),
        }
    }
    write("strange.img", &whole);
    fixture::put(&at.join("strange.img"), "user-data", b"#cloud-config\npackages: [caf\xe9]\n");
    write("latin.img", &whole);
    fixture::put(&at.join("latin.img"), "cmdline.txt", b"root=/dev/mmcblk0p2 name=caf\xe9\n");
    write("hats.toml", b"leds.hats = [\"toaster\"]\n");
    write("board.toml", b"board = \"toaster\"\n");
    write("newline", b"\n");
    write("bad.toml", b"[leds]\nenabled = \"perhaps\"\n");
    write("uid.toml", b"cluster_uid = \"u\"\n");
    for (name, master) in [("node", "https://pi:6443"), ("wrong", "pi, I think")] {
        std::fs::create_dir_all(at.join(name).join("bramble-agent/pki")).unwrap();
        write(&format!("{name}/agent.toml"), format!("node = \"shed\"\n[join]\nmaster = \"{master}\"\n").as_bytes());
        for file in ["join.json", "pki/ca.crt", "pki/node.crt", "pki/node.key"] {
            write(&format!("{name}/bramble-agent/{file}"), b"x");
        }
    }
    let line = |name: &str, text: &str| {
        write(name, &whole);
        fixture::put(&at.join(name), "cmdline.txt", text.as_bytes());
    };
    line("empty.img", "\n");
    line("lines.img", &format!("{}\nquiet\n", fixture::LINE));
    let imager = "systemd.run=/boot/firstrun.sh systemd.run_success_action=reboot systemd.unit=kernel-command-line.target";
    write("imager.img", &std::fs::read(fixture::image(at, "script.img", Sort::Script)).unwrap());
    fixture::put(&at.join("imager.img"), "cmdline.txt", format!("{} {imager}\n", fixture::LINE.trim_end()).as_bytes());
    write("secret", b"-----BEGIN OPENSSH PRIVATE KEY-----\nxyz\n");
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["none.img"], 1, &["cannot read none.img"]),
        (
            &["short.img"],
            1,
            &["short.img cannot be used; nothing was written", "cut short: partition 2 ends", "fetch or copy it again"],
        ),
        (&["half.img"], 1, &["cut short"]),
        (&["tiny.img"], 1, &["shorter than one sector"]),
        (&["zero.img"], 1, &["no partition table"]),
        (&["partition.img"], 1, &["one FAT partition, not a whole card", "mount the partition"]),
        (&["gpt.img"], 1, &["GPT", "Raspberry Pi OS as its makers offer it", "docs/installing.md"]),
        (&["gpt.img", "--output", "new.img"], 1, &["gpt.img cannot be used; nothing was written", "GPT"]),
        (&["bootable.img"], 1, &["bootable.img cannot be used; nothing was written", "no Linux partition"]),
        (
            &["folder.img"],
            1,
            &["cannot be used; nothing was written", "meta-data on its boot partition is a folder", "move meta-data away"],
        ),
        (&["file.img"], 1, &["bramble on its boot partition is a file, and a folder", "move bramble away"]),
        (&["strange.img"], 1, &["user-data on its boot partition is no text"]),
        (&["latin.img"], 1, &["its cmdline.txt is no text file"]),
        (&["/"], 1, &["/ is in use by this machine, and is not written", "the running system's own"]),
        (&["good.img", "--output", "/dev/bramble-no-such-card"], 2, &["there is no such card", "lsblk"]),
        (&["good.img.xz", "--output", "/dev/null"], 2, &["there is no such card"]),
        (&["good.img", "--output", "newd/"], 2, &["newd/ is a folder"]),
        (&["good.img", "--output", "none/x.img"], 2, &["there is no folder none"]),
        (&["tail.img.gz", "--output", "new.img"], 1, &["cannot unpack tail.img.gz", "cut short or damaged"]),
        (&["cut.img.gz", "--output", "new.img"], 1, &["cannot unpack cut.img.gz", "cut short or damaged"]),
        (&["packed"], 2, &["is packed", "--output packed.img"]),
        (&["it's a.zip"], 2, &[r"`unzip 'it'\''s a.zip'`"]),
        (&["good.img", "--config", "hats.toml"], 2, &["there is no HAT \"toaster\"", "blinkt"]),
        (&["good.img", "--config", "board.toml"], 2, &["there is no board \"toaster\""]),
        (&["good.img", "--wifi", "x", "--wifi-country", "DE", "--wifi-passphrase-file", "newline"], 2, &["passphrase is empty"]),
        (&["good.img", "--user", "anna", "--ssh-key", "newline"], 2, &["there is no key in it"]),
        (&["broken.img"], 1, &["not FAT32, or is damaged"]),
        (&["linux.img"], 1, &["no Raspberry Pi OS", "no cmdline.txt"]),
        (&["narrow.img"], 1, &["32-bit Raspberry Pi OS", "cross/build.sh rpi-zero-w"]),
        (&["good.img.xz"], 2, &["is packed", "--output good.img"]),
        (&["cut.img.xz", "--output", "new.img"], 1, &["cannot unpack cut.img.xz", "cut short or damaged"]),
        (&["short.img", "--output", "new.img"], 1, &["short.img cannot be used"]),
        (&["a.zip"], 2, &["a.zip is not unpacked here", "a ZIP archive", "`unzip a.zip`, and give the image"]),
        (&["a.zip", "--output", "new.img"], 2, &["a.zip is not unpacked here", "`unzip a.zip`"]),
        (&["good.img.zst"], 2, &["good.img.zst is not unpacked here", "zstd", "`unzstd good.img.zst`, and give the image"]),
        (&["good.img.zst", "--output", "new.img"], 2, &["`unzstd good.img.zst`"]),
        (&["good.img.bz2"], 2, &["`bunzip2 -k good.img.bz2`"]),
        (&["good.7z"], 2, &["`7z x good.7z`"]),
        (&["good.img", "--output", "old.img"], 2, &["old.img is there already"]),
        (&["good.img", "--output", "."], 2, &["is a folder"]),
        (&["good.img", "--count", "2", "--output", "x.img"], 2, &["--count", "shed-{n}"]),
        (&["good.img", "--user", "anna"], 2, &["nobody could log in as anna"]),
        (&["good.img", "--user", "anna", "--ssh-key", "secret"], 2, &["expected a file of public keys"]),
        (&["good.img", "--config", "bad.toml"], 2, &["leds.enabled"]),
        (&["good.img", "--master", "not a url"], 2, &["--master", "https://192.168.1.5:6443"]),
        (&["good.img", "--config", "uid.toml", "--master", "https://pi:6443"], 2, &["a cluster_uid does not join"]),
        (&["good.img", "--config", "uid.toml", "--node-dir", "node"], 2, &["a cluster_uid does not join"]),
        (&["good.img", "--node-dir", "wrong"], 2, &["join.master"]),
        (&["empty.img"], 1, &["cmdline.txt is empty"]),
        (&["lines.img"], 1, &["more than one line"]),
        (&["imager.img"], 1, &["another's script", "not set up by another tool"]),
        (&["good.img", "--node-dir", "."], 1, &["bramble node add"]),
        (&["."], 1, &["no Raspberry Pi OS"]),
    ];
    let before: Vec<(std::ffi::OsString, Vec<u8>)> = files(at);
    for (arguments, code, parts) in cases {
        let (said, out, err) = flash(at, &[*arguments, &["--name", "shed", "--agent", "agent"]].concat());
        assert_eq!(said, *code, "{arguments:?}: {out}\n{err}");
        for part in *parts {
            assert!(err.contains(part), "{arguments:?}: {part:?} in\n{err}");
        }
        assert!(!err.contains("xyz"), "a private key is not shown");
        assert!(files(at) == before, "{arguments:?} changed a file");
    }
    for (agent, part) in [("other", "it is for a PC"), ("key.pub", "no program for Linux")] {
        let (code, _, err) = flash(at, &["good.img", "--name", "shed", "--agent", agent]);
        assert!(code == 2 && err.contains(part) && err.contains("cross/build.sh"), "{err}");
    }
    if cfg!(target_arch = "x86_64") {
        let (code, _, err) = flash(at, &["good.img", "--name", "shed"]);
        assert!(code == 2 && err.contains("this program does not run on a Raspberry Pi"), "{err}");
    }
    assert!(files(at) == before);
}

#[test]
fn what_holds_keys_is_its_owner_s_only_and_the_help_shows_where_the_number_goes() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder_with_agent();
    let at = folder.path();
    let image = fixture::image(at, "pios.img", Sort::CloudInit);
    std::fs::set_permissions(&image, PermissionsExt::from_mode(0o644)).unwrap();
    // What another run left, or somebody laid there: a link, and a file that everybody may read.
    std::fs::write(at.join("victim"), "mine").unwrap();
    std::os::unix::fs::symlink("victim", at.join(".shed.img.part")).unwrap();
    std::fs::write(at.join(".attic.img.part"), "").unwrap();
    std::fs::set_permissions(at.join(".attic.img.part"), PermissionsExt::from_mode(0o666)).unwrap();
    good(at, &["pios.img", "--output", "attic.img", "--name", "attic", "--agent", "agent"]);
    assert_eq!(at.join("attic.img").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    good(at, &["pios.img", "--output", "shed.img", "--name", "shed", "--agent", "agent"]);
    assert_eq!(at.join("shed.img").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!at.join("shed.img").is_symlink() && std::fs::read_to_string(at.join("victim")).unwrap() == "mine");
    let help = good(at, &["--help"]);
    assert!(help.contains("FILE-{n}") && help.contains("NAME-{n}"), "{help}");
}

/// Where no block device can be made this says so, and counts as not run.
#[test]
fn several_images_are_not_written_to_a_card() {
    let folder = folder_with_agent();
    let at = folder.path();
    fixture::image(at, "pios.img", Sort::CloudInit);
    // A number of which the kernel knows no device: it is never opened.
    if !fixture::said("mknod", &[at.join("card2").to_str().unwrap(), "b", "240", "77"]).status.success() {
        println!("NOT RUN: no block device can be made here");
        return;
    }
    let (code, _, err) =
        flash(at, &["pios.img", "--output", "card{n}", "--name", "shed-{n}", "--count", "2", "--agent", "agent", "--yes"]);
    assert!(code == 2 && err.contains("card2 is a card") && err.contains("without --count"), "{err}");
    assert!(!at.join("card1").exists());
}

#[test]
fn a_folder_s_command_line_is_found_in_capital_letters_too() {
    let folder = folder_with_agent();
    let at = folder.path();
    let boot = at.join("boot");
    std::fs::create_dir(&boot).unwrap();
    for (name, text) in [
        ("CONFIG.TXT", ""),
        ("kernel8.img", "k"),
        ("CMDLINE.TXT", fixture::LINE),
        ("User-Data", "#cloud-config\npackages: [vim]\n"),
    ] {
        std::fs::write(boot.join(name), text).unwrap();
    }
    good(at, &["boot", "--name", "shed", "--agent", "agent"]);
    let text = |name: &str| std::fs::read_to_string(boot.join(name)).unwrap();
    assert!(text("CMDLINE.TXT").starts_with(fixture::LINE.trim_end()) && !boot.join("cmdline.txt").exists());
    assert!(text("user-data.old").contains("vim") && text("User-Data").contains("hostname"), "kept beside");
}

fn files(at: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let mut all: Vec<_> = std::fs::read_dir(at)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_file())
        .map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap()))
        .collect();
    all.sort();
    all
}

/// The disk that this test runs on, if it is one of the kernel's block devices.
#[test]
fn the_disk_of_this_machine_is_refused_whatever_is_asked() {
    let folder = folder_with_agent();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let devices: std::collections::BTreeSet<&str> = mounts
        .lines()
        .filter_map(|line| line.split(" - ").nth(1)?.split(' ').nth(1))
        .filter(|source| source.starts_with("/dev/") && Path::new(source).exists())
        .collect();
    println!("mounted here: {devices:?}");
    for device in devices {
        let (code, out, err) = flash(folder.path(), &[device, "--name", "shed", "--agent", "agent", "--yes"]);
        assert_ne!(code, 0, "{device}: {out}");
        assert!(
            err.contains("is in use by this machine") || err.contains("is a partition") || err.contains("cannot"),
            "{device}: {err}"
        );
    }
}

#[test]
fn a_device_is_described_from_what_the_kernel_says() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let card = "sys/class/block/sdb";
    for (path, text) in [
        ("size", "62333952\n"),
        ("removable", "1\n"),
        ("dev", "8:16\n"),
        ("device/model", "STORAGE DEVICE  \n"),
        ("sdb1/dev", "8:17\n"),
        ("sdb1/partition", "1\n"),
        ("sdb2/dev", "8:18\n"),
        ("sdb2/partition", "2\n"),
        ("sdb2/holders/dm-0/x", ""),
    ] {
        write(&format!("{card}/{path}"), text);
    }
    write("sys/class/block/sdb1/partition", "1\n");
    write("proc/self/mountinfo", "22 1 8:2 / / rw - ext4 /dev/sda2 rw\n");
    write("proc/swaps", "Filename\n");
    let device = disk::device(root.path(), "sdb").unwrap().unwrap();
    assert_eq!(device.title(), "/dev/sdb: 31.9 GB, STORAGE DEVICE");
    let names: Vec<&str> = device.parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(names, ["sdb", "sdb1", "sdb2"]);
    assert_eq!(
        disk::in_use(root.path(), &device).unwrap().as_deref(),
        Some("/dev/sdb2 is a part of /dev/dm-0 (LVM, RAID, encryption or the like)")
    );
    std::fs::remove_dir_all(root.path().join(format!("{card}/sdb2/holders"))).unwrap();
    let device = disk::device(root.path(), "sdb").unwrap().unwrap();
    assert_eq!(disk::in_use(root.path(), &device).unwrap(), None);
    write("proc/self/mountinfo", "22 1 8:17 / /media/boot rw - vfat /dev/sdb1 rw\n");
    assert_eq!(disk::in_use(root.path(), &device).unwrap().as_deref(), Some("/dev/sdb1 is mounted at /media/boot"));
    assert_eq!(disk::device(root.path(), "sdb1").unwrap(), None, "a partition");
    assert!(disk::device(root.path(), "sdz").is_err());
}

#[test]
fn a_mounted_boot_partition_is_told_from_the_running_system_s_by_its_disk() {
    let root = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = root.path();
    std::fs::create_dir_all(at.join("sys/dev/block")).unwrap();
    std::fs::create_dir_all(at.join("proc/self")).unwrap();
    for (number, place) in [("8:1", "sda/sda1"), ("8:2", "sda/sda2"), ("8:17", "sdb/sdb1"), ("8:32", "sdc")] {
        let device = at.join("sys/devices").join(place);
        std::fs::create_dir_all(&device).unwrap();
        if place.contains('/') {
            std::fs::write(device.join("partition"), "1\n").unwrap();
        }
        std::os::unix::fs::symlink(&device, at.join("sys/dev/block").join(number)).unwrap();
    }
    let place = folder.path().canonicalize().unwrap();
    let why = |number: &str| {
        let mounts = format!("22 1 8:2 / / rw - ext4 /dev/sda2 rw\n23 22 {number} / {} rw - vfat /dev/x rw\n", place.display());
        std::fs::write(at.join("proc/self/mountinfo"), mounts).unwrap();
        disk::folder_in_use(at, folder.path()).unwrap()
    };
    assert_eq!(why("8:1"), Some(format!("{} is on /dev/sda, as is the running system's /", place.display())));
    assert_eq!((why("8:17"), why("8:32"), why("9:9")), (None, None, None));
    assert!(disk::folder_in_use(at, &folder.path().join("none")).is_err());
}

/// A whole image onto a card, as far as a loop device is one; where none can be had this says so, and counts as not run.
#[test]
fn an_image_is_written_to_a_device_and_one_in_use_is_refused() {
    let folder = folder_with_agent();
    let at = folder.path();
    fixture::image(at, "pios.img", Sort::CloudInit);
    std::fs::File::create(at.join("card")).unwrap().set_len(64 << 20).unwrap();
    let output = fixture::said("losetup", &["--find", "--show", at.join("card").to_str().unwrap()]);
    if !output.status.success() {
        println!("NOT RUN: no loop device here: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let device = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let result = std::panic::catch_unwind(|| {
        let (code, _, err) = flash(at, &["pios.img", "--output", &device, "--name", "shed", "--agent", "agent"]);
        assert!(code == 2 && err.contains("needs a yes") && err.contains("--yes"), "{err}");
        let said = good(at, &["pios.img", "--output", &device, "--name", "shed", "--agent", "agent", "--yes"]);
        assert!(said.contains("node shed is on"), "{said}");
        assert_eq!(fixture::faults(&at.join("card")), "");
        assert!(fixture::text(&at.join("card"), "bramble/agent.toml").contains("shed"));
        let said = good(at, &[&device, "--name", "attic", "--agent", "agent", "--yes"]);
        assert!(said.contains("node attic is on") && said.contains("in place of"), "{said}");
        // The file behind it is in use as long as the device shows it.
        let (code, _, err) = flash(at, &["card", "--name", "shed", "--agent", "agent"]);
        assert!(code == 1 && err.contains("shows it"), "{err}");
        // Somebody else has it.
        let mine = disk::open_to_write(Path::new(&device), true).unwrap();
        let (code, _, err) = flash(at, &[&device, "--name", "shed", "--agent", "agent", "--yes"]);
        assert!(code == 1 && err.contains("cannot write"), "{err}");
        drop(mine);
    });
    wait_until("the loop device is given back", std::time::Duration::from_secs(10), || {
        let output = fixture::said("losetup", &["-d", &device]);
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    });
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}
