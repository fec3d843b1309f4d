//! Hands: reads the device files of `/dev`, and what the drivers say of cameras in `/sys`. Below a root that tests replace.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use super::DeviceNode;
use super::inventory::{Inventory, Seen};

/// Files in `/dev` that may be devices of ours.
const PREFIXES: [&str; 4] = ["gpiochip", "i2c-", "spidev", "video"];
/// Where udev links sticks by what they are.
pub(super) const BY_ID: &str = "dev/serial/by-id";

/// What is there now. A folder that is not there has nothing in it.
#[must_use]
pub fn look(root: &Path) -> Inventory {
    let mut seen = Vec::new();
    for link in names(&root.join(BY_ID)) {
        let folder = Path::new("/").join(BY_ID);
        let Ok(target) = fs::read_link(root.join(BY_ID).join(&link)) else { continue };
        let Some(node) = node(root, &resolved(&folder, &target)) else { continue };
        seen.push(Seen { node, link: Some(format!("/{BY_ID}/{link}")), ..Seen::default() });
    }
    for name in names(&root.join("dev")).into_iter().filter(|name| PREFIXES.iter().any(|prefix| name.starts_with(prefix))) {
        let Some(node) = node(root, Path::new(&format!("/dev/{name}"))) else { continue };
        let mut found = Seen { node, ..Seen::default() };
        if name.starts_with("video") {
            let class = root.join("sys/class/video4linux").join(&name);
            let text = |file: &str| fs::read_to_string(class.join(file)).map(|text| text.trim().to_owned()).unwrap_or_default();
            found.title = text("name");
            found.index = text("index").parse().unwrap_or_default();
            let parent = fs::canonicalize(class.join("device")).ok();
            found.parent = parent.map_or(name, |parent| parent.display().to_string());
        }
        seen.push(found);
    }
    Inventory::of(seen)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// A link's target without `..`, as an absolute path below the root.
fn resolved(folder: &Path, target: &Path) -> PathBuf {
    let mut path = PathBuf::new();
    for component in folder.join(target).components() {
        match component {
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    path
}

fn node(root: &Path, path: &Path) -> Option<DeviceNode> {
    let host = root.join(path.strip_prefix("/").ok()?);
    let found = fs::metadata(&host).ok().filter(|found| found.file_type().is_char_device())?;
    Some(DeviceNode {
        path: path.to_str()?.to_owned(),
        host: host.to_str()?.to_owned(),
        major: rustix::fs::major(found.rdev()),
        minor: rustix::fs::minor(found.rdev()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::devices::Device;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_tree_is_read_with_its_links_and_its_cameras() {
        let root = tempfile::tempdir().unwrap();
        let dev = root.path().join("dev");
        let class = root.path().join("sys/class/video4linux");
        fs::create_dir_all(dev.join("serial/by-id")).unwrap();
        for name in ["ttyUSB0", "i2c-1", "gpiochip0", "spidev0.0", "video0", "video1", "video9"] {
            // A device file without the right to make one: null is 1:3.
            symlink("/dev/null", dev.join(name)).unwrap();
        }
        fs::write(dev.join("i2c-2"), "no device").unwrap();
        symlink("../../ttyUSB0", dev.join("serial/by-id/usb-stick")).unwrap();
        symlink("../../ttyUSB7", dev.join("serial/by-id/usb-gone")).unwrap();
        for (name, title, index) in [("video0", "Cam", "0"), ("video1", "Cam", "1"), ("video9", "bcm2835-codec", "0")] {
            let folder = class.join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("name"), format!("{title}\n")).unwrap();
            fs::write(folder.join("index"), format!("{index}\n")).unwrap();
            symlink("/", folder.join("device")).unwrap();
        }
        let inventory = look(root.path());
        let keys: Vec<String> = inventory.iter().map(Device::key).collect();
        assert_eq!(keys, ["serial-usb-stick", "gpiochip-0", "i2c-1", "spi-0.0", "camera-Cam"]);
        let stick = inventory.get("serial-usb-stick").unwrap();
        assert_eq!(stick.link.as_deref(), Some("/dev/serial/by-id/usb-stick"));
        let host = dev.join("ttyUSB0").display().to_string();
        assert_eq!(stick.nodes, [DeviceNode { path: "/dev/ttyUSB0".into(), host, major: 1, minor: 3 }]);
        assert_eq!(look(Path::new("/no/such/folder")), Inventory::default());
    }
}
