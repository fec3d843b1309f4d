//! What a node keeps on its disk: the last whole share and whose it is, so that a reboot without master or network still starts
//! the pods. One JSON document, written whole and renamed, only when the share changes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::link::share::Share;

/// The format of the file.
const VERSION: u32 = 1;

/// What is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The store that is obeyed.
    pub store: String,
    /// The share.
    pub share: Arc<Share>,
}

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Not what we write.
    #[error("the kept share is damaged")]
    Malformed(#[from] serde_json::Error),
    /// By another version.
    #[error("the kept share has format {0}, understood is {VERSION}")]
    Version(u32),
    /// Its digest does not fit.
    #[error("the kept share fails its checksum")]
    Digest,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    store: String,
    digest: String,
    share: Share,
}

/// As bytes.
#[must_use]
pub fn encode(store: &str, share: &Share) -> Vec<u8> {
    let document = Document { version: VERSION, store: store.to_owned(), digest: share.digest(), share: share.clone() };
    // String keys only: cannot fail.
    serde_json::to_vec(&document).unwrap_or_default()
}

/// From bytes.
///
/// # Errors
/// When they are not a whole checkpoint of this format.
pub fn decode(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let document: Document = serde_json::from_slice(bytes)?;
    if document.version != VERSION {
        return Err(CheckpointError::Version(document.version));
    }
    if document.share.digest() != document.digest {
        return Err(CheckpointError::Digest);
    }
    Ok(Checkpoint { store: document.store, share: Arc::new(document.share) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_or_changed_file_is_never_taken_for_a_share() {
        let mut share = Share::default();
        let object = crate::api::Object::from_value(serde_json::json!({"data": {"a": "b"}})).unwrap();
        share.config_maps.insert("a/b".into(), Arc::new(object));
        let bytes = encode("s1", &share);
        assert_eq!(decode(&bytes).unwrap(), Checkpoint { store: "s1".into(), share: Arc::new(share) });
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let changed = String::from_utf8(bytes).unwrap().replace(r#""a":"b""#, r#""a":"c""#);
        assert!(matches!(decode(changed.as_bytes()), Err(CheckpointError::Digest)));
    }
}
