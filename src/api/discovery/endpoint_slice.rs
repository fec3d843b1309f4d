//! What is asked of endpoint slices in more than one place. A lens: it borrows the object and keeps nothing.

use std::net::IpAddr;

use serde_json::Value;

use crate::api::object::Object;

/// The label with the name of the service that a slice is of.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// An endpoint slice, read.
#[derive(Clone, Copy, Debug)]
pub struct EndpointSlice<'a>(pub &'a Object);

/// One of a slice's endpoints, read.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<'a>(pub &'a Value);

/// One of a slice's ports, read.
#[derive(Clone, Copy, Debug)]
pub struct EndpointPort<'a>(pub &'a Value);

impl<'a> EndpointSlice<'a> {
    /// The service that it is of, in its own namespace.
    #[must_use]
    pub fn service(self) -> Option<&'a str> {
        self.0.label(SERVICE_NAME)
    }

    /// `IPv4`, `IPv6` or `FQDN`.
    #[must_use]
    pub fn address_type(self) -> &'a str {
        self.0.str_at(&["addressType"])
    }

    /// Its endpoints.
    pub fn endpoints(self) -> impl Iterator<Item = Endpoint<'a>> {
        self.0.list_at(&["endpoints"]).iter().map(Endpoint)
    }

    /// Its ports: the same for all of its endpoints.
    pub fn ports(self) -> impl Iterator<Item = EndpointPort<'a>> {
        self.0.list_at(&["ports"]).iter().map(EndpointPort)
    }
}

impl<'a> Endpoint<'a> {
    fn text(self, key: &str) -> Option<&'a str> {
        self.0.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    fn condition(self, name: &str) -> Option<bool> {
        self.0.get("conditions")?.get(name)?.as_bool()
    }

    /// Its address: the first one, as upstream's proxy takes it. `None` for what is none.
    #[must_use]
    pub fn address(self) -> Option<IpAddr> {
        self.0.get("addresses")?.as_array()?.first()?.as_str()?.parse().ok()
    }

    /// It gets traffic. What is not said counts as true.
    #[must_use]
    pub fn is_ready(self) -> bool {
        self.condition("ready").unwrap_or(true)
    }

    /// It could serve, be it on its way out. What is not said is what `ready` says.
    #[must_use]
    pub fn is_serving(self) -> bool {
        self.condition("serving").unwrap_or_else(|| self.is_ready())
    }

    /// It is on its way out.
    #[must_use]
    pub fn is_terminating(self) -> bool {
        self.condition("terminating").unwrap_or(false)
    }

    /// Its name in DNS below the service's.
    #[must_use]
    pub fn hostname(self) -> Option<&'a str> {
        self.text("hostname")
    }

    /// Where it runs.
    #[must_use]
    pub fn node(self) -> Option<&'a str> {
        self.text("nodeName")
    }
}

impl<'a> EndpointPort<'a> {
    /// The service's name for it; may be empty.
    #[must_use]
    pub fn name(self) -> &'a str {
        self.0.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    /// `TCP`, `UDP` or `SCTP`.
    #[must_use]
    pub fn protocol(self) -> &'a str {
        self.0.get("protocol").and_then(Value::as_str).unwrap_or("TCP")
    }

    /// At the endpoint.
    #[must_use]
    pub fn port(self) -> Option<u16> {
        self.0.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_said_of_an_endpoint_counts_as_upstream_counts_it() {
        for (conditions, expected) in [
            (json!({}), (true, true, false)),
            (json!({"ready": false}), (false, false, false)),
            (json!({"ready": false, "serving": true, "terminating": true}), (false, true, true)),
            (json!({"ready": true, "serving": null}), (true, true, false)),
        ] {
            let endpoint = json!({"addresses": ["10.0.0.1"], "conditions": conditions});
            let endpoint = Endpoint(&endpoint);
            assert_eq!((endpoint.is_ready(), endpoint.is_serving(), endpoint.is_terminating()), expected, "{conditions}");
        }
        assert_eq!(Endpoint(&json!({"addresses": ["example.com"]})).address(), None);
    }
}
