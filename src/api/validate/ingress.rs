//! Ingresses and ingress classes.
//!
//! Source:   `ValidateIngress`, `ValidateIngressCreate`, `ValidateIngressClass` of networking. Differs: that an ingress does not name its
//!           class twice is held for changes as well.

use std::net::IpAddr;

use serde_json::Value;

use super::at::At;
use super::{Errors, FieldError, each, immutable, name, one_of};
use crate::api::Object;
use crate::api::networking::ingress::CLASS_ANNOTATION;

/// What may not be in a path: it would mean another path.
const SEQUENCES: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const SUFFIXES: [&str; 2] = ["/..", "/."];
const CONTROLLER_LIMIT: usize = 250;

/// What is wrong with an ingress.
#[must_use]
pub fn errors(object: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let spec = At::field(object, "spec");
    let (rules, default, class) = (spec.get("rules"), spec.get("defaultBackend"), spec.get("ingressClassName"));
    if rules.len() == 0 && !default.is_set() {
        out.push(FieldError::invalid(&spec.path, Value::Null, "either `defaultBackend` or `rules` must be specified"));
    }
    if default.is_set() {
        backend(&default, &mut out);
    }
    for rule in rules.items() {
        let host_at = rule.get("host");
        if host_at.text().parse::<IpAddr>().is_ok() {
            out.push(host_at.invalid("must be a DNS name, not an IP address"));
        }
        if !host_at.text().is_empty() {
            host(&host_at, &mut out);
        }
        if rule.get("http").is_set() {
            paths(&rule.get("http").get("paths"), &mut out);
        }
    }
    for tls in spec.get("tls").items() {
        tls.get("hosts").items().for_each(|name| host(&name, &mut out));
        let secret = tls.get("secretName");
        if !secret.text().is_empty() {
            each(&secret, name::dns1123_subdomain(secret.text()), &mut out);
        }
    }
    if class.is_set() {
        each(&class, name::dns1123_subdomain(class.text()), &mut out);
        let annotation = At::field(object, "metadata").get("annotations");
        if let Some((_, named)) = annotation.entries().find(|(key, _)| *key == CLASS_ANNOTATION) {
            let path = annotation.path.child(CLASS_ANNOTATION);
            out.push(FieldError::invalid(path, named.text(), "can not be set when the class field is also set"));
        }
    }
    out
}

fn host(at: &At<'_>, out: &mut Errors) {
    let text = at.text();
    each(at, if text.contains('*') { name::wildcard_subdomain(text) } else { name::dns1123_subdomain(text) }, out);
}

fn paths(paths: &At<'_>, out: &mut Errors) {
    if paths.len() == 0 {
        out.push(paths.required());
    }
    for entry in paths.items() {
        let (kind, path) = (entry.get("pathType"), entry.get("path"));
        if !kind.is_set() {
            out.push(FieldError::required(&kind.path, "pathType must be specified"));
            continue;
        }
        let absolute = path.text().starts_with('/');
        match kind.text() {
            "Exact" | "Prefix" => {
                if !absolute {
                    out.push(FieldError::invalid(&path.path, path.text(), "must be an absolute path"));
                }
                for sequence in SEQUENCES.iter().filter(|sequence| path.text().contains(**sequence)) {
                    out.push(path.invalid(&format!("must not contain '{sequence}'")));
                }
                for suffix in SUFFIXES.iter().filter(|suffix| path.text().ends_with(**suffix)) {
                    out.push(path.invalid(&format!("cannot end with '{suffix}'")));
                }
            }
            "ImplementationSpecific" => {
                if !path.text().is_empty() && !absolute {
                    out.push(path.invalid("must be an absolute path"));
                }
            }
            other => {
                out.push(FieldError::not_supported(&kind.path, other, &["Exact", "ImplementationSpecific", "Prefix"]));
            }
        }
        backend(&entry.get("backend"), out);
    }
}

