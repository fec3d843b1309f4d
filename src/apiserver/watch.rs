//! A watch: changes of the store, as the lines that one client wants to see.
//!
//! In:       a cursor, and the changes after it (`Store::changes_since`), which the bell announces.
//! Out:      one JSON line an event.
//! Never:    waits (`run.rs`), or keeps events: a reader that is too slow falls out of the ring and is told 410.
//! Flow:     stop 14 of the life of a pod.
//!
//! | selected before | selected after | line |
//! |---|---|---|
//! | no | yes | ADDED |
//! | yes | yes | MODIFIED |
//! | yes | no | DELETED, with what it was and the revision of the change |

use serde_json::{Value, json};

use crate::api::status::ApiError;
use crate::api::{Object, Revision};
use crate::store::{ChangeEvent, Gone};

use super::negotiate::Form;
use super::options::Selectors;
use super::route::Target;
use super::table::{Headings, Shape, bytes};
use super::verbs::read::belongs;

/// One client's watch.
#[derive(Clone, Debug)]
pub struct Watch {
    target: Target,
    selectors: Selectors,
    shape: Shape,
    cursor: Revision,
    headings: Headings,
}

impl Watch {
    /// A watch of what comes after `cursor`.
    #[must_use]
    pub fn new(target: Target, selectors: Selectors, shape: Shape, cursor: Revision) -> Self {
        Self { target, selectors, shape, cursor, headings: Headings::Told }
    }

    /// The revision up to which the client has seen everything.
    #[must_use]
    pub fn cursor(&self) -> Revision {
        self.cursor
    }

    /// Ages are told from this moment on.
    pub fn at(&mut self, now: crate::clock::Wall) {
        self.shape.now = now;
    }

    /// The line for an object that was there when the watch began.
    pub fn initial(&mut self, object: &Object) -> Vec<u8> {
        self.line("ADDED", object)
    }

    /// The line for a change, when the client is to see it. The cursor moves on either way.
    pub fn change(&mut self, change: &ChangeEvent) -> Option<Vec<u8>> {
        self.cursor = change.revision;
        if !belongs(&change.key, &self.target) {
            return None;
        }
        let selected = |object: &&std::sync::Arc<Object>| self.selectors.select(object);
        let before = change.before.as_ref().filter(selected).cloned();
        let after = change.after.as_ref().filter(selected).cloned();
        match (before, after) {
            (None, None) => None,
            (None, Some(object)) => Some(self.line("ADDED", &object)),
            (Some(_), Some(object)) => Some(self.line("MODIFIED", &object)),
            (Some(object), None) => {
                let mut last = object.as_ref().clone();
                last.set_revision(change.revision);
                Some(self.line("DELETED", &last))
            }
        }
    }

    fn line(&mut self, kind: &str, object: &Object) -> Vec<u8> {
        let object = self.shape.event_object(self.target.resource, object, self.headings);
        self.headings = Headings::Known;
        line(kind, &object)
    }

    /// The line that only says how far the client is.
    #[must_use]
    pub fn bookmark(&self) -> Vec<u8> {
        let metadata = json!({"resourceVersion": self.cursor.to_string(), "creationTimestamp": null});
        let object: Value = match self.shape.form {
            Form::Table(version) => {
                let api_version = format!("meta.k8s.io/{version}");
                json!({"kind": "Table", "apiVersion": api_version, "metadata": metadata, "columnDefinitions": null, "rows": []})
            }
            Form::Metadata => json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}),
            Form::Plain | Form::Discovery(_) => {
                json!({"kind": self.target.resource.kind, "apiVersion": self.target.resource.api_version(), "metadata": metadata})
            }
        };
        line("BOOKMARK", &bytes(&object))
    }
}

/// The last line of a watch that fell out of the ring: the client lists again.
#[must_use]
pub fn gone(gone: &Gone) -> Vec<u8> {
    line("ERROR", &bytes(&ApiError::Expired(gone.to_string()).to_status()))
}

fn line(kind: &str, object: &[u8]) -> Vec<u8> {
    [b"{\"type\":\"", kind.as_bytes(), b"\",\"object\":", object, b"}\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Key, registry};
    use crate::apiserver::route::Query;
    use crate::apiserver::table::Include;
    use crate::clock::Wall;
    use std::sync::Arc;

    fn watch(query: &str, form: Form) -> Watch {
        let target = Target { resource: &registry::PODS, namespace: Some("a".into()), name: None, subresource: None };
        let selectors = Selectors::parse(&Query::parse(query), target.resource).unwrap();
        Watch::new(target, selectors, Shape { form, include: Include::Metadata, now: Wall(0) }, Revision(1))
    }

    fn change(revision: u64, namespace: &str, before: Option<&str>, after: Option<&str>) -> ChangeEvent {
        let object = |node: &str| {
            let value =
                json!({"metadata": {"name": "web", "namespace": namespace, "resourceVersion": "1"}, "spec": {"nodeName": node}});
            Arc::new(Object::from_value(value).unwrap())
        };
        let key = Key::new(&registry::PODS, namespace, "web");
        ChangeEvent { revision: Revision(revision), key, before: before.map(object), after: after.map(object) }
    }

    fn read(line: &[u8]) -> Value {
        assert_eq!(line.last(), Some(&b'\n'));
        serde_json::from_slice(line).unwrap()
    }

    #[test]
    fn a_selector_turns_changes_into_arrivals_and_departures() {
        for (before, after, kind) in [
            (None, Some("pi"), Some("ADDED")),
            (Some("other"), Some("pi"), Some("ADDED")),
            (Some("pi"), Some("pi"), Some("MODIFIED")),
            (Some("pi"), Some("other"), Some("DELETED")),
            (Some("pi"), None, Some("DELETED")),
            (Some("other"), None, None),
            (None, Some("other"), None),
        ] {
            let mut watch = watch("fieldSelector=spec.nodeName%3Dpi", Form::Plain);
            let line = watch.change(&change(9, "a", before, after)).map(|line| read(&line));
            assert_eq!(line.as_ref().map(|line| line["type"].as_str().unwrap()), kind, "{before:?} {after:?}");
            assert_eq!(watch.cursor(), Revision(9));
            if kind == Some("DELETED") {
                let line = line.unwrap();
                assert_eq!(
                    (&line["object"]["metadata"]["resourceVersion"], &line["object"]["spec"]["nodeName"]),
                    (&json!("9"), &json!("pi"))
                );
            }
        }
        assert_eq!(watch("", Form::Plain).change(&change(9, "b", None, Some("pi"))), None);
    }

    #[test]
    fn a_table_tells_its_headings_once() {
        let mut watch = watch("", Form::Table("v1"));
        let first = read(&watch.change(&change(2, "a", None, Some("pi"))).unwrap());
        let second = read(&watch.change(&change(3, "a", Some("pi"), Some("pi"))).unwrap());
        assert!(first["object"]["columnDefinitions"].is_array() && second["object"]["columnDefinitions"].is_null());
        assert_eq!(second["object"]["rows"][0]["cells"][0], "web");
    }

    #[test]
    fn bookmarks_and_the_end_are_lines_of_their_own() {
        let bookmark = read(&watch("", Form::Plain).bookmark());
        assert_eq!((&bookmark["type"], &bookmark["object"]["kind"]), (&json!("BOOKMARK"), &json!("Pod")));
        let end = read(&gone(&Gone { cursor: Revision(1), oldest: Revision(5) }));
        assert_eq!(
            (&end["type"], &end["object"]["code"], &end["object"]["reason"]),
            (&json!("ERROR"), &json!(410), &json!("Expired"))
        );
    }
}
