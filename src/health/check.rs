//! One health check: its probe, its interval and its threshold.

use std::{
    fmt,
    future::Future,
    path::Path,
    pin::Pin,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use reqwest::header::{HeaderMap, HeaderName};
use tokio::{net::TcpStream, time::timeout};

use super::{
    FileOptions, Health, HttpOptions, TcpOptions,
    options::{INTERVAL, TIMEOUT},
};
use crate::chain::Chain;

/// A check that runs periodically.
pub struct Check {
    name: String,
    interval: Duration,
    threshold: u32,
    /// The number of failures in a row.
    failures: AtomicU32,
    probe: Probe,
}

type Probe = Box<dyn Fn() -> ProbeFuture + Send + Sync>;
type ProbeFuture = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Check {
    /// A check that calls `probe` every ten seconds, with a threshold of one failure.
    pub fn new<F>(name: String, probe: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let probe: Probe = Box::new(move || Box::pin(probe()));
        Self { name, interval: INTERVAL, threshold: 1, failures: AtomicU32::new(0), probe }
    }

    /// The same check with another interval; zero means the default.
    #[must_use]
    pub fn every(self, interval: Duration) -> Self {
        // Checks without a pause would be a busy loop.
        let interval = or(interval, INTERVAL).max(Duration::from_millis(100));
        Self { interval, ..self }
    }

    /// The same check with another threshold of failures in a row; 0 means 1.
    #[must_use]
    pub fn threshold(self, threshold: u32) -> Self {
        Self { threshold: threshold.max(1), ..self }
    }

    /// The check of a file: it fails while the file exists.
    #[must_use]
    pub fn file(options: &FileOptions) -> Self {
        let file = options.file.clone();
        let check = Self::new(file.display().to_string(), move || {
            let file = file.clone();
            async move { absent(&file).await }
        });
        check.every(options.interval).threshold(options.threshold)
    }

    /// The check of an address: it fails when no process accepts a connection there.
    #[must_use]
    pub fn tcp(options: &TcpOptions) -> Self {
        let addr = options.addr.clone();
        let limit = or(options.timeout, TIMEOUT);
        let check = Self::new(addr.clone(), move || {
            let connecting = TcpStream::connect(addr.clone());
            async move {
                match timeout(limit, connecting).await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(format!("no connection: {error}")),
                    Err(_) => Err("no connection in time".to_owned()),
                }
            }
        });
        check.every(options.interval).threshold(options.threshold)
    }

    /// The check of a URL: it fails when the response to `HEAD` has another status than the expected
    /// one. It follows redirects, as registry:2 does.
    ///
    /// # Errors
    ///
    /// When the address or a header is malformed.
    pub fn http(options: &HttpOptions) -> Result<Self, InvalidCheck> {
        let invalid = |why: &dyn fmt::Display| InvalidCheck {
            uri: public(&options.uri),
            why: why.to_string(),
        };
        let mut headers = HeaderMap::new();
        for (name, values) in &options.headers {
            let name: HeaderName = name.parse().map_err(|error| invalid(&error))?;
            for value in values {
                headers.append(name.clone(), value.parse().map_err(|error| invalid(&error))?);
            }
        }
        let client = reqwest::Client::builder().timeout(or(options.timeout, TIMEOUT)).build();
        let client = client.map_err(|error| invalid(&error))?;
        let request = client.head(&options.uri).headers(headers);
        let request = request.build().map_err(|error| invalid(&error))?;
        let expected = options.statuscode.get();
        let check = Self::new(public(&options.uri), move || {
            // A HEAD has no body, so it can be cloned.
            let response = request.try_clone().map(|request| client.execute(request));
            async move {
                let Some(response) = response else {
                    return Err("the request cannot be cloned".to_owned());
                };
                match response.await {
                    Ok(response) if response.status().as_u16() == expected => Ok(()),
                    Ok(response) => Err(format!(
                        "downstream service returned unexpected status: {}",
                        response.status().as_u16()
                    )),
                    Err(error) => Err(format!("no answer: {}", Chain(&error.without_url()))),
                }
            }
        });
        Ok(check.every(options.interval).threshold(options.threshold))
    }

    /// The name under which failures are reported.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same check under another name.
    pub(super) fn renamed(self, name: String) -> Self {
        Self { name, ..self }
    }

    /// The time between two runs.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    /// Runs the check once, and records the result in `health`.
    pub async fn run(&self, health: &Health) {
        match (self.probe)().await {
            Ok(()) => {
                self.failures.store(0, Ordering::Relaxed);
                health.passes(&self.name);
            }
            Err(why) => {
                let failures = self.failures.load(Ordering::Relaxed).saturating_add(1);
                self.failures.store(failures, Ordering::Relaxed);
                if failures >= self.threshold {
                    health.fails(&self.name, why);
                }
            }
        }
    }
}

/// A duration of zero means the default, as in registry:2.
fn or(duration: Duration, default: Duration) -> Duration {
    if duration.is_zero() { default } else { duration }
}

/// A URL without its user, password, query and fragment, which may be credentials.
fn public(uri: &str) -> String {
    let Ok(mut url) = reqwest::Url::parse(uri) else {
        return uri.chars().take_while(|c| !matches!(c, '@' | '?')).collect();
    };
    url.set_query(None);
    url.set_fragment(None);
    // These fail only for URLs that cannot have a user.
    let _ = (url.set_username(""), url.set_password(None));
    url.into()
}

/// Why a URL cannot be checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("health.http: {uri} cannot be requested: {why}")]
pub struct InvalidCheck {
    uri: String,
    why: String,
}

/// Fails if a file exists and, as in registry:2, if its metadata cannot be read.
async fn absent(file: &Path) -> Result<(), String> {
    match tokio::fs::symlink_metadata(file).await {
        Ok(_) => Err("file exists".to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
