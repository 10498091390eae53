//! Content digests: `sha256:<64 hex>` and `sha512:<128 hex>` (OCI image-spec, descriptor.md).

use std::{fmt, str::FromStr, sync::Arc};

use sha2::{
    Digest as _, Sha256, Sha512,
    digest::common::hazmat::{SerializableState, SerializedState},
};

/// A digest algorithm that this registry computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, which clients use.
    #[default]
    Sha256,
    /// SHA-512, the other registered algorithm.
    Sha512,
}

impl Algorithm {
    /// All algorithms, the default first.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The name before the colon.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The number of hexadecimal digits after the colon.
    const fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == text)
            .ok_or(InvalidDigest::Algorithm)
    }
}

/// A digest: an algorithm and a hash in lower-case hexadecimal. Clones share one allocation.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    hex: Arc<str>,
}

impl Digest {
    /// Computes the digest of `bytes`.
    #[must_use]
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The part after the colon: only `0-9a-f`, so it is safe in a path.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// Builds a digest from its two parts, which are names of folders in the storage tree.
    ///
    /// # Errors
    ///
    /// Those of parsing `algorithm:hex`.
    pub fn from_parts(algorithm: &str, hex: &str) -> Result<Self, InvalidDigest> {
        let algorithm: Algorithm = algorithm.parse()?;
        if hex.len() != algorithm.hex_len() {
            return Err(InvalidDigest::Length);
        }
        if !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InvalidDigest::Characters);
        }
        Ok(Self { algorithm, hex: hex.into() })
    }

    fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        // SHA-512 has 128 digits.
        let mut digits = [0; 128];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(hash) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 0xf)];
        }
        let hex = std::str::from_utf8(&digits[..hash.len() * 2]).unwrap_or_default();
        Self { algorithm, hex: hex.into() }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let (algorithm, hex) = text.split_once(':').ok_or(InvalidDigest::Shape)?;
        Self::from_parts(algorithm, hex)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|why| serde::de::Error::custom(format!("digest `{text}`: {why}")))
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A text is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDigest {
    /// The algorithm is unknown.
    #[error("the algorithm is not sha256 or sha512")]
    Algorithm,
    /// A character after the colon is not one of `0-9a-f`.
    #[error("only lower-case hexadecimal digits may follow the colon")]
    Characters,
    /// The number of digits is not that of the algorithm.
    #[error("the number of hexadecimal digits is not the algorithm's")]
    Length,
    /// There is no colon.
    #[error("a digest looks like sha256:<64 hexadecimal digits>")]
    Shape,
}

/// Computes a digest piece by piece. Its state can be saved and resumed.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// A hasher of no bytes yet.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// The algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self.0 {
            State::Sha256(_) => Algorithm::Sha256,
            State::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Hashes more bytes, about 1.7 GB/s on processors with SHA instructions. For large pieces, call it
    /// on a blocking thread.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(hasher) => hasher.update(bytes),
            State::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of all bytes.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Sha256(hasher) => Digest::from_hash(Algorithm::Sha256, &hasher.finalize()),
            State::Sha512(hasher) => Digest::from_hash(Algorithm::Sha512, &hasher.finalize()),
        }
    }

    /// The state as bytes. The crate `sha2` defines their layout: save [`Self::STATE_FORMAT`] with them.
    #[must_use]
    pub fn state(&self) -> Vec<u8> {
        match &self.0 {
            State::Sha256(hasher) => hasher.serialize().to_vec(),
            State::Sha512(hasher) => hasher.serialize().to_vec(),
        }
    }

    /// The name of the layout of [`state`](Self::state). `sha2` keeps the layout within a minor version
    /// only.
    pub const STATE_FORMAT: &'static str = "sha2-0.11";

    /// Resumes a saved state.
    ///
    /// Does not detect damaged bytes of the right form. Their length field may overflow in `sha2`, which
    /// panics in builds with overflow checks: save a checksum with the state.
    ///
    /// # Errors
    ///
    /// When the bytes cannot be a state of the algorithm.
    pub fn from_state(algorithm: Algorithm, state: &[u8]) -> Result<Self, InvalidHasherState> {
        Ok(Self(match algorithm {
            Algorithm::Sha256 => {
                let state = SerializedState::<Sha256>::try_from(state)?;
                State::Sha256(Sha256::deserialize(&state).map_err(|_| InvalidHasherState)?)
            }
            Algorithm::Sha512 => {
                let state = SerializedState::<Sha512>::try_from(state)?;
                State::Sha512(Sha512::deserialize(&state).map_err(|_| InvalidHasherState)?)
            }
        }))
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hasher({})", self.algorithm())
    }
}

/// Some bytes are not the state of a hasher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the state of a hasher")]
pub struct InvalidHasherState;

impl From<std::array::TryFromSliceError> for InvalidHasherState {
    fn from(_: std::array::TryFromSliceError) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digest_of_no_bytes_is_the_published_one() {
        assert_eq!(Digest::of(Algorithm::Sha256, b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::of(Algorithm::Sha256, b""));
    }

    #[test]
    fn malformed_digests_are_refused_with_a_reason() {
        for (text, why) in [
            ("", InvalidDigest::Shape),
            ("sha256", InvalidDigest::Shape),
            ("md5:d41d8cd98f00b204e9800998ecf8427e", InvalidDigest::Algorithm),
            ("SHA256:00", InvalidDigest::Algorithm),
            ("sha256:00", InvalidDigest::Length),
            (&EMPTY.to_uppercase().replacen("SHA256", "sha256", 1), InvalidDigest::Characters),
            (&format!("sha256:{}/", &EMPTY[7..70]), InvalidDigest::Characters),
        ] {
            assert_eq!(text.parse::<Digest>().unwrap_err(), why, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_to_itself_or_not_at_all(text in "\\PC{0,160}") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }

        #[test]
        fn resumed_state_gives_the_same_digest(
            bytes in proptest::collection::vec(any::<u8>(), 0..600), cut in 0_usize..600,
        ) {
            for algorithm in Algorithm::ALL {
                let cut = cut.min(bytes.len());
                let mut first = Hasher::new(algorithm);
                first.update(&bytes[..cut]);
                let mut second = Hasher::from_state(algorithm, &first.state()).unwrap();
                second.update(&bytes[cut..]);
                prop_assert_eq!(second.finish(), Digest::of(algorithm, &bytes));
            }
        }

        #[test]
        fn any_bytes_are_a_state_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..220)) {
            for algorithm in Algorithm::ALL {
                let _ = Hasher::from_state(algorithm, &bytes);
            }
        }
    }
}
