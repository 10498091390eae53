//! A request on its way to a handler, its head, and the peer that sent it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header, request::Parts},
};

use super::{Connection, RequestId, authority::is_authority};
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
    /// A process of this machine, through a socket that is a file.
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

/// A request on its way through the middleware: nothing is known of its caller yet.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) head: Arc<Head>,
    pub(super) body: Body,
}

/// The head of a request. The access log has a share of it until the response has left, or the
/// client has.
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
    /// How long the name of the repository in the path is.
    repository: OnceLock<usize>,
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
            repository: OnceLock::new(),
        }
    }

    /// The address of the client, once that is known; `None` also for a client of this machine that
    /// comes through a socket that is a file.
    pub(super) fn client(&self) -> Option<IpAddr> {
        self.client.get().copied()
    }

    /// Notes the address of the client, once that is known.
    pub(super) fn set_client(&self, client: Option<IpAddr>) {
        if let Some(client) = client {
            self.client.get_or_init(|| client);
        }
    }

    /// The caller that was let in; `None` before that.
    pub(super) fn identity(&self) -> Option<&Identity> {
        self.identity.get()
    }

    /// Notes the caller that was let in.
    pub(super) fn set_identity(&self, identity: Identity) {
        self.identity.get_or_init(|| identity);
    }

    /// The handler that the request counts for; `None` while it does not count as in flight.
    pub(super) fn handler(&self) -> Option<Handler> {
        self.handler.get().copied()
    }

    /// Counts the request as in flight for `handler`, once: later calls change nothing.
    pub(super) fn begin(&self, requests: &Requests, handler: Handler) {
        self.handler.get_or_init(|| {
            requests.begun(handler);
            handler
        });
    }

    /// Notes the name of the repository in the path.
    pub(super) fn set_repository(&self, name: &RepositoryName) {
        self.repository.get_or_init(|| name.as_str().len());
    }

    /// Whether the request has one well-formed `Host` (RFC 9112 §3.2): of several, a proxy before
    /// this server might have believed another. HTTP/1.0 may have none, and HTTP/2 has `:authority`.
    pub(super) fn has_one_host(&self) -> bool {
        match self.only(&header::HOST) {
            Ok(Some(host)) => host.is_empty() || is_authority(host),
            Ok(None) => self.version != Version::HTTP_11,
            Err(NotOne) => false,
        }
    }

    /// The path below the prefix; `None` for one that is not below it.
    pub(super) fn path(&self, prefix: &str) -> Option<&str> {
        let path = self.uri.path().strip_prefix(prefix)?;
        (path.is_empty() || path.starts_with('/')).then_some(path)
    }

    /// The name of the repository in the path, where it stands there without percent-encoding.
    pub(super) fn repository(&self, prefix: &str) -> Option<&str> {
        let length = *self.repository.get()?;
        self.uri.path().strip_prefix(prefix)?.strip_prefix("/v2/")?.get(..length)
    }

    /// A header that must be text and must not be repeated; `None` where it is absent.
    pub(super) fn only(&self, name: &HeaderName) -> Result<Option<&str>, NotOne> {
        let mut values = self.headers.get_all(name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        match (value.to_str(), values.next()) {
            (Ok(text), None) => Ok(Some(text)),
            _ => Err(NotOne),
        }
    }

    /// A header that counts as absent when it is repeated: a proxy before this server might go by
    /// another of its values.
    pub(super) fn sole(&self, name: &HeaderName) -> Option<&HeaderValue> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next();
        value.filter(|_| values.next().is_none())
    }

    /// A header as text; one that is not text counts as absent.
    pub(super) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The length that the body is declared to have.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH)?.parse().ok()
    }
}

/// A header is repeated, or is not text.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotOne;