fn backend(at: &At<'_>, out: &mut Errors) {
    let (service, resource) = (at.get("service"), at.get("resource"));
    match (service.is_set(), resource.is_set()) {
        (true, true) => out.push(FieldError::invalid(&at.path, "", "cannot set both resource and service backends")),
        (false, false) => out.push(FieldError::invalid(&at.path, "", "resource or service backend is required")),
        (false, true) => {
            for key in ["kind", "name"] {
                let part = resource.get(key);
                if part.text().is_empty() {
                    out.push(part.required());
                }
            }
        }
        (true, false) => {
            let title = service.get("name");
            if title.text().is_empty() {
                out.push(title.required());
            } else {
                each(&title, name::dns1035_label(title.text()), out);
            }
            let (named, number) = (service.get("port").get("name"), service.get("port").get("number"));
            match (named.text(), number.int().unwrap_or_default()) {
                ("", 0) => out.push(FieldError::required(&at.path, "port name or number is required")),
                ("", port) => each(&number, name::port_number(port), out),
                (port, 0) => each(&named, name::port_name(port), out),
                _ => out.push(FieldError::invalid(&at.path, "", "cannot set both port name & port number")),
            }
        }
    }
}

/// What is wrong with an ingress class.
#[must_use]
pub fn class_errors(object: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let spec = At::field(object, "spec");
    let controller = spec.get("controller");
    if controller.text().len() > CONTROLLER_LIMIT {
        out.push(FieldError::too_long(&controller.path, CONTROLLER_LIMIT));
    }
    match controller.text().split_once('/') {
        _ if controller.text().is_empty() => out.push(controller.required()),
        Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => {
            each(&controller, name::dns1123_subdomain(domain), &mut out);
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
            if !rest.bytes().all(fits) {
                out.push(controller.invalid("Invalid path"));
            }
        }
        _ => out.push(controller.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")")),
    }
    let parameters = spec.get("parameters");
    if !parameters.is_set() {
        return out;
    }
    let (group, scope, namespace) = (parameters.get("apiGroup"), parameters.get("scope"), parameters.get("namespace"));
    if !group.text().is_empty() {
        each(&group, name::dns1123_subdomain(group.text()), &mut out);
    }
    for key in ["kind", "name"] {
        let part = parameters.get(key);
        if part.text().is_empty() {
            out.push(part.required());
        }
    }
    one_of(&scope, &["Cluster", "Namespace"], &mut out);
    match (scope.text(), namespace.text().is_empty()) {
        ("Namespace", true) => {
            out.push(FieldError::required(&namespace.path, "`parameters.scope` is set to 'Namespace'"));
        }
        ("Namespace", false) => each(&namespace, name::dns1123_label(namespace.text()), &mut out),
        ("Cluster", false) => out.push(namespace.forbidden("`parameters.scope` is set to 'Cluster'")),
        _ => {}
    }
    out
}

