//! `get` and `list`, with pages that belong together.
//!
//! A list that is fetched in pages has to look as if it were one: every page shows the state at the first page's revision.
//! That costs nothing to keep: the state of then is the state of now with every change since undone, and the changes since
//! are in the store's ring. When the ring no longer reaches back, it is 410 with a token that goes on inconsistently.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::api::status::ApiError;
use crate::api::{Key, Object, Resource, Revision};
use crate::apiserver::options::{AsOf, ListOptions};
use crate::apiserver::route::Target;
use crate::store::{ChangeEvent, Gone, View};

/// Some of a collection.
#[derive(Clone, Debug)]
pub struct Page {
    /// Of which resource.
    pub resource: &'static Resource,
    /// In order.
    pub items: Vec<Arc<Object>>,
    /// Whose state it is.
    pub revision: Revision,
    /// Where to go on; `None` at the end.
    pub next: Option<String>,
    /// How many are left; only when no selector is used.
    pub remaining: Option<usize>,
}

/// The key of a target; a collection has an empty name.
#[must_use]
pub fn key_of(target: &Target) -> Key {
    Key::new(target.resource, target.namespace(), target.name())
}

/// One object.
///
/// # Errors
/// 404.
pub fn get<'a>(view: &'a View, key: &Key) -> Result<&'a Arc<Object>, ApiError> {
    view.get(key).ok_or_else(|| ApiError::NotFound { resource: key.resource, name: key.name.clone() })
}

/// The token of a page: the revision of the first (none: go on with what is newest), and the last key that was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Token {
    revision: Option<Revision>,
    namespace: String,
    name: String,
}

impl Token {
    fn read(text: &str) -> Result<Self, ApiError> {
        URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or_else(|| ApiError::BadRequest("continue key is not valid: it was not made by this server".to_owned()))
    }

    fn write(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }
}

/// The objects of a collection; `since` tells the changes after a revision.
///
/// # Errors
/// 400 for a token that is none, 410 for one that is too old, 504 for a revision that is not reached.
pub fn list(
    view: &View,
    target: &Target,
    options: &ListOptions,
    since: impl FnOnce(Revision) -> Result<Vec<ChangeEvent>, Gone>,
) -> Result<Page, ApiError> {
    let current = view.revision();
    let token = options.token.as_deref().map(Token::read).transpose()?;
    let wanted = match (&token, options.as_of) {
        (Some(token), _) => token.revision,
        (None, AsOf::Exactly(revision)) => Some(revision),
        (None, AsOf::AtLeast(revision)) => {
            reached(revision, current)?;
            None
        }
    };
    let revision = wanted.unwrap_or(current);
    reached(revision, current)?;
    let mut undo = BTreeMap::new();
    if revision < current {
        let changes = since(revision).map_err(|gone| match &token {
            Some(token) => ApiError::ContinueExpired { token: Token { revision: None, ..token.clone() }.write() },
            None => ApiError::Expired(format!("The resourceVersion for the provided list is too old: {gone}")),
        })?;
        for change in changes.into_iter().filter(|change| belongs(&change.key, target)) {
            // The first change after then shows what stood then.
            undo.entry(change.key).or_insert(change.before);
        }
    }
    let after = token.as_ref().map(|token| (token.namespace.as_str(), token.name.as_str()));
    Ok(page(view, target, options, revision, after, undo))
}

fn reached(revision: Revision, current: Revision) -> Result<(), ApiError> {
    if revision <= current { Ok(()) } else { Err(ApiError::FutureRevision { asked: revision.0, current: current.0 }) }
}

/// Whether a key lies in the collection.
#[must_use]
pub fn belongs(key: &Key, target: &Target) -> bool {
    key.resource == target.resource && target.namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace)
}

