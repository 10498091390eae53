//! The task that keeps a certificate for each host: obtains the first, renews it in time, and repeats what
//! fails. A certificate that is there stays until a better one is durable in the folder.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rustls::{crypto::aws_lc_rs::sign::any_supported_type, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{sync::Notify, task::JoinError, time::timeout};

use super::{
    authority::{Authority, Failure, Issued, Order},
    challenges::Challenge,
    clock::Clock,
    folder::{Folder, FolderError, Orders},
    schedule::{self, Validity, Window, after},
};
use crate::server::certificates::{describe, wildcard_matches};

/// The longest time between two looks at the folder and at the clock, which may jump.
const LOOK: SignedDuration = SignedDuration::from_mins(1);

/// How long an order may take in all.
const ORDER: Duration = Duration::from_secs(600);

/// The time between two messages about a failure that stays the same.
const LOGGED_AGAIN: SignedDuration = SignedDuration::from_hours(24);

/// How long a failed question for the window of a renewal is not repeated.
const ASKED_AGAIN: SignedDuration = SignedDuration::from_hours(1);

/// Keeps the certificates of all hosts.
pub struct Renewals {
    pub(super) folder: Folder,
    pub(super) hosts: Vec<String>,
    /// The challenges in the order in which they are tried; one at least.
    pub(super) challenges: Vec<Challenge>,
    /// The URL of the authority's directory.
    pub(super) directory: String,
    pub(super) authority: Box<dyn Authority>,
    pub(super) clock: Box<dyn Clock>,
    /// Puts the certificates of the folder in force; may block.
    pub(super) put_in_force: Arc<dyn Fn() + Send + Sync>,
    pub(super) hurry: Notify,
}

/// What the task knows of a host.
#[derive(Debug)]
struct Host {
    name: String,
    certificate: Option<Known>,
    /// The window that the authority suggests, and the moment of it that was chosen.
    suggested: Option<Suggested>,
    /// When to ask for the window.
    ask_at: Timestamp,
    /// Failures in succession.
    failures: usize,
    /// No attempt before this.
    next_try: Timestamp,
    /// The challenge of the next attempt, as an index.
    challenge: usize,
    logged: Option<Logged>,
}

/// A certificate in the folder.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    leaf: CertificateDer<'static>,
    validity: Validity,
    /// The directory that it is from, if it was obtained here.
    directory: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Suggested {
    window: Window,
    moment: Timestamp,
}

/// The last message about a failure.
#[derive(Debug)]
struct Logged {
    cause: String,
    at: Timestamp,
}

