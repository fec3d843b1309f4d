//! A node that has the pod's images already is better: nothing has to come over a home's line, and onto a card.
//!
//! Source:   upstream's ImageLocality: the bytes that are there, between 23 MB and 1000 MB a container, with the weight of one
//!           resource score. We differ in that it does not matter on how many nodes an image is: pods of one owner are spread anyway.

use super::{Candidate, NodeInfo};
use crate::api::image::tagged;

const LEAST: i64 = 23_000_000;
const MOST: i64 = 1_000_000_000;

/// 0 to 100 000; more is better.
#[must_use]
pub fn score(pod: &Candidate<'_>, node: &NodeInfo) -> i64 {
    let count = i64::try_from(pod.images.len()).unwrap_or(1);
    let here: i64 = pod.images.iter().filter_map(|image| node.images.get(&tagged(image))).sum();
    let most = MOST.saturating_mul(count);
    if count == 0 { 0 } else { here.clamp(LEAST, most).saturating_sub(LEAST).saturating_mul(100_000) / (most - LEAST) }
}

#[cfg(test)]
mod tests {
    use super::super::super::filter::test::{node, pod};
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_here_counts_by_its_size() {
        let pi = node(json!({"status.images": [{"names": ["a@sha256:0", "a:latest"], "sizeBytes": 511_500_000},
            {"names": ["small:1"], "sizeBytes": 2_000_000}]}));
        for (images, wanted) in
            [(json!([{"image": "a"}]), 50_000), (json!([{"image": "small:1"}]), 0), (json!([{"image": "b"}]), 0), (json!([]), 0)]
        {
            let object = pod(json!({"containers": images}));
            assert_eq!(score(&Candidate::of(&object), &pi), wanted);
        }
    }
}
