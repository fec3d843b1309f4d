//! What somebody who is no user yet may do: ask to become a node.
//!
//! ```text
//!              reads kube-public/cluster-info   asks for a node's certificate      reads its request
//! with token   yes                              yes; a controller says yes         those of its own token
//! without      yes                              yes; a person says yes or no       those without a token
//! ```
//! In:       a bearer token, a route, a request.
//! Out:      the user, or 401, 403, 429.
//! Never:    more than [`MOST_PENDING`] requests wait without a token, and one request a key; how often somebody may try is
//!           `limit.rs`' to say.
//! Source:   Kubernetes' bootstrap tokens; anonymous requests are ours.

use crate::api::certificates::Request;
use crate::api::core::join::{
    ADDRESS, ANONYMOUS, CLUSTER_INFO, FINGERPRINT, MODEL, SERIAL, SIGNER, TOKEN_GROUP, TOKEN_TYPE, TOKEN_USER, Token, record_key,
    record_refuses, request_name, same_secret, secret_text, token_expired,
};
use crate::api::status::ApiError;
use crate::api::{Object, registry};
use crate::clock::Wall;
use crate::pkcs10;
use crate::store::View;

use super::auth::User;
use super::route::{Route, Verb};

/// So many requests without a token wait at one time.
pub const MOST_PENDING: usize = 32;
/// The longest annotation of such a request.
const LONGEST: usize = 128;

/// Who comes with this token.
///
/// # Errors
/// 401 for one that is unknown, wrong, over, or not for this.
pub fn authenticate(view: &View, bearer: &str, now: Wall) -> Result<User, ApiError> {
    let token = Token::parse(bearer).filter(|token| token.pin.is_none()).ok_or(ApiError::Unauthorized)?;
    let secret = view.get(&Token::key(&token.id)).ok_or(ApiError::Unauthorized)?;
    let good = secret.str_at(&["type"]) == TOKEN_TYPE
        && !secret.is_deleting()
        && secret_text(secret, "token-id") == token.id
        && same_secret(&secret_text(secret, "token-secret"), &token.secret)
        && !token_expired(secret, now)
        && secret_text(secret, "usage-bootstrap-authentication") == "true";
    if !good {
        return Err(ApiError::Unauthorized);
    }
    let groups = [TOKEN_GROUP, "system:authenticated"].map(str::to_owned).to_vec();
    Ok(User { name: format!("{TOKEN_USER}{}", token.id), groups, key: String::new() })
}

/// Who comes with nothing.
#[must_use]
pub fn anonymous() -> User {
    User { name: ANONYMOUS.to_owned(), groups: vec!["system:unauthenticated".to_owned()], key: String::new() }
}

/// Whether this user is one who may only join.
#[must_use]
pub fn only_joins(user: &User) -> bool {
    user.name == ANONYMOUS || (user.name.starts_with(TOKEN_USER) && user.groups.iter().any(|group| group == TOKEN_GROUP))
}

/// Whether a certificate is no longer that node's: it was removed, or has another key now.
#[must_use]
pub fn is_refused(view: &View, user: &User) -> bool {
    !user.key.is_empty() && view.get(&record_key(&user.name)).is_some_and(|record| record_refuses(record, &user.key))
}

/// Whether the route is one that they need.
#[must_use]
pub fn may(route: &Route) -> bool {
    let Route::Object(verb, target) = route else { return false };
    if target.subresource.is_some() {
        return false;
    }
    if *target.resource == registry::CERTIFICATE_SIGNING_REQUESTS {
        return *verb == Verb::Create || (*verb == Verb::Get && target.name.is_some());
    }
    *target.resource == registry::CONFIG_MAPS && *verb == Verb::Get && (target.namespace(), target.name()) == CLUSTER_INFO
}

/// Whether they may see this one: their own.
#[must_use]
pub fn may_see(user: &User, object: &Object) -> bool {
    object.kind() != registry::CERTIFICATE_SIGNING_REQUESTS.kind || object.str_at(&["spec", "username"]) == user.name
}

/// Notes on a new request who asks: what the client wrote there does not count.
pub fn stamp(user: &User, from: Option<std::net::IpAddr>, object: &mut Object) {
    for field in ["username", "uid", "groups", "extra"] {
        object.remove_at(&["spec", field]);
    }
    object.set_at(&["spec", "username"], user.name.as_str());
    object.set_at(&["spec", "groups"], user.groups.clone());
    object.remove_at(&["metadata", "annotations", FINGERPRINT]);
    object.remove_at(&["metadata", "annotations", ADDRESS]);
    if let Some(from) = from {
        object.set_at(&["metadata", "annotations", ADDRESS], from.to_string());
    }
    if let Ok(asked) = pkcs10::read(&Request(object).pem()) {
        object.set_at(&["metadata", "annotations", FINGERPRINT], pkcs10::fingerprint(&asked.spki));
    }
}

