//! The keys of session tokens: JSON Web Tokens signed by HMAC-SHA-256 (RFC 7519, RFC 7515; `HS256`).
//!
//! The header of a token is a constant of its key, and this server accepts no other
//! header. So no algorithm is ever read from a token, and no byte of a token is parsed before its
//! signature is verified.

use std::fmt;

use aws_lc_rs::{hmac, rand};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use zeroize::Zeroizing;

use crate::gate::NoRandomness;

/// How many bytes a key has.
const KEY: usize = 32;

/// How many bytes of an HMAC a fingerprint has: 96 bits.
const FINGERPRINT: usize = 12;

/// The random bytes of a key, as a line of the key file has them: base64url without padding, 43
/// characters.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::gate) struct Secret(Zeroizing<[u8; KEY]>);

impl Secret {
    pub(super) fn random() -> Result<Self, NoRandomness> {
        let mut bytes = Zeroizing::new([0; KEY]);
        rand::fill(bytes.as_mut()).map_err(|_| NoRandomness)?;
        Ok(Self(bytes))
    }

    /// Parses a line; `None` if it is malformed.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let bytes = Zeroizing::new(BASE64.decode(line).ok()?);
        Some(Self(Zeroizing::new(bytes.as_slice().try_into().ok()?)))
    }

    pub(super) fn line(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(self.0.as_ref()))
    }
}

/// The keys in force: the first signs, and all verify.
#[derive(Debug, Default)]
pub(in crate::gate) struct Keys(Vec<Key>);

/// A key that signs and verifies tokens.
pub(in crate::gate) struct Key {
    hmac: hmac::Key,
    /// The header of its tokens, encoded.
    header: String,
}

/// The token of a key: its payload, decoded.
pub(super) struct Verified<'a> {
    pub(super) key: &'a Key,
    pub(super) payload: Vec<u8>,
}

/// Identifies the line of a file by which a caller was let in, without showing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gate) struct Fingerprint([u8; FINGERPRINT]);

impl Keys {
    pub(super) fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        Self(secrets.into_iter().map(Key::new).collect())
    }

    /// The key that signs; `None` before the first key is made.
    pub(in crate::gate) fn first(&self) -> Option<&Key> {
        self.0.first()
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Verifies the signature of a token; `None` if no key has signed it.
    pub(super) fn verify(&self, token: &str) -> Option<Verified<'_>> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let key = self.0.iter().find(|key| key.header == header)?;
        let signature = BASE64.decode(signature).ok()?;
        hmac::verify(&key.hmac, signed.as_bytes(), &signature).ok()?;
        Some(Verified { key, payload: BASE64.decode(payload).ok()? })
    }
}

