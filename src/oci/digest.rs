//! Content digests: `sha256:<64 hex>` and `sha512:<128 hex>` (OCI image-spec, descriptor.md).

use std::{fmt, str::FromStr, sync::Arc};

use sha2::{
    Digest as _, Sha256, Sha512,
    digest::common::hazmat::{SerializableState, SerializedState},
};

/// A digest algorithm that this registry computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// The one everybody uses.
    #[default]
    Sha256,
    /// The other registered one.
    Sha512,
}

impl Algorithm {
    /// Every algorithm, the usual one first.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The name in front of the colon.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The number of hexadecimal digits behind the colon.
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

/// The name of some bytes: an algorithm and what it made of them, in lower-case hexadecimal.
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

    /// The part behind the colon; only `0-9a-f`, so that it is safe in a path.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// Puts a digest together from the two names of a folder in the storage tree.
    ///
    /// # Errors
    ///
    /// As for parsing `algorithm:hex`.
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
        // As long as the longest digest has digits.
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

/// Why a text is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDigest {
    /// The algorithm is not one that is computed here.
    #[error("the algorithm is not sha256 or sha512")]
    Algorithm,
    /// There is something other than `0-9a-f` behind the colon.
    #[error("only lower-case hexadecimal digits may follow the colon")]
    Characters,
    /// The number of digits is not the algorithm's.
    #[error("the number of hexadecimal digits is not the algorithm's")]
    Length,
    /// There is no colon.
    #[error("a digest looks like sha256:<64 hexadecimal digits>")]
    Shape,
}

/// Computes a digest piece by piece; its state can be written down and taken up again.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// A hasher that has seen nothing.
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

    /// Takes in more bytes. About 1.7 GB/s where the processor helps: call it for large pieces
    /// from a blocking thread.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(hasher) => hasher.update(bytes),
            State::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of everything taken in.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Sha256(hasher) => Digest::from_hash(Algorithm::Sha256, &hasher.finalize()),
            State::Sha512(hasher) => Digest::from_hash(Algorithm::Sha512, &hasher.finalize()),
        }
    }

    /// The state as bytes. Their layout is sha2's own: store them with [`Self::STATE_FORMAT`].
    #[must_use]
    pub fn state(&self) -> Vec<u8> {
        match &self.0 {
            State::Sha256(hasher) => hasher.serialize().to_vec(),
            State::Sha512(hasher) => hasher.serialize().to_vec(),
        }
    }

    /// Names the layout of [`state`](Self::state): sha2 promises it within a minor version only.
    pub const STATE_FORMAT: &'static str = "sha2-0.11";

    /// Takes a state up again.
    ///
    /// # Errors
    ///
    /// When the bytes cannot be a state of that algorithm. Bytes of the right form that were
    /// damaged are not noticed, and sha2 may overflow over the length in them, which panics in a
    /// build that checks for that: keep a checksum beside them.
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
    fn digest_of_nothing_is_the_known_one() {
        assert_eq!(Digest::of(Algorithm::Sha256, b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::of(Algorithm::Sha256, b""));
    }

    #[test]
    fn what_is_not_a_digest_is_refused_with_its_reason() {
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
