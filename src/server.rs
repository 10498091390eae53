//! Sockets: the listener, TLS, certificates and their reload, the drain at the end.
//!
//! This room takes a router and serves it. It knows nothing of registries, users or configuration
//! files; what it can be told is in [`Options`].

pub mod authority;
pub mod certificates;

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

/// What the `http` section says about sockets. Keys as in registry:2's `config.yml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Where to listen: `host:port`; an empty host means every address.
    pub addr: String,
    /// How connections are secured.
    pub tls: TlsOptions,
    /// How long requests that run when the server is told to stop may take to finish.
    pub draintimeout: Duration,
    /// HTTP/2.
    pub http2: Http2Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            addr: "0.0.0.0:5000".to_owned(),
            tls: TlsOptions::default(),
            draintimeout: Duration::from_secs(30),
            http2: Http2Options::default(),
        }
    }
}

/// `http.http2`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Http2Options {
    /// Offers HTTP/1.1 only.
    pub disabled: bool,
}

/// `http.tls`: a mapping, or `off` (also `false`) for plain HTTP.
#[derive(Clone, Debug)]
pub enum TlsOptions {
    /// Plain HTTP. Only ever the result of the word `off` or `false` in the configuration.
    Off,
    /// TLS with the given certificate.
    On {
        /// Where certificate and key come from.
        source: CertificateSource,
        /// The oldest protocol version that is accepted (`minimumtls`).
        minimum: TlsVersion,
    },
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self::On {
            source: CertificateSource::BuiltIn,
            minimum: TlsVersion::Tls12,
        }
    }
}

/// Where the server's certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// Made by the local authority in `certs/` of the working directory.
    BuiltIn,
    /// PEM files: the chain, leaf first, and the private key.
    Files {
        /// `http.tls.certificate`
        certificate: PathBuf,
        /// `http.tls.key`
        key: PathBuf,
    },
}

/// A TLS protocol version, spelled `tls1.2` and `tls1.3` in the configuration.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246)
    #[default]
    #[serde(rename = "tls1.2")]
    Tls12,
    /// TLS 1.3 (RFC 8446)
    #[serde(rename = "tls1.3")]
    Tls13,
}

impl<'de> Deserialize<'de> for TlsOptions {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Shape {
            Switch(bool),
            Word(String),
            Section(Section),
        }
        #[derive(Deserialize)]
        struct Section {
            certificate: Option<PathBuf>,
            key: Option<PathBuf>,
            #[serde(default)]
            minimumtls: TlsVersion,
        }
        use serde::de::Error as _;
        match Shape::deserialize(deserializer)? {
            Shape::Switch(false) => Ok(Self::Off),
            Shape::Switch(true) => Ok(Self::default()),
            Shape::Word(word) if word == "off" => Ok(Self::Off),
            Shape::Word(word) => Err(D::Error::custom(format!(
                "expected a section, `off` or `false`, not `{word}`"
            ))),
            Shape::Section(Section {
                certificate,
                key,
                minimumtls,
            }) => {
                let source = match (certificate, key) {
                    (Some(certificate), Some(key)) => CertificateSource::Files { certificate, key },
                    (None, None) => CertificateSource::BuiltIn,
                    (Some(_), None) => {
                        return Err(D::Error::custom("certificate is set, key is not"));
                    }
                    (None, Some(_)) => {
                        return Err(D::Error::custom("key is set, certificate is not"));
                    }
                };
                Ok(Self::On {
                    source,
                    minimum: minimumtls,
                })
            }
        }
    }
}
