//! Answers one request: asks the deciders, writes what they plan, and feeds watches and logs.
//!
//! In:       a [`Request`] that `http.rs` read.
//! Out:      a [`Reply`]: bytes, or a stream of them.
//! Never:    decides; a verb that lost a race against another writer is asked again with the newer view.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::registry::{self, Subresource};
use crate::api::status::{ApiError, MODIFIED};
use crate::api::{Key, Revision};
use crate::clock::{Clock, Now};
use crate::error::Chain;
use crate::link::call::{Calls, Chunks};
use crate::rng::Rng;
use crate::store::batch::MOST;
use crate::store::{Batch, JournalError, Op, Store, View, WriteError};

use super::admission::{self, Cluster};
use super::auth::{self, Impersonation, User};
use super::limit::Limiter;
use super::negotiate::{Form, Offer, names, negotiate};
use super::options::{AsOf, DeleteOptions, ListOptions, WriteOptions};
use super::route::{Method, Query, Route, Target, Verb, route};
use super::table::{Include, Shape, bytes};
use super::verbs::{Answer, Body, Outcome, below, create, delete, read, update};
use super::watch::Watch;
use super::watch::run::Feed;
use super::{discovery, identify, intake, join, metrics, openapi, streams};

/// How often a write that lost a race is planned anew. A patch without a revision wins in the end; with one, the plan itself refuses.
const ATTEMPTS: usize = 100;
/// How long a watch lasts when the client says nothing: 30 to 60 minutes, so that not all come back at once.
const WATCH_SECONDS: std::ops::Range<usize> = 1800..3600;
/// How long whoever brings a bad token waits for the answer.
const BAD_TOKEN: Duration = Duration::from_millis(500);
/// How long a node may take to begin with a log before the answer begins without it.
const LOG_BEGINS: Duration = Duration::from_secs(3);

/// A request, free of HTTP's types.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Its path, as it came.
    pub path: String,
    /// Its query, as it came.
    pub query: String,
    /// `Accept`
    pub accept: String,
    /// `Content-Type`
    pub content_type: String,
    /// `If-None-Match`
    pub if_none_match: String,
    /// Who asks; `None` without a certificate.
    pub user: Option<User>,
    /// Where they are.
    pub peer: Option<IpAddr>,
    /// The token that they brought.
    pub bearer: Option<String>,
    /// Whom they want to be instead.
    pub instead: Option<Impersonation>,
    /// Its body.
    pub body: Bytes,
}

/// Bytes that come as they come.
pub type Lines = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// What a reply carries.
pub enum ReplyBody {
    /// All of it.
    Whole(Bytes),
    /// A watch or a log.
    Stream(Lines),
}

