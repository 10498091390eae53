//! The changes while the server runs, one a second: the certificate, the users and the deploy token, the
//! groups, and the access rules with SIGHUP.

use std::{fs, path::Path, process::Command, sync::Arc, time::Duration};

use portcullis::server::authority::Authority;
use reqwest::{Method, Version};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use testkit::site::{PASSWORD, Site, USER};
use tokio::{
    task::{JoinSet, block_in_place},
    time::{self, Instant, MissedTickBehavior},
};

use crate::{
    changing::Place,
    client::{Client, Outcome, Stop},
    rights::{self, NEW_TOKEN, READER, Rights},
    stage::{Stage, Users},
    strangers::{BOB, CI, EVE, is_refused},
};

const EVERY: Duration = Duration::from_secs(1);
/// A hang guard: the server checks its files every few seconds.
const LIMIT: Duration = Duration::from_secs(60);
/// How often the test asks whether a change is in force. Not often, since a password that is not
/// yet in force counts as wrong.
const POLL: Duration = Duration::from_millis(250);

/// The path of a site's certificate.
pub(crate) const CERTIFICATE: &str = "certs/server.crt";
const KEY: &str = "certs/server.key";
const USERS: &str = "htpasswd";
/// The path of a site's group file.
pub(crate) const GROUPS: &str = "groups";
/// The log message after SIGHUP.
const TOLD: &str = "SIGHUP";

/// The task that makes the changes.
#[derive(Debug)]
pub(crate) struct Changes {
    stage: Arc<Stage>,
    pid: u32,
    /// The tasks that wait for a certificate, and for users, to be in force.
    certificate: JoinSet<Outcome<()>>,
    users: JoinSet<Outcome<()>>,
}

impl Changes {
    /// Changes the files of the process.
    pub(crate) fn new(stage: &Arc<Stage>, pid: u32) -> Self {
        let (certificate, users) = (JoinSet::new(), JoinSet::new());
        Self { stage: Arc::clone(stage), pid, certificate, users }
    }

    /// Makes changes until the clients end, and waits until all are in force.
    pub(crate) async fn make(mut self) -> Outcome<()> {
        let mut ticks = time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut number: usize = 0;
        while !self.stage.is_over() {
            ticks.tick().await;
            let nth = number / 4;
            match number % 4 {
                0 => {
                    all(&mut self.certificate).await?;
                    block_in_place(|| self.change_certificate(nth));
                }
                1 => {
                    all(&mut self.users).await?;
                    block_in_place(|| self.change_users(nth));
                }
                2 => self.exchange_rules().await?,
                _ => self.move_reader().await?,
            }
            number += 1;
        }
        all(&mut self.certificate).await?;
        all(&mut self.users).await
    }

    fn change_certificate(&mut self, nth: usize) {
        let site = &*self.stage.site;
        let place = self.stage.certificates.announce(None);
        let host = site.address.ip().to_string();
        let kind = match nth % 3 {
            0 => {
                site.run(&["certs", "--new", "--host", &host, "--out", "certs"]);
                "certificate, by `portcullis certs`"
            }
            way => {
                let (authority, _) = Authority::load_or_create(&site.path("certs"), &[]).unwrap();
                let issued = authority.issue(&[host], 30).unwrap();
                let write = if way == 1 { renamed } else { overwritten };
                write(&site.path(KEY), issued.key.as_bytes());
                write(&site.path(CERTIFICATE), issued.chain.as_bytes());
                if way == 1 { "certificate, renamed" } else { "certificate, overwritten" }
            }
        };
        let der = certificate_of(site);
        self.stage.certificates.name(place, Some(der.clone()));
        let (stage, changed) = (Arc::clone(&self.stage), Instant::now());
        self.certificate.spawn(async move {
            loop {
                let client = Client::new(&stage, Version::HTTP_2);
                if client.meet().await? == der {
                    stage.certificates.confirm(place);
                    stage.tally.changed(kind, changed.elapsed());
                    return Ok(());
                }
                wait(changed, kind).await?;
            }
        });
    }

    fn change_users(&mut self, nth: usize) {
        let (site, path) = (&self.stage.site, self.stage.site.path(USERS));
        let mut users = self.stage.users.last();
        let password = format!("{nth} bottles");
        let file = path.to_str().unwrap();
        let set = ["htpasswd", "-Bb", "-C", "4", file];
        let (kind, who) = match nth % 6 {
            0 => ("user removed, by `portcullis htpasswd`", BOB),
            1 => ("password changed, file renamed", EVE),
            2 => ("deploy token made", CI),
            3 => ("user added, by `portcullis htpasswd`", BOB),
            4 => ("password changed, by `portcullis htpasswd`", EVE),
            _ => ("deploy token revoked", CI),
        };
        match nth % 6 {
            0 | 5 => drop(users.remove(who)),
            // Its secret is known when it is made.
            2 => {}
            _ => drop(users.insert(who, password.clone())),
        }
        let place = self.stage.users.announce(users.clone());
        match nth % 6 {
            0 => drop(site.run(&["htpasswd", "-D", file, who])),
            1 => renamed(&path, &lines(site, &users)),
            2 => {
                let secret = String::from_utf8(site.run(&NEW_TOKEN)).unwrap();
                users.insert(who, secret.trim().to_owned());
                self.stage.users.name(place, users);
            }
            5 => drop(site.run(&["token", "revoke", who, "config.yml"])),
            _ => drop(site.run(&[&set[..], &[who, &password]].concat())),
        }
        let stage = Arc::clone(&self.stage);
        self.users.spawn(users_are_in_force(stage, place, kind, who));
    }

