//! Bytes ⇄ messages. Golden files pin the wire (`tests/golden/link/`).

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::message::SCHEMA;

/// No message of ours is larger; what is, is dropped unread.
pub const MOST_BYTES: usize = 64 * 1024;

/// Why a message is dropped.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Over [`MOST_BYTES`].
    #[error("{0} bytes are more than {MOST_BYTES}")]
    TooLarge(usize),
    /// Not the JSON that the topic carries.
    #[error("not understood")]
    Malformed(#[from] serde_json::Error),
    /// From a newer or older Bramble.
    #[error("schema version {0}, understood is {SCHEMA}")]
    Version(u32),
}

/// A message as bytes.
pub fn encode<T: Serialize>(message: &T) -> Bytes {
    // Our messages have string keys only, so this cannot fail; an empty payload would be dropped by the receiver.
    Bytes::from(serde_json::to_vec(message).unwrap_or_default())
}

/// Bytes as a message.
///
/// # Errors
/// When it is too large, malformed, or of another schema version.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    #[derive(serde::Deserialize)]
    struct Version {
        v: u32,
    }
    if bytes.len() > MOST_BYTES {
        return Err(CodecError::TooLarge(bytes.len()));
    }
    let Version { v } = serde_json::from_slice(bytes)?;
    if v != SCHEMA {
        return Err(CodecError::Version(v));
    }
    Ok(serde_json::from_slice(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::message::{Ask, Numbered};

    #[test]
    fn what_is_foreign_is_told_apart() {
        let ask = Ask { v: SCHEMA, at: Numbered { epoch: 3, number: 4 } };
        assert_eq!(decode::<Ask>(&encode(&ask)).unwrap(), ask);
        assert!(matches!(decode::<Ask>(br#"{"v":2,"epoch":1,"number":1}"#), Err(CodecError::Version(2))));
        assert!(matches!(decode::<Ask>(b"\xff\x00garbage"), Err(CodecError::Malformed(_))));
        assert!(matches!(decode::<Ask>(&vec![b' '; MOST_BYTES + 1]), Err(CodecError::TooLarge(_))));
    }
}
