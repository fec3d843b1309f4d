//! Which thing and which verb a request means.
//!
//! In:       method, path and query, as they came.
//! Out:      a [`Route`]; a path that is not there is 404, a verb that is not 405.
//! Never:    reads the body or the store.

use crate::api::Resource;
use crate::api::registry::{self, Subresource};
use crate::api::status::ApiError;

use super::auth::{self, Review};
use super::metrics;

/// The HTTP methods that mean something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Creates.
    Post,
    /// Replaces.
    Put,
    /// Changes a part.
    Patch,
    /// Deletes.
    Delete,
    /// Anything else: never allowed.
    Other,
}

/// What is to be done to an object or a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// One object.
    Get,
    /// A collection.
    List,
    /// A collection's changes, or one object's.
    Watch,
    /// A new object.
    Create,
    /// The whole object anew.
    Update,
    /// A part of it.
    Patch,
    /// One object.
    Delete,
    /// Those that a selector selects.
    DeleteCollection,
}

impl Verb {
    /// As authorisation and discovery write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        }
    }
}

/// The object or the collection that a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which resource.
    pub resource: &'static Resource,
    /// `None`: cluster scope, or all namespaces.
    pub namespace: Option<String>,
    /// `None`: the collection.
    pub name: Option<String>,
    /// What stands below the object.
    pub subresource: Option<Subresource>,
}

impl Target {
    /// The name; empty for a collection.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// The namespace; empty for cluster scope.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }
}

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/version`
    Version,
    /// `/healthz`, `/livez`, `/readyz`
    Health,
    /// `/api`
    ApiVersions,
    /// `/apis`
    Groups,
    /// `/apis/<group>`
    Group(String),
    /// `/api/v1` or `/apis/<group>/<version>`
    Resources {
        /// `""` for core.
        group: String,
        /// For example `v1`.
        version: String,
    },
    /// `/openapi/v2`
    OpenApiV2,
    /// `/openapi/v3`
    OpenApiIndex,
    /// `/openapi/v3/<api/v1 | apis/group/version>`
    OpenApi(String),
    /// A question about the user that is answered and not stored.
    Review(&'static Review),
    /// `/api/v1/nodes/NAME/proxy/identify`: this node's LEDs are to blink.
    Identify(String),
    /// An object or a collection.
    Object(Verb, Target),
}

/// The query of a request, decoded, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=b&c=d%20e`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(&key.replace('+', " ")), percent_decode(&value.replace('+', " ")))
        });
        Self(pairs.collect())
    }

    /// The first value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The first value of a key that is not empty.
    #[must_use]
    pub fn given(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|value| !value.is_empty())
    }

    /// All values of a key.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Whether a key says true: `watch=1`, `watch=true`, `watch`.
    #[must_use]
    pub fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| !matches!(value, "0" | "false" | "False" | "FALSE" | "f"))
    }

    /// A whole number.
    ///
    /// # Errors
    /// 400 when it is none.
    pub fn number(&self, key: &str) -> Result<Option<i64>, ApiError> {
        self.given(key)
            .map(|text| {
                text.parse().map_err(|_| ApiError::BadRequest(format!("the query parameter {key} is no whole number: {text:?}")))
            })
            .transpose()
    }
}

fn percent_decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let escaped = || -> Option<u8> {
            let mut ahead = bytes.clone();
            let digit =
                |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok());
            Some(digit(ahead.next())? << 4 | digit(ahead.next())?)
        };
        match byte {
            b'%' => match escaped() {
                Some(plain) => {
                    out.push(plain);
                    bytes.nth(1);
                }
                None => out.push(byte),
            },
            _ => out.push(byte),
        }
    }
    String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// What the request is about.
///
/// # Errors
/// 404 for a path, 405 for a verb that is not there.
pub fn route(method: Method, path: &str, query: &Query) -> Result<Route, ApiError> {
    let segments: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(percent_decode).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let fixed = match segments.as_slice() {
        ["version"] => Route::Version,
        ["healthz" | "livez" | "readyz", ..] => Route::Health,
        ["api"] => Route::ApiVersions,
        ["apis"] => Route::Groups,
        ["apis", group] => Route::Group((*group).to_owned()),
        ["api", version] => Route::Resources { group: String::new(), version: (*version).to_owned() },
        ["apis", group, version] => Route::Resources { group: (*group).to_owned(), version: (*version).to_owned() },
        ["openapi", "v2"] => Route::OpenApiV2,
        ["openapi", "v3"] => Route::OpenApiIndex,
        ["openapi", "v3", rest @ ..] => Route::OpenApi(rest.join("/")),
        ["api", "v1", "nodes", node, "proxy", "identify"] if method == Method::Post => {
            return Ok(Route::Identify((*node).to_owned()));
        }
        ["api", "v1", "nodes", _, "proxy", "identify"] => return Err(ApiError::MethodNotAllowed),
        ["api", version, rest @ ..] => return object(method, "", version, rest, query),
        ["apis", group, version, rest @ ..] => return object(method, group, version, rest, query),
        _ => return Err(ApiError::NoSuchPath),
    };
    if method == Method::Get { Ok(fixed) } else { Err(ApiError::MethodNotAllowed) }
}

