//! What is asked of ingresses and their classes in more than one place. A lens: it borrows the object and keeps nothing.
//!
//! Never:    decides where a request goes (`agent/ingress/route.rs`).

use serde_json::Value;

use crate::api::object::Object;

/// How an ingress named its class before there was a field for it; still in use.
pub const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// Marks the class of ingresses that name none.
pub const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";
/// The controller that our nodes are, as a class names it.
pub const CONTROLLER: &str = "bramble/ingress";
/// The class that every cluster begins with.
pub const BRAMBLE_CLASS: &str = "bramble";

/// An ingress, read.
#[derive(Clone, Copy, Debug)]
pub struct Ingress<'a>(pub &'a Object);

/// A rule of an ingress: a host and its paths.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a>(&'a Value);

/// A path of a rule.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a>(&'a Value);

/// Where requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend<'a> {
    /// The service, in the namespace of the ingress.
    pub service: &'a str,
    /// Its port.
    pub port: PortRef<'a>,
}

/// A port of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortRef<'a> {
    /// By the service's name for it.
    Name(&'a str),
    /// By the number at the service's own address.
    Number(u16),
}

/// A certificate, and the hosts that it is for.
#[derive(Clone, Copy, Debug)]
pub struct Tls<'a>(&'a Value);

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

impl<'a> Ingress<'a> {
    /// The class that it names, by field or by annotation; `None` when it names none.
    #[must_use]
    pub fn class(self) -> Option<&'a str> {
        let field = self.0.at(&["spec", "ingressClassName"]).and_then(Value::as_str);
        field.or_else(|| self.0.annotation(CLASS_ANNOTATION)).filter(|class| !class.is_empty())
    }

    /// Where requests go that no rule is for.
    #[must_use]
    pub fn default_backend(self) -> Option<Backend<'a>> {
        backend(self.0.at(&["spec", "defaultBackend"])?)
    }

    /// Its rules.
    pub fn rules(self) -> impl Iterator<Item = Rule<'a>> {
        self.0.list_at(&["spec", "rules"]).iter().map(Rule)
    }

    /// Its certificates.
    pub fn tls(self) -> impl Iterator<Item = Tls<'a>> {
        self.0.list_at(&["spec", "tls"]).iter().map(Tls)
    }

    /// Every service that it sends requests to.
    pub fn backends(self) -> impl Iterator<Item = Backend<'a>> {
        self.default_backend().into_iter().chain(self.rules().flat_map(Rule::paths).filter_map(Path::backend))
    }

    /// Whether somewhere it names something else than a service, which nobody here serves.
    #[must_use]
    pub fn names_a_resource(self) -> bool {
        let paths = self.rules().flat_map(Rule::paths).filter_map(|path| path.0.get("backend"));
        self.0
            .at(&["spec", "defaultBackend"])
            .into_iter()
            .chain(paths)
            .any(|one| one.get("resource").is_some_and(Value::is_object))
    }
}

impl<'a> Rule<'a> {
    /// Its host; `""` is every host, `*.example.com` one label and the rest.
    #[must_use]
    pub fn host(self) -> &'a str {
        text(self.0, "host")
    }

    /// Its paths.
    pub fn paths(self) -> impl Iterator<Item = Path<'a>> {
        self.0.pointer("/http/paths").and_then(Value::as_array).into_iter().flatten().map(Path)
    }

    /// Whether it says no path: then it is for the default backend.
    #[must_use]
    pub fn is_bare(self) -> bool {
        self.0.get("http").is_none_or(Value::is_null)
    }
}

impl<'a> Path<'a> {
    /// The path; `/` when nothing is said.
    #[must_use]
    pub fn path(self) -> &'a str {
        match text(self.0, "path") {
            "" => "/",
            path => path,
        }
    }

    /// `Exact`, `Prefix` or `ImplementationSpecific`.
    #[must_use]
    pub fn kind(self) -> &'a str {
        text(self.0, "pathType")
    }

    /// Where its requests go. `None`: to something else than a service.
    #[must_use]
    pub fn backend(self) -> Option<Backend<'a>> {
        backend(self.0.get("backend")?)
    }
}

impl<'a> Tls<'a> {
    /// The secret that holds it, in the namespace of the ingress; `None` when the node's own is to be shown.
    #[must_use]
    pub fn secret(self) -> Option<&'a str> {
        Some(text(self.0, "secretName")).filter(|name| !name.is_empty())
    }

    /// The hosts that it is for; all that its certificate names when there are none.
    pub fn hosts(self) -> impl Iterator<Item = &'a str> {
        self.0.get("hosts").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }
}

fn backend(value: &Value) -> Option<Backend<'_>> {
    let service = value.get("service")?;
    let port = service.get("port")?;
    let port = match text(port, "name") {
        "" => PortRef::Number(port.get("number").and_then(Value::as_u64).and_then(|number| u16::try_from(number).ok())?),
        name => PortRef::Name(name),
    };
    Some(Backend { service: Some(text(service, "name")).filter(|name| !name.is_empty())?, port })
}

/// Whether the ingresses of this class are our nodes' to serve; of one that is not there they are nobody's.
#[must_use]
pub fn is_ours(class: Option<&Object>) -> bool {
    class.is_some_and(|class| class.str_at(&["spec", "controller"]) == CONTROLLER)
}

/// The default among these classes: of several the newest, then the first by name.
#[must_use]
pub fn default_class<'a>(classes: impl Iterator<Item = &'a Object>) -> Option<&'a Object> {
    let made = |class: &Object| class.str_at(&["metadata", "creationTimestamp"]).to_owned();
    let marked = classes.filter(|class| class.annotation(DEFAULT_CLASS) == Some("true"));
    marked.max_by(|a, b| made(a).cmp(&made(b)).then_with(|| b.name().cmp(a.name())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_ingress_names_services_in_three_places() {
        let backend = |name: &str, port: Value| json!({"service": {"name": name, "port": port}});
        let ingress = Object::from_value(json!({
        "metadata": {"annotations": {CLASS_ANNOTATION: "nginx"}},
        "spec": {"defaultBackend": backend("all", json!({"number": 80})), "rules": [
            {"host": "a.b", "http": {"paths": [{"pathType": "Prefix", "backend": backend("web", json!({"name": "http"}))}]}},
            {"host": "c.d"},
            {"http": {"paths": [{"path": "/x", "pathType": "Exact", "backend": {"resource": {"kind": "K", "name": "n"}}}]}},
        ]}}))
        .unwrap();
        let ingress = Ingress(&ingress);
        assert_eq!(ingress.class(), Some("nginx"));
        let services: Vec<_> = ingress.backends().map(|backend| (backend.service, backend.port)).collect();
        assert_eq!(services, [("all", PortRef::Number(80)), ("web", PortRef::Name("http"))]);
        assert!(ingress.names_a_resource());
        assert_eq!(ingress.rules().map(Rule::is_bare).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(ingress.rules().flat_map(Rule::paths).map(Path::path).collect::<Vec<_>>(), ["/", "/x"]);
    }

    #[test]
    fn of_two_default_classes_the_newer_counts() {
        let class = |name: &str, made: &str, default: &str| json!({"metadata": {"name": name, "creationTimestamp": made, "annotations": {DEFAULT_CLASS: default}}});
        let classes = [
            class("a", "2026-01-01T00:00:00Z", "true"),
            class("b", "2026-01-01T00:00:00Z", "true"),
            class("c", "2026-01-02T00:00:00Z", "false"),
        ]
        .map(|class| Object::from_value(class).unwrap());
        assert_eq!(default_class(classes.iter()).map(Object::name), Some("a"));
    }
}
