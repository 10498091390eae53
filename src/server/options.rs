//! The settings of a server, as serde reads them from the `http` section of the configuration.

use std::{fmt, num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use ipnet::IpNet;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};

use super::{acme, certificates::ClientIdentity, tls::CipherSuite};
use crate::network::{Clients, Proxy};

/// The part of the `http` section that concerns sockets. Keys as in registry:2's `config.yml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Options {
    /// The address to listen on: `host:port`, where an empty host means all addresses, or the path of
    /// a Unix socket.
    pub addr: String,
    /// Whether `addr` is an address or a path.
    pub net: Net,
    /// The address of the redirect listener, which redirects plain HTTP to HTTPS: `host:port`. Empty:
    /// no redirect listener.
    pub redirectaddr: String,
    /// TLS, or plain HTTP.
    pub tls: TlsOptions,
    /// How long running requests may take to finish when the server stops.
    pub draintimeout: Duration,
    /// The idle timeout: how long the server waits for a client that sends neither a request nor the
    /// rest of one. A response whose client takes nothing of it is stalled after five idle timeouts.
    /// On an unauthenticated connection both times are ten seconds at most.
    pub idletimeout: Duration,
    /// The connection limit. At most three quarters of the connections are unauthenticated. When the
    /// limit is reached, the server closes an unauthenticated connection for a new one; where all are
    /// authenticated, new clients wait. `None`: half of the descriptors that the process may open, and
    /// at most 10,000.
    pub maxconnections: Option<NonZeroU32>,
    /// The limit of unauthenticated connections of one address: an IPv4 address or a /64 of IPv6; a
    /// /48 may have four times as many. When the limit is reached, the server closes one of these
    /// connections for a new one. `None`: an eighth of all connections, and at least 8.
    pub maxconnectionsperaddress: Option<NonZeroU32>,
    /// Peers whose connections begin with a PROXY header, which names the client.
    pub proxyprotocol: Vec<Proxy>,
    /// The networks of proxies, whose addresses many clients share. Neither the limit of one address
    /// nor the shorter idle timeout applies to these addresses, nor to clients on a Unix socket. The
    /// caller sets this.
    #[serde(skip)]
    pub proxies: Vec<IpNet>,
    /// The limit of connections of one address, authenticated or not; `None`: no limit. The caller sets
    /// this.
    #[serde(skip)]
    pub connectionsperaddress: Option<NonZeroU32>,
    /// The addresses that may connect. The caller sets this; by default all.
    #[serde(skip)]
    pub clients: Arc<Clients>,
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
            proxyprotocol: Vec::new(),
            proxies: Vec::new(),
            connectionsperaddress: None,
            clients: Arc::default(),
            http2: Http2Options::default(),
            h2c: H2cOptions::default(),
        }
    }
}

/// `http.http2`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Http2Options {
    /// Whether ALPN offers HTTP/1.1 only.
    pub disabled: bool,
}

/// `http.h2c`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct H2cOptions {
    /// Whether a connection without TLS may carry HTTP/2, when its client begins with the connection
    /// preface (prior knowledge, RFC 9113 §3.3).
    pub enabled: bool,
}

/// `http.net`: the kind of socket that the server listens on.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Net {
    /// An address and a port.
    #[default]
    Tcp,
    /// A Unix socket.
    Unix,
}

/// `http.tls`: a mapping, or `off` (also `false`) for plain HTTP.
#[derive(Clone, Debug)]
pub enum TlsOptions {
    /// Plain HTTP. Only the word `off` or `false` in the configuration has this result.
    Off,
    /// TLS with the given certificate.
    On {
        /// The source of the certificate and its key.
        source: CertificateSource,
        /// Further certificates (`more`), for clients that ask for their names.
        more: Vec<CertificateFiles>,
        /// Sites of other servers, whose connections the server passes through (`passthrough`).
        passthrough: Vec<Passthrough>,
        /// The oldest protocol version that the server accepts (`minimumtls`).
        minimum: TlsVersion,
        /// The cipher suites of TLS 1.2 (`ciphersuites`); empty: all that the server supports. All
        /// suites of TLS 1.3 are enabled in any case, as in Go.
        suites: Vec<CipherSuite>,
        /// The client certificates that the server accepts, beside the password; `None`: the server
        /// requests no client certificates.
        clients: Option<ClientCertificates>,
    },
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self::with(CertificateSource::BuiltIn)
    }
}

impl TlsOptions {
    /// TLS with this certificate and the defaults.
    #[must_use]
    pub const fn with(source: CertificateSource) -> Self {
        Self::On {
            source,
            more: Vec::new(),
            passthrough: Vec::new(),
            minimum: TlsVersion::Tls12,
            suites: Vec::new(),
            clients: None,
        }
    }
}

