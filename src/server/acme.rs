//! Certificates from Let's Encrypt, or another authority that speaks ACME (RFC 8555): `http.tls.letsencrypt`.
//!
//! [`Folder`] keeps certificates in autocert's form. [`Renewals`] is the task that orders and renews them: at the
//! time that the authority suggests (ARI, RFC 9773), or by their lifetime (`schedule`). The authority is a trait,
//! which `order` implements with the protocol, and so is the clock. [`Challenges`] has what the listeners answer
//! while the authority looks: http-01 on the redirect listener, tls-alpn-01 on the TLS listener.
//!
//! The certificates are served like those of other files: the server watches the files of the folder, and notices
//! what other processes write there.

use std::{fmt, sync::Arc};

use tokio::sync::Notify;

pub use self::{
    challenges::{Challenge, Challenges, PATH},
    client::InvalidClient,
    folder::{Folder, FolderError},
    options::{ChallengeChoice, ExternalAccount, HmacKey, LETS_ENCRYPT, Options},
    renewals::Renewals,
};
use self::{clock::SystemClock, order::AcmeAuthority};

mod authority;
mod challenges;
mod client;
mod clock;
mod folder;
mod options;
mod order;
mod renewals;
mod schedule;

/// The ports at which an authority finds this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reachable {
    /// Whether the TLS listener is at port 443.
    pub https: bool,
    /// Whether there is a redirect listener.
    pub redirect: bool,
}

impl ChallengeChoice {
    /// The challenges in the order in which they are tried. A TLS listener at another port may be published at
    /// port 443, as that of a container is, and so may the redirect listener at port 80.
    #[must_use]
    pub fn challenges(self, reachable: Reachable) -> Vec<Challenge> {
        match (self, reachable) {
            (Self::Http01, _) => vec![Challenge::Http01],
            (Self::TlsAlpn01, _) | (Self::Auto, Reachable { redirect: false, .. }) => {
                vec![Challenge::TlsAlpn01]
            }
            (Self::Auto, Reachable { https: true, .. }) => {
                vec![Challenge::TlsAlpn01, Challenge::Http01]
            }
            (Self::Auto, Reachable { https: false, .. }) => {
                vec![Challenge::Http01, Challenge::TlsAlpn01]
            }
        }
    }
}

impl Options {
    /// Looks whether requests can be sent to the directory, and sends none. This call blocks.
    ///
    /// # Errors
    ///
    /// When the URL of the directory or the file of `caroot` cannot be used.
    pub fn examine(&self) -> Result<(), InvalidClient> {
        client::AcmeClient::new(&self.directoryurl, self.caroot.as_deref()).map(drop)
    }
}

/// The parts that renewals need.
pub struct Parts {
    /// The folder of the certificates.
    pub folder: Folder,
    /// The pending challenges that the listeners answer.
    pub challenges: Challenges,
    /// How the authority finds this server.
    pub reachable: Reachable,
    /// Puts the certificates of the folder in force. It may block.
    pub put_in_force: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Renewals {
    /// The task for these options; nothing is sent before it runs. This call blocks.
    ///
    /// # Errors
    ///
    /// As for [`Options::examine`].
    pub fn new(options: &Options, parts: Parts) -> Result<Self, InvalidClient> {
        let Parts { folder, challenges, reachable, put_in_force } = parts;
        let authority = AcmeAuthority::new(Arc::new(options.clone()), folder.clone(), challenges)?;
        Ok(Self {
            folder,
            hosts: options.hosts.clone(),
            challenges: options.challenge.challenges(reachable),
            directory: options.directoryurl.clone(),
            authority: Box::new(authority),
            clock: Box::new(SystemClock),
            put_in_force,
            hurry: Notify::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenge_fits_the_ports_and_a_choice_is_obeyed() {
        use Challenge::{Http01, TlsAlpn01};
        for (choice, https, redirect, expected) in [
            (ChallengeChoice::Auto, true, true, &[TlsAlpn01, Http01][..]),
            (ChallengeChoice::Auto, true, false, &[TlsAlpn01]),
            (ChallengeChoice::Auto, false, true, &[Http01, TlsAlpn01]),
            (ChallengeChoice::Auto, false, false, &[TlsAlpn01]),
            (ChallengeChoice::Http01, true, true, &[Http01]),
            (ChallengeChoice::TlsAlpn01, false, true, &[TlsAlpn01]),
        ] {
            let reachable = Reachable { https, redirect };
            assert_eq!(choice.challenges(reachable), expected, "{choice:?} {reachable:?}");
        }
    }
}
