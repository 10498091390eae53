//! The HTTP client of the requests to an authority: that of all requests of ours, so that proxies and trusted
//! authorities are the same for all, with a bound for the time and the size of each response.

use std::{
    fs, io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response,
    header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT},
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use reqwest::{Certificate, Client, Url};

use crate::{chain::Chain, outbound};

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The size of a response. A chain of certificates has some KiB.
const LIMIT: usize = 1024 * 1024;

/// The media type of an error (RFC 7807).
const PROBLEM: &str = "application/problem+json";

const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("portcullis/", env!("CARGO_PKG_VERSION"), " instant-acme"));

/// When to ask again for the window of a renewal, where the authority does not say so.
const WINDOW_AGAIN: HeaderValue = HeaderValue::from_static("21600");

/// The client of one authority. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct AcmeClient {
    client: Client,
    /// What the last error response asked for.
    retry_after: Arc<Mutex<Option<SignedDuration>>>,
}

/// No client can be made.
#[derive(Debug, thiserror::Error)]
pub enum InvalidClient {
    /// The URL of the directory is malformed.
    #[error(
        "`{0}` is no URL of an ACME directory: write it like https://acme.example.com/directory"
    )]
    Url(String),
    /// The file of `caroot` cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file of `caroot` has no certificates.
    #[error("there is no certificate in {}: PEM is expected, of the authorities that issue the certificate of the directory's server", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The client of HTTP refuses its options.
    #[error(
        "no request can be sent to the directory; if the system has no certificate authorities, SSL_CERT_FILE can name a file of them"
    )]
    Unusable(#[source] reqwest::Error),
}

impl AcmeClient {
    /// A client for the server of a directory. With `caroot` it trusts the authorities of that file and no
    /// others. This call blocks.
    pub(super) fn new(directory: &str, caroot: Option<&Path>) -> Result<Self, InvalidClient> {
        let url = parse(directory).ok_or_else(|| InvalidClient::Url(directory.to_owned()))?;
        let mut builder = outbound::client(&url).timeout(TIMEOUT).https_only(true);
        if let Some(path) = caroot {
            let path = || path.to_owned();
            let pem =
                fs::read(path()).map_err(|source| InvalidClient::Read { path: path(), source })?;
            let certificates = Certificate::from_pem_bundle(&pem).unwrap_or_default();
            if certificates.is_empty() {
                return Err(InvalidClient::NoCertificate { path: path() });
            }
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder.build().map_err(InvalidClient::Unusable)?;
        Ok(Self { client, retry_after: Arc::default() })
    }

    /// What the last error response asked for (`Retry-After`), once.
    pub(super) fn take_retry_after(&self) -> Option<SignedDuration> {
        self.retry_after.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn send(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await;
        let is_get = head.method == Method::GET;
        let mut headers = head.headers;
        headers.insert(USER_AGENT, AGENT);
        let request = self.client.request(head.method, head.uri.to_string()).headers(headers);
        let mut answer = request.body(body.to_bytes()).send().await.map_err(other)?;
        let status = answer.status();
        let mut response = Response::builder().status(status);
        let is_error = status.is_client_error() || status.is_server_error();
        if is_error {
            let asked = answer.headers().get(RETRY_AFTER).and_then(retry_after);
            *self.retry_after.lock().unwrap_or_else(PoisonError::into_inner) = asked;
            if !is_problem(answer.headers()) {
                return Err(Error::Other(format!("the authority answers {status}").into()));
            }
        }
        if let Some(headers) = response.headers_mut() {
            headers.extend(copied(answer.headers()));
            if is_get && !is_error {
                // RFC 9773 §4.3 requires it of the window of a renewal; some servers leave it out.
                headers.entry(RETRY_AFTER).or_insert(WINDOW_AGAIN);
            }
        }
        let mut bytes = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(other)? {
            if bytes.len() + piece.len() > LIMIT {
                return Err(Error::Other("the authority's response has more than 1 MiB".into()));
            }
            bytes.extend_from_slice(&piece);
        }
        let (parts, ()) = response.body(())?.into_parts();
        Ok(BytesResponse { parts, body: Box::new(Bytes::from(bytes)) })
    }
}

impl HttpClient for AcmeClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().send(request))
    }
}

/// The URL of a directory; `None` for other schemes than HTTPS.
pub(super) fn parse(directory: &str) -> Option<Url> {
    Url::parse(directory).ok().filter(|url| url.scheme() == "https" && url.has_host())
}

fn copied(headers: &HeaderMap) -> impl Iterator<Item = (HeaderName, HeaderValue)> + '_ {
    headers.iter().map(|(name, value)| (name.clone(), value.clone()))
}

fn is_problem(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with(PROBLEM))
}

/// A number of seconds, or a date (RFC 9110 §10.2.3).
fn retry_after(value: &HeaderValue) -> Option<SignedDuration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(SignedDuration::from_secs(seconds.into()));
    }
    let date = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Timestamp::now().duration_until(date))
}

/// The causes on one line: the messages of reqwest alone say little.
fn other(error: reqwest::Error) -> Error {
    Error::Other(Chain(&error).to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_is_read_in_seconds_or_as_a_date() {
        let read = |text: &'static str| retry_after(&HeaderValue::from_static(text));
        assert_eq!(read("120"), Some(SignedDuration::from_secs(120)));
        assert!(read("Fri, 31 Dec 1999 23:59:59 GMT").is_some_and(|wait| wait.is_negative()));
        for text in ["", "-1", "soon"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn unusable_directory_or_root_is_refused() {
        for url in ["", "acme.example.com", "http://acme.example.com/dir", "https://"] {
            assert!(matches!(AcmeClient::new(url, None), Err(InvalidClient::Url(_))), "{url}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let client = || AcmeClient::new("https://127.0.0.1/dir", Some(&path)).unwrap_err();
        assert!(matches!(client(), InvalidClient::Read { .. }));
        fs::write(&path, "no PEM").unwrap();
        assert!(matches!(client(), InvalidClient::NoCertificate { .. }));
    }
}
