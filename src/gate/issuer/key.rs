//! Keys that verify tokens, and their names.

use aws_lc_rs::{
    digest::{SHA256, digest},
    hmac,
    signature::UnparsedPublicKey,
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use serde::Deserialize;
use x509_parser::{
    certificate::X509Certificate, public_key::PublicKey, x509::SubjectPublicKeyInfo,
};
use zeroize::Zeroizing;

use super::{
    Algorithm,
    algorithm::{Kind, Method},
    der,
};

/// The shortest modulus of RSA, in bytes: 2048 bits.
const MIN_RSA: usize = 256;

/// The object identifier of Ed25519 (RFC 8410 §3).
const ED25519: &str = "1.3.101.112";

/// The object identifiers of the curves (RFC 5480 §2.1.1.1).
const CURVES: [(Kind, &str, &str); 3] = [
    (Kind::P256, "P-256", "1.2.840.10045.3.1.7"),
    (Kind::P384, "P-384", "1.3.132.0.34"),
    (Kind::P521, "P-521", "1.3.132.0.35"),
];

/// A key that verifies tokens.
#[derive(Clone)]
pub(super) struct Key {
    material: Material,
    /// The only algorithm of the key; `None`: each of its kind.
    algorithm: Option<Algorithm>,
    /// `kid` in the key set.
    id: Option<String>,
    /// The thumbprint of RFC 7638.
    pub(super) thumbprint: String,
    /// The fingerprint of libtrust; `None` for a secret.
    fingerprint: Option<String>,
}

/// The bytes of a key.
#[derive(Clone)]
enum Material {
    /// A public key, and its bytes as aws-lc-rs takes them.
    Public(Kind, Vec<u8>),
    Secret(Zeroizing<Vec<u8>>),
}

/// A JSON Web Key (RFC 7517 §4), as far as it is about verification. A private part is not read.
#[derive(Clone, Deserialize)]
pub(super) struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is of another kind, or for encryption: it is skipped.
    #[error("it is of a kind that verifies no tokens")]
    Unsupported,
    /// A part is missing or malformed.
    #[error("it is incomplete or malformed")]
    Malformed,
    /// It is an RSA key of fewer than 2048 bits.
    #[error("it is an RSA key of fewer than 2048 bits, which is too short")]
    Short,
}

impl Key {
    /// Whether it is the key that a token calls `kid`.
    pub(super) fn is_called(&self, kid: &str) -> bool {
        let names = [self.id.as_deref(), Some(&*self.thumbprint), self.fingerprint.as_deref()];
        names.contains(&Some(kid))
    }

    /// The names of the key: in its set, by RFC 7638, by libtrust.
    #[cfg(test)]
    pub(super) fn names(&self) -> [String; 3] {
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        [name(&self.id), self.thumbprint.clone(), name(&self.fingerprint)]
    }

