//! The base URL by which clients reach the registry: the beginning of each `Location`.
//!
//! A response repeats the `Host` header to the client that sent it, and to no other client. With
//! `X-Forwarded-*` a client could choose the host for other clients behind a cache, so these headers
//! count from trusted peers only (`proxies.rs`). An untrusted peer that names another scheme or host
//! may be a proxy that the configuration lacks, and an absolute `Location` may be wrong. Locations
//! are then relative, which every client can follow. They are relative, too, where the host is not
//! a well-formed authority.

use std::sync::Arc;

use axum::http::{HeaderValue, header};

use super::{
    InvalidOptions, Options,
    authority::is_authority,
    call::Head,
    proxies::{ForwardedOrigin, Proxies},
};

/// The rules that choose the base URL of a response.
#[derive(Debug)]
pub(super) struct BaseUrls {
    /// `http.host` with its scheme.
    configured: Option<String>,
    /// `http.relativeurls`
    relative: bool,
    /// Whether clients connect with TLS.
    secure: bool,
    prefix: Arc<str>,
    proxies: Arc<Proxies>,
}

/// The base URL of one response.
#[derive(Debug)]
pub(super) struct BaseUrl {
    location: String,
    /// Set where `location` is relative because of an untrusted peer: the base URL by the `Host`
    /// header alone.
    absolute: Option<String>,
}

impl BaseUrl {
    /// The `Location` of a path, which begins with `/v2/`.
    pub(super) fn locate(&self, path: &str) -> HeaderValue {
        super::response::value(&format_args!("{}{path}", self.location))
    }

    /// The URL of a path for an event, whose receiver cannot resolve a relative one.
    pub(super) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.absolute.as_ref().unwrap_or(&self.location))
    }
}

impl BaseUrls {
    pub(super) fn new(
        options: &Options,
        secure: bool,
        prefix: &Arc<str>,
        proxies: &Arc<Proxies>,
    ) -> Result<Self, InvalidOptions> {
        let host = ConfiguredHost::parse(options, secure)?;
        Ok(Self {
            configured: host
                .map(|ConfiguredHost { scheme, authority }| format!("{scheme}://{authority}")),
            relative: options.relativeurls,
            secure,
            prefix: Arc::clone(prefix),
            proxies: Arc::clone(proxies),
        })
    }

    /// The base URL for the response to a request.
    pub(super) fn of(&self, head: &Head) -> BaseUrl {
        if self.relative {
            return BaseUrl { location: self.prefix.to_string(), absolute: None };
        }
        self.by_address(head)
    }

    /// The base URL for a client that cannot resolve a relative one; `None` where the address that the
    /// client has used is not known for certain.
    pub(super) fn absolute(&self, head: &Head) -> Option<String> {
        let BaseUrl { location, .. } = self.by_address(head);
        location.contains("://").then_some(location)
    }

    fn by_address(&self, head: &Head) -> BaseUrl {
        let prefix = &*self.prefix;
        if let Some(configured) = &self.configured {
            return BaseUrl { location: format!("{configured}{prefix}"), absolute: None };
        }
        let requested_host = || {
            let authority = head.uri.authority().map(|authority| authority.as_str());
            authority.or_else(|| head.header(header::HOST)).unwrap_or_default()
        };
        let own_scheme = scheme(self.secure);
        // Relative where the host is malformed.
        let base_url = |scheme, host: &str| {
            let absolute = is_authority(host).then(|| format!("{scheme}://{host}{prefix}"));
            absolute.unwrap_or_else(|| prefix.to_owned())
        };
        match self.proxies.origin(&head.headers, head.connection.peer) {
            ForwardedOrigin::Absent => {
                BaseUrl { location: base_url(own_scheme, requested_host()), absolute: None }
            }
            ForwardedOrigin::Trusted(origin) => {
                let host = origin.host.as_deref().unwrap_or_else(requested_host);
                let location = base_url(origin.scheme.unwrap_or(own_scheme), host);
                BaseUrl { location, absolute: None }
            }
            ForwardedOrigin::Unverified(origins) => {
                let by_host = base_url(own_scheme, requested_host());
                if origins.iter().any(|origin| origin.differs(own_scheme, requested_host())) {
                    return BaseUrl { location: prefix.to_owned(), absolute: Some(by_host) };
                }
                BaseUrl { location: by_host, absolute: None }
            }
        }
    }
}

/// `http.host`.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConfiguredHost<'a> {
    scheme: &'a str,
    pub(super) authority: &'a str,
}

impl<'a> ConfiguredHost<'a> {
    /// Parses `http.host`; `None` where it is not set. Without a scheme of its own it has the one
    /// that this server speaks, with TLS if `secure`.
    ///
    /// # Errors
    ///
    /// When the host is malformed, or the scheme is not one of HTTP.
    pub(super) fn parse(
        options: &'a Options,
        secure: bool,
    ) -> Result<Option<Self>, InvalidOptions> {
        match options.host.as_deref().map(|host| host.trim_end_matches('/')) {
            None | Some("") => Ok(None),
            Some(host) => {
                let (scheme, authority) =
                    host.split_once("://").unwrap_or_else(|| (scheme(secure), host));
                if !is_authority(authority) || !matches!(scheme, "http" | "https") {
                    return Err(InvalidOptions::Host(host.to_owned()));
                }
                Ok(Some(Self { scheme, authority }))
            }
        }
    }
}

const fn scheme(secure: bool) -> &'static str {
    if secure { "https" } else { "http" }
}
