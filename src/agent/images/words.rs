//! What a runtime says of a fetch that failed, with what a person can do about it.
//!
//! In:       Docker's words.
//! Out:      the same words, with advice before or behind them where we know some. Nothing is decided by it but [`disk_is_full`].

use crate::api::image;

/// Advice by what Docker's words contain. Texts: containerd, the distribution project, Go's TLS and the Linux kernel.
const ADVICE: &[(&[&str], &str)] = &[
    (
        &["x509: certificate signed by unknown authority", "certificate is not trusted", "certificate relies on legacy"],
        "this node does not trust the certificate of registry {registry}: put the certificate of its CA on the node, as {etc}/certs.d/{registry}/ca.crt",
    ),
    (
        &["x509: certificate is valid for", "x509: cannot validate certificate"],
        "the certificate of registry {registry} is for another name",
    ),
    (&["x509: certificate has expired"], "the certificate of registry {registry} has expired, or this node's clock is wrong"),
    (&["server gave HTTP response to HTTPS client"], "registry {registry} has no TLS: name it {plain}, or give it a certificate"),
    (
        &["no basic auth credentials", "authentication required", "unauthorized", "denied: requested access"],
        "registry {registry} wants other credentials: see the pod's imagePullSecrets",
    ),
    (&["toomanyrequests", "Too Many Requests"], "registry {registry} allows no more pulls for now"),
    (&["no such host", "server misbehaving"], "the name of registry {registry} is not known in this network"),
    (
        &[
            "unexpected EOF",
            "failed to verify",
            "digest mismatch",
            "Digest did not match",
            "invalid checksum",
            "unexpected end of JSON",
            "archive/tar",
            "gzip: invalid",
            "filesystem layer verification failed",
        ],
        "what registry {registry} holds of it is damaged, or the line broke in between",
    ),
];

/// Where an engine's files lie, and where it is told of a registry without TLS.
type Places = (&'static str, &'static str);
const DOCKER: Places = ("/etc/docker", "under \"insecure-registries\" in the node's /etc/docker/daemon.json");
const PODMAN: Places = ("/etc/containers", "with `insecure = true` in the node's /etc/containers/registries.conf");
/// What Podman alone says before the words that both have from Go. Source: containers/image.
const PODMANS: &[&str] = &["initializing source", "pinging container registry"];

/// Whether the disk has no room for an image.
#[must_use]
pub fn disk_is_full(words: &str) -> bool {
    words.contains("no space left on device") || words.contains("disk quota exceeded")
}

/// Whether a registry says that these credentials, or none at all, do not do.
#[must_use]
pub fn is_denied(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    ["unauthorized", "denied", "no basic auth", "authentication required", "incorrect username"]
        .iter()
        .any(|word| words.contains(word))
}

/// Why an image could not be fetched, for a person.
#[must_use]
pub fn explained(image: &str, words: &str) -> String {
    let words = words.trim();
    if disk_is_full(words) {
        return format!(
            "the node's disk is full: images that no container uses were looked for and removed if Bramble fetched them; `docker system df` on the node shows what else takes room ({words})"
        );
    }
    match ADVICE.iter().find(|(signs, _)| signs.iter().any(|sign| words.contains(sign))) {
        Some((_, advice)) => {
            let (etc, plain) = if PODMANS.iter().any(|sign| words.contains(sign)) { PODMAN } else { DOCKER };
            let advice = advice.replace("{etc}", etc).replace("{plain}", plain);
            format!("{words} ({})", advice.replace("{registry}", &image::registry(image)))
        }
        None => words.to_owned(),
    }
}

/// What those words begin with.
pub const EXEC_FORMAT: &str = "exec format error";

/// Whether a container's last words are the kernel's for a program that is made for another machine, or for none.
#[must_use]
pub fn is_exec_format(log: &str) -> bool {
    log.lines().rev().take(3).any(|line| line.trim_end().ends_with(EXEC_FORMAT))
}

/// What such a container is to a person.
#[must_use]
pub fn exec_format(image: &str, made_for: Option<&str>, node: &str) -> String {
    match made_for.filter(|made_for| *made_for != node && !made_for.is_empty()) {
        Some(made_for) => {
            format!(
                "exec format error: image \"{image}\" says {made_for}, and the program in it does not run on this {node} node"
            )
        }
        None => format!(
            "exec format error: the program in image \"{image}\" is not made for this {node} node, or is a script without its first line (#!/bin/sh)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_docker_get_advice() {
        for (words, advice) in [
            ("Get \"https://r:5/v2/\": x509: certificate signed by unknown authority", "/etc/docker/certs.d/r:5/ca.crt"),
            ("Get \"https://r:5/v2/\": http: server gave HTTP response to HTTPS client", "insecure-registries"),
            ("Head \"https://r:5/v2/a/manifests/1\": no basic auth credentials", "imagePullSecrets"),
            (
                "initializing source docker://r:5/a:1: pinging container registry r:5: Get \"https://r:5/v2/\": http: server gave HTTP response to HTTPS client",
                "with `insecure = true` in the node's /etc/containers/registries.conf",
            ),
            (
                "pinging container registry r:5: x509: certificate signed by unknown authority",
                "/etc/containers/certs.d/r:5/ca.crt",
            ),
            ("write /var/lib/docker/tmp/x: no space left on device", "the node's disk is full"),
            ("filesystem layer verification failed for digest sha256:0", "damaged"),
        ] {
            let told = explained("r:5/a:1", words);
            assert!(told.contains(words) && told.contains(advice), "{told}");
        }
        assert_eq!(explained("a", " manifest unknown\n"), "manifest unknown");
        assert!(is_denied("unauthorized: authentication required") && !is_denied("manifest unknown"));
    }

    #[test]
    fn the_kernels_words_are_known_in_a_log() {
        assert!(is_exec_format("exec /bin/prog: exec format error\n"));
        assert!(is_exec_format("standard_init_linux.go:228: exec user process caused: exec format error\nx\n"));
        assert!(!is_exec_format("exec format error happened once, said my program\nall well\n"));
        assert!(exec_format("a", Some("linux/arm64"), "linux/amd64").contains("says linux/arm64"));
    }
}
