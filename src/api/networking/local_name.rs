//! Which services and ingresses want a name in the local network: `NAME.local`, by the annotation `bramble/mdns`.
//!
//! In:       services and ingresses, the names of nodes.
//! Out:      [`Claims`]: who has which name, and words for who gets none.
//! Never:    says who answers, and with which addresses (`agent/mdns/names.rs`).
//! Flow:     what is refused is told by `controller/local_names.rs`, what is given is answered by the nodes.
//!
//! The value is the name, with or without `.local`, or `true`: of a service its own name, of an ingress those of its hosts that end in
//! `.local`, or its own name where there are none. A name is one label, as most programs ask the network for no others.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::core::service::Service;
use crate::api::networking::ingress::{Ingress, Rule};
use crate::api::object::Object;

/// The annotation.
pub const ANNOTATION: &str = "bramble/mdns";
/// Names that begin so are of masters.
const MASTERS: &str = "bramble-";

/// Who wants a name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Of<'a> {
    /// A service.
    Service(&'a Object),
    /// An ingress of ours.
    Ingress(&'a Object),
}

/// Who has which name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims<'a> {
    /// By the label before `.local`, in lower case.
    pub given: BTreeMap<String, Of<'a>>,
    /// Who gets none, and why.
    pub refused: Vec<(Of<'a>, String)>,
}

impl<'a> Of<'a> {
    /// The object.
    #[must_use]
    pub fn object(self) -> &'a Object {
        match self {
            Of::Service(object) | Of::Ingress(object) => object,
        }
    }

    fn words(self) -> String {
        let kind = if matches!(self, Of::Service(_)) { "service" } else { "ingress" };
        format!("{kind} {}/{}", self.object().namespace(), self.object().name())
    }

    /// The names that it wants; `None` when it wants none.
    fn wants(self) -> Option<Vec<String>> {
        let object = self.object();
        let value = object.annotation(ANNOTATION)?.trim();
        match (value, self) {
            ("" | "false", _) => None,
            ("true", Of::Service(_)) => Some(vec![object.name().to_owned()]),
            ("true", Of::Ingress(_)) => {
                let hosts = Ingress(object).rules().map(Rule::host).filter_map(|host| host.strip_suffix(".local"));
                let hosts: BTreeSet<String> = hosts.map(str::to_owned).collect();
                Some(if hosts.is_empty() { vec![object.name().to_owned()] } else { hosts.into_iter().collect() })
            }
            (name, _) => {
                let name = name.trim_end_matches('.').to_ascii_lowercase();
                Some(vec![name.strip_suffix(".local").unwrap_or(&name).to_owned()])
            }
        }
    }
}

/// Who has which name. Of several that want the same, the first has it: services before ingresses, in order of namespace and name.
pub fn claims<'a>(all: impl Iterator<Item = Of<'a>>, nodes: &BTreeSet<&str>) -> Claims<'a> {
    let mut claims = Claims::default();
    let mut all: Vec<(Of<'a>, Vec<String>)> = all.filter_map(|of| Some((of, of.wants()?))).collect();
    all.sort_by_key(|(of, _)| (matches!(of, Of::Ingress(_)), of.object().namespace(), of.object().name()));
    for (of, names) in all {
        for name in names {
            let why = refusal(of, &name, nodes).or_else(|| {
                let other = claims.given.get(&name)?;
                Some(format!("{name}.local is not answered for it: {} has this name", other.words()))
            });
            match why {
                Some(why) => claims.refused.push((of, why)),
                None => drop(claims.given.insert(name, of)),
            }
        }
    }
    claims
}

