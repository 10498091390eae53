//! The state of an upload's hasher as a file.
//!
//! The file is written without a sync and may be torn. A state without the right checksum is ignored,
//! and the data is hashed again.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::sessions::Hashed;
use crate::oci::{Algorithm, Digest, Hasher};

#[derive(Deserialize, Serialize)]
pub(super) struct SavedHasher {
    /// The name of the layout of `state`.
    format: String,
    algorithm: String,
    length: u64,
    state: String,
    check: Digest,
}

impl SavedHasher {
    /// The longest file that [`encode`](Self::encode) writes.
    pub(super) const MAX_LEN: usize = 1024;

    pub(super) fn encode(hashed: &Hashed) -> Bytes {
        let mut saved = Self {
            format: Hasher::STATE_FORMAT.to_owned(),
            algorithm: hashed.hasher.algorithm().to_string(),
            length: hashed.length,
            state: STANDARD.encode(hashed.hasher.state()),
            check: Digest::of(Algorithm::Sha256, b""),
        };
        saved.check = saved.checksum();
        serde_json::to_vec(&saved).unwrap_or_default().into()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Hashed> {
        let saved: Self = serde_json::from_slice(bytes).ok()?;
        if saved.format != Hasher::STATE_FORMAT || saved.check != saved.checksum() {
            return None;
        }
        let state = STANDARD.decode(&saved.state).ok()?;
        let hasher = Hasher::from_state(saved.algorithm.parse().ok()?, &state).ok()?;
        Some(Hashed { hasher, length: saved.length })
    }

    fn checksum(&self) -> Digest {
        let Self { format, algorithm, length, state, .. } = self;
        let text = format!("{format} {algorithm} {length} {state}");
        Digest::of(Algorithm::Sha256, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_read_back_whole_or_refused() {
        for algorithm in Algorithm::ALL {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"some bytes");
            let bytes = SavedHasher::encode(&Hashed { hasher: hasher.clone(), length: 10 });
            assert!(bytes.len() <= SavedHasher::MAX_LEN);
            let back = SavedHasher::decode(&bytes).unwrap();
            assert_eq!((back.length, back.hasher.finish()), (10, hasher.finish()));
            for end in 0..bytes.len() {
                assert!(SavedHasher::decode(&bytes[..end]).is_none(), "cut off at {end}");
            }
            let other = String::from_utf8(bytes.to_vec()).unwrap().replace(":10,", ":11,");
            assert!(SavedHasher::decode(other.as_bytes()).is_none(), "another length");
        }
    }
}
