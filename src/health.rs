//! Whether the server is fit to serve, by what its operator wants to have looked at.
//!
//! The checks are registry:2's: the storage, files that must not be there, addresses that must be
//! reached. One that fails as many times in a row as its threshold says makes the server unwell,
//! until it succeeds again. What that means is others' business; `http` then answers 503.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    num::NonZeroU16,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use reqwest::header::{HeaderMap, HeaderName};
use serde::Deserialize;
use tokio::{net::TcpStream, time::timeout};

use crate::chain::Chain;

/// How often a check is made that does not say it.
const INTERVAL: Duration = Duration::from_secs(10);

/// A check that does not say how long it may take may take this long.
const TIMEOUT: Duration = Duration::from_secs(5);

/// `health`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Options {
    /// The storage.
    pub storagedriver: StorageOptions,
    /// Files that take the server out of service while they are there.
    pub file: Vec<FileOptions>,
    /// Addresses that must answer.
    pub http: Vec<HttpOptions>,
    /// Addresses that must accept a connection.
    pub tcp: Vec<TcpOptions>,
}

/// `health.storagedriver`: fails when the storage cannot be looked at.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct StorageOptions {
    /// Whether it is looked at.
    pub enabled: bool,
    /// How often.
    pub interval: Duration,
    /// How many times in a row it has to fail until it counts; 0 is 1.
    pub threshold: u32,
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self { enabled: false, interval: INTERVAL, threshold: 0 }
    }
}

/// An item of `health.file`: fails while the file is there.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct FileOptions {
    /// The file.
    pub file: PathBuf,
    /// How often.
    pub interval: Duration,
    /// As for the storage.
    pub threshold: u32,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self { file: PathBuf::new(), interval: INTERVAL, threshold: 0 }
    }
}

/// An item of `health.http`: fails when `HEAD` is answered with another status, or not at all.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct HttpOptions {
    /// The address.
    pub uri: String,
    /// Headers of the request.
    pub headers: BTreeMap<String, Vec<String>>,
    /// What it must be answered with.
    pub statuscode: NonZeroU16,
    /// How long that may take.
    pub timeout: Duration,
    /// How often.
    pub interval: Duration,
    /// As for the storage.
    pub threshold: u32,
}

impl Default for HttpOptions {
    fn default() -> Self {
        const OK: NonZeroU16 = NonZeroU16::MIN.saturating_add(199);
        Self {
            uri: String::new(),
            headers: BTreeMap::new(),
            statuscode: OK,
            timeout: TIMEOUT,
            interval: INTERVAL,
            threshold: 0,
        }
    }
}

/// An item of `health.tcp`: fails when no process accepts a connection there.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct TcpOptions {
    /// `host:port`.
    pub addr: String,
    /// How long that may take.
    pub timeout: Duration,
    /// How often.
    pub interval: Duration,
    /// As for the storage.
    pub threshold: u32,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self { addr: String::new(), timeout: TIMEOUT, interval: INTERVAL, threshold: 0 }
    }
}

/// What is wrong at the moment.
#[derive(Debug, Default)]
pub struct Health {
    failing: Mutex<BTreeMap<String, String>>,
    is_failing: AtomicBool,
}

impl Health {
    /// Whether nothing is wrong. Costs next to nothing.
    #[must_use]
    pub fn is_well(&self) -> bool {
        !self.is_failing.load(Ordering::Relaxed)
    }

    /// The checks that fail, with what each says.
    #[must_use]
    pub fn failures(&self) -> BTreeMap<String, String> {
        self.failing().clone()
    }

    /// Takes what a check says; `failures` is how many times in a row it has failed, this time
    /// counted, and `threshold` how many of them count.
    fn note(&self, name: &str, result: Result<(), String>, (failures, threshold): (u32, u32)) {
        let mut failing = self.failing();
        match result {
            Ok(()) => {
                if failing.remove(name).is_some() {
                    tracing::info!(check = name, "health check passes again");
                }
            }
            Err(why) if failures >= threshold.max(1) => {
                if !failing.contains_key(name) {
                    tracing::error!(
                        check = name,
                        why,
                        "a health check fails; requests are answered with 503 until it succeeds"
                    );
                }
                failing.insert(name.to_owned(), why);
            }
            Err(_) => {}
        }
        self.is_failing.store(!failing.is_empty(), Ordering::Relaxed);
    }

