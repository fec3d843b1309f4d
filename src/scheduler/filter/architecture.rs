//! A node does not take a pod with an image that is known to be made for other machines only.

use super::{Candidate, Misfit, NodeInfo, Rule};

/// Whether the node runs all images of the pod, as far as that is known. One that is on the node already is not asked about.
///
/// # Errors
/// When one of them is made for others only.
pub fn fits(pod: &Candidate<'_>, node: &NodeInfo) -> Result<(), Misfit> {
    let Some(platforms) = &node.platforms else { return Ok(()) };
    let here = || pod.images.iter().all(|image| node.images.contains_key(&crate::api::image::tagged(image)));
    if pod.made_for.iter().all(|made_for| platforms.best(made_for).is_some()) || here() {
        return Ok(());
    }
    Err(Misfit::new(Rule::Architecture, "node(s) had an architecture the image is not made for"))
}

#[cfg(test)]
mod tests {
    use super::super::test::{node, pod};
    use super::*;
    use crate::api::image::Platform;
    use serde_json::json;

    #[test]
    fn what_is_known_of_images_keeps_pods_from_nodes_that_do_not_run_them() {
        let object = pod(json!({"containers": [{"image": "a"}, {"image": "b:1"}]}));
        let pi = |platforms: &str, images: serde_json::Value| node(json!({"status.images": images})).with_platforms(platforms);
        let verdict = |made_for: &[&[&str]], node: &NodeInfo| {
            let mut candidate = Candidate::of(&object);
            candidate.made_for =
                made_for.iter().map(|list| list.iter().filter_map(|text| Platform::parse(text)).collect()).collect();
            fits(&candidate, node).is_ok()
        };
        for (platforms, made_for, fit) in [
            ("linux/arm64", &[&["linux/amd64", "linux/arm64"][..]][..], true),
            ("linux/arm64", &[&["linux/amd64", "linux/arm64"], &["linux/amd64"]], false),
            ("linux/arm64,linux/amd64", &[&["linux/amd64"]], true),
            ("linux/arm/v6", &[&["linux/arm/v7"]], false),
            ("linux/arm64", &[&["linux/arm/v7"]], true),
            ("linux/arm64", &[], true),
        ] {
            assert_eq!(verdict(made_for, &pi(platforms, json!([]))), fit, "{platforms} {made_for:?}");
        }
        let both = json!([{"names": ["a:latest"], "sizeBytes": 1}, {"names": ["b:1"], "sizeBytes": 1}]);
        assert!(verdict(&[&["linux/amd64"]], &pi("linux/arm64", both)), "what is there already is the node's to judge");
    }
}
