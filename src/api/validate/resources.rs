//! Requests and limits.
//!
//! Source:   `ValidateContainerResourceRequirements` of core.

use super::at::At;
use super::{Errors, FieldError, each, name};
use crate::api::quantity::Quantity;

const NOT_A_QUANTITY: &str = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// The `resources` of a container.
pub(super) fn requirements(at: &At<'_>, out: &mut Errors) {
    let (limits, requests) = (at.get("limits"), at.get("requests"));
    for (resource, value) in limits.entries() {
        list_entry(resource, &value, out);
    }
    let names = || limits.entries().chain(requests.entries()).map(|(resource, _)| resource);
    for (resource, value) in requests.entries() {
        let Some(request) = list_entry(resource, &value, out) else { continue };
        let limit = limits.get(resource);
        match quantity(&limit) {
            Some(most) if is_never_shared(resource) && request != most => {
                out.push(FieldError::invalid(
                    &requests.path,
                    shown(&value),
                    &format!("must be equal to {resource} limit of {}", shown(&limit)),
                ));
            }
            Some(most) if request > most => {
                let words = format!("must be less than or equal to {resource} limit of {}", shown(&limit));
                out.push(FieldError::invalid(&requests.path, shown(&value), &words));
            }
            None if is_never_shared(resource) && !limit.is_set() => {
                out.push(FieldError::required(&limits.path, "Limit must be set for non overcommitable resources"));
            }
            _ => {}
        }
    }
    if names().any(is_huge) && !names().any(|resource| matches!(resource, "cpu" | "memory")) {
        out.push(at.forbidden("HugePages require cpu or memory"));
    }
}

/// One entry of a resource list: its name and its amount.
fn list_entry(resource: &str, value: &At<'_>, out: &mut Errors) -> Option<Quantity> {
    let faults = name::qualified(resource);
    if !faults.is_empty() {
        out.extend(faults.iter().map(|fault| FieldError::invalid(&value.path, resource, fault)));
    } else if !resource.contains('/') && !is_standard(resource) {
        out.push(FieldError::invalid(&value.path, resource, "must be a standard resource type or fully qualified"));
        out.push(FieldError::invalid(&value.path, resource, "must be a standard resource for containers"));
    }
    let amount = amount(value, out)?;
    if is_extended(resource) && amount.milli % 1000 != 0 {
        out.push(FieldError::invalid(&value.path, shown(value), "must be an integer"));
    }
    Some(amount)
}

/// An amount: a quantity that is not negative.
pub(super) fn amount(value: &At<'_>, out: &mut Errors) -> Option<Quantity> {
    let Some(quantity) = quantity(value) else {
        each(value, vec![NOT_A_QUANTITY.to_owned()], out);
        return None;
    };
    if quantity.milli < 0 {
        out.push(FieldError::invalid(&value.path, shown(value), "must be greater than or equal to 0"));
    }
    Some(quantity)
}

fn is_standard(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory" | "ephemeral-storage") || is_huge(resource)
}

fn is_huge(resource: &str) -> bool {
    resource.starts_with("hugepages-")
}

/// What is given to one container as a whole: a request is a limit.
fn is_never_shared(resource: &str) -> bool {
    is_extended(resource) || is_huge(resource)
}

/// A device or other thing that is not shared: `example.com/camera`.
fn is_extended(resource: &str) -> bool {
    resource.contains('/') && !resource.starts_with("kubernetes.io/") && !resource.contains(".kubernetes.io/")
}

fn quantity(at: &At<'_>) -> Option<Quantity> {
    if at.value().is_number() { Quantity::parse(&at.value().to_string()) } else { Quantity::parse(at.text()) }
}

fn shown(at: &At<'_>) -> String {
    if at.value().is_number() { at.value().to_string() } else { at.text().to_owned() }
}