/// What is wrong with the change of an ingress class.
#[must_use]
pub fn class_update_errors(old: &Object, new: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    immutable(&At::field(old, "spec").get("controller"), &At::field(new, "spec").get("controller"), &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::validate::sentence;
    use serde_json::json;

    fn said(spec: Value) -> String {
        sentence(&errors(&Object::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap()))
    }

    fn path(kind: &str, path: &str) -> String {
        let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
        said(json!({"rules": [{"host": "a.b", "http": {"paths": [{"path": path, "pathType": kind, "backend": backend}]}}]}))
    }

    #[test]
    fn paths_are_judged_by_their_type() {
        let at = "spec.rules[0].http.paths[0]";
        for (kind, given, words) in [
            ("Prefix", "/", "[]".to_owned()),
            ("Exact", "/a/b", "[]".to_owned()),
            ("ImplementationSpecific", "", "[]".to_owned()),
            ("ImplementationSpecific", "/a//b", "[]".to_owned()),
            ("Prefix", "a", format!("{at}.path: Invalid value: \"a\": must be an absolute path")),
            ("Exact", "", format!("{at}.path: Invalid value: \"\": must be an absolute path")),
            ("Exact", "/a//b", format!("{at}.path: Invalid value: \"/a//b\": must not contain '//'")),
            ("Prefix", "/a%2Fb", format!("{at}.path: Invalid value: \"/a%2Fb\": must not contain '%2F'")),
            ("Prefix", "/a/..", format!("{at}.path: Invalid value: \"/a/..\": cannot end with '/..'")),
            ("ImplementationSpecific", "a", format!("{at}.path: Invalid value: \"a\": must be an absolute path")),
            (
                "Regex",
                "/",
                format!(
                    "{at}.pathType: Unsupported value: \"Regex\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\""
                ),
            ),
        ] {
            assert_eq!(path(kind, given), words, "{kind} {given}");
        }
    }

    #[test]
    fn backends_are_a_service_with_one_port_or_something_else() {
        for (backend, words) in [
            (json!({"service": {"name": "web", "port": {"number": 80}}}), "[]"),
            (json!({"service": {"name": "web", "port": {"name": "http"}}}), "[]"),
            (json!({"resource": {"apiGroup": "k8s.example.com", "kind": "StorageBucket", "name": "static"}}), "[]"),
            (json!({}), "spec.defaultBackend: Invalid value: \"\": resource or service backend is required"),
            (
                json!({"service": {"name": "web", "port": {}}}),
                "spec.defaultBackend: Required value: port name or number is required",
            ),
            (
                json!({"service": {"name": "web", "port": {"name": "http", "number": 80}}}),
                "spec.defaultBackend: Invalid value: \"\": cannot set both port name & port number",
            ),
            (
                json!({"service": {"name": "web", "port": {"number": 70_000}}}),
                "spec.defaultBackend.service.port.number: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ),
            (json!({"service": {"port": {"number": 1}}}), "spec.defaultBackend.service.name: Required value"),
            (
                json!({"service": {"name": "web", "port": {"number": 80}}, "resource": {"kind": "K", "name": "n"}}),
                "spec.defaultBackend: Invalid value: \"\": cannot set both resource and service backends",
            ),
            (json!({"resource": {"name": "n"}}), "spec.defaultBackend.resource.kind: Required value"),
        ] {
            assert_eq!(said(json!({"defaultBackend": backend})), words, "{backend}");
        }
    }

    #[test]
    fn hosts_are_names_or_begin_with_one_star() {
        let with = |host: &str| said(json!({"rules": [{"host": host}], "tls": [{"hosts": [host], "secretName": "web-tls"}]}));
        for good in ["example.com", "*.example.com", "a"] {
            assert_eq!(with(good), "[]", "{good}");
        }
        for (bad, words) in [
            ("10.0.0.1", "must be a DNS name, not an IP address"),
            ("a.*.com", "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain"),
            ("*", "a wildcard DNS-1123 subdomain must start with '*.'"),
            ("Example.com", "a lowercase RFC 1123 subdomain must consist of"),
        ] {
            assert!(with(bad).contains(words), "{bad}: {}", with(bad));
        }
        assert_eq!(said(json!({})), "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified");
        assert!(
            said(json!({"rules": [{}], "tls": [{"secretName": "A b"}]})).starts_with("spec.tls[0].secretName: Invalid value")
        );
    }

    #[test]
    fn the_class_is_named_once() {
        let ingress = json!({"metadata": {"name": "web", "annotations": {CLASS_ANNOTATION: "nginx"}},
            "spec": {"ingressClassName": "bramble", "rules": [{}]}});
        assert_eq!(
            sentence(&errors(&Object::from_value(ingress).unwrap())),
            "metadata.annotations.kubernetes.io/ingress.class: Invalid value: \"nginx\": can not be set when the class field is also set"
        );
    }

    #[test]
    fn classes_name_their_controller_for_life() {
        let class = |spec: Value| Object::from_value(json!({"metadata": {"name": "c"}, "spec": spec})).unwrap();
        for (spec, words) in [
            (json!({"controller": "example.com/ingress-controller"}), "[]"),
            (json!({}), "spec.controller: Required value"),
            (
                json!({"controller": "nginx"}),
                "spec.controller: Invalid value: \"nginx\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            ),
            (
                json!({"controller": "a/b", "parameters": {"kind": "K", "name": "n", "scope": "Cluster", "namespace": "x"}}),
                "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'",
            ),
            (
                json!({"controller": "a/b", "parameters": {"kind": "K", "name": "n", "scope": "Namespace"}}),
                "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
            ),
        ] {
            assert_eq!(sentence(&class_errors(&class(spec.clone()))), words, "{spec}");
        }
        let changed = class_update_errors(&class(json!({"controller": "a/b"})), &class(json!({"controller": "a/c"})));
        assert_eq!(sentence(&changed), "spec.controller: Invalid value: \"a/c\": field is immutable");
    }
}
