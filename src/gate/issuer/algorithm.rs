//! The algorithms of signatures (RFC 7518 §3.1, RFC 8037 §3.1).

use aws_lc_rs::{
    hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
        RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
        VerificationAlgorithm,
    },
};
use serde::{Deserialize, Deserializer, de};

/// An algorithm of signatures. There is no `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the registry of RFC 7518")]
pub enum Algorithm {
    EdDsa,
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
    Es512,
    Ps256,
    Ps384,
    Ps512,
}

/// How an algorithm verifies.
pub(super) enum Method {
    /// With a public key of this kind.
    Public(Kind, &'static dyn VerificationAlgorithm),
    /// With a secret.
    Secret(hmac::Algorithm),
}

/// The kinds of public keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Rsa,
    P256,
    P384,
    P521,
    Ed25519,
}

const NAMES: [(Algorithm, &str); 13] = [
    (Algorithm::EdDsa, "EdDSA"),
    (Algorithm::Hs256, "HS256"),
    (Algorithm::Hs384, "HS384"),
    (Algorithm::Hs512, "HS512"),
    (Algorithm::Rs256, "RS256"),
    (Algorithm::Rs384, "RS384"),
    (Algorithm::Rs512, "RS512"),
    (Algorithm::Es256, "ES256"),
    (Algorithm::Es384, "ES384"),
    (Algorithm::Es512, "ES512"),
    (Algorithm::Ps256, "PS256"),
    (Algorithm::Ps384, "PS384"),
    (Algorithm::Ps512, "PS512"),
];

impl Algorithm {
    /// The algorithm with this name; names have capitals and small letters.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        NAMES.into_iter().find(|(_, known)| *known == name).map(|(algorithm, _)| algorithm)
    }

    pub(super) fn method(self) -> Method {
        let rsa = |algorithm| Method::Public(Kind::Rsa, algorithm);
        match self {
            Self::EdDsa => Method::Public(Kind::Ed25519, &ED25519),
            Self::Hs256 => Method::Secret(hmac::HMAC_SHA256),
            Self::Hs384 => Method::Secret(hmac::HMAC_SHA384),
            Self::Hs512 => Method::Secret(hmac::HMAC_SHA512),
            Self::Rs256 => rsa(&RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => rsa(&RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => rsa(&RSA_PKCS1_2048_8192_SHA512),
            Self::Es256 => Method::Public(Kind::P256, &ECDSA_P256_SHA256_FIXED),
            Self::Es384 => Method::Public(Kind::P384, &ECDSA_P384_SHA384_FIXED),
            Self::Es512 => Method::Public(Kind::P521, &ECDSA_P521_SHA512_FIXED),
            Self::Ps256 => rsa(&RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => rsa(&RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => rsa(&RSA_PSS_2048_8192_SHA512),
        }
    }
}

impl<'de> Deserialize<'de> for Algorithm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| {
            let names = NAMES.map(|(_, name)| name).join(", ");
            de::Error::custom(format!("there is no signing algorithm `{name}`, only {names}"))
        })
    }
}