    fn failing(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A check that is made again and again.
pub struct Check {
    name: String,
    interval: Duration,
    threshold: u32,
    /// How many times in a row it has failed.
    failures: AtomicU32,
    look: Look,
}

type Look = Box<dyn Fn() -> Looking + Send + Sync>;
type Looking = std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Check {
    /// A check that `look` makes.
    pub fn new<F>(
        name: String,
        (interval, threshold): (Duration, u32),
        look: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let look: Look = Box::new(move || Box::pin(look()));
        // An interval of zero would be a busy loop.
        let interval = or(interval, INTERVAL).max(Duration::from_millis(100));
        Self { name, interval, threshold, failures: AtomicU32::new(0), look }
    }

    /// The check of a file.
    #[must_use]
    pub fn file(options: &FileOptions) -> Self {
        let file = options.file.clone();
        let name = file.display().to_string();
        Self::new(name, (options.interval, options.threshold), move || {
            let file = file.clone();
            async move { absent(&file).await }
        })
    }

    /// The check of an address.
    #[must_use]
    pub fn tcp(options: &TcpOptions) -> Self {
        let (addr, patience) = (options.addr.clone(), or(options.timeout, TIMEOUT));
        Self::new(addr.clone(), (options.interval, options.threshold), move || {
            let connecting = TcpStream::connect(addr.clone());
            async move {
                match timeout(patience, connecting).await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(format!("no connection: {error}")),
                    Err(_) => Err("no connection in time".to_owned()),
                }
            }
        })
    }

    /// The check of an address where HTTP is spoken. Redirections are followed, as in registry:2.
    ///
    /// # Errors
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
        let patience = or(options.timeout, TIMEOUT);
        let client = reqwest::Client::builder().timeout(patience).build();
        let client = client.map_err(|error| invalid(&error))?;
        let request = client.head(&options.uri).headers(headers);
        let request = request.build().map_err(|error| invalid(&error))?;
        let expected = options.statuscode.get();
        let every = (options.interval, options.threshold);
        Ok(Self::new(public(&options.uri), every, move || {
            // A HEAD has no body that could not be sent twice.
            let asking = request.try_clone().map(|request| client.execute(request));
            async move {
                let Some(asking) = asking else {
                    return Err("it cannot be asked twice".to_owned());
                };
                match asking.await {
                    Ok(answer) if answer.status().as_u16() == expected => Ok(()),
                    Ok(answer) => Err(format!(
                        "downstream service returned unexpected status: {}",
                        answer.status().as_u16()
                    )),
                    Err(error) => Err(format!("no answer: {}", Chain(&error.without_url()))),
                }
            }
        }))
    }

    /// What it is called where its failures are told.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same under another name.
    #[must_use]
    pub fn renamed(self, name: String) -> Self {
        Self { name, ..self }
    }

    /// How often it is to be made.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    /// Makes it once, and says what came of it.
    pub async fn run(&self, health: &Health) {
        let result = (self.look)().await;
        let before = self.failures.load(Ordering::Relaxed);
        let failures = if result.is_ok() { 0 } else { before.saturating_add(1) };
        self.failures.store(failures, Ordering::Relaxed);
        health.note(&self.name, result, (failures, self.threshold));
    }
}

/// Nothing means the default, as in registry:2.
fn or(duration: Duration, default: Duration) -> Duration {
    if duration.is_zero() { default } else { duration }
}