    /// Opens each of two repositories to the other group, and waits until that is in force.
    async fn exchange_rules(&self) -> Outcome<()> {
        let mut rights = self.stage.rights.last();
        rights.exchanged = !rights.exchanged;
        let place = self.stage.rights.announce(rights);
        self.stage.site.configure(&self.stage.site.path("data"), &rights.section());
        self.tell().await?;
        self.rights_are_in_force(place, rights, "access rules exchanged, with SIGHUP").await
    }

    /// Moves the reader to the other group, and waits until that is in force.
    async fn move_reader(&self) -> Outcome<()> {
        let mut rights = self.stage.rights.last();
        rights.moved = !rights.moved;
        let place = self.stage.rights.announce(rights);
        renamed(&self.stage.site.path(GROUPS), rights.groups().as_bytes());
        self.rights_are_in_force(place, rights, "user moved to another group").await
    }

    async fn rights_are_in_force(
        &self,
        place: Place,
        rights: Rights,
        kind: &'static str,
    ) -> Outcome<()> {
        let changed = Instant::now();
        let client = Client::new(&self.stage, Version::HTTP_2);
        while !rights::are_in_force(&client, rights).await? {
            wait(changed, kind).await?;
        }
        self.stage.rights.confirm(place);
        self.stage.tally.changed(kind, changed.elapsed());
        Ok(())
    }

    /// Sends SIGHUP, and waits until the server has acted on it.
    async fn tell(&self) -> Outcome<()> {
        let before = self.stage.site.log().matches(TOLD).count();
        let told = Instant::now();
        signal(self.pid, "HUP");
        while self.stage.site.log().matches(TOLD).count() == before {
            wait(told, "SIGHUP").await?;
        }
        self.stage.tally.changed("SIGHUP", told.elapsed());
        Ok(())
    }
}

/// Waits until the password file with this changed user is in force.
async fn users_are_in_force(
    stage: Arc<Stage>,
    place: Place,
    kind: &'static str,
    who: &'static str,
) -> Outcome<()> {
    let changed = Instant::now();
    let client = Client::new(&stage, Version::HTTP_11);
    let before = stage.users.since(stage.users.now())[0].get(who).cloned();
    let now = stage.users.last().get(who).cloned();
    // For a removed user the test tries the former password.
    let tried = now.as_ref().or(before.as_ref()).cloned().unwrap_or_default();
    while is_let_in(&client, who, &tried).await? != now.is_some() {
        wait(changed, kind).await?;
    }
    stage.users.confirm(place);
    stage.tally.changed(kind, changed.elapsed());
    match before {
        Some(old) if is_let_in(&client, who, &old).await? => {
            Err(Stop::Wrong(format!("{kind}: {who} is let in with the password from before")))
        }
        _ => Ok(()),
    }
}

async fn is_let_in(client: &Client, user: &str, password: &str) -> Outcome<bool> {
    let request = client.request_as((user, password), Method::GET, "/v2/");
    let answer = client.send("while users change", request).await?;
    is_refused(&answer).map(|refused| !refused)
}

/// Waits for a short time; fails after the hang guard.
async fn wait(since: Instant, kind: &str) -> Outcome<()> {
    if since.elapsed() > LIMIT {
        return Err(Stop::Wrong(format!("{kind}: not in force after {LIMIT:?}")));
    }
    time::sleep(POLL).await;
    Ok(())
}

async fn all(tasks: &mut JoinSet<Outcome<()>>) -> Outcome<()> {
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|panicked| Stop::Wrong(panicked.to_string()))??;
    }
    Ok(())
}

/// The certificate that a site has in its folder.
pub(crate) fn certificate_of(site: &Site) -> Vec<u8> {
    CertificateDer::from_pem_file(site.path(CERTIFICATE)).unwrap().to_vec()
}

/// The first users of a site, also in its password file.
pub(crate) fn first_users(site: &Site) -> Users {
    let users: Users =
        [USER, BOB, EVE, READER].into_iter().map(|user| (user, PASSWORD.to_owned())).collect();
    renamed(&site.path(USERS), &lines(site, &users));
    users
}

fn lines(site: &Site, users: &Users) -> Vec<u8> {
    let line = |(user, password): (&&str, &String)| {
        site.run(&["htpasswd", "-Bbn", "-C", "4", user, password])
    };
    users.iter().filter(|(user, _)| **user != CI).flat_map(line).collect()
}

/// Replaces a file by renaming a new one.
fn renamed(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, bytes).unwrap();
    fs::rename(new, path).unwrap();
}

/// Overwrites a file in place, so that for a moment half of it exists.
fn overwritten(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(sent.success(), "SIG{name}");
}
