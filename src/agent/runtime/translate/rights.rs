//! From identity and rights to Docker's body and `HostConfig`.

use serde_json::{Value, json};

use super::set;
use crate::agent::runtime::{AppArmor, ContainerPlan, Seccomp, Security};

/// Puts rights into a container's `HostConfig`. `profile`: the content of the seccomp profile that it names.
pub(super) fn security(host: &mut Value, security: &Security, profile: Option<&str>) {
    if security.privileged {
        set(host, "Privileged", json!(true));
    }
    if !security.add.is_empty() {
        set(host, "CapAdd", json!(security.add));
    }
    if !security.drop.is_empty() {
        set(host, "CapDrop", json!(security.drop));
    }
    if security.read_only_root {
        set(host, "ReadonlyRootfs", json!(true));
    }
    if !security.groups.is_empty() {
        set(host, "GroupAdd", json!(security.groups.iter().map(u64::to_string).collect::<Vec<_>>()));
    }
    if security.unmasked_proc {
        // An empty list is not the same as none.
        set(host, "MaskedPaths", json!([]));
        set(host, "ReadonlyPaths", json!([]));
    }
    let mut options = Vec::new();
    if security.no_new_privileges {
        options.push("no-new-privileges".to_owned());
    }
    match (&security.seccomp, profile) {
        (Seccomp::Default, _) | (Seccomp::Localhost(_), None) => {}
        (Seccomp::Unconfined, _) => options.push("seccomp=unconfined".to_owned()),
        (Seccomp::Localhost(_), Some(profile)) => options.push(format!("seccomp={profile}")),
    }
    match &security.app_armor {
        None | Some(AppArmor::Default) => {}
        Some(AppArmor::Unconfined) => options.push("apparmor=unconfined".to_owned()),
        Some(AppArmor::Localhost(name)) => options.push(format!("apparmor={name}")),
    }
    options.extend(security.labels.iter().map(|(what, value)| format!("label={what}:{value}")));
    if !options.is_empty() {
        set(host, "SecurityOpt", json!(options));
    }
}

/// Whether the image has a say in who runs it.
#[must_use]
pub fn asks_image_user(security: &Security) -> bool {
    security.user.is_none() && (security.non_root || security.group.is_some())
}

/// `User` of a container's body; `None`: as the image says. `image_user` is the image's own word, `""` when it has none.
///
/// # Errors
/// In the kubelet's words, when the container must not run as root and would, or may. Source: upstream `verifyRunAsNonRoot`.
pub fn user(plan: &ContainerPlan, image_user: &str) -> Result<Option<String>, String> {
    let Security { user, group, non_root, .. } = plan.security;
    let of = || {
        let pod = &plan.pod;
        format!("(pod: \"{}_{}({})\", container: {})", pod.name, pod.namespace, pod.uid, plan.name)
    };
    // `user:group`, each a name or a number.
    let image_user = image_user.split(':').next().unwrap_or_default();
    if non_root {
        match (user, image_user.parse::<u64>()) {
            (Some(0), _) => return Err(format!("container's runAsUser breaks non-root policy {}", of())),
            (Some(_), _) | (None, Ok(1..)) => {}
            (None, Ok(0)) => return Err(format!("container has runAsNonRoot and image will run as root {}", of())),
            (None, Err(_)) if image_user.is_empty() => {
                return Err(format!("container has runAsNonRoot and image will run as root {}", of()));
            }
            (None, Err(_)) => {
                return Err(format!(
                    "container has runAsNonRoot and image has non-numeric user ({image_user}), cannot verify user is non-root {}",
                    of()
                ));
            }
        }
    }
    Ok(match (user, group) {
        (None, None) => None,
        (Some(user), None) => Some(user.to_string()),
        (Some(user), Some(group)) => Some(format!("{user}:{group}")),
        (None, Some(group)) if image_user.is_empty() => Some(format!("0:{group}")),
        (None, Some(group)) => Some(format!("{image_user}:{group}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::runtime::PodRef;

    #[test]
    fn who_runs_it_is_the_pods_word_else_the_images_and_root_only_where_it_may() {
        let root = "container has runAsNonRoot and image will run as root (pod: \"web_default(u)\", container: app)";
        let named = "container has runAsNonRoot and image has non-numeric user (www), cannot verify user is non-root (pod: \"web_default(u)\", container: app)";
        let breaks = "container's runAsUser breaks non-root policy (pod: \"web_default(u)\", container: app)";
        for (user, group, non_root, image, expected) in [
            (None, None, false, "", Ok(None)),
            (None, None, false, "www", Ok(None)),
            (Some(7), None, false, "www", Ok(Some("7"))),
            (Some(7), Some(8), false, "", Ok(Some("7:8"))),
            (Some(0), None, false, "", Ok(Some("0"))),
            (None, Some(8), false, "", Ok(Some("0:8"))),
            (None, Some(8), false, "www:www", Ok(Some("www:8"))),
            (None, Some(8), false, "5:6", Ok(Some("5:8"))),
            (Some(0), None, true, "", Err(breaks)),
            (Some(7), None, true, "root", Ok(Some("7"))),
            (None, None, true, "", Err(root)),
            (None, None, true, "0", Err(root)),
            (None, None, true, "0:7", Err(root)),
            (None, None, true, "7", Ok(None)),
            (None, Some(8), true, "7:7", Ok(Some("7:8"))),
            (None, None, true, "www", Err(named)),
        ] {
            let security = Security { user, group, non_root, ..Security::default() };
            let asks = asks_image_user(&security);
            let pod = PodRef { uid: "u".into(), namespace: "default".into(), name: "web".into() };
            let plan = ContainerPlan { pod, name: "app".into(), security, ..ContainerPlan::default() };
            let answer = super::user(&plan, image);
            assert_eq!(answer.as_ref().map(Option::as_deref).map_err(String::as_str), expected, "{user:?} {group:?} {image}");
            // Where the image is not asked, it makes no difference.
            assert!(asks || answer == super::user(&plan, "www"), "{user:?} {group:?} {image}");
        }
    }
}
