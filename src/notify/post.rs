//! One attempt to post an event to a webhook, and its outcome.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{
        CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
        TRAILER, TRANSFER_ENCODING, USER_AGENT,
    },
};

use super::EndpointOptions;
use crate::outbound;

/// The type of the envelope (registry:2 up to 2.8; registry:3 says v2 of the same).
const ENVELOPE: HeaderValue =
    HeaderValue::from_static("application/vnd.docker.distribution.events.v1+json");

/// How many redirections a request follows.
const PASSED_ON: usize = 5;

/// How much of a response is read, so that its connection can be used again.
const ANSWER: usize = 64 * 1024;

/// A receiver of events.
#[async_trait]
pub(super) trait Post: fmt::Debug + Send + Sync + 'static {
    /// Posts one envelope.
    async fn post(&self, envelope: Vec<u8>) -> Result<Delivered, DeliveryError>;
}

/// The endpoint has accepted an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivered {
    pub(super) status: u16,
}

/// The endpoint has not accepted an event.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeliveryError {
    /// It refuses the event.
    #[error("it answers {}", status_text(*.0))]
    Refused(u16),
    /// It redirects to a server that must not get our headers.
    #[error("it answers {}, which leads to another server; name that one in `url`", status_text(*.0))]
    Elsewhere(u16),
    /// It does not answer.
    #[error("no answer: {0}")]
    NoAnswer(String),
}

/// A status as registry:2 counts it, such as `200 OK`.
pub(super) fn status_text(status: u16) -> String {
    let known = StatusCode::from_u16(status).ok();
    let reason = known.and_then(|known| known.canonical_reason()).unwrap_or_default();
    format!("{status} {reason}")
}

/// An endpoint as it is configured.
#[derive(Debug)]
pub(super) struct Webhook {
    client: Client,
    url: Url,
    headers: HeaderMap,
    /// Whether requests carry credentials: headers of the operator's, any of which may be one, or a
    /// user in the URL.
    has_credentials: bool,
    timeout: Duration,
}

impl Webhook {
    pub(super) fn new(options: &EndpointOptions) -> Result<Self, InvalidEndpoint> {
        let name = || options.name.clone();
        if options.name.is_empty() {
            return Err(InvalidEndpoint::NoName);
        }
        let url = Url::parse(&options.url).ok();
        let url = url
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| InvalidEndpoint::Url(name()))?;
        let client = client(&options.name, &url)
            .map_err(|error| InvalidEndpoint::Client(name(), chain(&error)))?;
        let has_credentials =
            !options.headers.is_empty() || !url.username().is_empty() || url.password().is_some();
        let headers = headers(options)?;
        Ok(Self { client, url, headers, has_credentials, timeout: options.timeout })
    }

    /// Sends the request, and follows redirections that keep its body (307 and 308). Other
    /// redirections count as a response: to follow one would send a request without the event.
    async fn send(&self, envelope: Vec<u8>) -> Result<Response, DeliveryError> {
        let mut url = self.url.clone();
        for _ in 0..PASSED_ON {
            let request = self.client.post(url.clone()).headers(self.headers.clone());
            let response = request.body(envelope.clone()).send().await.map_err(no_answer)?;
            let status = response.status();
            if !matches!(status.as_u16(), 307 | 308) {
                return Ok(response);
            }
            let location = response.headers().get(reqwest::header::LOCATION);
            let Some(location) = location.and_then(|location| location.to_str().ok()) else {
                return Ok(response);
            };
            let next = url.join(location).map_err(|_| DeliveryError::Elsewhere(status.as_u16()))?;
            if !self.follows(&url, &next) {
                return Err(DeliveryError::Elsewhere(status.as_u16()));
            }
            url = next;
        }
        Err(DeliveryError::NoAnswer(format!(
            "it passes the request on more than {PASSED_ON} times"
        )))
    }

    /// Whether a redirection is followed. Credentials go only to the server that they are for,
    /// which its port tells from other servers of the host. Without credentials the redirection may
    /// lead to another port of the host, and from HTTP to HTTPS.
    fn follows(&self, from: &Url, to: &Url) -> bool {
        let scheme = to.scheme() == from.scheme() || to.scheme() == "https";
        let port = to.port_or_known_default() == from.port_or_known_default();
        let same_server = to.scheme() == from.scheme() && port;
        to.host() == from.host() && scheme && (same_server || !self.has_credentials)
    }
}

#[async_trait]
impl Post for Webhook {
    async fn post(&self, envelope: Vec<u8>) -> Result<Delivered, DeliveryError> {
        let late = |_| DeliveryError::NoAnswer(format!("none within {:?}", self.timeout));
        let answered = tokio::time::timeout(self.timeout, self.send(envelope)).await;
        let mut response = answered.map_err(late)??;
        let status = response.status().as_u16();
        // The rest of the response is read, within the timeout, so that the connection can be used
        // again. Errors do not matter.
        let reading = async {
            let mut read = 0;
            while read < ANSWER
                && let Ok(Some(piece)) = response.chunk().await
            {
                read += piece.len();
            }
        };
        let _ = tokio::time::timeout(self.timeout, reading).await;
        match status {
            200..400 => Ok(Delivered { status }),
            _ => Err(DeliveryError::Refused(status)),
        }
    }
}

