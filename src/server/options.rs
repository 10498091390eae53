//! The settings of a server, as serde reads them from the `http` section of the configuration.

use std::{fmt, num::NonZeroU32, path::PathBuf, time::Duration};

use ipnet::IpNet;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};

use super::tls::CipherSuite;

/// What the `http` section says about sockets. Keys as in registry:2's `config.yml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Where to listen: `host:port`, where an empty host means every address; or the path of a
    /// socket.
    pub addr: String,
    /// Which of the two.
    pub net: Net,
    /// Where to listen for plain HTTP that is sent to HTTPS: `host:port`. Empty: nowhere.
    pub redirectaddr: String,
    /// How connections are secured.
    pub tls: TlsOptions,
    /// How long requests that run when the server is told to stop may take to finish.
    pub draintimeout: Duration,
    /// How long a client may neither ask for anything nor send what it announced. One that takes
    /// nothing of what it asked for has five times as long. Where no request was let in yet it is ten
    /// seconds at most, for either.
    pub idletimeout: Duration,
    /// How many connections there may be at a time. On three quarters of them, at most, no request
    /// was let in yet; of those one is closed where there is no room for another client, and
    /// without any further clients wait. `None`: half of the descriptors that the process may have,
    /// and at most 10,000.
    pub maxconnections: Option<NonZeroU32>,
    /// How many connections an address may have on which no request was let in yet: an IPv4 address
    /// or a /64 of IPv6, and four times as many a /48. Beyond, one of the same is closed for a new one.
    /// `None`: an eighth of all connections, and at least 8.
    pub maxconnectionsperaddress: Option<NonZeroU32>,
    /// The networks of proxies, whose addresses many clients share: neither the limit for each
    /// address nor the shorter time is for those, nor for whoever comes through a socket that is a
    /// file. It is for the caller to set.
    #[serde(skip)]
    pub proxies: Vec<IpNet>,
    /// HTTP/2.
    pub http2: Http2Options,
    /// HTTP/2 without TLS.
    pub h2c: H2cOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            addr: "0.0.0.0:5000".to_owned(),
            net: Net::default(),
            redirectaddr: String::new(),
            tls: TlsOptions::default(),
            draintimeout: Duration::from_secs(30),
            idletimeout: Duration::from_secs(60),
            maxconnections: None,
            maxconnectionsperaddress: None,
            proxies: Vec::new(),
            http2: Http2Options::default(),
            h2c: H2cOptions::default(),
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

/// `http.h2c`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct H2cOptions {
    /// Speaks HTTP/2 with those who begin with its preface, where there is no TLS (RFC 9113 §3.3).
    pub enabled: bool,
}

/// `http.net`: what is listened on.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Net {
    /// An address and a port.
    #[default]
    Tcp,
    /// A socket that is a file.
    Unix,
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
        /// What TLS 1.2 is spoken with (`ciphersuites`); nothing in it stands for all. All suites
        /// of TLS 1.3 are spoken in any case, as by Go.
        suites: Vec<CipherSuite>,
        /// The certificates that clients have to show beside their passwords; `None`: none are
        /// asked for.
        clients: Option<ClientCertificates>,
    },
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self::with(CertificateSource::BuiltIn)
    }
}

impl TlsOptions {
    /// TLS with this certificate, and nothing else that is not the default.
    #[must_use]
    pub const fn with(source: CertificateSource) -> Self {
        Self::On { source, minimum: TlsVersion::Tls12, suites: Vec::new(), clients: None }
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

/// Which certificates of clients are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// PEM files with the certificates of those who issue them (`http.tls.clientcas`).
    pub authorities: Vec<PathBuf>,
    /// What is asked for.
    pub demand: ClientAuth,
}

/// `http.tls.clientauth`: what is asked of clients, in registry:2's words. A certificate that is
/// shown is always one that the client has the key of.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuth {
    /// A certificate from anybody, or none.
    RequestClientCert,
    /// A certificate from anybody.
    RequireAnyClientCert,
    /// A certificate that an authority has issued, or none.
    VerifyClientCertIfGiven,
    /// A certificate that an authority has issued.
    #[default]
    RequireAndVerifyClientCert,
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
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TlsVisitor)
    }
}

/// Not an untagged enum: that would forget which key of the section is wrong.
struct TlsVisitor;

impl<'de> Visitor<'de> for TlsVisitor {
    type Value = TlsOptions;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a section, `off` or `false`")
    }

    fn visit_bool<E: de::Error>(self, on: bool) -> Result<TlsOptions, E> {
        Ok(if on { TlsOptions::default() } else { TlsOptions::Off })
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<TlsOptions, E> {
        match word {
            "off" => Ok(TlsOptions::Off),
            _ => Err(E::invalid_value(Unexpected::Str(word), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, section: A) -> Result<TlsOptions, A::Error> {
        #[derive(Deserialize)]
        struct Section {
            certificate: Option<PathBuf>,
            key: Option<PathBuf>,
            #[serde(default)]
            minimumtls: TlsVersion,
            #[serde(default)]
            ciphersuites: Vec<CipherSuite>,
            #[serde(default)]
            clientcas: Vec<PathBuf>,
            #[serde(default)]
            clientauth: ClientAuth,
        }
        use de::Error as _;
        let section = Section::deserialize(MapAccessDeserializer::new(section))?;
        let source = match (section.certificate, section.key) {
            (Some(certificate), Some(key)) => CertificateSource::Files { certificate, key },
            (None, None) => CertificateSource::BuiltIn,
            (Some(_), None) => {
                return Err(A::Error::custom("certificate is set, key is not"));
            }
            (None, Some(_)) => {
                return Err(A::Error::custom("key is set, certificate is not"));
            }
        };
        let (authorities, demand) = (section.clientcas, section.clientauth);
        let clients =
            (!authorities.is_empty()).then_some(ClientCertificates { authorities, demand });
        Ok(TlsOptions::On {
            source,
            minimum: section.minimumtls,
            suites: section.ciphersuites,
            clients,
        })
    }
}