fn page(
    view: &View,
    target: &Target,
    options: &ListOptions,
    revision: Revision,
    after: Option<(&str, &str)>,
    mut undo: BTreeMap<Key, Option<Arc<Object>>>,
) -> Page {
    let resource = target.resource;
    let place = |object: &Arc<Object>| (object.namespace().to_owned(), object.name().to_owned());
    let beyond = |object: &Arc<Object>| after.is_none_or(|after| (object.namespace(), object.name()) > after);
    let selectors = &options.selectors;
    let mut items: Vec<Arc<Object>> = if undo.is_empty() {
        view.list(resource, target.namespace.as_deref())
            .filter(|object| beyond(object) && selectors.select(object))
            .cloned()
            .collect()
    } else {
        let mut then: BTreeMap<(String, String), Arc<Object>> =
            view.list(resource, target.namespace.as_deref()).map(|object| (place(object), object.clone())).collect();
        while let Some((key, before)) = undo.pop_first() {
            match before {
                Some(object) => then.insert((key.namespace, key.name), object),
                None => then.remove(&(key.namespace, key.name)),
            };
        }
        then.into_values().filter(|object| beyond(object) && selectors.select(object)).collect()
    };
    let left = options.limit.map_or(0, |limit| items.len().saturating_sub(limit));
    items.truncate(items.len() - left);
    let next = items.last().filter(|_| left > 0).map(|last| {
        let (namespace, name) = place(last);
        Token { revision: Some(revision), namespace, name }.write()
    });
    Page { resource, items, revision, next, remaining: (left > 0 && selectors.is_empty()).then_some(left) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::registry;
    use crate::apiserver::route::Query;
    use crate::store::{Op, ring::Ring};
    use serde_json::json;

    struct World {
        view: View,
        ring: Ring,
    }

    impl World {
        fn new(capacity: usize) -> Self {
            Self { view: View::new(Revision(0)), ring: Ring::new(Revision(0), capacity) }
        }

        fn write(&mut self, name: &str, color: Option<&str>) {
            let key = Key::new(&registry::CONFIG_MAPS, "a", name);
            let seen = self.view.get(&key).map(|object| object.revision());
            let object = |color: &str| {
                Object::from_value(json!({"metadata": {"name": name, "namespace": "a"}, "data": {"color": color}})).unwrap()
            };
            let op = match (color, seen) {
                (Some(color), None) => Op::create(key, object(color)),
                (Some(color), Some(seen)) => Op::update(key, seen, object(color)),
                (None, seen) => Op::delete(key, seen.unwrap()),
            };
            for event in self.view.apply(self.view.revision().next(), op.into()) {
                self.ring.push(event);
            }
        }

        fn list(&self, query: &str) -> Result<Page, ApiError> {
            let target = Target { resource: &registry::CONFIG_MAPS, namespace: Some("a".into()), name: None, subresource: None };
            let options = ListOptions::parse(&Query::parse(query), target.resource)?;
            list(&self.view, &target, &options, |revision| self.ring.since(revision, usize::MAX))
        }
    }

    fn told(page: &Page) -> Vec<String> {
        page.items.iter().map(|object| format!("{}={}", object.name(), object.str_at(&["data", "color"]))).collect()
    }

    #[test]
    fn pages_show_one_state_whatever_happens_between_them() {
        let mut world = World::new(100);
        for name in ["a", "b", "c", "d", "e"] {
            world.write(name, Some("red"));
        }
        let first = world.list("limit=2").unwrap();
        assert_eq!((told(&first), first.remaining), (vec!["a=red".into(), "b=red".into()], Some(3)));
        world.write("bb", Some("new"));
        world.write("c", Some("blue"));
        world.write("c", Some("green"));
        world.write("d", None);
        let token = first.next.unwrap();
        let second = world.list(&format!("limit=2&continue={token}")).unwrap();
        assert_eq!((told(&second), second.revision), (vec!["c=red".into(), "d=red".into()], first.revision));
        let last = world.list(&format!("limit=2&continue={}", second.next.unwrap())).unwrap();
        assert_eq!((told(&last), last.next, last.remaining), (vec!["e=red".into()], None, None));
        assert_eq!(told(&world.list("").unwrap()), ["a=red", "b=red", "bb=new", "c=green", "e=red"]);
        assert_eq!(told(&world.list("resourceVersion=5&resourceVersionMatch=Exact").unwrap()).len(), 5);
    }

    #[test]
    fn a_token_that_is_too_old_gives_one_that_goes_on_from_now() {
        let mut world = World::new(2);
        for name in ["a", "b", "c"] {
            world.write(name, Some("red"));
        }
        let token = world.list("limit=1").unwrap().next.unwrap();
        for color in ["1", "2", "3"] {
            world.write("b", Some(color));
        }
        let Err(ApiError::ContinueExpired { token }) = world.list(&format!("limit=1&continue={token}")) else {
            panic!("not expired")
        };
        assert_eq!(told(&world.list(&format!("continue={token}")).unwrap()), ["b=3", "c=red"]);
    }

    #[test]
    fn what_cannot_be_served_is_said() {
        let mut world = World::new(1);
        for name in ["a", "b", "c"] {
            world.write(name, Some("red"));
        }
        for (query, code) in [
            ("continue=zzz", 400),
            ("resourceVersion=99", 504),
            ("resourceVersion=1&resourceVersionMatch=Exact", 410),
            ("resourceVersion=1", 200),
        ] {
            assert_eq!(world.list(query).map_or_else(|error| error.code(), |_| 200), code, "{query}");
        }
    }
}
