//! Answers as bytes: plain, as a table for `kubectl get`, or as metadata only.
//!
//! In:       objects and the [`Form`] that the client wants.
//! Out:      JSON. A list of thirty thousand pods is written straight from the store's objects, none is copied.
//! Source:   `meta.k8s.io/v1` Table; the columns are the registry's.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::api::{Object, Resource};
use crate::clock::Wall;

use super::negotiate::Form;
use super::route::Query;
use super::verbs::read::Page;

/// What of the object each row of a table carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// Its metadata: namespaces and labels can be shown.
    #[default]
    Metadata,
    /// All of it: it can be sorted by any field.
    Object,
}

impl Include {
    /// From the query parameter `includeObject`.
    #[must_use]
    pub fn of(query: &Query) -> Self {
        match query.get("includeObject") {
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            _ => Include::Metadata,
        }
    }
}

/// How objects are shown.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// As what.
    pub form: Form,
    /// What table rows carry.
    pub include: Include,
    /// For ages.
    pub now: Wall,
}

impl Shape {
    /// One object.
    #[must_use]
    pub fn object(&self, resource: &Resource, object: &Object) -> Vec<u8> {
        match self.form {
            Form::Table(version) => {
                let metadata = json!({"resourceVersion": object.str_at(&["metadata", "resourceVersion"])});
                bytes(&self.table(version, resource, std::iter::once(object), metadata, Headings::Told))
            }
            Form::Metadata => bytes(&partial(object)),
            Form::Plain | Form::Discovery(_) => bytes(object),
        }
    }

    /// A page of a list.
    #[must_use]
    pub fn list(&self, page: &Page) -> Vec<u8> {
        let mut metadata = json!({"resourceVersion": page.revision.to_string()});
        if let Some(map) = metadata.as_object_mut() {
            if let Some(token) = &page.next {
                map.insert("continue".to_owned(), token.as_str().into());
            }
            if let Some(remaining) = page.remaining {
                map.insert("remainingItemCount".to_owned(), remaining.into());
            }
        }
        match self.form {
            Form::Table(version) => {
                bytes(&self.table(version, page.resource, page.items.iter().map(Arc::as_ref), metadata, Headings::Told))
            }
            Form::Metadata => bytes(&json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "items": page.items.iter().map(|object| partial(object)).collect::<Vec<_>>(),
            })),
            Form::Plain | Form::Discovery(_) => {
                #[derive(serde::Serialize)]
                #[serde(rename_all = "camelCase")]
                struct List<'a> {
                    kind: String,
                    api_version: String,
                    metadata: Value,
                    items: &'a [Arc<Object>],
                }
                let kind = format!("{}List", page.resource.kind);
                bytes(&List { kind, api_version: page.resource.api_version(), metadata, items: &page.items })
            }
        }
    }

    /// One object as the `object` of a watch event; a table tells its headings in the first only.
    #[must_use]
    pub fn event_object(&self, resource: &Resource, object: &Object, headings: Headings) -> Vec<u8> {
        match self.form {
            Form::Table(version) => {
                let metadata = json!({"resourceVersion": object.str_at(&["metadata", "resourceVersion"])});
                bytes(&self.table(version, resource, std::iter::once(object), metadata, headings))
            }
            _ => self.object(resource, object),
        }
    }

    fn table<'a>(
        &self,
        version: &str,
        resource: &Resource,
        objects: impl Iterator<Item = &'a Object>,
        metadata: Value,
        headings: Headings,
    ) -> Value {
        let columns: Vec<Value> = resource
            .printer
            .columns
            .iter()
            .map(|column| {
                json!({"name": column.name, "type": column.kind, "format": column.format, "description": "", "priority": column.priority})
            })
            .collect();
        let rows: Vec<Value> = objects.map(|object| self.row(resource, object)).collect();
        json!({
            "kind": "Table",
            "apiVersion": format!("meta.k8s.io/{version}"),
            "metadata": metadata,
            "columnDefinitions": if headings == Headings::Told { Value::Array(columns) } else { Value::Null },
            "rows": rows,
        })
    }

    fn row(&self, resource: &Resource, object: &Object) -> Value {
        let mut row = Map::new();
        row.insert("cells".to_owned(), (resource.printer.cells)(object, self.now).into());
        match self.include {
            Include::None => {}
            Include::Metadata => {
                row.insert("object".to_owned(), partial(object));
            }
            Include::Object => {
                row.insert("object".to_owned(), object.to_value());
            }
        }
        Value::Object(row)
    }
}

/// Whether a table names its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headings {
    /// It does.
    Told,
    /// The reader knows them already.
    Known,
}

fn partial(object: &Object) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object.at(&["metadata"])})
}

/// JSON as bytes.
#[must_use]
pub fn bytes(value: &impl serde::Serialize) -> Vec<u8> {
    // Maps with text keys and numbers that came from JSON cannot fail to become JSON again.
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Revision, registry};

    fn page() -> Page {
        let object = Object::from_value(
            json!({"kind": "ConfigMap", "metadata": {"name": "c", "namespace": "a", "resourceVersion": "3"}, "data": {"k": "v"}}),
        );
        Page {
            resource: &registry::CONFIG_MAPS,
            items: vec![Arc::new(object.unwrap())],
            revision: Revision(9),
            next: Some("t".into()),
            remaining: Some(4),
        }
    }

    fn shown(form: Form, include: Include) -> Value {
        serde_json::from_slice(&Shape { form, include, now: Wall(0) }.list(&page())).unwrap()
    }

    #[test]
    fn a_list_is_shown_in_the_form_that_was_asked_for() {
        let plain = shown(Form::Plain, Include::Metadata);
        assert_eq!((&plain["kind"], &plain["metadata"]["remainingItemCount"]), (&json!("ConfigMapList"), &json!(4)));
        assert_eq!(plain["items"][0]["data"]["k"], "v");
        let table = shown(Form::Table("v1"), Include::Metadata);
        assert_eq!((&table["columnDefinitions"][0]["name"], &table["metadata"]["continue"]), (&json!("Name"), &json!("t")));
        assert_eq!(
            (&table["rows"][0]["cells"][0], &table["rows"][0]["object"]["metadata"]["namespace"]),
            (&json!("c"), &json!("a"))
        );
        assert_eq!(table["rows"][0]["object"].get("data"), None);
        assert_eq!(shown(Form::Table("v1"), Include::None)["rows"][0].get("object"), None);
        assert_eq!(shown(Form::Table("v1"), Include::Object)["rows"][0]["object"]["data"]["k"], "v");
        let metadata = shown(Form::Metadata, Include::Metadata);
        assert_eq!((&metadata["kind"], metadata["items"][0].get("data")), (&json!("PartialObjectMetadataList"), None));
    }

    #[test]
    fn every_row_has_a_cell_for_each_column() {
        for resource in registry::ALL {
            let object = Object::from_value(json!({"metadata": {"name": "x"}})).unwrap();
            assert_eq!((resource.printer.cells)(&object, Wall(0)).len(), resource.printer.columns.len(), "{resource:?}");
        }
    }
}
