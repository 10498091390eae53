//! A request on its way to a handler, its head, and the peer that sent it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, Method, Uri, Version, header, request::Parts},
};

use super::{
    Connection, RequestId,
    authority::is_authority,
    limits::{Account, Upload},
};
use crate::{
    gate::Identity,
    oci::RepositoryName,
    telemetry::requests::{Handler, Requests},
};

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A client or proxy at this address.
    Tcp(SocketAddr),
    /// A process of this machine, through a Unix socket.
    Unix,
}

impl Peer {
    pub(super) const fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Tcp(addr) => Some(addr.ip()),
            Self::Unix => None,
        }
    }
}

impl From<Option<SocketAddr>> for Peer {
    fn from(addr: Option<SocketAddr>) -> Self {
        addr.map_or(Self::Unix, Self::Tcp)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// A request in the middleware, before its caller is authenticated.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) head: Arc<Head>,
    pub(super) body: Body,
}

/// The head of a request. The access log shares it until the response is sent or the client
/// disconnects.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) id: RequestId,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) version: Version,
    pub(super) connection: Arc<Connection>,
    client: OnceLock<IpAddr>,
    identity: OnceLock<Identity>,
    handler: OnceLock<Handler>,
    /// The number of the rule that let the caller do this.
    rule: OnceLock<usize>,
    /// The length of the repository's name in the path.
    repository: OnceLock<usize>,
    account: OnceLock<Account>,
}

impl Head {
    /// The head of a request that came on `connection`.
    pub(super) fn new(id: RequestId, connection: Arc<Connection>, parts: Parts) -> Self {
        Self {
            id,
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            version: parts.version,
            connection,
            client: OnceLock::new(),
            identity: OnceLock::new(),
            handler: OnceLock::new(),
            rule: OnceLock::new(),
            repository: OnceLock::new(),
            account: OnceLock::new(),
        }
    }

    /// The address of the client; `None` until the middleware has set it, and for a client on a Unix
    /// socket.
    pub(super) fn client(&self) -> Option<IpAddr> {
        self.client.get().copied()
    }

    /// Sets the address of the client.
    pub(super) fn set_client(&self, client: Option<IpAddr>) {
        if let Some(client) = client {
            self.client.get_or_init(|| client);
        }
    }

    /// The number of the rule that let the caller do this; `None` where none did.
    pub(super) fn rule(&self) -> Option<usize> {
        self.rule.get().copied()
    }

    /// Records the number of the rule that lets the caller do this.
    pub(super) fn set_rule(&self, rule: Option<usize>) {
        if let Some(rule) = rule {
            self.rule.get_or_init(|| rule);
        }
    }

    /// The identity of the caller; `None` until the caller is authenticated.
    pub(super) fn identity(&self) -> Option<&Identity> {
        self.identity.get()
    }

    /// Sets the identity of the authenticated caller.
    pub(super) fn set_identity(&self, identity: Identity) {
        self.identity.get_or_init(|| identity);
    }

    /// The account of the caller; `None` until the caller is authenticated, and without limits.
    pub(super) fn account(&self) -> Option<&Account> {
        self.account.get()
    }

    /// Sets the account of the authenticated caller.
    pub(super) fn set_account(&self, account: Account) {
        self.account.get_or_init(|| account);
    }

    /// The limit of the bytes that the caller sends.
    pub(super) fn upload(&self) -> Option<Upload> {
        self.account().and_then(Upload::of)
    }

    /// The handler that the request counts for; `None` while it does not count as in flight.
    pub(super) fn handler(&self) -> Option<Handler> {
        self.handler.get().copied()
    }

    /// Counts the request as in flight for `handler`. Only the first call has an effect.
    pub(super) fn begin(&self, requests: &Requests, handler: Handler) {
        self.handler.get_or_init(|| {
            requests.begin(handler);
            handler
        });
    }

    /// Records the name of the repository in the path.
    pub(super) fn set_repository(&self, name: &RepositoryName) {
        self.repository.get_or_init(|| name.as_str().len());
    }

    /// Whether the request has one well-formed `Host` (RFC 9112 §3.2): of several, a proxy before
    /// this server may have used another. HTTP/1.0 requests may lack it, and HTTP/2 has `:authority`.
    pub(super) fn has_one_host(&self) -> bool {
        match self.unique_text(&header::HOST) {
            Ok(Some(host)) => host.is_empty() || is_authority(host),
            Ok(None) => self.version != Version::HTTP_11,
            Err(NotUnique) => false,
        }
    }

    /// The path below the prefix; `None` for a path outside of it.
    pub(super) fn path(&self, prefix: &str) -> Option<&str> {
        let path = self.uri.path().strip_prefix(prefix)?;
        (path.is_empty() || path.starts_with('/')).then_some(path)
    }

    /// The name of the repository in the path; `None` where it is percent-encoded.
    pub(super) fn repository(&self, prefix: &str) -> Option<&str> {
        let length = *self.repository.get()?;
        self.uri.path().strip_prefix(prefix)?.strip_prefix("/v2/")?.get(..length)
    }

    /// A header that must be text and must not be repeated; `None` if it is absent.
    pub(super) fn unique_text(&self, name: &HeaderName) -> Result<Option<&str>, NotUnique> {
        let mut values = self.headers.get_all(name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        match (value.to_str(), values.next()) {
            (Ok(text), None) => Ok(Some(text)),
            _ => Err(NotUnique),
        }
    }

    /// A header as text. A header that is not text counts as absent.
    pub(super) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The declared length of the body.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH)?.parse().ok()
    }
}

/// A header is repeated, or is not text.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotUnique;
