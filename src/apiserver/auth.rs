//! Who asks, and whether they may.
//!
//! In:       the certificate's identity, and what the request is about.
//! Out:      a [`User`]; 401 for nobody, 403 for somebody who may not; the answers of the self-reviews.
//! Rule:     `system:masters` may do everything. Who has a token or nothing may ask to join (`join.rs`). Nobody else may do
//!           more than ask who they are: a node talks to the
//!           master over its link, never here. Roles come with their own issue.

use serde_json::{Value, json};

use crate::api::status::ApiError;
use crate::clock::Wall;
use crate::tls::Identity;

use super::join;
use super::route::{Route, Target, Verb, subresource_name};

/// The group that may do everything.
pub const MASTERS: &str = "system:masters";

/// Somebody who proved who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The certificate's CN.
    pub name: String,
    /// The certificate's O, and `system:authenticated`.
    pub groups: Vec<String>,
    /// The fingerprint of the certificate's key; empty for who has none.
    pub key: String,
}

impl User {
    fn new(name: &str, groups: &[String]) -> Self {
        let mut groups = groups.to_vec();
        groups.push("system:authenticated".to_owned());
        Self { name: name.to_owned(), groups, key: String::new() }
    }

    /// The user of a certificate.
    #[must_use]
    pub fn of(identity: &Identity) -> Self {
        Self::new(&identity.common_name, &identity.organizations)
    }

    /// Who may do everything: the user of a server without TLS, in tests.
    #[must_use]
    pub fn admin() -> Self {
        Self::new("bramble-admin", &[MASTERS.to_owned()])
    }

    /// Whether they may do everything.
    #[must_use]
    pub fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }
}

/// Whom a request wants to be instead: `kubectl --as`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Impersonation {
    /// `Impersonate-User`
    pub user: String,
    /// `Impersonate-Group`
    pub groups: Vec<String>,
}

/// A question that is answered and not stored.
#[derive(Debug, PartialEq, Eq)]
pub struct Review {
    /// Its group.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its kind.
    pub kind: &'static str,
    /// Its plural.
    pub plural: &'static str,
    /// What it asks.
    pub question: Question,
}

/// What a review asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Who am I?
    WhoAmI,
    /// May I do this?
    MayI,
    /// What may I do?
    WhatMayI,
}

/// All reviews. kubectl 1.27 asks for `whoami` in `v1beta1` only.
pub static REVIEWS: &[Review] = &[
    Review {
        group: "authentication.k8s.io",
        version: "v1",
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        question: Question::WhoAmI,
    },
    Review {
        group: "authentication.k8s.io",
        version: "v1beta1",
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        question: Question::WhoAmI,
    },
    Review {
        group: "authorization.k8s.io",
        version: "v1",
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        question: Question::MayI,
    },
    Review {
        group: "authorization.k8s.io",
        version: "v1",
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
        question: Question::WhatMayI,
    },
];

/// The review at a path.
#[must_use]
pub fn review(group: &str, version: &str, segments: &[&str]) -> Option<&'static Review> {
    let [plural] = segments else { return None };
    REVIEWS.iter().find(|review| (review.group, review.version, review.plural) == (group, version, *plural))
}

impl Review {
    /// The answer: the question with its status. `asked` is the body, when it could be read.
    #[must_use]
    pub fn answer(&self, asked: &Value, user: &User, now: Wall) -> Value {
        let status = match self.question {
            Question::WhoAmI => json!({"userInfo": {"username": user.name, "groups": user.groups}}),
            Question::MayI if user.is_master() => json!({"allowed": true, "reason": format!("{MASTERS} may do everything")}),
            Question::MayI => json!({"allowed": false, "reason": format!("only {MASTERS} may do anything here")}),
            Question::WhatMayI if user.is_master() => json!({
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
                "incomplete": false,
            }),
            Question::WhatMayI => json!({"resourceRules": [], "nonResourceRules": [], "incomplete": false}),
        };
        let mut answer = json!({
            "kind": self.kind,
            "apiVersion": format!("{}/{}", self.group, self.version),
            "metadata": {"creationTimestamp": crate::api::time::rfc3339(now)},
            "status": status,
        });
        if let (Some(spec), Some(map)) = (asked.get("spec"), answer.as_object_mut()) {
            map.insert("spec".to_owned(), spec.clone());
        } else if self.question != Question::WhoAmI
            && let Some(map) = answer.as_object_mut()
        {
            map.insert("spec".to_owned(), json!({}));
        }
        answer
    }
}

