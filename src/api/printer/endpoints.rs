//! `kubectl get endpoints` and `kubectl get endpointslices`.
//!
//! Source:   `formatEndpoints`, `printEndpointSlice`.

use serde_json::Value;

use super::{AGE, Column, NAME, NONE, Printer, age_of, first_three, or, text};
use crate::api::Object;

/// The columns of `Endpoints`.
pub static PRINTER: Printer = Printer::new(&[NAME, Column::text("Endpoints"), AGE], |object, now| {
    vec![object.name().into(), endpoints(object).into(), age_of(object, now)]
});

/// The columns of an `EndpointSlice`.
pub static SLICE_PRINTER: Printer =
    Printer::new(&[NAME, Column::text("AddressType"), Column::text("Ports"), Column::text("Endpoints"), AGE], |object, now| {
        vec![
            object.name().into(),
            object.str_at(&["addressType"]).into(),
            or(&first_three(&slice_ports(object)), "<unset>").into(),
            or(&first_three(&slice_addresses(object)), "<unset>").into(),
            age_of(object, now),
        ]
    });

fn endpoints(object: &Object) -> String {
    let subsets = object.list_at(&["subsets"]);
    if subsets.is_empty() {
        return NONE.to_owned();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let addresses: Vec<&str> = list(subset, "addresses").iter().map(|address| text(address, "ip")).collect();
        let ports: Vec<i64> = list(subset, "ports").iter().map(port).map(Option::unwrap_or_default).collect();
        if ports.is_empty() {
            all.extend(addresses.iter().map(|address| (*address).to_owned()));
        }
        for port in ports {
            all.extend(
                addresses.iter().map(|address| {
                    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
                }),
            );
        }
    }
    first_three(&all)
}

fn slice_ports(object: &Object) -> Vec<String> {
    let name = |entry: &Value| port(entry).map_or_else(|| or(text(entry, "name"), "*").to_owned(), |number| number.to_string());
    object.list_at(&["ports"]).iter().map(name).collect()
}

fn slice_addresses(object: &Object) -> Vec<String> {
    let endpoints = object.list_at(&["endpoints"]).iter();
    endpoints.flat_map(|endpoint| list(endpoint, "addresses")).filter_map(Value::as_str).map(str::to_owned).collect()
}

fn port(entry: &Value) -> Option<i64> {
    entry.get("port").and_then(Value::as_i64)
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{headings, object, row};
    use super::*;
    use serde_json::json;

    #[test]
    fn endpoints_are_addresses_with_ports() {
        assert_eq!(headings(&PRINTER), "NAME|ENDPOINTS|AGE");
        let subset = |addresses: &[&str], ports: Value| json!({"addresses": addresses.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>(), "ports": ports});
        for (subsets, words) in [
            (json!([]), "<none>"),
            (json!([subset(&["10.0.0.1", "fd00::1"], json!([{"port": 80}]))]), "10.0.0.1:80,[fd00::1]:80"),
            (json!([subset(&["10.0.0.1"], json!([]))]), "10.0.0.1"),
            (
                json!([subset(&["1.1.1.1", "2.2.2.2"], json!([{"port": 80}, {"port": 443}]))]),
                "1.1.1.1:80,2.2.2.2:80,1.1.1.1:443 + 1 more...",
            ),
        ] {
            assert_eq!(row(&PRINTER, &object("web", json!({"subsets": subsets}))), format!("web|{words}|60m"));
        }
    }

    #[test]
    fn slices_show_ports_and_addresses_apart() {
        assert_eq!(headings(&SLICE_PRINTER), "NAME|ADDRESSTYPE|PORTS|ENDPOINTS|AGE");
        let slice = object(
            "web-x",
            json!({"addressType": "IPv4", "ports": [{"port": 80}, {"name": "dns"}, {}], "endpoints": [{"addresses": ["a", "b"]}, {"addresses": ["c", "d"]}]}),
        );
        assert_eq!(row(&SLICE_PRINTER, &slice), "web-x|IPv4|80,dns,*|a,b,c + 1 more...|60m");
        assert_eq!(row(&SLICE_PRINTER, &object("new", json!({}))), "new||<unset>|<unset>|60m");
    }
}