fn refusal(of: Of<'_>, name: &str, nodes: &BTreeSet<&str>) -> Option<String> {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !plain || !(1..=63).contains(&name.len()) || name.starts_with('-') || name.ends_with('-') {
        return Some(format!(
            "{ANNOTATION}: {name:?} cannot be a name in the local network: expected at most 63 of a-z, 0-9 and - (not first or last), without dots, as in \"home\" for home.local"
        ));
    }
    if name.starts_with(MASTERS) || name == "localhost" {
        return Some(format!(
            "{ANNOTATION}: {name}.local is not answered for it: masters have the names that begin with {MASTERS}, and localhost is each machine itself"
        ));
    }
    if nodes.contains(name) {
        return Some(format!("{ANNOTATION}: {name}.local is not answered for it: a node is called so"));
    }
    match of {
        Of::Service(object) if !matches!(Service(object).kind(), "NodePort" | "LoadBalancer") => Some(format!(
            "{ANNOTATION}: {name}.local is not answered for it: the local network reaches services of type NodePort and LoadBalancer only, and this one is {}",
            Service(object).kind()
        )),
        Of::Service(_) | Of::Ingress(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(name: &str, mdns: &str, spec: Value) -> Object {
        Object::from_value(
            json!({"metadata": {"name": name, "namespace": "home", "annotations": {ANNOTATION: mdns}}, "spec": spec}),
        )
        .unwrap()
    }

    fn service(name: &str, mdns: &str) -> Object {
        object(name, mdns, json!({"type": "NodePort"}))
    }

    #[test]
    fn a_name_is_taken_as_it_is_meant() {
        let hosts = json!({"rules": [{"host": "door.local"}, {"host": "door.example.org"}, {"host": "bell.local"}]});
        let services =
            [service("a", "true"), service("b", "Kitchen.local."), service("c", "false"), service("d", ""), service("e", "hall")];
        let ingresses = [object("f", "true", hosts), object("g", "true", json!({})), object("h", "attic", json!({}))];
        let all = services.iter().map(Of::Service).chain(ingresses.iter().map(Of::Ingress));
        let told = claims(all, &BTreeSet::new());
        let given: Vec<(&str, &str)> = told.given.iter().map(|(name, of)| (name.as_str(), of.object().name())).collect();
        let expected = [("a", "a"), ("attic", "h"), ("bell", "f"), ("door", "f"), ("g", "g"), ("hall", "e"), ("kitchen", "b")];
        assert_eq!((given, told.refused), (expected.to_vec(), vec![]));
    }

    #[test]
    fn what_cannot_be_a_name_is_refused_in_words() {
        let long = "x".repeat(64);
        for (name, words) in [
            ("a b", "cannot be a name"),
            ("a.b", "cannot be a name"),
            ("-a", "cannot be a name"),
            ("\u{1b}[31m", "cannot be a name"),
            (&*long, "cannot be a name"),
            ("bramble-x", "masters have the names"),
            ("localhost", "localhost is each machine"),
            ("pi", "a node is called so"),
        ] {
            let one = service("s", name);
            let told = claims(std::iter::once(Of::Service(&one)), &BTreeSet::from(["pi"]));
            assert!(told.given.is_empty() && told.refused.len() == 1, "{name}");
            assert!(told.refused[0].1.contains(words) && !told.refused[0].1.contains('\u{1b}'), "{:?}", told.refused);
        }
        let inside = object("s", "true", json!({}));
        let told = claims(std::iter::once(Of::Service(&inside)), &BTreeSet::new());
        assert!(told.refused[0].1.ends_with("and this one is ClusterIP"), "{:?}", told.refused);
    }

    #[test]
    fn a_name_is_the_firsts() {
        let (one, two, three) = (service("b", "x"), service("a", "x"), object("a", "x", json!({})));
        let told = claims([Of::Ingress(&three), Of::Service(&one), Of::Service(&two)].into_iter(), &BTreeSet::new());
        assert_eq!(told.given["x"], Of::Service(&two));
        let words: Vec<&str> = told.refused.iter().map(|(_, words)| words.as_str()).collect();
        assert_eq!(words, ["x.local is not answered for it: service home/a has this name"; 2]);
    }
}