    /// Whether tokens of this algorithm may be signed with the key: its kind has the algorithm, and the key
    /// names no other.
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        let is_of_kind = match (&self.material, algorithm.method()) {
            (Material::Public(kind, _), Method::Public(needed, _)) => *kind == needed,
            (Material::Secret(_), Method::Secret(_)) => true,
            _ => false,
        };
        is_of_kind && self.algorithm.is_none_or(|only| only == algorithm)
    }

    /// Whether the key has made the signature of a message by an algorithm that [fits](Self::fits).
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.fits(algorithm) {
            return false;
        }
        match (&self.material, algorithm.method()) {
            (Material::Public(_, bytes), Method::Public(_, method)) => {
                UnparsedPublicKey::new(method, bytes).verify(message, signature).is_ok()
            }
            (Material::Secret(secret), Method::Secret(method)) => {
                hmac::verify(&hmac::Key::new(method, secret), message, signature).is_ok()
            }
            _ => false,
        }
    }

    /// The key of a certificate.
    pub(super) fn of_certificate(certificate: &X509Certificate<'_>) -> Result<Self, KeyError> {
        let info = certificate.public_key();
        match info.parsed() {
            Ok(PublicKey::RSA(key)) => Self::rsa(key.modulus, key.exponent),
            Ok(PublicKey::EC(point)) => {
                let curve = curve_of(info).ok_or(KeyError::Unsupported)?;
                let (_, coordinates) = point.data().split_first().ok_or(KeyError::Malformed)?;
                let (x, y) = coordinates.split_at(coordinates.len() / 2);
                Self::ec(curve, x, y)
            }
            _ if info.algorithm.algorithm.to_id_string() == ED25519 => {
                Self::ed25519(&info.subject_public_key.data)
            }
            _ => Err(KeyError::Unsupported),
        }
    }

    /// The key of a JSON Web Key.
    pub(super) fn of_jwk(jwk: &Jwk) -> Result<Self, KeyError> {
        if jwk.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return Err(KeyError::Unsupported);
        }
        let part = |part: &Option<String>| {
            let text = part.as_deref().ok_or(KeyError::Malformed)?;
            BASE64.decode(text.trim_end_matches('=')).map_err(|_| KeyError::Malformed)
        };
        let key = match (&*jwk.kty, jwk.crv.as_deref()) {
            ("RSA", _) => Self::rsa(&part(&jwk.n)?, &part(&jwk.e)?),
            ("EC", Some(name)) => {
                let curve = CURVES.into_iter().find(|(_, known, _)| *known == name);
                let (curve, ..) = curve.ok_or(KeyError::Unsupported)?;
                Self::ec(curve, &part(&jwk.x)?, &part(&jwk.y)?)
            }
            ("OKP", Some("Ed25519")) => Self::ed25519(&part(&jwk.x)?),
            ("oct", _) => Self::secret(Zeroizing::new(part(&jwk.k)?)),
            _ => Err(KeyError::Unsupported),
        }?;
        let algorithm = match &jwk.alg {
            None => None,
            Some(name) => Some(Algorithm::named(name).ok_or(KeyError::Unsupported)?),
        };
        Ok(Self { algorithm, id: jwk.kid.clone(), ..key })
    }

    fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        let (n, e) = (without_zeros(modulus), without_zeros(exponent));
        if e.is_empty() || n.is_empty() {
            return Err(KeyError::Malformed);
        }
        if n.len() < MIN_RSA {
            return Err(KeyError::Short);
        }
        let bytes = der::sequence(&[der::integer(n), der::integer(e)]);
        let [n, e] = [n, e].map(|part| BASE64.encode(part));
        let canonical = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
        Ok(Self::public(Kind::Rsa, bytes, &canonical))
    }

    fn ec(curve: Kind, x: &[u8], y: &[u8]) -> Result<Self, KeyError> {
        let length = match curve {
            Kind::P256 => 32,
            Kind::P384 => 48,
            _ => 66,
        };
        if x.len() != length || y.len() != length {
            return Err(KeyError::Malformed);
        }
        let name = CURVES.into_iter().find(|(kind, ..)| *kind == curve).map_or("", |curve| curve.1);
        let bytes = [&[4], x, y].concat();
        let [x, y] = [x, y].map(|part| BASE64.encode(part));
        let canonical = format!(r#"{{"crv":"{name}","kty":"EC","x":"{x}","y":"{y}"}}"#);
        Ok(Self::public(curve, bytes, &canonical))
    }

    fn ed25519(x: &[u8]) -> Result<Self, KeyError> {
        if x.len() != 32 {
            return Err(KeyError::Malformed);
        }
        let text = BASE64.encode(x);
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{text}"}}"#);
        Ok(Self::public(Kind::Ed25519, x.to_owned(), &canonical))
    }

    fn secret(secret: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        // RFC 7518 §3.2: no shorter than the hash.
        if secret.len() < 32 {
            return Err(KeyError::Malformed);
        }
        let k = Zeroizing::new(BASE64.encode(&*secret));
        let canonical = Zeroizing::new(format!(r#"{{"k":"{}","kty":"oct"}}"#, *k));
        let thumbprint = thumbprint(&canonical);
        let material = Material::Secret(secret);
        Ok(Self { material, algorithm: None, id: None, thumbprint, fingerprint: None })
    }

    fn public(kind: Kind, bytes: Vec<u8>, canonical: &str) -> Self {
        Self {
            fingerprint: Some(libtrust(&der::public_key(kind, &bytes))),
            thumbprint: thumbprint(canonical),
            material: Material::Public(kind, bytes),
            algorithm: None,
            id: None,
        }
    }
}

fn curve_of(info: &SubjectPublicKeyInfo<'_>) -> Option<Kind> {
    let curve = info.algorithm.parameters.as_ref()?.as_oid().ok()?.to_id_string();
    CURVES.into_iter().find(|(_, _, id)| *id == curve).map(|(kind, ..)| kind)
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// The thumbprint of a key in its canonical form (RFC 7638 §3).
fn thumbprint(canonical: &str) -> String {
    BASE64.encode(digest(&SHA256, canonical.as_bytes()))
}

/// The name of a public key by libtrust, which registry:2 uses: 240 bits of the hash of its
/// `SubjectPublicKeyInfo` in base32, in groups of four.
fn libtrust(public_key: &[u8]) -> String {
    const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let hash = digest(&SHA256, public_key);
    let mut name = String::new();
    for (at, five) in hash.as_ref()[..30].chunks(5).enumerate() {
        let bits = five.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        for digit in 0..8 {
            if digit % 4 == 0 && (at, digit) != (0, 0) {
                name.push(':');
            }
            let index = (bits >> (35 - 5 * digit)) as usize % 32;
            name.push(char::from(DIGITS[index]));
        }
    }
    name
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("thumbprint", &self.thumbprint).finish_non_exhaustive()
    }
}
