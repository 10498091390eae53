//! The settings of ACME, as serde reads them from `http.tls.letsencrypt` of the configuration.

use std::{fmt, path::PathBuf};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, de};
use zeroize::Zeroizing;

/// The directory of Let's Encrypt.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// `http.tls.letsencrypt`. The first four keys are registry:2's.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Options {
    /// The folder of the certificates and the account, in autocert's form. Empty: no certificate is obtained.
    pub cachefile: PathBuf,
    /// The address that the authority may write to.
    pub email: String,
    /// The host names, each of which gets a certificate. Empty: that of `http.host`, which the configuration
    /// fills in.
    pub hosts: Vec<String>,
    /// The URL of the authority's directory (RFC 8555 §7.1.1).
    pub directoryurl: String,
    /// How the server proves that a name is its own.
    pub challenge: ChallengeChoice,
    /// The profile of the certificates, in the authority's words; empty: the authority's default.
    pub profile: String,
    /// PEM of the authorities that issue the certificate of the directory's server. `None`: the system's.
    pub caroot: Option<PathBuf>,
    /// The binding to an account that the authority keeps elsewhere (RFC 8555 §7.3.4).
    #[serde(deserialize_with = "external_account")]
    pub eab: Option<ExternalAccount>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cachefile: PathBuf::new(),
            email: String::new(),
            hosts: Vec::new(),
            directoryurl: LETS_ENCRYPT.to_owned(),
            challenge: ChallengeChoice::default(),
            profile: String::new(),
            caroot: None,
            eab: None,
        }
    }
}

/// `http.tls.letsencrypt.challenge`
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ChallengeChoice {
    /// The challenge that fits the ports of the server, and the other one after a failure.
    #[default]
    Auto,
    /// tls-alpn-01 alone.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// http-01 alone.
    #[serde(rename = "http-01")]
    Http01,
}

/// `http.tls.letsencrypt.eab`: the words of the authority for an account that it has already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    /// The name of the key.
    pub kid: String,
    /// The key.
    pub hmackey: HmacKey,
}

/// A section without keys says nothing.
fn external_account<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<ExternalAccount>, D::Error> {
    #[derive(Deserialize)]
    struct Section {
        kid: Option<String>,
        hmackey: Option<HmacKey>,
    }
    use de::Error as _;
    let Section { kid, hmackey } = Section::deserialize(deserializer)?;
    match (kid, hmackey) {
        (Some(kid), Some(hmackey)) => Ok(Some(ExternalAccount { kid, hmackey })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(D::Error::custom("kid is set, hmackey is not")),
        (None, Some(_)) => Err(D::Error::custom("hmackey is set, kid is not")),
    }
}

/// The key of an external account.
#[derive(Clone, PartialEq, Eq)]
pub struct HmacKey(Zeroizing<Vec<u8>>);

impl HmacKey {
    /// The bytes of the key.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HmacKey")
    }
}

impl<'de> Deserialize<'de> for HmacKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let decoded = BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok();
        match decoded.filter(|key| !key.is_empty()) {
            Some(key) => Ok(Self(Zeroizing::new(key))),
            None => Err(de::Error::custom(
                "is no base64url: write the key as the authority shows it, of letters, digits, `-` and `_`",
            )),
        }
    }
}
