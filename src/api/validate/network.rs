//! Endpoints and endpoint slices. Source: `ValidateEndpoints` of core, `ValidateEndpointSlice` of discovery.

use std::net::{IpAddr, Ipv4Addr};

use super::at::At;
use super::{Errors, FieldError, each, immutable, name, one_of};
use crate::api::Object;
use crate::api::core::service::{IPV4, IPV6, family_of};

/// What is no address is told so.
pub(super) const EXPECTED: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// What is wrong with `Endpoints`.
#[must_use]
pub fn errors(object: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    for subset in At::field(object, "subsets").items() {
        let (ready, waiting, ports) = (subset.get("addresses"), subset.get("notReadyAddresses"), subset.get("ports"));
        if ready.len() + waiting.len() == 0 {
            out.push(FieldError::required(&subset.path, "must specify `addresses` or `notReadyAddresses`"));
        }
        for address in ready.items().chain(waiting.items()) {
            ip(&address.get("ip"), &mut out);
        }
        for port in ports.items() {
            let (title, number) = (port.get("name"), port.get("port"));
            if title.text().is_empty() {
                if ports.len() > 1 {
                    out.push(title.required());
                }
            } else {
                each(&title, name::dns1123_label(title.text()), &mut out);
            }
            each(&number, name::port_number(number.int().unwrap_or_default()), &mut out);
            one_of(&port.get("protocol"), &PROTOCOLS, &mut out);
        }
    }
    out
}

/// What is wrong with an `EndpointSlice`.
#[must_use]
pub fn slice_errors(object: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let kind = At::field(object, "addressType");
    one_of(&kind, &["FQDN", IPV4, IPV6], &mut out);
    for endpoint in At::field(object, "endpoints").items() {
        let addresses = endpoint.get("addresses");
        if addresses.len() == 0 {
            out.push(FieldError::required(&addresses.path, "must contain at least 1 address"));
        }
        for address in addresses.items() {
            if kind.text() == "FQDN" {
                each(&address, name::dns1123_subdomain(address.text()), &mut out);
            } else {
                ip(&address, &mut out);
                // Source: `IsValidIPv4Address`, `IsValidIPv6Address`.
                let family = address.text().parse().map(family_of);
                if family.is_ok_and(|family| family != kind.text()) {
                    out.push(address.invalid(&format!("must be a valid {} address", kind.text())));
                }
            }
        }
    }
    for port in At::field(object, "ports").items() {
        let number = port.get("port");
        if let Some(value) = number.int() {
            each(&number, name::port_number(value), &mut out);
        }
        one_of(&port.get("protocol"), &PROTOCOLS, &mut out);
    }
    out
}

/// What is wrong with the change of an `EndpointSlice`.
#[must_use]
pub fn slice_update_errors(old: &Object, new: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    immutable(&At::field(old, "addressType"), &At::field(new, "addressType"), &mut out);
    out
}

/// An address that traffic may be sent to: of a machine, and the same one wherever it is spoken of. Source: `ValidateNonSpecialIP`.
pub(super) fn ip(at: &At<'_>, out: &mut Errors) {
    let words = match at.text().parse::<IpAddr>() {
        Err(_) => EXPECTED,
        Ok(address) if address.is_unspecified() => "may not be unspecified (0.0.0.0 or ::)",
        Ok(address) if address.is_loopback() => "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        Ok(address) if is_of_one_link(address) => "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        Ok(address) if is_group_of_one_link(address) => "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        Ok(_) => return,
    };
    out.push(FieldError::invalid(&at.path, at.text(), words));
}

fn is_of_one_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn is_group_of_one_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => (Ipv4Addr::new(224, 0, 0, 0)..=Ipv4Addr::new(224, 0, 0, 255)).contains(&address),
        IpAddr::V6(address) => address.segments().first().is_some_and(|first| first & 0xff0f == 0xff02),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::validate::sentence;
    use serde_json::{Value, json};

    #[test]
    fn addresses_are_addresses() {
        let found = |subset: Value| sentence(&errors(&Object::from_value(json!({"subsets": [subset]})).unwrap()));
        assert_eq!(found(json!({"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80, "protocol": "TCP"}]})), "[]");
        assert_eq!(found(json!({})), "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`");
        assert!(
            found(json!({"addresses": [{"ip": "here"}]}))
                .starts_with("subsets[0].addresses[0].ip: Invalid value: \"here\": must be a valid IP address")
        );
    }

    #[test]
    fn addresses_are_somebodys_and_the_same_everywhere() {
        for (address, words) in [
            ("127.0.0.1", "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
            ("::1", "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
            ("0.0.0.0", "may not be unspecified (0.0.0.0 or ::)"),
            ("169.254.169.254", "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
            ("fe80::1", "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
            ("224.0.0.251", "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
            ("ff02::fb", "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
        ] {
            let endpoints = json!({"subsets": [{"addresses": [{"ip": address}]}]});
            let found = sentence(&errors(&Object::from_value(endpoints).unwrap()));
            assert_eq!(found, format!("subsets[0].addresses[0].ip: Invalid value: \"{address}\": {words}"));
            let slice = json!({"addressType": family_of(address.parse().unwrap()), "endpoints": [{"addresses": [address]}]});
            let found = sentence(&slice_errors(&Object::from_value(slice).unwrap()));
            assert_eq!(found, format!("endpoints[0].addresses[0]: Invalid value: \"{address}\": {words}"));
        }
        // Machines of the LAN, of the outside, and of other ranges serve as well as pods do.
        for address in ["192.168.1.9", "203.0.113.7", "224.0.1.1", "2001:db8::1"] {
            let endpoints = json!({"subsets": [{"addresses": [{"ip": address}]}]});
            assert_eq!(errors(&Object::from_value(endpoints).unwrap()), Vec::new(), "{address}");
        }
    }

    #[test]
    fn slices_hold_one_family_for_life() {
        let slice = |kind: &str, address: &str| {
            Object::from_value(json!({"addressType": kind, "endpoints": [{"addresses": [address]}]})).unwrap()
        };
        assert_eq!(slice_errors(&slice("IPv4", "10.0.0.1")), Vec::new());
        assert_eq!(slice_errors(&slice("FQDN", "a.b")), Vec::new());
        assert_eq!(slice_errors(&slice("IPv6", "fd00::9")), Vec::new());
        for (kind, address) in [("IPv4", "fd00::9"), ("IPv6", "10.0.0.1")] {
            let words = format!("endpoints[0].addresses[0]: Invalid value: \"{address}\": must be a valid {kind} address");
            assert_eq!(sentence(&slice_errors(&slice(kind, address))), words);
        }
        assert!(sentence(&slice_errors(&slice("Odd", "10.0.0.1"))).contains("supported values: \"FQDN\", \"IPv4\", \"IPv6\""));
        assert!(sentence(&slice_update_errors(&slice("IPv4", "a"), &slice("IPv6", "a"))).ends_with("field is immutable"));
    }
}
