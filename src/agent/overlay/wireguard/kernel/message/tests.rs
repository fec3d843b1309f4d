//! Bytes: written by hand after the headers of the kernel, and as Linux told them.

use defguard_boringtun::x25519::PublicKey as X25519;

use super::*;

const FAMILY: u16 = 0x1f;
const LINK: u32 = 7;
const KEY: PublicKey = PublicKey([0x22; 32]);

/// Bytes, written by hand after the kernel's headers: two hexadecimal digits each, `K` for a key of 32 times `22`, `S` for a secret of `11`, the rest of a
/// line behind `;` is for who reads it.
fn bytes_of(text: &str) -> Vec<u8> {
    let (key, secret) = ("22".repeat(32), "11".repeat(32));
    let lines = text.lines().map(|line| line.split(';').next().unwrap());
    let hex: String = lines.collect::<String>().replace('K', &key).replace('S', &secret).split_whitespace().collect();
    hex.as_bytes().chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

#[test]
#[cfg(target_endian = "little")]
fn every_message_is_as_the_kernels_headers_say() {
    let cases = [
        (
            "the family",
            ask_family(),
            "24000000 1000 0500 01000000 00000000 ; 36 bytes for the controller, REQUEST and ACK
             03 02 0000                           ; GETFAMILY
             0e00 0200 776972656775617264 00 0000 ; FAMILY_NAME wireguard",
        ),
        (
            "the device",
            ask_device(FAMILY, LINK),
            "1c000000 1f00 0103 01000000 00000000 ; REQUEST and DUMP
             00 01 0000                           ; GET_DEVICE
             0800 0100 07000000                   ; IFINDEX",
        ),
        (
            "a key",
            set_key(FAMILY, LINK, &StaticSecret::from([0x11; 32])),
            "40000000 1f00 0500 01000000 00000000
             01 01 0000                           ; SET_DEVICE
             0800 0100 07000000
             2400 0300 S                          ; PRIVATE_KEY",
        ),
        (
            "a port",
            set_port(FAMILY, LINK, 6263),
            "24000000 1f00 0500 01000000 00000000
             01 01 0000
             0800 0100 07000000
             0600 0600 7718 0000                  ; LISTEN_PORT",
        ),
        (
            "a peer that goes",
            set_peers(FAMILY, LINK, &[Change::Remove(KEY)]).concat(),
            "50000000 1f00 0500 01000000 00000000
             01 01 0000
             0800 0100 07000000
             3400 0880                            ; PEERS
             3000 0080
             2400 0100 K                          ; PUBLIC_KEY
             0800 0300 01000000                   ; FLAGS: REMOVE_ME",
        ),
        (
            "a peer that comes",
            set_peers(
                FAMILY,
                LINK,
                &[Change::Set {
                    key: KEY,
                    endpoint: Some("192.168.1.2:6263".parse().unwrap()),
                    allowed: Some(vec!["10.244.2.0/24".parse().unwrap(), "fd12:0:0:102::/64".parse().unwrap()]),
                }],
            )
            .concat(),
            "ac000000 1f00 0500 01000000 00000000
             01 01 0000
             0800 0100 07000000
             9000 0880
             8c00 0080
             2400 0100 K
             1400 0400 0200 1877 c0a80102 0000000000000000 ; ENDPOINT: a sockaddr_in
             0800 0300 02000000                   ; FLAGS: REPLACE_ALLOWEDIPS
             4800 0980                            ; ALLOWEDIPS
             1c00 0080
             0600 0100 0200 0000                  ; FAMILY: AF_INET
             0800 0200 0af40200                   ; IPADDR
             0500 0300 18 000000                  ; CIDR_MASK
             2800 0080
             0600 0100 0a00 0000                  ; AF_INET6
             1400 0200 fd120000000001020000000000000000
             0500 0300 40 000000",
        ),
        (
            "an invitation",
            set_peers(FAMILY, LINK, &[Change::Keepalive(KEY, 25)]).concat(),
            "58000000 1f00 0500 01000000 00000000
             01 01 0000
             0800 0100 07000000
             3c00 0880
             3800 0080
             2400 0100 K
             0800 0300 04000000                   ; FLAGS: UPDATE_ONLY
             0600 0500 1900 0000                  ; PERSISTENT_KEEPALIVE_INTERVAL",
        ),
    ];
    for (what, written, wanted) in cases {
        assert_eq!(written, bytes_of(wanted), "{what}");
    }
}

/// A device with one peer, whose ranges come in two parts.
const DEVICE: &str = "
    c8000000 1f00 0200 01000000 00000000      ; MULTI
    00 01 0000
    0600 0600 7718 0000                       ; LISTEN_PORT
    0800 0100 07000000
    2400 0400 K                               ; PUBLIC_KEY
    8000 0880
    7c00 0080
    2400 0100 2323232323232323232323232323232323232323232323232323232323232323
    1400 0600 00f1536500000000 4023430500000000 ; LAST_HANDSHAKE_TIME: 1,700,000,000 s and 88,286,016 ns
    1400 0400 0200 1877 c0a80102 0000000000000000
    0c00 0700 0000000000000000                ; RX_BYTES
    2000 0980
    1c00 0080
    0600 0100 0200 0000
    0800 0200 0af40200
    0500 0300 18 000000
    6c000000 1f00 0200 01000000 00000000
    00 01 0000
    5800 0880
    5400 0080
    2400 0100 2323232323232323232323232323232323232323232323232323232323232323
    2c00 0980
    2800 0080
    0600 0100 0a00 0000
    1400 0200 fd120000000001020000000000000000
    0500 0300 40 000000
    14000000 0300 0200 01000000 00000000 00000000 ; DONE";

fn device(datagram: &[u8]) -> (Device, Vec<i32>) {
    let (mut device, mut ends) = (Device::default(), Vec::new());
    for answer in answers::<WireguardMessage>(datagram).unwrap() {
        match answer {
            Answer::Part(part) => read(&mut device, &part),
            Answer::End(error) => ends.push(error),
        }
    }
    (device, ends)
}

#[test]
#[cfg(target_endian = "little")]
fn a_device_is_read_and_a_peer_that_comes_in_parts_is_one() {
    let (device, ends) = device(&bytes_of(DEVICE));
    let peer = Peer {
        endpoint: Some("192.168.1.2:6263".parse().unwrap()),
        allowed: ["10.244.2.0/24", "fd12:0:0:102::/64"].map(|range| range.parse().unwrap()).into(),
        handshake: Some(Wall(1_700_000_000_088)),
    };
    assert_eq!(device, Device { key: Some(KEY), port: 6263, peers: [(PublicKey([0x23; 32]), peer)].into() });
    assert_eq!(ends, [0]);
}

/// What Linux 6.1.192 (x86-64) said of a device that `wg` (wireguard-tools 1.0.20210914) had been told: key 32 times 11, port 6263, one peer, keepalive.
const RECORDED: &str = "
    640100002000020017d40c6b7d00000000010000060006007718000008000700
    0000000008000100020000000800020077673000240003001011111111111111
    111111111111111111111111111111111111111111111151240004007b4e909b
    be7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13e8000880
    e400008024000100232323232323232323232323232323232323232323232323
    2323232323232323240002000000000000000000000000000000000000000000
    0000000000000000000000001400060000000000000000000000000000000000
    06000500190000000c00080000000000000000000c0007000000000000000000
    08000a00010000001400040002001877c0a80102000000000000000048000980
    1c00008005000300180000000600010002000000080002000af4020028000080
    0500030040000000060001000a00000014000200fd1200000000010200000000
    00000000140000000300020017d40c6b7d00000000000000";

#[test]
#[cfg(target_endian = "little")]
fn a_device_as_the_kernel_really_told_it_is_read() {
    let public = X25519::from(&StaticSecret::from([0x11; 32])).to_bytes();
    let peer = Peer {
        endpoint: Some("192.168.1.2:6263".parse().unwrap()),
        allowed: ["10.244.2.0/24", "fd12:0:0:102::/64"].map(|range| range.parse().unwrap()).into(),
        handshake: None,
    };
    let wanted = Device { key: Some(PublicKey(public)), port: 6263, peers: [(PublicKey([0x23; 32]), peer)].into() };
    assert_eq!(device(&bytes_of(RECORDED)), (wanted, vec![0]));
}

#[test]
#[cfg(target_endian = "little")]
fn what_the_kernel_refuses_is_a_number_and_what_is_cut_short_is_no_end() {
    let refusal = "24000000 0200 0000 01000000 00000000 a1ffffff 1c000000 1f000500 01000000 00000000"; // -95
    assert_eq!(device(&bytes_of(refusal)).1, [95]);
    let good = "24000000 0200 0000 01000000 00000000 00000000 1c000000 1f000500 01000000 00000000";
    assert_eq!(device(&bytes_of(good)).1, [0]);
    let family_is = "24000000 1000 0000 01000000 00000000 01 02 0000 0600 0100 1f00 0000 0600 0200 7700 0000";
    match answers::<GenlCtrl>(&bytes_of(family_is)).unwrap().as_slice() {
        [Answer::Part(part)] => assert_eq!(family(part), Some(FAMILY)),
        other => panic!("{other:?}"),
    }
    let whole = bytes_of(DEVICE);
    for length in 0..whole.len() {
        // Whether it can be read or not: nothing of it is taken for the end.
        let answers = answers::<WireguardMessage>(&whole[..length]).unwrap_or_default();
        assert!(!answers.contains(&Answer::End(0)), "{length}");
    }
}

#[test]
fn many_peers_are_told_in_messages_that_fit() {
    let changes: Vec<Change> = (0..1000u32)
        .map(|number| {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&number.to_be_bytes());
            Change::Remove(PublicKey(key))
        })
        .collect();
    let messages = set_peers(FAMILY, LINK, &changes);
    assert_eq!(messages.len(), 16);
    assert!(messages.iter().all(|message| message.len() < 16 * 1024));
}