fn object(method: Method, group: &str, version: &str, segments: &[&str], query: &Query) -> Result<Route, ApiError> {
    if let Some(review) = auth::review(group, version, segments) {
        return if method == Method::Post { Ok(Route::Review(review)) } else { Err(ApiError::MethodNotAllowed) };
    }
    // A namespace is an object itself, and the place of others.
    let (namespace, plural, rest) = match segments {
        ["namespaces", _, "status" | "finalize"] | ["namespaces"] | ["namespaces", _] if group.is_empty() => {
            (None, "namespaces", segments.get(1..).unwrap_or_default())
        }
        ["namespaces", namespace, plural, rest @ ..] => (Some(*namespace), *plural, rest),
        [plural, rest @ ..] => (None, *plural, rest),
        [] => return Err(ApiError::NoSuchPath),
    };
    let resource = registry::by_path(group, version, plural)
        .or_else(|| metrics::by_path(group, version, plural))
        .ok_or(ApiError::NoSuchPath)?;
    let (name, subresource) = match rest {
        [] => (None, None),
        [name] => (Some(*name), None),
        [name, below] => (Some(*name), Some(subresource(resource, below)?)),
        _ => return Err(ApiError::NoSuchPath),
    };
    let placed = resource.namespaced == namespace.is_some();
    let across = resource.namespaced && name.is_none();
    if !placed && !across {
        return Err(ApiError::NoSuchPath);
    }
    let verb = match (subresource, name) {
        (Some(below), _) => verb_below(method, below),
        (None, Some(_)) => match method {
            Method::Get if query.flag("watch") => Some(Verb::Watch),
            Method::Get => Some(Verb::Get),
            Method::Put => Some(Verb::Update),
            Method::Patch => Some(Verb::Patch),
            Method::Delete => Some(Verb::Delete),
            Method::Post | Method::Other => None,
        },
        (None, None) => match method {
            Method::Get if query.flag("watch") => Some(Verb::Watch),
            Method::Get => Some(Verb::List),
            Method::Post if placed => Some(Verb::Create),
            Method::Delete if placed && *resource != registry::NAMESPACES => Some(Verb::DeleteCollection),
            _ => None,
        },
    };
    let target = Target { resource, namespace: namespace.map(str::to_owned), name: name.map(str::to_owned), subresource };
    verb.filter(|verb| !metrics::has(resource) || verbs_of(resource).contains(verb))
        .map(|verb| Route::Object(verb, target))
        .ok_or(ApiError::MethodNotAllowed)
}

fn subresource(resource: &Resource, name: &str) -> Result<Subresource, ApiError> {
    resource.subresources.iter().copied().find(|below| subresource_name(*below) == name).ok_or(ApiError::NoSuchPath)
}

/// The last segment of a subresource's path.
#[must_use]
pub fn subresource_name(subresource: Subresource) -> &'static str {
    match subresource {
        Subresource::Status => "status",
        Subresource::Scale => "scale",
        Subresource::Log => "log",
        Subresource::Binding => "binding",
        Subresource::Eviction => "eviction",
        Subresource::EphemeralContainers => "ephemeralcontainers",
        Subresource::Finalize => "finalize",
        Subresource::Approval => "approval",
    }
}

fn verb_below(method: Method, subresource: Subresource) -> Option<Verb> {
    let verb = match method {
        Method::Get => Verb::Get,
        Method::Post => Verb::Create,
        Method::Put => Verb::Update,
        Method::Patch => Verb::Patch,
        Method::Delete | Method::Other => return None,
    };
    verbs_below(subresource).contains(&verb).then_some(verb)
}

/// What can be done to a subresource.
#[must_use]
pub fn verbs_below(subresource: Subresource) -> &'static [Verb] {
    match subresource {
        Subresource::Status | Subresource::Scale | Subresource::EphemeralContainers | Subresource::Approval => {
            &[Verb::Get, Verb::Patch, Verb::Update]
        }
        Subresource::Log => &[Verb::Get],
        Subresource::Binding | Subresource::Eviction => &[Verb::Create],
        Subresource::Finalize => &[Verb::Update],
    }
}

