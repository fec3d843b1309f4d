//! What form of an answer a client wants, by its `Accept` header.
//!
//! In:       the header's text.
//! Out:      the first acceptable [`Form`], in the client's order of preference; 406 when there is none.
//! Note:     answers are JSON always; kubectl 1.32 and later ask for protobuf first and take JSON.

use crate::api::status::ApiError;

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The object or list itself.
    Plain,
    /// `meta.k8s.io` Table of this version.
    Table(&'static str),
    /// Only the metadata of objects.
    Metadata,
    /// `apidiscovery.k8s.io` group list of this version.
    Discovery(&'static str),
}

/// What a request can be answered with besides plain JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Objects: tables and metadata.
    Objects,
    /// Discovery documents: aggregated ones.
    Discovery,
    /// Plain JSON only.
    Plain,
}

/// The first form that is accepted and offered.
///
/// # Errors
/// 406 when there is none.
pub fn negotiate(accept: &str, offer: Offer) -> Result<Form, ApiError> {
    if accept.trim().is_empty() {
        return Ok(Form::Plain);
    }
    let mut ranges: Vec<(f32, Range<'_>)> = accept.split(',').map(Range::parse).collect();
    // Stable: among equals the client's order holds.
    ranges.sort_by(|a, b| b.0.total_cmp(&a.0));
    ranges
        .iter()
        .filter(|(quality, _)| *quality > 0.0)
        .find_map(|(_, range)| range.form(offer))
        .ok_or_else(|| ApiError::NotAcceptable("only the following media types are accepted: application/json".to_owned()))
}

/// Whether a header accepts this media type by name (parameters aside).
#[must_use]
pub fn names(accept: &str, media_type: &str) -> bool {
    accept.split(',').any(|range| Range::parse(range).1.media_type.eq_ignore_ascii_case(media_type))
}

struct Range<'a> {
    media_type: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> (f32, Self) {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let parameters: Vec<_> = parts
            .filter_map(|part| part.split_once('='))
            .map(|(key, value)| (key.trim(), value.trim().trim_matches('"')))
            .collect();
        let quality = parameters.iter().find(|(key, _)| *key == "q").and_then(|(_, value)| value.parse().ok()).unwrap_or(1.0);
        (quality, Self { media_type, parameters })
    }

    fn parameter(&self, key: &str) -> &str {
        self.parameters.iter().find(|(name, _)| *name == key).map_or("", |(_, value)| value)
    }

    fn form(&self, offer: Offer) -> Option<Form> {
        if !matches!(self.media_type.to_ascii_lowercase().as_str(), "application/json" | "application/*" | "*/*") {
            return None;
        }
        match (self.parameter("as"), self.parameter("g"), self.parameter("v"), offer) {
            ("", ..) => Some(Form::Plain),
            ("Table", "meta.k8s.io", "v1", Offer::Objects) => Some(Form::Table("v1")),
            ("Table", "meta.k8s.io", "v1beta1", Offer::Objects) => Some(Form::Table("v1beta1")),
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1", Offer::Objects) => Some(Form::Metadata),
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2", Offer::Discovery) => Some(Form::Discovery("v2")),
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2beta1", Offer::Discovery) => Some(Form::Discovery("v2beta1")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_we_can_make_wins() {
        const TABLE: &str =
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        for (accept, offer, form) in [
            ("", Offer::Objects, Some(Form::Plain)),
            ("*/*", Offer::Objects, Some(Form::Plain)),
            (TABLE, Offer::Objects, Some(Form::Table("v1"))),
            (TABLE, Offer::Plain, Some(Form::Plain)),
            ("application/json;as=Table;v=v1;g=meta.k8s.io", Offer::Plain, None),
            (DISCOVERY, Offer::Discovery, Some(Form::Discovery("v2"))),
            (
                "application/json;v=v2beta1;g=apidiscovery.k8s.io;as=APIGroupDiscoveryList,application/json",
                Offer::Discovery,
                Some(Form::Discovery("v2beta1")),
            ),
            ("application/vnd.kubernetes.protobuf,application/json", Offer::Objects, Some(Form::Plain)),
            ("application/vnd.kubernetes.protobuf, */*", Offer::Objects, Some(Form::Plain)),
            ("application/vnd.kubernetes.protobuf", Offer::Objects, None),
            ("application/json;q=0.1, application/json;as=Table;v=v1;g=meta.k8s.io", Offer::Objects, Some(Form::Table("v1"))),
            ("application/json;q=0", Offer::Objects, None),
            ("text/html", Offer::Objects, None),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Offer::Objects, Some(Form::Metadata)),
        ] {
            assert_eq!(negotiate(accept, offer).ok(), form, "{accept}");
        }
    }
}