/// What is sent back.
pub struct Reply {
    /// The HTTP code.
    pub code: u16,
    /// `Content-Type`
    pub content_type: &'static str,
    /// Other headers.
    pub headers: Vec<(&'static str, String)>,
    /// What it carries.
    pub body: ReplyBody,
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const NO_CACHE: (&str, &str) = ("cache-control", "no-cache, private");

impl Reply {
    fn whole(code: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { code, content_type, headers: Vec::new(), body: ReplyBody::Whole(body.into()) }
    }

    fn with(mut self, (name, value): (&'static str, &str)) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// A failure as a `Status`.
    #[must_use]
    pub fn failure(error: &ApiError) -> Self {
        let reply = Self::whole(error.code(), JSON, bytes(&error.to_status())).with(NO_CACHE);
        match error.retry_after_seconds() {
            Some(seconds) => reply.with(("retry-after", &seconds.to_string())),
            None => reply,
        }
    }
}

/// The API over one store; cheap to clone.
#[derive(Clone)]
pub struct Api {
    store: Store,
    calls: Arc<dyn Calls>,
    clock: Arc<dyn Clock>,
    cluster: Arc<Cluster>,
    ids: Arc<Mutex<Rng>>,
    strangers: Arc<Mutex<Limiter>>,
}

impl Api {
    /// The API over a store; `calls` reaches the nodes for logs.
    #[must_use]
    pub fn new(store: Store, calls: Arc<dyn Calls>, clock: Arc<dyn Clock>, cluster: Cluster) -> Self {
        Self {
            store,
            calls,
            clock,
            cluster: Arc::new(cluster),
            ids: Arc::new(Mutex::new(Rng::from_os("api"))),
            strangers: Arc::default(),
        }
    }

    /// Writes what an empty cluster has to have; does nothing when it is all there.
    ///
    /// # Errors
    /// When the store cannot keep it.
    pub async fn bootstrap(&self) -> Result<(), WriteError> {
        let wall = self.clock.now().wall;
        let ops = self.store.view(|view| admission::bootstrap(view, &self.cluster, wall, &mut self.ids()));
        if ops.is_empty() {
            return Ok(());
        }
        self.store.write(Batch(ops)).await.map(|_| ())
    }

    /// Writes where pods reach the API from now on.
    ///
    /// # Errors
    /// When the store cannot keep it, or somebody wrote it at the same time.
    pub async fn reached_at(&self, address: SocketAddr) -> Result<(), WriteError> {
        let wall = self.clock.now().wall;
        let op = self.store.view(|view| admission::reached_at(view, Some(address), wall, &mut self.ids()));
        match op {
            Some(op) => self.store.write(op.into()).await.map(|_| ()),
            None => Ok(()),
        }
    }

    fn ids(&self) -> std::sync::MutexGuard<'_, Rng> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a request. Streams end when `stop` is cancelled.
    pub async fn handle(&self, request: Request, stop: &CancellationToken) -> Reply {
        match self.answer(&request, stop).await {
            Ok(reply) => reply,
            Err(error) => {
                if error.code() >= 500 {
                    tracing::warn!(path = %request.path, %error, "request failed");
                }
                Reply::failure(&error)
            }
        }
    }

    async fn answer(&self, request: &Request, stop: &CancellationToken) -> Result<Reply, ApiError> {
        let query = Query::parse(&request.query);
        let routed = route(request.method, &request.path, &query);
        let came = self.came(request, routed.as_ref().ok()).await?;
        let user = auth::authorize(came.as_ref(), request.instead.as_ref(), &request.path, routed.as_ref().ok())?;
        match routed? {
            Route::Health => Ok(Reply::whole(200, TEXT, "ok").with(NO_CACHE)),
            Route::Version => Ok(Reply::whole(200, JSON, bytes(&discovery::version())).with(NO_CACHE)),
            Route::ApiVersions => self.discovered(request, discovery::Root::Core),
            Route::Groups => self.discovered(request, discovery::Root::Groups),
            Route::Group(name) => plain(request, &discovery::group(&name)?),
            Route::Resources { group, version } => plain(request, &discovery::resource_list(&group, &version)?),
            Route::OpenApiV2 => {
                if !names(&request.accept, openapi::V2_ACCEPT) && !names(&request.accept, openapi::V2_TYPE) {
                    return Err(ApiError::NotAcceptable(format!(
                        "only the following media types are accepted: {}",
                        openapi::V2_ACCEPT
                    )));
                }
                Ok(Reply::whole(200, openapi::V2_TYPE, openapi::v2()))
            }
            Route::OpenApiIndex => plain(request, &openapi::index()),
            Route::OpenApi(path) => self.openapi(request, &path),
            Route::Review(review) => {
                negotiate(&request.accept, Offer::Plain)?;
                // Its words do not change the answer, so what cannot be read is taken as no words.
                let asked = intake::read(&request.content_type, &request.body, review.kind)
                    .map(|decoded| decoded.value)
                    .unwrap_or_default();
                let answer = review.answer(&asked, &user, self.clock.now().wall);
                Ok(Reply::whole(201, JSON, bytes(&answer)).with(NO_CACHE))
            }
            Route::Identify(node) => self.identify(&node, &query).await,
            Route::Object(Verb::Get, target) if target.subresource == Some(Subresource::Log) => {
                self.log(&target, &query, stop).await
            }
            Route::Object(verb, target) => {
                let form = negotiate(&request.accept, Offer::Objects)?;
                let shape = Shape { form, include: Include::of(&query), now: self.clock.now().wall };
                match verb {
                    Verb::Get | Verb::List if metrics::has(target.resource) => {
                        let answer = metrics::run::answer(&self.store, &self.calls, &target, &query, shape.now).await?;
                        Ok(replied(&answer, &target, shape))
                    }
                    Verb::Watch => self.watch(target, &query, shape, stop),
                    _ => {
                        let answer = self.object(verb, &target, request, &query, &user).await?;
                        if let (true, Body::Object(object)) = (join::only_joins(&user), &answer.body)
                            && !join::may_see(&user, object)
                        {
                            return Err(ApiError::NotFound { resource: target.resource, name: target.name().to_owned() });
                        }
                        Ok(replied(&answer, &target, shape))
                    }
                }
            }
        }
    }

    /// Who came: by certificate, by token, or nobody. Nobodies, and whoever brings a bad token, are heard only so often.
    async fn came(&self, request: &Request, route: Option<&Route>) -> Result<Option<User>, ApiError> {
        if let Some(user) = &request.user {
            if self.store.view(|view| join::is_refused(view, user)) {
                return Err(ApiError::Unauthorized);
            }
            return Ok(Some(user.clone()));
        }
        let now = self.clock.now();
        let known = request.bearer.as_ref().map(|bearer| self.store.view(|view| join::authenticate(view, bearer, now.wall)));
        if let Some(Ok(user)) = known {
            return Ok(Some(user));
        }
        let counts = known.is_some() || route.is_some_and(join::may);
        if let Some(peer) = request.peer.filter(|_| counts) {
            let heard = self.strangers.lock().unwrap_or_else(PoisonError::into_inner).takes(peer, now.tick);
            if !heard {
                return Err(ApiError::TooManyRequests("too many requests without a good token: try again later".to_owned()));
            }
        }
        if known.is_some() {
            // Guessing is slow.
            tokio::time::sleep(BAD_TOKEN).await;
            return Err(ApiError::Unauthorized);
        }
        Ok(None)
    }

    fn discovered(&self, request: &Request, root: discovery::Root) -> Result<Reply, ApiError> {
        let (document, content_type) = match (negotiate(&request.accept, Offer::Discovery)?, root) {
            (Form::Discovery("v2beta1"), _) => (
                discovery::aggregated(root, "v2beta1"),
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
            ),
            (Form::Discovery(_), _) => {
                (discovery::aggregated(root, "v2"), "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
            }
            (_, discovery::Root::Core) => {
                let address = self.cluster.advertise.map(|address| address.to_string()).unwrap_or_default();
                (discovery::api_versions(&address), JSON)
            }
            (_, discovery::Root::Groups) => (discovery::group_list(), JSON),
        };
        Ok(tagged(request, content_type, bytes(&document)).with(("cache-control", "public")))
    }

    /// The addresses of these documents carry their hash, so they never change.
    fn openapi(&self, request: &Request, path: &str) -> Result<Reply, ApiError> {
        const YEAR_MILLIS: i64 = 365 * 24 * 3600 * 1000;
        let document = openapi::document(path).ok_or(ApiError::NoSuchPath)?;
        let reply = tagged(request, JSON, bytes(&document));
        if !request.query.contains("hash=") {
            return Ok(reply.with(NO_CACHE));
        }
        let expires = http_date(self.clock.now().wall.0.saturating_add(YEAR_MILLIS));
        Ok(reply.with(("cache-control", "public, immutable")).with(("expires", &expires)))
    }

    async fn object(
        &self,
        verb: Verb,
        target: &Target,
        request: &Request,
        query: &Query,
        user: &User,
    ) -> Result<Answer, ApiError> {
        let resource = target.resource;
        let key = read::key_of(target);
        let (content_type, body) = (request.content_type.as_str(), &request.body);
        match verb {
            Verb::Get if target.subresource == Some(Subresource::Scale) => self.store.view(|view| below::get_scale(view, &key)),
            Verb::Get => self.store.view(|view| read::get(view, &key).cloned()).map(Answer::object),
            Verb::List | Verb::Watch => {
                let options = ListOptions::parse(query, resource)?;
                let page = self.list(target, &options)?;
                Ok(Answer { code: 200, body: Body::List(page), warnings: Vec::new() })
            }
            Verb::Create => self.create(target, &key, request, query, user).await,
            Verb::Update => {
                let options = WriteOptions::parse(query, "UpdateOptions")?;
                if target.subresource == Some(Subresource::Scale) {
                    let scale = intake::read(content_type, body, "Scale")?.value;
                    return self.write(&key, |view, _, _| below::put_scale(view, &key, &scale, options)).await;
                }
                let taken = intake::object(resource, content_type, body, options.validation)?;
                if target.subresource == Some(Subresource::Finalize) {
                    return self.write(&key, |view, _, _| below::finalize(view, &key, &taken, options)).await;
                }
                let part = update::part(target.subresource);
                self.write(&key, |view, _, _| update::update(view, &key, part, &taken, &self.cluster, options)).await
            }
            Verb::Patch => {
                let options = WriteOptions::parse(query, "PatchOptions")?;
                let patch = update::Patch::read(content_type, body)?;
                if target.subresource == Some(Subresource::Scale) {
                    return self.write(&key, |view, _, _| below::patch_scale(view, &key, &patch, options)).await;
                }
                let part = update::part(target.subresource);
                self.write(&key, |view, _, _| update::patch(view, &key, part, &patch, &self.cluster, options)).await
            }
            Verb::Delete => {
                let options = DeleteOptions::parse(query, &intake::read(content_type, body, "DeleteOptions")?.value)?;
                self.write(&key, |view, now, _| delete::delete(view, &key, &options, now)).await
            }
            Verb::DeleteCollection => {
                let options = DeleteOptions::parse(query, &intake::read(content_type, body, "DeleteOptions")?.value)?;
                let list = ListOptions::parse(query, resource)?;
                self.write(&key, |view, now, _| delete::delete_collection(view, target, &list, &options, now)).await
            }
        }
    }

    async fn create(
        &self,
        target: &Target,
        key: &Key,
        request: &Request,
        query: &Query,
        user: &User,
    ) -> Result<Answer, ApiError> {
        let options = WriteOptions::parse(query, "CreateOptions")?;
        let (content_type, body) = (request.content_type.as_str(), &request.body);
        match target.subresource {
            Some(Subresource::Binding) => {
                let binding = intake::read(content_type, body, "Binding")?.value;
                self.write(key, |view, now, _| below::bind(view, key, &binding, options, now)).await
            }
            Some(Subresource::Eviction) => {
                let eviction = intake::read(content_type, body, "Eviction")?.value;
                let own = eviction.get("deleteOptions").cloned().unwrap_or(Value::Null);
                let delete = DeleteOptions::parse(query, &own)?;
                self.write(key, |view, now, _| below::evict(view, key, &eviction, &delete, now)).await
            }
            _ => {
                let mut taken = intake::object(target.resource, content_type, body, options.validation)?;
                let asks = *target.resource == registry::CERTIFICATE_SIGNING_REQUESTS;
                if asks {
                    join::stamp(user, request.peer, &mut taken.object);
                }
                let new = create::New { resource: target.resource, namespace: target.namespace(), taken: &taken, options };
                self.write(key, |view, now, ids| {
                    if asks {
                        join::admit(view, user, &taken.object)?;
                    }
                    create::create(view, &new, &self.cluster, now, ids)
                })
                .await
            }
        }
    }

    fn list(&self, target: &Target, options: &ListOptions) -> Result<read::Page, ApiError> {
        let snapshot = self.store.view(|view| read::Snapshot::take(view, target));
        read::list(snapshot, target, options, |revision| self.store.changes_since(revision, usize::MAX))
    }

    /// Plans and writes; plans anew when another writer was faster.
    async fn write(
        &self,
        key: &Key,
        plan: impl Fn(&View, Now, &mut Rng) -> Result<Outcome, ApiError> + Send + Sync,
    ) -> Result<Answer, ApiError> {
        for _ in 0..ATTEMPTS {
            let now = self.clock.now();
            let (ops, answer) = match self.store.view(|view| plan(view, now, &mut self.ids()))? {
                Outcome::Answer(answer) => return Ok(answer),
                Outcome::Write(ops, answer) => (ops, answer),
            };
            match self.commit(ops).await {
                Ok(revision) => return Ok(answer.written_at(revision)),
                Err(WriteError::Conflict { key, found }) => tracing::debug!(%key, ?found, "lost a race"),
                Err(error) => return Err(not_kept(&error)),
            }
        }
        Err(ApiError::Conflict { resource: key.resource, name: key.name.clone(), why: MODIFIED.to_owned() })
    }

    async fn commit(&self, mut ops: Vec<Op>) -> Result<Revision, WriteError> {
        loop {
            let rest = ops.split_off(ops.len().min(MOST));
            let revision = self.store.write(Batch(ops)).await?;
            if rest.is_empty() {
                return Ok(revision);
            }
            ops = rest;
        }
    }

    fn watch(&self, target: Target, query: &Query, shape: Shape, stop: &CancellationToken) -> Result<Reply, ApiError> {
        let mut options = ListOptions::parse(query, target.resource)?;
        if let Some(name) = &target.name {
            options.selectors.fields = std::mem::take(&mut options.selectors.fields).and_name(name);
        }
        let target = Target { name: None, ..target };
        // The bell first, so that nothing falls between the list and the changes.
        let bell = self.store.bell();
        let (cursor, initial) = match options.as_of {
            AsOf::AtLeast(Revision(0)) => {
                let page = self.list(&target, &ListOptions { limit: None, token: None, ..options.clone() })?;
                (page.revision, VecDeque::from(page.items))
            }
            AsOf::AtLeast(revision) | AsOf::Exactly(revision) => (revision, VecDeque::new()),
        };
        let drawn = WATCH_SECONDS.start + self.ids().below(WATCH_SECONDS.len());
        let seconds = options.timeout_seconds.unwrap_or(drawn.try_into().unwrap_or(u64::MAX)).min(24 * 3600);
        let feed = Feed {
            store: self.store.clone(),
            clock: self.clock.clone(),
            watch: Watch::new(target, options.selectors, shape, cursor),
            initial,
            bell,
            bookmarks: options.bookmarks,
            ends: Instant::now() + Duration::from_secs(seconds),
            stop: stop.clone(),
            over: false,
        };
        let lines = feed.lines();
        let content_type =
            if matches!(shape.form, Form::Table(_)) { "application/json;as=Table;v=v1;g=meta.k8s.io" } else { JSON };
        Ok(Reply { code: 200, content_type, headers: Vec::new(), body: ReplyBody::Stream(lines) }.with(NO_CACHE))
    }

    /// Has a node's LEDs blink, and says how many there are.
    async fn identify(&self, node: &str, query: &Query) -> Result<Reply, ApiError> {
        let question = identify::question(query)?;
        self.store.view(|view| read::get(view, &Key::new(&registry::NODES, "", node)).map(drop))?;
        let answer = self.calls.ask(node, question, identify::WITHIN).await;
        Ok(Reply::whole(200, JSON, bytes(&identify::reply(node, answer)?)).with(NO_CACHE))
    }

    async fn log(&self, target: &Target, query: &Query, stop: &CancellationToken) -> Result<Reply, ApiError> {
        let now = self.clock.now().wall;
        let (node, call) = self.store.view(|view| {
            let pod = read::get(view, &read::key_of(target))?;
            streams::log_call(pod, query, now)
        })?;
        let mut chunks = self.calls.logs(&node, call);
        let first = tokio::select! {
            first = tokio::time::timeout(LOG_BEGINS, chunks.recv()) => first,
            () = stop.cancelled() => return Err(ApiError::Unavailable("the API server is stopping".to_owned())),
        };
        let first = match first {
            Ok(Some(Ok(chunk))) => Some(chunk),
            Ok(Some(Err(error))) => return Err(streams::call_failed(error)),
            Ok(None) => return Ok(Reply::whole(200, TEXT, Bytes::new()).with(NO_CACHE)),
            // It is quiet, so the answer begins.
            Err(_) => None,
        };
        let rest = stream::unfold((chunks, stop.clone()), |(mut chunks, stop)| async move {
            let chunk = next_chunk(&mut chunks, &stop).await?;
            Some((chunk, (chunks, stop)))
        });
        let body = futures_util::StreamExt::chain(stream::iter(first), rest);
        Ok(Reply { code: 200, content_type: TEXT, headers: Vec::new(), body: ReplyBody::Stream(Box::pin(body)) }.with(NO_CACHE))
    }
}

async fn next_chunk(chunks: &mut Chunks, stop: &CancellationToken) -> Option<Bytes> {
    let item = tokio::select! {
        () = stop.cancelled() => return None,
        item = chunks.recv() => item?,
    };
    // The code was sent already: what broke off the log can only be said in it.
    Some(item.unwrap_or_else(|error| {
        chunks.close();
        Bytes::from(format!("bramble: the log ends here: {error}\n"))
    }))
}

/// What was not written, with what to do about it where the journal knows: whoever reads this may not see the master's log.
fn not_kept(error: &WriteError) -> ApiError {
    let fix = match error {
        WriteError::Journal(cause) => cause.downcast_ref::<JournalError>().map(JournalError::fix),
        WriteError::Conflict { .. } | WriteError::Size(_) | WriteError::Closed => None,
    };
    ApiError::Internal(format!("{}{}", Chain(error), fix.map(|fix| format!("; {fix}")).unwrap_or_default()))
}

fn plain(request: &Request, document: &Value) -> Result<Reply, ApiError> {
    negotiate(&request.accept, Offer::Plain)?;
    Ok(tagged(request, JSON, bytes(document)).with(NO_CACHE))
}

/// A document with its ETag; 304 when the client has it.
fn tagged(request: &Request, content_type: &'static str, body: Vec<u8>) -> Reply {
    let tag = discovery::etag(&body);
    let known = request.if_none_match.split(',').any(|known| known.trim().trim_start_matches("W/") == tag);
    let reply = if known { Reply::whole(304, content_type, Bytes::new()) } else { Reply::whole(200, content_type, body) };
    reply.with(("etag", &tag)).with(("vary", "Accept"))
}

fn replied(answer: &Answer, target: &Target, shape: Shape) -> Reply {
    let body = match &answer.body {
        Body::Object(object) => shape.object(target.resource, object),
        Body::List(page) => shape.list(page),
        Body::Document(document) => bytes(document),
    };
    let mut reply = Reply::whole(answer.code, JSON, body).with(NO_CACHE);
    for warning in &answer.warnings {
        reply.headers.push(("warning", format!("299 - \"{}\"", quoted(warning))));
    }
    reply
}

/// As HTTP's quoted strings want it.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            letter if letter.is_control() => out.push(' '),
            letter => out.push(letter),
        }
    }
    out
}

fn http_date(millis: i64) -> String {
    const FORMAT: &[time::format_description::BorrowedFormatItem<'_>] =
        time::macros::format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    time::OffsetDateTime::from_unix_timestamp(millis.div_euclid(1000))
        .ok()
        .and_then(|at| at.format(FORMAT).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_written_as_http_wants_them() {
        assert_eq!(http_date(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(quoted("unknown field \"a\\b\"\n"), "unknown field \\\"a\\\\b\\\" ");
    }
}