/// The message of an error and its causes. The address is left out: it may have a password in it.
fn no_answer(error: reqwest::Error) -> DeliveryError {
    DeliveryError::NoAnswer(chain(&error.without_url()))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// A client for one endpoint.
fn client(endpoint: &str, url: &Url) -> Result<Client, reqwest::Error> {
    outbound::client(url).build().or_else(|error| {
        // Some container images have no certificate authorities; `http` must work in them.
        let bare = outbound::client(url).tls_certs_only([]).build()?;
        if url.scheme() == "https" {
            tracing::error!(
                endpoint,
                error = chain(&error),
                "no certificate authority is known, so no certificate of the endpoint will be \
                 believed; SSL_CERT_FILE can name a file of them"
            );
        }
        Ok(bare)
    })
}

/// The headers of each request, without those of framing and the host, which the client sets;
/// registry:2 silently leaves them out.
fn headers(options: &EndpointOptions) -> Result<HeaderMap, InvalidEndpoint> {
    const OURS: [HeaderName; 5] = [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER, CONNECTION];
    let mut headers = HeaderMap::new();
    let agent = concat!("portcullis/", env!("CARGO_PKG_VERSION"));
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));
    headers.insert(CONTENT_TYPE, ENVELOPE);
    for (name, values) in &options.headers {
        let invalid =
            || InvalidEndpoint::Header { endpoint: options.name.clone(), header: name.clone() };
        let parsed: HeaderName = name.parse().map_err(|_| invalid())?;
        if OURS.contains(&parsed) {
            tracing::warn!(endpoint = options.name, header = name, "cannot set the header");
            continue;
        }
        if parsed == USER_AGENT {
            headers.remove(USER_AGENT);
        }
        for value in values {
            let mut value: HeaderValue = value.parse().map_err(|_| invalid())?;
            // The value is often a token, so no message shows it.
            value.set_sensitive(true);
            headers.append(parsed.clone(), value);
        }
    }
    Ok(headers)
}

/// Why an endpoint cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// It has no name.
    #[error(
        "notifications.endpoints: an endpoint has no `name`, which names its queue and its metrics"
    )]
    NoName,
    /// Another has its name.
    #[error(
        "notifications.endpoints: two endpoints are named `{0}`; give each its own `name`, which \
         names its queue and its metrics"
    )]
    NameTwice(String),
    /// Its `url` is malformed.
    #[error(
        "notifications.endpoints: the `url` of `{0}` is malformed; write it like \
         https://hooks.example.com/registry"
    )]
    Url(String),
    /// One of its headers is malformed.
    #[error(
        "notifications.endpoints: `{header}` of `{endpoint}`, or one of its values, cannot be \
         sent as a header"
    )]
    Header {
        /// The endpoint.
        endpoint: String,
        /// The header.
        header: String,
    },
    /// No HTTP client can be built for it.
    #[error("notifications.endpoints: nothing can be sent to `{0}`: {1}")]
    Client(String, String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str, headers: &[(&str, &str)]) -> EndpointOptions {
        EndpointOptions {
            name: "hook".to_owned(),
            url: url.to_owned(),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()]))
                .collect(),
            ..EndpointOptions::default()
        }
    }

    #[test]
    fn malformed_addresses_are_refused() {
        for url in ["", "hooks.example.com", "ftp://a", "http://", "https://a b/"] {
            let refused = Webhook::new(&endpoint(url, &[])).unwrap_err();
            assert_eq!(refused, InvalidEndpoint::Url("hook".to_owned()), "{url}");
        }
        let unnamed = EndpointOptions { name: String::new(), ..endpoint("http://a", &[]) };
        assert_eq!(Webhook::new(&unnamed).unwrap_err(), InvalidEndpoint::NoName);
    }

    #[test]
    fn headers_are_added_except_those_that_frame_the_message() {
        let options = endpoint(
            "http://a",
            &[("Authorization", "Bearer x"), ("user-agent", "mine"), ("Content-Length", "5")],
        );
        let headers = headers(&options).unwrap();
        assert_eq!(headers["authorization"], "Bearer x");
        assert_eq!(headers["user-agent"], "mine");
        assert!(!headers.contains_key(CONTENT_LENGTH));
        assert!(!format!("{headers:?}").contains("Bearer"));
        let broken = endpoint("http://a", &[("a b", "x")]);
        assert!(matches!(Webhook::new(&broken), Err(InvalidEndpoint::Header { .. })));
        let broken = endpoint("http://a", &[("a", "x\ny")]);
        assert!(matches!(Webhook::new(&broken), Err(InvalidEndpoint::Header { .. })));
    }

    #[test]
    fn status_has_the_name_that_go_gives_it() {
        assert_eq!(status_text(200), "200 OK");
        assert_eq!(status_text(503), "503 Service Unavailable");
        assert_eq!(status_text(299), "299 ");
    }

    #[test]
    fn credentials_are_sent_to_no_other_port_scheme_or_host() {
        let url = |text: &str| Url::parse(text).unwrap();
        for (from, to, bare, with_headers) in [
            ("http://a:8080/x", "http://a:8080/y", true, true),
            ("https://a/x", "https://a:443/y", true, true),
            ("http://a:8080/", "http://a:8081/", true, false),
            ("http://a/", "https://a/", true, false),
            ("http://a:80/", "https://a:80/", true, false),
            ("https://a/", "http://a/", false, false),
            ("http://a/", "http://b/", false, false),
            ("http://a/", "http://a.b/", false, false),
        ] {
            for (headers, user, expected) in [
                (&[][..], "", bare),
                (&[("Authorization", "Bearer x")], "", with_headers),
                (&[("X-Pwd", "x")], "", with_headers),
                (&[], "user:password@", with_headers),
            ] {
                let from = url(&from.replace("://", &format!("://{user}")));
                let webhook = Webhook::new(&endpoint(from.as_str(), headers)).unwrap();
                assert_eq!(webhook.follows(&from, &url(to)), expected, "{from} {to} {headers:?}");
            }
        }
    }
}
