//! From the devices of a container to Docker's `Devices`: these may be read and written in it, no other may.

use serde_json::{Value, json};

use super::set;
use crate::agent::devices::Held;

/// Puts a container's devices into its `HostConfig`. The first file of a device is there under its link as well.
pub(super) fn devices(host: &mut Value, held: &[Held]) {
    let entry = |on_host: &str, inside: &str| {
        // Not `m`: nobody needs to make it a second time.
        json!({"PathOnHost": on_host, "PathInContainer": inside, "CgroupPermissions": "rw"})
    };
    let mut entries = Vec::new();
    for device in held.iter().map(|held| &held.device) {
        entries.extend(device.nodes.iter().map(|node| entry(&node.host, &node.path)));
        if let (Some(link), Some(first)) = (&device.link, device.nodes.first()) {
            entries.push(entry(&first.host, link));
        }
    }
    if !entries.is_empty() {
        set(host, "Devices", json!(entries));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::agent::devices::{Device, DeviceNode, Kind};

    /// A Zigbee stick.
    pub(in super::super) fn stick() -> Held {
        let path = "/dev/ttyUSB0".to_owned();
        Held {
            resource: "bramble/serial".into(),
            device: Device {
                kind: Kind::Serial,
                name: "usb-zigbee-if00".into(),
                link: Some("/dev/serial/by-id/usb-zigbee-if00".into()),
                nodes: vec![DeviceNode { host: path.clone(), path, major: 188, minor: 0 }],
            },
        }
    }

    #[test]
    fn nothing_is_said_where_there_is_nothing() {
        let mut host = json!({});
        devices(&mut host, &[]);
        assert_eq!(host, json!({}));
    }
}