impl Key {
    fn new(secret: &Secret) -> Self {
        let hmac = hmac::Key::new(hmac::HMAC_SHA256, secret.0.as_ref());
        let id = hmac::sign(&hmac, b"id");
        let id = BASE64.encode(&id.as_ref()[..6]);
        let header = BASE64.encode(format!(r#"{{"alg":"HS256","kid":"{id}","typ":"JWT"}}"#));
        Self { hmac, header }
    }

    /// The token with this payload.
    pub(super) fn sign(&self, payload: &[u8]) -> String {
        let mut token = format!("{}.", self.header);
        BASE64.encode_string(payload, &mut token);
        let signature = hmac::sign(&self.hmac, token.as_bytes());
        token.push('.');
        BASE64.encode_string(signature.as_ref(), &mut token);
        token
    }

    /// The fingerprint of a line that consists of `parts`.
    pub(in crate::gate) fn fingerprint(&self, parts: &[&[u8]]) -> Fingerprint {
        let mut context = hmac::Context::with_key(&self.hmac);
        // No token begins so: the signature of a token is never a fingerprint.
        context.update(b"\0line");
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut fingerprint = [0; FINGERPRINT];
        for (to, from) in fingerprint.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        Fingerprint(fingerprint)
    }
}

impl Fingerprint {
    pub(super) fn encode(self) -> String {
        encode(&self.0)
    }

    /// Whether this is its encoded form.
    pub(super) fn is_encoded_as(self, text: &str) -> bool {
        let mut encoded = [0; FINGERPRINT.div_ceil(3) * 4];
        let length = BASE64.encode_slice(self.0, &mut encoded);
        length.is_ok_and(|length| encoded[..length] == *text.as_bytes())
    }
}

/// Bytes as tokens have them.
pub(super) fn encode(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("header", &self.header).finish_non_exhaustive()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(byte: u8) -> Secret {
        Secret(Zeroizing::new([byte; KEY]))
    }

    #[test]
    fn token_is_a_json_web_token_of_hs256() {
        let keys = Keys::new(&[secret(1)]);
        let token = keys.first().unwrap().sign(br#"{"sub":"ann"}"#);
        let parts: Vec<_> = token.split('.').collect();
        let header = BASE64.decode(parts[0]).unwrap();
        let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
        assert_eq!((&header["alg"], &header["typ"]), (&"HS256".into(), &"JWT".into()));
        assert_eq!(header["kid"].as_str().unwrap().len(), 8);
        assert_eq!(BASE64.decode(parts[1]).unwrap(), br#"{"sub":"ann"}"#);
        // RFC 7515 §5.1: the signature is over both parts as they are encoded.
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[1; KEY]);
        let signed = format!("{}.{}", parts[0], parts[1]);
        let signature = BASE64.decode(parts[2]).unwrap();
        assert!(hmac::verify(&key, signed.as_bytes(), &signature).is_ok());
    }

    #[test]
    fn first_key_signs_and_all_verify() {
        let (old, new) = (secret(1), secret(2));
        let before = Keys::new([&old]);
        let after = Keys::new([&new, &old]);
        let ended = Keys::new([&new]);
        let token = before.first().unwrap().sign(b"{}");
        assert_eq!(after.verify(&token).unwrap().payload, b"{}");
        assert!(ended.verify(&token).is_none());
        let newer = after.first().unwrap().sign(b"{}");
        assert!(ended.verify(&newer).is_some() && before.verify(&newer).is_none());
        assert!(Keys::default().verify(&newer).is_none());
    }

    #[test]
    fn no_token_but_the_signed_one_is_verified() {
        let keys = Keys::new(&[secret(1)]);
        let token = keys.first().unwrap().sign(br#"{"sub":"ann"}"#);
        let parts: Vec<_> = token.split('.').collect();
        let [header, payload, signature] = parts[..] else { panic!("{token}") };
        let none = BASE64.encode(r#"{"alg":"none","typ":"JWT"}"#);
        let other = BASE64.encode(r#"{"sub":"eve"}"#);
        let foreign = Keys::new(&[secret(2)]).first().unwrap().sign(br#"{"sub":"ann"}"#);
        for forged in [
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            "...".to_owned(),
            format!("{header}.{payload}"),
            format!("{header}.{payload}."),
            format!("{none}.{payload}."),
            format!("{none}.{payload}.{signature}"),
            format!("{header}.{other}.{signature}"),
            format!("{header}.{payload}.{}", &signature[..42]),
            format!("{header}.{payload}.{signature}="),
            format!("{header}..{payload}.{signature}"),
            format!("{token}.{signature}"),
            format!(" {token}"),
            foreign,
        ] {
            assert!(keys.verify(&forged).is_none(), "{forged}");
        }
        assert!(keys.verify(&token).is_some());
    }

    #[test]
    fn fingerprint_is_of_one_key_and_of_the_parts_in_their_order() {
        let (one, other) = (Key::new(&secret(1)), Key::new(&secret(2)));
        let line = one.fingerprint(&[b"ann", b"$2y$"]);
        assert_eq!(line, one.fingerprint(&[b"ann", b"$2y$"]));
        assert_ne!(line, one.fingerprint(&[b"ann$2y$"]));
        assert_ne!(line, one.fingerprint(&[b"an", b"n$2y$"]));
        assert_ne!(line, other.fingerprint(&[b"ann", b"$2y$"]));
        let encoded = line.encode();
        assert_eq!(encoded.len(), 16);
        assert!(line.is_encoded_as(&encoded));
        assert!(!line.is_encoded_as(&encoded[..15]) && !line.is_encoded_as(""));
    }

    #[test]
    fn line_of_a_secret_is_read_back_and_nothing_prints_a_key() {
        let secret = Secret::random().unwrap();
        assert_eq!(secret.line().len(), 43);
        assert_eq!(Secret::parse(secret.line().as_bytes()), Some(secret.clone()));
        for line in ["", "abc", &secret.line()[..42], &format!("{}A", *secret.line())] {
            assert_eq!(Secret::parse(line.as_bytes()), None, "{line}");
        }
        let shown = format!("{secret:?} {:?}", Keys::new([&secret]));
        assert!(!shown.contains(&**secret.line()), "{shown}");
    }
}