/// Whether a new request may be made; already stamped.
///
/// # Errors
/// 400 for what is no request, 403 for what these may not ask, 429 when too many wait.
pub fn admit(view: &View, user: &User, object: &Object) -> Result<(), ApiError> {
    let bad = |why: &str| {
        let error = crate::api::validate::FieldError::invalid("spec.request", "…", why);
        ApiError::invalid(&registry::CERTIFICATE_SIGNING_REQUESTS, object.name(), vec![error])
    };
    let request = Request(object);
    if !only_joins(user) {
        return pkcs10::parse(&request.pem()).map(drop).map_err(|why| bad(&why.to_string()));
    }
    let refuse = |why: &str| ApiError::NotAdmitted {
        resource: &registry::CERTIFICATE_SIGNING_REQUESTS,
        name: object.name().to_owned(),
        why: format!("{} may only ask for a node's certificate: {why}", user.name),
    };
    if object.str_at(&["spec", "signerName"]) != SIGNER {
        return Err(refuse(&format!("the signer has to be {SIGNER}")));
    }
    let asked = pkcs10::read(&request.pem()).map_err(|why| bad(&why.to_string()))?;
    if !crate::api::core::join::is_node_name(&asked.common_name) {
        return Err(refuse("the subject's common name has to be a DNS-1123 label"));
    }
    if object.name() != request_name(&asked.common_name, &pkcs10::fingerprint(&asked.spki)) {
        return Err(refuse("the name has to be that of the node and its key"));
    }
    let known = [SERIAL, MODEL, ADDRESS, FINGERPRINT];
    let strange = object
        .strings_at(&["metadata", "annotations"])
        .any(|(key, value)| !known.contains(&key) || value.len() > LONGEST || value.chars().any(char::is_control));
    if strange || object.labels().next().is_some() || object.finalizers().next().is_some() || object.owners().next().is_some() {
        return Err(refuse("it carries what is not needed"));
    }
    let waits = |one: &&std::sync::Arc<Object>| Request(one).user() == ANONYMOUS;
    let waiting = view.list(&registry::CERTIFICATE_SIGNING_REQUESTS, None).filter(waits).count();
    if user.name == ANONYMOUS && waiting >= MOST_PENDING {
        return Err(ApiError::TooManyRequests(format!(
            "{MOST_PENDING} requests to join are there already: approve or deny some first (`bramble node list`)"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Key, Revision};
    use crate::apiserver::route::{Method, Query, route};
    use crate::store::{Batch, Op};
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;
    use serde_json::json;

    const NOW: Wall = Wall(1_767_229_200_000);

    fn with_token(change: impl Fn(&mut Object)) -> View {
        let text = |text: &str| STANDARD.encode(text);
        let mut secret = Object::from_value(json!({"metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
            "type": TOKEN_TYPE, "data": {"token-id": text("abcdef"), "token-secret": text("0123456789abcdef"),
            "expiration": text("2026-01-02T00:00:00Z"), "usage-bootstrap-authentication": text("true")}}))
        .unwrap();
        change(&mut secret);
        let mut view = View::new(Revision(1));
        view.apply(Revision(2), Op::create(Token::key("abcdef"), secret).into());
        view
    }

    #[test]
    fn a_token_is_somebody_as_long_as_it_is_good() {
        let good = with_token(|_| {});
        let user = authenticate(&good, "abcdef.0123456789abcdef", NOW).unwrap();
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert!(only_joins(&user));
        for bad in ["abcdef.0123456789abcdee", "abcdeg.0123456789abcdef", "", "Bearer", "abcdef.0123456789abcdef.aa"] {
            assert_eq!(authenticate(&good, bad, NOW), Err(ApiError::Unauthorized), "{bad}");
        }
        let refused = |change: fn(&mut Object)| authenticate(&with_token(change), "abcdef.0123456789abcdef", NOW).is_err();
        assert!(refused(|secret| secret.set_at(&["type"], "Opaque")));
        assert!(refused(|secret| secret.set_at(&["data", "expiration"], STANDARD.encode("2026-01-01T00:00:00Z"))));
        assert!(refused(|secret| secret.set_at(&["data", "expiration"], STANDARD.encode("soon"))));
        assert!(refused(|secret| drop(secret.remove_at(&["data", "usage-bootstrap-authentication"]))));
    }

    #[test]
    fn who_joins_may_do_three_things() {
        const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
        for (method, path, expected) in [
            (Method::Post, CSRS.to_owned(), true),
            (Method::Get, format!("{CSRS}/a"), true),
            (Method::Get, "/api/v1/namespaces/kube-public/configmaps/cluster-info".to_owned(), true),
            (Method::Get, CSRS.to_owned(), false),
            (Method::Get, format!("{CSRS}/a/approval"), false),
            (Method::Put, format!("{CSRS}/a/approval"), false),
            (Method::Delete, format!("{CSRS}/a"), false),
            (Method::Patch, format!("{CSRS}/a"), false),
            (Method::Get, "/api/v1/namespaces/kube-public/configmaps/other".to_owned(), false),
            (Method::Get, "/api/v1/namespaces/kube-system/configmaps/cluster-info".to_owned(), false),
            (Method::Get, "/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef".to_owned(), false),
            (Method::Get, "/apis".to_owned(), false),
        ] {
            let route = route(method, &path, &Query::default()).unwrap();
            assert_eq!(may(&route), expected, "{method:?} {path}");
        }
        let watched = route(Method::Get, &format!("{CSRS}/a"), &Query::parse("watch=1")).unwrap();
        assert!(!may(&watched));
    }

    fn asked(name: &str) -> Object {
        let key = pkcs10::new_key().unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let (pem, spki) = pkcs10::write(key.secret_der(), name).unwrap();
        Object::from_value(json!({"kind": "CertificateSigningRequest",
            "metadata": {"name": request_name(name, &pkcs10::fingerprint(&spki)), "annotations": {SERIAL: "1000"}},
            "spec": {"request": STANDARD.encode(pem), "signerName": SIGNER, "usages": ["client auth"], "username": "bramble-admin"}}))
        .unwrap()
    }

    #[test]
    fn a_request_says_who_asks_whatever_its_client_wrote() {
        let mut object = asked("shed");
        stamp(&anonymous(), None, &mut object);
        assert_eq!(object.str_at(&["spec", "username"]), ANONYMOUS);
        assert!(object.annotation(FINGERPRINT).unwrap().starts_with("SHA256:"));
        assert!(may_see(&anonymous(), &object) && !may_see(&User { name: "x".into(), ..User::default() }, &object));
        assert_eq!(admit(&View::new(Revision(1)), &anonymous(), &object), Ok(()));
    }

    #[test]
    fn without_a_token_only_a_request_of_its_shape_is_let_in() {
        for (change, words) in [
            ((|o| o.set_at(&["spec", "signerName"], "kubernetes.io/kube-apiserver-client")) as fn(&mut Object), "signer"),
            (|o| o.set_at(&["metadata", "name"], "other"), "name has to be"),
            (|o| o.set_at(&["metadata", "labels", "a"], "b"), "not needed"),
            (|o| o.set_at(&["metadata", "annotations", "a"], "b"), "not needed"),
            (|o| o.set_at(&["metadata", "annotations", SERIAL], "x".repeat(200)), "not needed"),
            (|o| o.set_at(&["spec", "request"], "eA=="), "PEM block type"),
        ] {
            let mut object = asked("shed");
            stamp(&anonymous(), None, &mut object);
            change(&mut object);
            let told = admit(&View::new(Revision(1)), &anonymous(), &object).unwrap_err().to_string();
            assert!(told.contains(words), "{told}");
        }
    }

    #[test]
    fn no_more_than_so_many_wait() {
        let mut view = View::new(Revision(1));
        let ops = (0..MOST_PENDING).map(|number| {
            let one = json!({"metadata": {"name": format!("n{number}")}, "spec": {"username": ANONYMOUS}});
            let one = Object::from_value(one).unwrap();
            Op::create(Key::of(&registry::CERTIFICATE_SIGNING_REQUESTS, &one), one)
        });
        view.apply(Revision(2), Batch(ops.collect()));
        let mut object = asked("shed");
        stamp(&anonymous(), None, &mut object);
        assert_eq!(admit(&view, &anonymous(), &object).unwrap_err().code(), 429);
        let token = User { name: "system:bootstrap:abcdef".into(), groups: vec![TOKEN_GROUP.into()], key: String::new() };
        stamp(&token, None, &mut object);
        assert_eq!(admit(&view, &token, &object), Ok(()), "a token does not wait behind strangers");
    }
}
