//! The head of a request, and who sent it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header},
};

use super::{Connection, authority::is_authority, observe::RequestId};
use crate::{gate::Identity, telemetry::requests::Handler};

/// Whoever opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Somebody at this address.
    Tcp(SocketAddr),
    /// Somebody on this machine, through a socket that is a file.
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

/// The head of a request on its way to a handler.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: RequestId,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) version: Version,
    pub(super) connection: Arc<Connection>,
    /// Where the call comes from, once that is known.
    pub(super) client: Option<IpAddr>,
    /// Who is calling, once that is known; for the log.
    pub(super) identity: Option<Identity>,
    /// What is asked for, once that is known: from then on it counts as in flight.
    pub(super) handler: Option<Handler>,
    /// How long the name of the repository is that is asked for; 0 without one.
    pub(super) repository: usize,
}

impl Call {
    /// Takes a request apart; the body goes its own way.
    pub(super) fn new(
        id: RequestId,
        connection: Arc<Connection>,
        request: Request<Body>,
    ) -> (Self, Body) {
        let (parts, body) = request.into_parts();
        let (method, uri, headers) = (parts.method, parts.uri, parts.headers);
        let version = parts.version;
        let (client, identity, handler, repository) = (None, None, None, 0);
        let call = Self {
            id,
            method,
            uri,
            headers,
            version,
            connection,
            client,
            identity,
            handler,
            repository,
        };
        (call, body)
    }

    /// Whether the request says once, and clearly, whom it is for (RFC 9112 §3.2): whoever stands
    /// before us might have believed another of several. HTTP/1.0 need not say it, and HTTP/2 has
    /// another place for it.
    pub(super) fn has_one_host(&self) -> bool {
        match self.only(&header::HOST) {
            Ok(Some(host)) => host.is_empty() || is_authority(host),
            Ok(None) => self.version != Version::HTTP_11,
            Err(NotOne) => false,
        }
    }

    /// The path below the prefix; `None` for one that is not below it.
    pub(super) fn path(&self, prefix: &str) -> Option<String> {
        let path = self.uri.path().strip_prefix(prefix)?;
        (path.is_empty() || path.starts_with('/')).then(|| path.to_owned())
    }

    /// The name of the repository that is asked for, where the path has it as it is.
    pub(super) fn repository(&self, prefix: &str) -> Option<&str> {
        let name = self.uri.path().strip_prefix(prefix)?.strip_prefix("/v2/")?;
        (self.repository > 0).then(|| name.get(..self.repository)).flatten()
    }

    /// A header that must be text, and there once, where it is there at all.
    pub(super) fn only(&self, name: &HeaderName) -> Result<Option<&str>, NotOne> {
        let mut values = self.headers.get_all(name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        match (value.to_str(), values.next()) {
            (Ok(text), None) => Ok(Some(text)),
            _ => Err(NotOne),
        }
    }

    /// A header that says nothing when it is there several times: whoever stands before us might go
    /// by another of them.
    pub(super) fn sole(&self, name: &HeaderName) -> Option<&HeaderValue> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next();
        value.filter(|_| values.next().is_none())
    }

    /// A header as text; one that is not text is as good as absent.
    pub(super) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The length that the body is declared to have.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH)?.parse().ok()
    }
}

/// A header is there several times, or is no text.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotOne;