impl Renewals {
    /// Keeps the certificates. Never returns; it may be dropped at any time.
    pub async fn run(&self) {
        let mut hosts: Vec<_> = self.hosts.iter().map(|name| Host::new(name)).collect();
        loop {
            let mut next = after(self.clock.now(), LOOK);
            for host in &mut hosts {
                next = next.min(self.tend(host).await);
            }
            let wait = self.clock.now().duration_until(next).max(SignedDuration::from_secs(1));
            let wait = Duration::try_from(wait).unwrap_or(Duration::from_secs(1));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.hurry.notified() => hosts.iter_mut().for_each(Host::hurry),
            }
        }
    }

    /// Has what waits for the end of a pause done at once, as far as the orders of the last hour permit.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Does what is due for a host. Returns when to look again.
    async fn tend(&self, host: &mut Host) -> Timestamp {
        let now = self.clock.now();
        match self.find(&host.name).await {
            Ok(found) => host.see(found.certificate),
            Err(failure) => return self.failed(host, &failure, None),
        }
        if host.certificate.is_some() && host.ask_at <= now {
            self.ask(host).await;
        }
        let due = host.due(&self.directory).max(host.next_try);
        if due > now {
            return if host.certificate.is_some() { due.min(host.ask_at) } else { due };
        }
        self.attempt(host).await;
        self.clock.now()
    }

    /// Asks for the window of the renewal.
    async fn ask(&self, host: &mut Host) {
        let Some(known) = &host.certificate else { return };
        let asked = self.authority.suggestion(&known.leaf).await;
        let now = self.clock.now();
        match asked {
            Ok(Some(suggestion)) => {
                host.ask_at = after(now, schedule::ask_again(suggestion.ask_again));
                let window = suggestion.window;
                if host.suggested.is_none_or(|suggested| suggested.window != window) {
                    let moment = window.moment(self.clock.fraction());
                    host.suggested = Some(Suggested { window, moment });
                    tracing::info!(
                        host = host.name,
                        at = %minute(moment),
                        "the authority suggests a time for the renewal of the certificate"
                    );
                }
            }
            Ok(None) => {
                host.ask_at = after(now, LOGGED_AGAIN);
                host.suggested = None;
            }
            Err(failure) => {
                host.ask_at = after(now, ASKED_AGAIN);
                tracing::debug!(
                    host = host.name,
                    error = failure.message,
                    "no window for the renewal"
                );
            }
        }
    }

    /// Orders a certificate, unless another process does.
    async fn attempt(&self, host: &mut Host) {
        let folder = self.folder.clone();
        let lock = match blocking(move || folder.try_lock()).await {
            Ok(Ok(Some(lock))) => lock,
            Ok(Ok(None)) => {
                tracing::debug!(host = host.name, "another process orders certificates");
                host.next_try = after(self.clock.now(), LOOK);
                return;
            }
            Ok(Err(error)) => {
                self.failed(host, &unusable(&error), None);
                return;
            }
            Err(error) => {
                self.failed(host, &Failure::new(error.to_string()), None);
                return;
            }
        };
        let found = match self.find(&host.name).await {
            // Another process has obtained one meanwhile.
            Ok(found) if found.certificate != host.certificate => {
                return host.see(found.certificate);
            }
            Ok(found) => found,
            Err(failure) => {
                self.failed(host, &failure, None);
                return;
            }
        };
        let now = self.clock.now();
        if let Some(at) = schedule::next_order(&found.orders.times()).filter(|at| *at > now) {
            tracing::info!(
                host = host.name,
                at = %minute(at),
                "no more than four certificates an hour are ordered: the next attempt waits"
            );
            host.next_try = at;
            return;
        }
        let challenge = self.challenges[host.challenge % self.challenges.len()];
        match self.obtain(host, challenge).await {
            Ok(()) => {
                tracing::info!(host = host.name, %challenge, "a certificate was obtained");
                host.failures = 0;
                host.next_try = Timestamp::MIN;
                host.logged = None;
                let put_in_force = Arc::clone(&self.put_in_force);
                // A panic has been logged by its hook.
                let _ = blocking(move || put_in_force()).await;
            }
            Err(failure) => {
                self.failed(host, &failure, Some(challenge));
            }
        }
        drop(lock);
    }

    /// Orders a certificate and writes it into the folder.
    async fn obtain(&self, host: &Host, challenge: Challenge) -> Result<(), Failure> {
        let now = self.clock.now();
        let name = host.name.clone();
        let folder = self.folder.clone();
        // First, so that an order that ends the process counts as well.
        blocking(move || folder.note_order(&name, now))
            .await
            .map_err(panicked)?
            .map_err(|e| unusable(&e))?;
        tracing::info!(
            host = host.name,
            %challenge,
            directory = self.directory,
            "a certificate is ordered"
        );
        let known = host.certificate.as_ref();
        let order = Order {
            host: &host.name,
            challenge,
            replaces: known.filter(|_| host.suggested.is_some()).map(|known| &known.leaf),
        };
        let issued = timeout(ORDER, self.authority.order(order))
            .await
            .map_err(|_| Failure::new("the authority takes more than ten minutes"))??;
        check(&issued, &host.name)?;
        let folder = self.folder.clone();
        let name = host.name.clone();
        let directory = self.directory.clone();
        blocking(move || {
            folder.write(&name, &issued.key, &issued.chain)?;
            folder.note_directory(&name, &directory)
        })
        .await
        .map_err(panicked)?
        .map_err(|error| unusable(&error))
    }

    /// Plans the next attempt, and logs the failure where it is new. Returns when to look again.
    fn failed(
        &self,
        host: &mut Host,
        failure: &Failure,
        challenge: Option<Challenge>,
    ) -> Timestamp {
        let now = self.clock.now();
        host.failures += 1;
        let pause = schedule::pause(host.failures, failure.retry_after, self.clock.fraction());
        host.next_try = after(now, pause);
        let remedy = challenge.filter(|_| is_about_challenge(failure));
        if remedy.is_some() {
            host.challenge = (host.challenge + 1) % self.challenges.len();
        }
        let Failure { message, .. } = failure;
        let again = minute(host.next_try);
        if !host.is_worth_a_message(failure, now) {
            tracing::debug!(host = host.name, error = message, again, "still no certificate");
            return host.next_try;
        }
        host.logged = Some(Logged { cause: failure.cause.clone(), at: now });
        let until = match &host.certificate {
            None => "until then the built-in certificate is served".to_owned(),
            Some(known) => {
                format!("the certificate until {} stays in force", minute(known.validity.not_after))
            }
        };
        let name = &host.name;
        let remedy = match remedy {
            None => String::new(),
            Some(challenge) => format!(
                "; the authority connects to port {} of {name}, which has to lead to {}",
                challenge.port(),
                match challenge {
                    Challenge::Http01 => "http.redirectaddr",
                    Challenge::TlsAlpn01 => "http.addr",
                },
            ),
        };
        let how = challenge.map(|challenge| format!(" by {challenge}")).unwrap_or_default();
        tracing::error!(
            "cannot obtain a certificate for {name}{how}: {message}{remedy}; the next attempt is at {again}, \
             and {until}"
        );
        host.next_try
    }

    /// What the folder has for a host. A certificate that cannot be used counts as missing.
    async fn find(&self, host: &str) -> Result<Found, Failure> {
        let folder = self.folder.clone();
        let name = host.to_owned();
        let found = blocking(move || found(&folder, &name));
        found.await.map_err(panicked)
    }
}

