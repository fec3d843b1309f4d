//! Small images, made by the tools that people make cards with.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Where the boot partition begins, in bytes.
pub const START: u64 = 2048 * 512;
/// How long it is: as few clusters as FAT32 may have, and some.
pub const BOOT_MIB: u64 = 36;
pub const LINE: &str = "console=tty1 root=PARTUUID=1-02 rootwait\n";

/// Runs a tool; panics with what it said if it fails.
#[track_caller]
pub fn tool(program: &str, arguments: &[&str]) -> String {
    let output = said(program, arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

pub fn said(program: &str, arguments: &[&str]) -> Output {
    // Debian keeps some of them where only root looks.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    Command::new(program)
        .args(arguments)
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; Debian: dosfstools mtools fdisk e2fsprogs cloud-init"))
}

/// What the boot partition of an image holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    CloudInit,
    Script,
}

/// An image with nothing in its root.
pub fn image(folder: &Path, name: &str, sort: Sort) -> PathBuf {
    let path = folder.join(name);
    let file = std::fs::File::create(&path).unwrap();
    file.set_len((1 + BOOT_MIB + 4) << 20).unwrap();
    let image = path.to_str().unwrap().to_owned();
    let table = folder.join("table");
    std::fs::write(&table, format!("start=2048,size={},type=c\nstart={},type=83\n", BOOT_MIB * 2048, 2048 + BOOT_MIB * 2048))
        .unwrap();
    tool("sh", &["-c", &format!("sfdisk -q '{image}' < '{}'", table.display())]);
    tool(
        "mkfs.fat",
        &["-F", "32", "-s", "1", "-i", "b4a3b1e5", "--invariant", "--offset", "2048", &image, &(BOOT_MIB * 1024).to_string()],
    );
    let texts: &[(&str, &str)] = &[
        ("config.txt", "arm_64bit=1\n"),
        ("cmdline.txt", LINE),
        ("kernel8.img", "a kernel\n"),
        ("issue.txt", "Raspberry Pi reference 2024-11-19\n"),
    ];
    let seeds: &[(&str, &str)] = &[
        ("user-data", "#cloud-config\n\n# Settings go here.\n"),
        ("meta-data", "dsmode: local\ninstance_id: rpios-image\n"),
        ("network-config", "network:\n  version: 2\n"),
    ];
    for (name, text) in texts.iter().chain(if sort == Sort::CloudInit { seeds } else { &[] }) {
        put(&path, name, text.as_bytes());
    }
    path
}

fn partition(image: &Path) -> String {
    format!("{}@@{START}", image.display())
}

/// Puts a file into an image's boot partition, by mtools.
pub fn put(image: &Path, name: &str, bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    tool("mcopy", &["-o", "-i", &partition(image), file.path().to_str().unwrap(), &format!("::{name}")]);
}

/// What cloud-init's own checker has against a user-data; `None`: nothing. Deprecations count.
pub fn invalid_for_cloud_init(user_data: &str) -> Option<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), user_data).unwrap();
    let output = said("cloud-init", &["schema", "--config-file", file.path().to_str().unwrap()]);
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let valid = output.status.success() && told.contains("Valid") && !told.contains("deprecat");
    (!valid).then(|| format!("{user_data}\n{told}"))
}

/// What cloud-init makes of a network-config for netplan, or why it cannot.
pub fn by_cloud_init_for_netplan(network_config: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("network-config");
    std::fs::write(&file, network_config).unwrap();
    let (from, to) = (file.to_str().unwrap(), folder.path().to_str().unwrap());
    let output = said(
        "cloud-init",
        &[
            "devel",
            "net-convert",
            "--network-data",
            from,
            "--kind",
            "yaml",
            "--distro",
            "debian",
            "--directory",
            to,
            "--output-kind",
            "netplan",
        ],
    );
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() || told.contains("WARN") {
        return Err(told);
    }
    std::fs::read_to_string(folder.path().join("etc/netplan/50-cloud-init.yaml")).map_err(|error| format!("{error}\n{told}"))
}

/// Reads a file of the boot partition, by mtools. `None`: it is not there.
pub fn get(image: &Path, name: &str) -> Option<Vec<u8>> {
    let output = said("mtype", &["-i", &partition(image), &format!("::{name}")]);
    output.status.success().then_some(output.stdout)
}

/// The same as text.
#[track_caller]
pub fn text(image: &Path, name: &str) -> String {
    String::from_utf8(get(image, name).unwrap_or_else(|| panic!("no {name} in {}", image.display()))).unwrap()
}

/// Every path in the boot partition, by mtools.
pub fn listing(image: &Path) -> Vec<String> {
    let mut all: Vec<String> = tool("mdir", &["-b", "-/", "-i", &partition(image), "::"])
        .lines()
        .map(|line| line.trim_start_matches("::/").to_owned())
        .collect();
    all.sort();
    all
}

/// What fsck.fat has against the boot partition; empty: nothing.
pub fn faults(image: &Path) -> String {
    use std::io::{Read as _, Seek as _};
    let part = tempfile::NamedTempFile::new().unwrap();
    let mut from = std::fs::File::open(image).unwrap();
    from.seek(std::io::SeekFrom::Start(START)).unwrap();
    std::io::copy(&mut from.take(BOOT_MIB << 20), &mut part.as_file()).unwrap();
    let output = said("fsck.fat", &["-n", part.path().to_str().unwrap()]);
    if output.status.success() { String::new() } else { String::from_utf8_lossy(&output.stdout).into_owned() }
}

/// An agent's program as far as its header tells.
pub fn program(class: u8, machine: u8, length: usize) -> Vec<u8> {
    let mut bytes = b"\x7fELF".to_vec();
    bytes.extend([class, 1]);
    bytes.resize(18, 0);
    bytes.extend([machine, 0]);
    bytes.extend((bytes.len()..length).map(|at| (at % 249) as u8));
    bytes
}
