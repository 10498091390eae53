//! The base URL of the registry, as clients use it: what a `Location` begins with.
//!
//! A host that a client sends to us in a `Host` header is repeated to that client only, but
//! `X-Forwarded-*` would let anybody who can reach the port decide it for others behind a cache;
//! so those count from trusted peers alone (`proxies.rs`). Where somebody else says that clients use
//! another scheme or host, it may be a proxy that nobody has named, and what we would say may be
//! wrong; what is not a plain host and port is never repeated. Then locations are relative, which
//! every client can follow.

use std::sync::Arc;

use axum::http::{HeaderValue, header};

use super::{
    InvalidOptions, Options,
    authority::is_authority,
    call::Head,
    proxies::{self, Named, Proxies},
};

/// The rules that choose the base URL of a response.
#[derive(Debug)]
pub(super) struct BaseUrls {
    fixed: Option<String>,
    relative: bool,
    secure: bool,
    prefix: Arc<str>,
    proxies: Arc<Proxies>,
}

/// The beginning of locations in one response.
#[derive(Debug)]
pub(super) struct BaseUrl {
    location: String,
    /// Where that has no host: the beginning that does not go by what it was told.
    elsewhere: Option<String>,
}

impl BaseUrl {
    /// The address of a path, which begins with `/v2/`.
    pub(super) fn locate(&self, path: &str) -> HeaderValue {
        super::response::value(&format_args!("{}{path}", self.location))
    }

    /// As [`locate`](Self::locate), for what others than the client read: an event.
    pub(super) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.elsewhere.as_ref().unwrap_or(&self.location))
    }
}

impl BaseUrls {
    pub(super) fn new(
        options: &Options,
        secure: bool,
        prefix: &Arc<str>,
        proxies: &Arc<Proxies>,
    ) -> Result<Self, InvalidOptions> {
        let fixed = fixed(options, secure)?;
        Ok(Self {
            fixed: fixed.map(|(scheme, authority)| format!("{scheme}://{authority}")),
            relative: options.relativeurls,
            secure,
            prefix: Arc::clone(prefix),
            proxies: Arc::clone(proxies),
        })
    }

    /// The base URL for the response to a request.
    pub(super) fn of(&self, head: &Head) -> BaseUrl {
        let prefix = &*self.prefix;
        if self.relative {
            return BaseUrl { location: prefix.to_owned(), elsewhere: None };
        }
        if let Some(fixed) = &self.fixed {
            return BaseUrl { location: format!("{fixed}{prefix}"), elsewhere: None };
        }
        let asked = || {
            let authority = head.uri.authority().map(|authority| authority.as_str());
            authority.or_else(|| head.header(header::HOST)).unwrap_or_default()
        };
        let own = scheme(self.secure);
        let absolute = |scheme, host: &str| {
            // Without a host there is no address.
            let base = is_authority(host).then(|| format!("{scheme}://{host}{prefix}"));
            base.unwrap_or_else(|| prefix.to_owned())
        };
        match self.proxies.named(&head.headers, head.connection.peer) {
            Named::Nothing => BaseUrl { location: absolute(own, asked()), elsewhere: None },
            Named::Trusted(place) => {
                let host = place.host.as_deref().unwrap_or_else(asked);
                let location = absolute(place.scheme.unwrap_or(own), host);
                BaseUrl { location, elsewhere: None }
            }
            Named::Claimed(claims) => {
                let address = absolute(own, asked());
                if proxies::differs(&claims, own, asked()) {
                    return BaseUrl { location: prefix.to_owned(), elsewhere: Some(address) };
                }
                BaseUrl { location: address, elsewhere: None }
            }
        }
    }
}

/// Scheme and authority of `http.host`, where it is set.
pub(super) fn fixed(
    options: &Options,
    secure: bool,
) -> Result<Option<(&str, &str)>, InvalidOptions> {
    match options.host.as_deref().map(|host| host.trim_end_matches('/')) {
        None | Some("") => Ok(None),
        Some(host) => {
            let (scheme, authority) =
                host.split_once("://").unwrap_or_else(|| (scheme(secure), host));
            if !is_authority(authority) || !matches!(scheme, "http" | "https") {
                return Err(InvalidOptions::Host(host.to_owned()));
            }
            Ok(Some((scheme, authority)))
        }
    }
}

const fn scheme(secure: bool) -> &'static str {
    if secure { "https" } else { "http" }
}
