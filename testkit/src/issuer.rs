//! A token server's key, its certificate, and the tokens that it signs.

use aws_lc_rs::{
    encoding::AsDer as _,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, PublicKeyData as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::time::SystemTime;

/// The issuer of all tokens.
pub const ISSUER: &str = "token-server.example";
/// The registry that they are for.
pub const SERVICE: &str = "registry.example";

/// A key that signs by RS256, with a certificate of its own.
#[derive(Debug)]
pub struct Issuer {
    key: RsaKeyPair,
    /// The certificate, in PEM.
    pub certificate: String,
    /// The certificate, in base64, as `x5c` has it.
    pub x5c: String,
    /// The name of the key by libtrust, which `docker_auth` and GitLab put into `kid`.
    pub kid: String,
}

impl Default for Issuer {
    fn default() -> Self {
        Self::new()
    }
}

impl Issuer {
    /// A new key.
    #[must_use]
    pub fn new() -> Self {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let pkcs8 = key.as_der().unwrap();
        let pkcs8 = rustls_pki_types::PrivatePkcs8KeyDer::from(pkcs8.as_ref().to_vec());
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_RSA_SHA256).unwrap();
        let certificate = CertificateParams::default().self_signed(&pair).unwrap();
        let x5c = base64::prelude::BASE64_STANDARD.encode(certificate.der());
        let kid = libtrust(&pair.subject_public_key_info());
        Self { key, certificate: certificate.pem(), x5c, kid }
    }

    /// The claims of a token for `ann` that is valid for five minutes.
    #[must_use]
    pub fn claims(access: &Value) -> Value {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        json!({
            "iss": ISSUER, "sub": "ann", "aud": SERVICE, "exp": now + 300, "nbf": now - 10,
            "iat": now, "jti": "8713892571", "access": access,
        })
    }

    /// A token in the form of `docker_auth`: the key by its name.
    #[must_use]
    pub fn token(&self, access: &Value) -> String {
        let header = json!({ "typ": "JWT", "alg": "RS256", "kid": self.kid });
        self.sign(&header, &Self::claims(access))
    }

    /// A token with this header and these claims.
    #[must_use]
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let [header, claims] = [header, claims].map(|part| BASE64.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let mut signature = vec![0; self.key.public_modulus_len()];
        let random = SystemRandom::new();
        self.key.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", BASE64.encode(signature))
    }
}

/// An entry of the claim `access`.
#[must_use]
pub fn repository(name: &str, actions: &[&str]) -> Value {
    json!({ "type": "repository", "name": name, "actions": actions })
}

/// The base32 of 30 bytes of the hash of a public key, in groups of four.
fn libtrust(public_key: &[u8]) -> String {
    let hash = Sha256::digest(public_key);
    let bits: String = hash[..30].iter().map(|byte| format!("{byte:08b}")).collect();
    let digits: Vec<char> = (0..48)
        .map(|at| {
            let index = u8::from_str_radix(&bits[at * 5..][..5], 2).unwrap();
            char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[usize::from(index)])
        })
        .collect();
    let fours: Vec<String> = digits.chunks(4).map(|four| four.iter().collect()).collect();
    fours.join(":")
}
