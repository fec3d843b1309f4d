//! A node's share: all that it should run, and what its pods need for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::api::{Object, Uid};

/// Everything that one node should have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Share {
    /// The pods that are bound to it, by uid: whole objects. One with a `deletionTimestamp` is to be stopped.
    pub pods: BTreeMap<Uid, Arc<Object>>,
    /// The config maps that these pods name, by `namespace/name`.
    pub config_maps: BTreeMap<String, Arc<Object>>,
    /// The secrets that these pods name, by `namespace/name`.
    pub secrets: BTreeMap<String, Arc<Object>>,
}