/// The source of the server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// The local authority, in `certs/` of the working directory, issues it.
    BuiltIn,
    /// PEM files: the chain, leaf first, and the private key.
    Files {
        /// `http.tls.certificate`
        certificate: PathBuf,
        /// `http.tls.key`
        key: PathBuf,
    },
    /// Let's Encrypt, or another authority, issues one for each of its hosts.
    LetsEncrypt(Box<acme::Options>),
}

/// An item of `http.tls.more`: PEM files with a further certificate of the server.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// An item of `http.tls.passthrough`: a site whose connections the server passes through, TLS and all.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Passthrough {
    /// The names that its clients ask for: host names, and wildcards such as `*.shop.example.com`.
    pub names: Vec<String>,
    /// The address of its server: `host:port`.
    pub addr: String,
    /// Whether the server gets a PROXY header of version 2 with the client's address.
    #[serde(default)]
    pub proxyprotocol: bool,
}

/// The client certificates that the server accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// PEM files with the certificates of the authorities (`http.tls.clientcas`).
    pub authorities: Vec<PathBuf>,
    /// Whether a certificate is required, and whether it is verified.
    pub demand: ClientAuth,
    /// The name in a verified certificate that lets its client in (`http.tls.clientidentity`); `None`: a
    /// certificate names no caller. Where certificates are not verified it has no effect.
    pub identity: Option<ClientIdentity>,
}

impl ClientCertificates {
    /// The name that lets a client in; `None` where certificates are not verified.
    #[must_use]
    pub const fn identity_of_verified(&self) -> Option<ClientIdentity> {
        if self.demand.verifies() { self.identity } else { None }
    }
}

/// `http.tls.clientauth`: the server's policy for client certificates, in registry:2's words. The
/// handshake always proves that the client has the key of the certificate that it sends.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuth {
    /// A certificate of any issuer, or no certificate.
    RequestClientCert,
    /// A certificate of any issuer.
    RequireAnyClientCert,
    /// A certificate that one of the authorities has issued, or no certificate.
    VerifyClientCertIfGiven,
    /// A certificate that one of the authorities has issued.
    #[default]
    RequireAndVerifyClientCert,
}

impl ClientAuth {
    /// Whether the issuer of a certificate is verified.
    #[must_use]
    pub const fn verifies(self) -> bool {
        matches!(self, Self::VerifyClientCertIfGiven | Self::RequireAndVerifyClientCert)
    }

    /// The value of `http.tls.clientauth`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RequestClientCert => "request-client-cert",
            Self::RequireAnyClientCert => "require-any-client-cert",
            Self::VerifyClientCertIfGiven => "verify-client-cert-if-given",
            Self::RequireAndVerifyClientCert => "require-and-verify-client-cert",
        }
    }
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

/// A visitor and not an untagged enum, whose errors would not name the key of the section.
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
            letsencrypt: acme::Options,
            #[serde(default)]
            more: Vec<CertificateFiles>,
            #[serde(default)]
            passthrough: Vec<Passthrough>,
            #[serde(default)]
            minimumtls: TlsVersion,
            #[serde(default)]
            ciphersuites: Vec<CipherSuite>,
            #[serde(default)]
            clientcas: Vec<PathBuf>,
            #[serde(default)]
            clientauth: ClientAuth,
            clientidentity: Option<ClientIdentity>,
        }
        use de::Error as _;
        let section = Section::deserialize(MapAccessDeserializer::new(section))?;
        let obtains = !section.letsencrypt.cachefile.as_os_str().is_empty();
        let source = match (section.certificate, section.key) {
            (Some(_), Some(_)) if obtains => {
                return Err(A::Error::custom(
                    "certificate and letsencrypt are both set; remove certificate and key to have a \
                     certificate obtained, or letsencrypt to use theirs",
                ));
            }
            (Some(certificate), Some(key)) => CertificateSource::Files { certificate, key },
            (None, None) if obtains => {
                CertificateSource::LetsEncrypt(Box::new(section.letsencrypt))
            }
            (None, None) => CertificateSource::BuiltIn,
            (Some(_), None) => {
                return Err(A::Error::custom("certificate is set, key is not"));
            }
            (None, Some(_)) => {
                return Err(A::Error::custom("key is set, certificate is not"));
            }
        };
        let clients = (!section.clientcas.is_empty()).then_some(ClientCertificates {
            authorities: section.clientcas,
            demand: section.clientauth,
            identity: section.clientidentity,
        });
        Ok(TlsOptions::On {
            source,
            more: section.more,
            passthrough: section.passthrough,
            minimum: section.minimumtls,
            suites: section.ciphersuites,
            clients,
        })
    }
}