/// What can be done to a resource itself, in the order of discovery.
#[must_use]
pub fn verbs_of(resource: &Resource) -> Vec<Verb> {
    let all = [Verb::Create, Verb::Delete, Verb::DeleteCollection, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch];
    if metrics::has(resource) {
        return vec![Verb::Get, Verb::List];
    }
    all.into_iter().filter(|verb| *verb != Verb::DeleteCollection || *resource != registry::NAMESPACES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(method: Method, path: &str) -> String {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        match route(method, path, &Query::parse(query)) {
            Ok(Route::Object(verb, at)) => {
                let below = at.subresource.map_or("", subresource_name);
                format!("{} {:?} {} {} {below}", verb.as_str(), at.resource, at.namespace(), at.name()).trim_end().to_owned()
            }
            Ok(other) => format!("{other:?}"),
            Err(error) => error.code().to_string(),
        }
    }

    #[test]
    fn paths_and_methods_mean_what_they_mean_in_kubernetes() {
        use Method::{Delete, Get, Other, Patch, Post, Put};
        for (method, path, meaning) in [
            (Get, "/api/v1/pods", "list pods"),
            (Get, "/api/v1/pods?watch=1", "watch pods"),
            (Get, "/api/v1/pods?watch=false", "list pods"),
            (Post, "/api/v1/pods", "405"),
            (Delete, "/api/v1/pods", "405"),
            (Get, "/api/v1/pods/web", "404"),
            (Post, "/api/v1/namespaces/a/pods", "create pods a"),
            (Post, "/api/v1/namespaces/a/pods/web", "405"),
            (Get, "/api/v1/namespaces/a/pods/web", "get pods a web"),
            (Get, "/api/v1/namespaces/a/pods/web?watch=true", "watch pods a web"),
            (Put, "/api/v1/namespaces/a/pods/web/status", "update pods a web status"),
            (Get, "/api/v1/namespaces/a/pods/web/log", "get pods a web log"),
            (Post, "/api/v1/namespaces/a/pods/web/log", "405"),
            (Post, "/api/v1/namespaces/a/pods/web/eviction", "create pods a web eviction"),
            (Get, "/api/v1/namespaces/a/pods/web/nothing", "404"),
            (Get, "/api/v1/namespaces/a/pods/web/log/x", "404"),
            (Get, "/api/v1/namespaces/a", "get namespaces  a"),
            (Post, "/api/v1/namespaces", "create namespaces"),
            (Delete, "/api/v1/namespaces", "405"),
            (Put, "/api/v1/namespaces/a/finalize", "update namespaces  a finalize"),
            (Patch, "/api/v1/namespaces/a/status", "patch namespaces  a status"),
            (Get, "/api/v1/namespaces/a/nodes", "404"),
            (Delete, "/api/v1/nodes", "deletecollection nodes"),
            (Get, "/api/v1/nodes/pi", "get nodes  pi"),
            (Post, "/api/v1/nodes/pi/proxy/identify?seconds=5", "Identify(\"pi\")"),
            (Get, "/api/v1/nodes/pi/proxy/identify", "405"),
            (Post, "/api/v1/nodes/pi/proxy/run", "404"),
            (Post, "/api/v1/nodes/pi/proxy", "404"),
            (Delete, "/apis/apps/v1/namespaces/a/deployments", "deletecollection deployments.apps a"),
            (Patch, "/apis/apps/v1/namespaces/a/deployments/web/scale", "patch deployments.apps a web scale"),
            (Get, "/apis/apps/v1/namespaces/a/dep%6Coyments/w%65b", "get deployments.apps a web"),
            (Get, "/apis/apps/v2/deployments", "404"),
            (Get, "/apis/metrics.k8s.io/v1beta1/namespaces/a/pods", "list pods.metrics.k8s.io a"),
            (Get, "/apis/metrics.k8s.io/v1beta1/nodes/pi", "get nodes.metrics.k8s.io  pi"),
            (Get, "/apis/metrics.k8s.io/v1beta1/pods?watch=1", "405"),
            (Delete, "/apis/metrics.k8s.io/v1beta1/nodes/pi", "405"),
            (Other, "/api/v1/pods", "405"),
            (Get, "/", "404"),
            (Get, "/api", "ApiVersions"),
            (Post, "/api", "405"),
            (Get, "/openapi/v3/apis/apps/v1", "OpenApi(\"apis/apps/v1\")"),
            (Get, "/readyz/ping", "Health"),
        ] {
            assert_eq!(told(method, path), meaning, "{method:?} {path}");
        }
    }

    #[test]
    fn a_query_is_decoded_and_broken_escapes_stay() {
        let query = Query::parse("labelSelector=app%20in%20%28a%2Cb%29&x=100%&watch&n=z+z&limit=five");
        assert_eq!(query.get("labelSelector"), Some("app in (a,b)"));
        assert_eq!((query.get("x"), query.get("n"), query.flag("watch")), (Some("100%"), Some("z z"), true));
        assert_eq!(query.number("limit").map_err(|error| error.code()), Err(400));
    }
}
