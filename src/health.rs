//! Health checks, as the operator configures them.
//!
//! The checks are registry:2's: the storage, files that must not exist, addresses that must accept a
//! connection or a request. After as many failures in a row as its threshold, a check makes the
//! server unhealthy until the check succeeds again; `http` then refuses requests with 503.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;

mod check;
mod options;

pub use check::{Check, InvalidCheck};
pub use options::{FileOptions, HttpOptions, Options, StorageOptions, TcpOptions};

/// The timeout of the check of the storage.
const STORAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// The checks that fail now.
#[derive(Debug, Default)]
pub struct Health {
    failing: Mutex<BTreeMap<String, String>>,
    is_failing: AtomicBool,
}

impl Health {
    /// Whether no check fails. This costs one atomic load.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        !self.is_failing.load(Ordering::Relaxed)
    }

    /// The names of the failing checks, and the reason of each.
    #[must_use]
    pub fn failures(&self) -> BTreeMap<String, String> {
        self.failing().clone()
    }

    /// Records that a check has succeeded.
    fn passes(&self, name: &str) {
        let mut failing = self.failing();
        if failing.remove(name).is_some() {
            tracing::info!(check = name, "health check passes again");
        }
        self.is_failing.store(!failing.is_empty(), Ordering::Relaxed);
    }

    /// Records that a check has failed as many times in a row as its threshold.
    fn fails(&self, name: &str, why: String) {
        let mut failing = self.failing();
        if !failing.contains_key(name) {
            tracing::error!(
                check = name,
                why,
                "a health check fails; requests are answered with 503 until it succeeds"
            );
        }
        failing.insert(name.to_owned(), why);
        self.is_failing.store(true, Ordering::Relaxed);
    }

    fn failing(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The checks by these options, each with a name of its own. `probe` checks the storage.
///
/// # Errors
///
/// When the address or a header of an item of `health.http` is malformed.
pub fn checks<F>(
    options: &Options,
    probe: impl Fn() -> F + Send + Sync + 'static,
) -> Result<Vec<Check>, InvalidCheck>
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let mut checks = Vec::new();
    let storage = &options.storagedriver;
    if storage.enabled {
        let check = Check::new("storagedriver_filesystem".to_owned(), move || {
            let probed = timeout(STORAGE_TIMEOUT, probe());
            async move { probed.await.unwrap_or_else(|_| Err("no answer in time".to_owned())) }
        });
        checks.push(check.every(storage.interval).threshold(storage.threshold));
    }
    checks.extend(options.file.iter().map(Check::file));
    checks.extend(options.tcp.iter().map(Check::tcp));
    for http in &options.http {
        checks.push(Check::http(http)?);
    }
    Ok(numbered(checks))
}

/// Numbers checks of one name, so that the success of one does not remove the failure of another.
fn numbered(checks: Vec<Check>) -> Vec<Check> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let numbered = checks.into_iter().map(|check| {
        let count = seen.entry(check.name().to_owned()).or_default();
        *count += 1;
        match *count {
            1 => check,
            n => {
                let name = format!("{} ({n})", check.name());
                check.renamed(name)
            }
        }
    });
    numbered.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn check_counts_from_the_failure_that_its_threshold_names() {
        let health = Health::default();
        let fails = Arc::new(AtomicBool::new(true));
        let shared = Arc::clone(&fails);
        let check = Check::new("disk".to_owned(), move || {
            let result = match shared.load(Ordering::Relaxed) {
                true => Err("full".to_owned()),
                false => Ok(()),
            };
            async move { result }
        });
        let check = check.threshold(3);
        for is_healthy in [true, true, false, false] {
            check.run(&health).await;
            assert_eq!(health.is_healthy(), is_healthy);
        }
        assert_eq!(health.failures()["disk"], "full");
        fails.store(false, Ordering::Relaxed);
        check.run(&health).await;
        assert!(health.is_healthy() && health.failures().is_empty());
        fails.store(true, Ordering::Relaxed);
        check.run(&health).await;
        assert!(health.is_healthy(), "a success resets the count of failures");
    }

    #[tokio::test]
    async fn checks_of_one_name_are_numbered_and_fail_each_for_itself() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("down");
        let name = file.to_str().unwrap().to_owned();
        std::fs::write(&file, "").unwrap();
        let item = FileOptions { file, ..FileOptions::default() };
        let later = FileOptions { threshold: 2, ..item.clone() };
        let options = Options { file: vec![item, later], ..Options::default() };
        let checks = checks(&options, async || Ok(())).unwrap();
        let health = Health::default();
        for (runs, failing) in [(1, 1), (2, 2)] {
            for check in &checks {
                check.run(&health).await;
            }
            assert_eq!(health.failures().len(), failing, "{runs}");
        }
        let names: Vec<_> = health.failures().into_keys().collect();
        assert_eq!(names, [name.clone(), format!("{name} (2)")]);
    }

    #[tokio::test]
    async fn check_fails_for_an_address_that_answers_another_status() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/fit", listener.local_addr().unwrap());
        let headers = BTreeMap::from([("X-Why".to_owned(), vec!["health".to_owned()])]);
        let options = HttpOptions { uri: uri.clone(), headers, ..HttpOptions::default() };
        let check = Check::http(&options).unwrap();
        let health = Health::default();
        for (status, is_healthy) in [("200 OK", true), ("503 Unavailable", false), ("200 OK", true)]
        {
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
            assert_eq!(health.is_healthy(), is_healthy);
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
    async fn check_fails_for_a_file_that_exists_and_an_address_without_listener() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("down");
        let health = Health::default();
        let options = FileOptions { file: file.clone(), ..FileOptions::default() };
        let check = Check::file(&options);
        check.run(&health).await;
        assert!(health.is_healthy());
        std::fs::write(&file, "").unwrap();
        check.run(&health).await;
        assert_eq!(health.failures()[file.to_str().unwrap()], "file exists");

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let health = Health::default();
        let options = TcpOptions { addr: addr.clone(), ..TcpOptions::default() };
        let check = Check::tcp(&options);
        check.run(&health).await;
        assert!(health.is_healthy());
        drop(listener);
        check.run(&health).await;
        assert!(health.failures()[&addr].starts_with("no connection"));
    }
}
