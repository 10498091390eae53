//! JSON Web Tokens of an issuer (RFC 7519, RFC 7515 §7.1), and what is wrong with one.

use std::time::SystemTime;

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as BASE64},
};
use rustls_pki_types::CertificateDer;
use serde::Deserialize;

use super::{Algorithm, IssuerOptions, covered::Entry, key::Jwk};

/// The most certificates of a chain in a header.
const MAX_CHAIN: usize = 4;

/// How far the clocks of the issuer and of this server may differ, in seconds.
const LEEWAY: f64 = 60.0;

/// What is wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It is no JSON Web Token, or lacks a field.
    #[error("it is malformed")]
    Malformed,
    /// Its algorithm is unknown, or not in the list.
    #[error("its algorithm is not accepted (auth.token.signingalgorithms)")]
    Algorithm,
    /// Its key is unknown.
    #[error("its key is neither in auth.token.rootcertbundle nor in auth.token.jwks")]
    Key,
    /// Its certificate is not trusted.
    #[error("its certificate is expired, or no certificate of auth.token.rootcertbundle issued it")]
    Chain,
    /// Its signature is wrong, or its key has another algorithm.
    #[error("its signature is not that of the key")]
    Signature,
    /// It is of another issuer.
    #[error("its issuer (iss) is not auth.token.issuer")]
    Issuer,
    /// It is for another registry.
    #[error("its audience (aud) does not have auth.token.service")]
    Audience,
    /// It is over, or not valid yet.
    #[error("it has expired, or is not valid yet (exp, nbf): compare the clocks")]
    Time,
}

/// The three parts of a token.
pub(super) struct Token<'a> {
    /// The header and the payload as they are signed.
    pub(super) signed: &'a str,
    pub(super) header: Header,
    payload: &'a str,
    pub(super) signature: Vec<u8>,
}

/// The header, as far as it is about the key.
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    pub(super) x5c: Option<Vec<CertificateDer<'static>>>,
    pub(super) jwk: Option<Jwk>,
}

#[derive(Deserialize)]
struct WrittenHeader {
    alg: String,
    kid: Option<String>,
    x5c: Option<Vec<String>>,
    jwk: Option<Jwk>,
    /// Extensions that a recipient must understand (RFC 7515 §4.1.11): none is understood here.
    crit: Option<serde_json::Value>,
}

/// The payload.
#[derive(Deserialize)]
pub(super) struct Claims {
    iss: String,
    #[serde(default)]
    pub(super) sub: Option<String>,
    aud: Audience,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    pub(super) access: Option<Vec<Entry>>,
}

/// `aud`: a text, or a list of them (RFC 7519 §4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl<'a> Token<'a> {
    /// Parses the header of a token. The payload is not looked at.
    ///
    /// # Errors
    ///
    /// When the token has another form, or an unknown algorithm.
    pub(super) fn parse(token: &'a str) -> Result<Self, Invalid> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Invalid::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Invalid::Malformed)?;
        if payload.contains('.') {
            return Err(Invalid::Malformed);
        }
        let signature = decode(signature)?;
        let header: WrittenHeader =
            serde_json::from_slice(&decode(header)?).map_err(|_| Invalid::Malformed)?;
        if header.crit.is_some() {
            return Err(Invalid::Malformed);
        }
        let algorithm = Algorithm::named(&header.alg).ok_or(Invalid::Algorithm)?;
        let x5c = header.x5c.map(|chain| certificates(&chain)).transpose()?;
        let header = Header { algorithm, kid: header.kid, x5c, jwk: header.jwk };
        Ok(Self { signed, header, payload, signature })
    }

    /// Parses the payload, which is to be [verified](super::Trust::verify) first.
    pub(super) fn claims(&self) -> Result<Claims, Invalid> {
        serde_json::from_slice(&decode(self.payload)?).map_err(|_| Invalid::Malformed)
    }
}

impl Claims {
    /// Checks that the token is of the issuer, for this registry, and valid now.
    pub(super) fn check(&self, options: &IssuerOptions, now: SystemTime) -> Result<(), Invalid> {
        if self.iss != options.issuer {
            return Err(Invalid::Issuer);
        }
        let is_for_us = match &self.aud {
            Audience::One(one) => *one == options.service,
            Audience::Several(several) => several.contains(&options.service),
        };
        if !is_for_us {
            return Err(Invalid::Audience);
        }
        let now =
            now.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let is_over = now > self.exp + LEEWAY;
        let is_early = self.nbf.is_some_and(|from| now < from - LEEWAY);
        if is_over || is_early { Err(Invalid::Time) } else { Ok(()) }
    }
}

/// Some token servers pad base64url.
fn decode(part: &str) -> Result<Vec<u8>, Invalid> {
    BASE64.decode(part.trim_end_matches('=')).map_err(|_| Invalid::Malformed)
}

fn certificates(chain: &[String]) -> Result<Vec<CertificateDer<'static>>, Invalid> {
    if chain.len() > MAX_CHAIN {
        return Err(Invalid::Chain);
    }
    let decoded = chain.iter().map(|text| BASE64_STANDARD.decode(text).map(CertificateDer::from));
    decoded.collect::<Result<_, _>>().map_err(|_| Invalid::Malformed)
}