/// Who the request is done as, and that they may do it. `None` for what is open to everybody.
///
/// # Errors
/// 401 without an identity, 403 when they may not.
pub fn authorize(
    user: Option<&User>,
    instead: Option<&Impersonation>,
    path: &str,
    route: Option<&Route>,
) -> Result<User, ApiError> {
    if matches!(route, Some(Route::Health | Route::Version)) {
        return Ok(user.cloned().unwrap_or_else(join::anonymous));
    }
    if let Some(route) = route
        && instead.is_none()
        && user.is_none_or(join::only_joins)
        && join::may(route)
    {
        return Ok(user.cloned().unwrap_or_else(join::anonymous));
    }
    let user = user.ok_or(ApiError::Unauthorized)?;
    let user = match instead {
        None => user.clone(),
        Some(other) if user.is_master() => User::new(&other.user, &other.groups),
        Some(other) => {
            let message = format!(
                "users \"{}\" is forbidden: User \"{}\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope",
                other.user, user.name
            );
            return Err(ApiError::Forbidden(message));
        }
    };
    match route {
        _ if user.is_master() => Ok(user),
        Some(Route::Review(_)) => Ok(user),
        Some(Route::Object(verb, target)) => Err(ApiError::Forbidden(refusal(&user, *verb, target))),
        Some(Route::Identify(node)) => Err(ApiError::Forbidden(format!(
            "nodes \"{node}\" is forbidden: User \"{}\" cannot create resource \"nodes/proxy\" in API group \"\" at the cluster scope",
            user.name
        ))),
        _ => Err(ApiError::Forbidden(format!("forbidden: User \"{}\" cannot get path \"{path}\"", user.name))),
    }
}

fn refusal(user: &User, verb: Verb, target: &Target) -> String {
    let resource = target.resource;
    let named = if target.name().is_empty() { String::new() } else { format!(" \"{}\"", target.name()) };
    let below = target.subresource.map_or(String::new(), |below| format!("/{}", subresource_name(below)));
    let place = match &target.namespace {
        Some(namespace) => format!("in the namespace \"{namespace}\""),
        None => "at the cluster scope".to_owned(),
    };
    format!(
        "{}{named} is forbidden: User \"{}\" cannot {} resource \"{}{below}\" in API group \"{}\" {place}",
        resource.qualified(),
        user.name,
        verb.as_str(),
        resource.plural,
        resource.group,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::route::{Method, Query, route};

    fn node() -> User {
        User::of(&Identity { common_name: "bramble-1".into(), organizations: vec![] })
    }

    fn asked(user: Option<&User>, path: &str) -> Result<User, (u16, String)> {
        let route = route(Method::Get, path, &Query::default()).ok();
        authorize(user, None, path, route.as_ref()).map_err(|error| (error.code(), error.to_string()))
    }

    #[test]
    fn masters_may_all_nodes_nothing_and_nobody_is_nobody() {
        let admin = User::of(&Identity { common_name: "bramble-admin".into(), organizations: vec![MASTERS.into()] });
        assert_eq!(asked(Some(&admin), "/api/v1/pods"), Ok(admin));
        assert_eq!(asked(None, "/api/v1/pods"), Err((401, "Unauthorized".into())));
        assert_eq!(asked(None, "/nothing"), Err((401, "Unauthorized".into())));
        assert!(asked(None, "/readyz").is_ok());
        assert_eq!(
            asked(Some(&node()), "/api/v1/namespaces/a/pods/web/log"),
            Err((403, "pods \"web\" is forbidden: User \"bramble-1\" cannot get resource \"pods/log\" in API group \"\" in the namespace \"a\"".into()))
        );
        assert_eq!(asked(Some(&node()), "/apis"), Err((403, "forbidden: User \"bramble-1\" cannot get path \"/apis\"".into())));
    }

    #[test]
    fn only_masters_may_be_somebody_else() {
        let bob = Impersonation { user: "bob".into(), groups: vec![] };
        let route = Route::Review(&REVIEWS[0]);
        assert_eq!(authorize(Some(&User::admin()), Some(&bob), "/", Some(&route)).map(|user| user.name), Ok("bob".to_owned()));
        assert_eq!(
            authorize(Some(&User::admin()), Some(&bob), "/apis", Some(&Route::Groups)).map_err(|error| error.code()),
            Err(403)
        );
        assert_eq!(authorize(Some(&node()), Some(&bob), "/", Some(&route)).map_err(|error| error.code()), Err(403));
    }

    #[test]
    fn reviews_answer_for_the_one_who_asks() {
        let may = REVIEWS.iter().find(|review| review.question == Question::MayI).unwrap();
        let asked = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
        let answer = may.answer(&asked, &User::admin(), Wall(0));
        assert_eq!((&answer["status"]["allowed"], &answer["spec"]), (&json!(true), &asked["spec"]));
        assert_eq!(may.answer(&asked, &node(), Wall(0))["status"]["allowed"], json!(false));
        assert_eq!(REVIEWS[0].answer(&json!({}), &node(), Wall(0))["status"]["userInfo"]["username"], json!("bramble-1"));
    }
}