impl std::fmt::Debug for Renewals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Renewals").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl Host {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            certificate: None,
            suggested: None,
            ask_at: Timestamp::MIN,
            failures: 0,
            next_try: Timestamp::MIN,
            challenge: 0,
            logged: None,
        }
    }

    /// Takes note of the certificate in the folder. A new one ends all pauses.
    fn see(&mut self, certificate: Option<Known>) {
        if certificate == self.certificate {
            return;
        }
        let leaf = |known: &Option<Known>| known.as_ref().map(|known| known.leaf.clone());
        if leaf(&certificate) != leaf(&self.certificate) {
            self.suggested = None;
            self.ask_at = Timestamp::MIN;
            if certificate.is_some() {
                self.failures = 0;
                self.next_try = Timestamp::MIN;
                self.logged = None;
            }
        }
        self.certificate = certificate;
    }

    fn hurry(&mut self) {
        self.next_try = Timestamp::MIN;
        self.ask_at = Timestamp::MIN;
    }

    /// When a certificate is to be ordered, pauses aside.
    fn due(&self, directory: &str) -> Timestamp {
        let Some(known) = &self.certificate else { return Timestamp::MIN };
        // The operator has tried with another authority first.
        if known.directory.as_ref().is_some_and(|of| of != directory) {
            return Timestamp::MIN;
        }
        match self.suggested {
            // No suggestion may let the certificate expire.
            Some(suggested) => suggested.moment.min(known.validity.latest_renewal()),
            None => known.validity.renewal(),
        }
    }

    /// Whether the log has no message about this failure yet, or one of yesterday while the end is near.
    fn is_worth_a_message(&self, failure: &Failure, now: Timestamp) -> bool {
        let Some(logged) = &self.logged else { return true };
        let is_urgent =
            self.certificate.as_ref().is_none_or(|known| known.validity.is_in_last_third(now));
        logged.cause != failure.cause || is_urgent && logged.at.duration_until(now) >= LOGGED_AGAIN
    }
}

/// What the folder has for a host.
#[derive(Debug, Default)]
struct Found {
    certificate: Option<Known>,
    orders: Orders,
}

fn found(folder: &Folder, host: &str) -> Found {
    let orders = folder.orders(host);
    let leaf = match folder.read(host) {
        Ok(pair) => pair.and_then(|pair| pair.certified.cert.first().cloned()),
        // The part that serves the file has logged it.
        Err(_) => None,
    };
    let certificate = leaf.and_then(|leaf| {
        let described = describe(&leaf).ok()?;
        covers(&described.names, host).then(|| Known {
            leaf,
            validity: Validity { not_before: described.not_before, not_after: described.not_after },
            directory: orders.directory.clone(),
        })
    });
    Found { certificate, orders }
}

fn covers(names: &[String], host: &str) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case(host) || wildcard_matches(name, host))
}

/// Whether the response of an authority is a certificate for the host and the key.
fn check(issued: &Issued, host: &str) -> Result<(), Failure> {
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(issued.chain.as_bytes()).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| Failure::new("the authority's response is no certificate"))?;
    let names = describe(&chain[0]).map(|leaf| leaf.names).unwrap_or_default();
    if !covers(&names, host) {
        return Err(Failure::new("the authority's certificate is for other names"));
    }
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).ok();
    let key = key.and_then(|key| any_supported_type(&key).ok());
    let matches = key.is_some_and(|key| CertifiedKey::new(chain, key).keys_match().is_ok());
    if matches {
        Ok(())
    } else {
        Err(Failure::new("the authority's certificate is for another key"))
    }
}

/// Whether the authority has looked at a challenge, and another one may pass.
fn is_about_challenge(failure: &Failure) -> bool {
    let kind = failure.cause.strip_prefix("urn:ietf:params:acme:error:");
    let kinds = ["connection", "dns", "incorrectResponse", "tls", "unauthorized"];
    kind.is_some_and(|kind| kinds.contains(&kind)) || failure.cause.contains("offers no challenge")
}

fn unusable(error: &FolderError) -> Failure {
    Failure::new(crate::chain::Chain(error).to_string())
}

fn panicked(error: JoinError) -> Failure {
    Failure::new(error.to_string())
}

/// A time as messages have it.
fn minute(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Runs work on files on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    tokio::task::spawn_blocking(work).await
}

#[cfg(test)]
mod tests;
