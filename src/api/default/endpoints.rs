//! Endpoints and endpoint slices. Source: `SetDefaults_Endpoints`, `SetDefaults_EndpointPort`.

use super::{maps, set_empty, set_unset};
use crate::api::Object;

/// Fills in the defaults of `Endpoints`.
pub fn fill(object: &mut Object) {
    for subset in maps(object.raw_mut(), "subsets") {
        maps(subset, "ports").for_each(|port| set_empty(port, "protocol", "TCP"));
    }
}

/// Fills in the defaults of an `EndpointSlice`.
pub fn fill_slice(object: &mut Object) {
    for port in maps(object.raw_mut(), "ports") {
        set_unset(port, "name", "");
        set_unset(port, "protocol", "TCP");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_are_tcp_where_nothing_else_is_said() {
        let mut endpoints =
            Object::from_value(json!({"subsets": [{"ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}]})).unwrap();
        fill(&mut endpoints);
        assert_eq!(
            endpoints.into_value(),
            json!({"subsets": [{"ports": [{"port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}]})
        );
        let mut slice = Object::from_value(json!({"ports": [{"port": 80}]})).unwrap();
        fill_slice(&mut slice);
        assert_eq!(slice.into_value(), json!({"ports": [{"name": "", "port": 80, "protocol": "TCP"}]}));
    }
}