/// An address without its credentials: user, password and query.
fn public(uri: &str) -> String {
    let Ok(mut url) = reqwest::Url::parse(uri) else {
        return uri.chars().take_while(|c| !matches!(c, '@' | '?')).collect();
    };
    url.set_query(None);
    url.set_fragment(None);
    // Only of addresses that have no place for them.
    let _ = (url.set_username(""), url.set_password(None));
    url.into()
}

/// Why an address cannot be looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("health.http: {uri} cannot be requested: {why}")]
pub struct InvalidCheck {
    uri: String,
    why: String,
}

/// As in registry:2: the file is there, or cannot be looked at.
async fn absent(file: &Path) -> Result<(), String> {
    match tokio::fs::symlink_metadata(file).await {
        Ok(_) => Err("file exists".to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_check_counts_when_it_has_failed_as_often_as_its_threshold_says() {
        let (health, wrong) = (Health::default(), Arc::new(AtomicBool::new(true)));
        let look = Arc::clone(&wrong);
        let check = Check::new("it".to_owned(), (INTERVAL, 3), move || {
            let result = match look.load(Ordering::Relaxed) {
                true => Err("wrong".to_owned()),
                false => Ok(()),
            };
            async move { result }
        });
        for well in [true, true, false, false] {
            check.run(&health).await;
            assert_eq!(health.is_well(), well);
        }
        assert_eq!(health.failures()["it"], "wrong");
        wrong.store(false, Ordering::Relaxed);
        check.run(&health).await;
        assert!(health.is_well() && health.failures().is_empty());
        wrong.store(true, Ordering::Relaxed);
        check.run(&health).await;
        assert!(health.is_well(), "it counts from the beginning");
    }

    #[tokio::test]
    async fn an_address_that_answers_otherwise_than_it_should_is_a_failure() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/fit", listener.local_addr().unwrap());
        let headers = BTreeMap::from([("X-Why".to_owned(), vec!["health".to_owned()])]);
        let options = HttpOptions { uri: uri.clone(), headers, ..HttpOptions::default() };
        let check = Check::http(&options).unwrap();
        let health = Health::default();
        for (status, well) in [("200 OK", true), ("503 Unavailable", false), ("200 OK", true)] {
            let answer = async {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let length = client.read(&mut request).await.unwrap();
                let head =
                    format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                client.write_all(head.as_bytes()).await.unwrap();
                String::from_utf8_lossy(&request[..length]).into_owned()
            };
            let (request, ()) = tokio::join!(answer, check.run(&health));
            assert!(request.starts_with("HEAD /fit HTTP/1.1\r\n"), "{request}");
            assert!(request.contains("x-why: health\r\n"), "{request}");
            assert_eq!(health.is_well(), well);
        }
        drop(listener);
        check.run(&health).await;
        assert!(health.failures()[&uri].starts_with("no answer: "), "{:?}", health.failures());
        let nowhere = HttpOptions { uri: "nowhere".to_owned(), ..HttpOptions::default() };
        assert!(Check::http(&nowhere).unwrap_err().to_string().contains("nowhere"));
        let uri = "https://ann:sesame@a.example/fit?token=sesame#sesame".to_owned();
        let secret = Check::http(&HttpOptions { uri, ..HttpOptions::default() }).unwrap();
        assert_eq!(secret.name(), "https://a.example/fit");
    }

    #[tokio::test]
    async fn a_file_that_is_there_and_an_address_that_nobody_listens_on_are_failures() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("down");
        let health = Health::default();
        let options = FileOptions { file: file.clone(), ..FileOptions::default() };
        let check = Check::file(&options);
        check.run(&health).await;
        assert!(health.is_well());
        std::fs::write(&file, "").unwrap();
        check.run(&health).await;
        assert_eq!(health.failures()[file.to_str().unwrap()], "file exists");

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let health = Health::default();
        let options = TcpOptions { addr: addr.clone(), ..TcpOptions::default() };
        let check = Check::tcp(&options);
        check.run(&health).await;
        assert!(health.is_well());
        drop(listener);
        check.run(&health).await;
        assert!(health.failures()[&addr].starts_with("no connection"));
    }
}
