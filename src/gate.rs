//! The gate: authenticates callers and authorises their requests.
//!
//! Nothing here names HTTP. [`Credentials`] go in, and an [`Identity`] or a [`Refusal`] comes out. An
//! identity and the rights that a request takes then become a [`Permit`], which only this module can
//! make and every handler demands.

use std::{fmt, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use serde::Deserialize;

use self::{
    outcomes::{Outcome, Outcomes},
    refused::RefusedLogins,
    verifier::Verifier,
};
use crate::oci::RepositoryName;

mod checks;
mod credentials;
pub mod htpasswd;
mod outcomes;
mod queue;
mod refused;
mod session;
mod throttle;
mod users;
mod verifier;

pub use credentials::Credentials;
pub use session::Session;
pub use throttle::ThrottleOptions;
pub use users::UserFile;

/// Authenticates callers and decides whether they have the rights that their requests take.
#[derive(Debug)]
pub struct Gate {
    authenticator: Authenticator,
    policy: Box<dyn Policy>,
    outcomes: Outcomes,
    refused: RefusedLogins,
}

/// How callers are authenticated.
#[derive(Debug)]
enum Authenticator {
    /// Every caller is anonymous and admitted.
    Open,
    /// By a password of an htpasswd file.
    Htpasswd { realm: String, verifier: Arc<Verifier> },
}

impl Gate {
    /// A gate that admits every caller, without a name.
    #[must_use]
    pub fn open(policy: impl Policy) -> Self {
        Self::new(Authenticator::Open, policy)
    }

    /// A gate that asks for a password of an htpasswd file.
    ///
    /// # Errors
    ///
    /// When the system has no randomness for the key under which passwords are remembered.
    pub fn htpasswd(
        options: &HtpasswdOptions,
        users: &htpasswd::Htpasswd,
        policy: impl Policy,
    ) -> Result<Self, NoRandomness> {
        let verifier = Arc::new(Verifier::new(users, options)?);
        let authenticator = Authenticator::Htpasswd { realm: options.realm.clone(), verifier };
        Ok(Self::new(authenticator, policy))
    }

    fn new(authenticator: Authenticator, policy: impl Policy) -> Self {
        Self {
            authenticator,
            policy: Box::new(policy),
            outcomes: Outcomes::default(),
            refused: RefusedLogins::default(),
        }
    }

    /// Puts other users in force. From now on a password that only the old file had is refused.
    pub fn set_users(&self, users: &htpasswd::Htpasswd) {
        if let Authenticator::Htpasswd { verifier, .. } = &self.authenticator {
            verifier.set_users(users);
        }
    }

    /// The realm that callers need credentials for; `None` when the gate is open.
    #[must_use]
    pub fn realm(&self) -> Option<&str> {
        match &self.authenticator {
            Authenticator::Open => None,
            Authenticator::Htpasswd { realm, .. } => Some(realm),
        }
    }

    /// Logs how many refused logins have no line of their own, once a minute is over.
    pub fn sum_up_refused_logins(&self) {
        self.refused.sum_up();
    }

    /// Authenticates the caller at `address`, on the connection of `session`, from what the gate
    /// remembers. Never waits and never runs bcrypt.
    ///
    /// `Refused` without credentials, and when the throttle refuses them; `Undecided` for
    /// credentials that [`authenticate`](Self::authenticate) has to check.
    pub fn recall(
        &self,
        credentials: Option<Credentials>,
        address: IpAddr,
        session: &Session,
    ) -> Recalled {
        let Authenticator::Htpasswd { verifier, .. } = &self.authenticator else {
            return Recalled::Known(self.anonymous());
        };
        let Some(credentials) = credentials else {
            self.outcomes.count(Outcome::Missing);
            return Recalled::Refused(Refusal::Unauthenticated);
        };
        match verifier.recall(&credentials, address, session) {
            None => Recalled::Undecided(credentials),
            Some(verified) => match self.decided(&credentials, address, verified) {
                Ok(identity) => Recalled::Known(identity),
                Err(refusal) => Recalled::Refused(refusal),
            },
        }
    }

    /// Authenticates the caller by credentials that are not remembered. Waits up to ten seconds for
    /// its turn, then for a run of bcrypt on another thread.
    ///
    /// # Errors
    ///
    /// When the credentials are wrong, when too many callers wait for a check, and when too many
    /// passwords were wrong.
    pub async fn authenticate(
        &self,
        credentials: &Credentials,
        address: IpAddr,
        session: &Session,
    ) -> Result<Identity, Refusal> {
        let Authenticator::Htpasswd { verifier, .. } = &self.authenticator else {
            return Ok(self.anonymous());
        };
        let verified = verifier.verify(credentials, address, session).await;
        self.decided(credentials, address, verified)
    }

    fn anonymous(&self) -> Identity {
        self.outcomes.count(Outcome::Anonymous);
        Identity::Anonymous
    }

    /// Counts the outcome of credentials, and logs a refusal.
    fn decided(
        &self,
        credentials: &Credentials,
        address: IpAddr,
        verified: Result<Outcome, Refusal>,
    ) -> Result<Identity, Refusal> {
        self.outcomes.count(verified.unwrap_or_else(Outcome::from));
        if let Err(refusal) = verified {
            self.refused.note(address, credentials.user_bytes(), refusal);
        }
        verified?;
        // No user has a name that is not text.
        let user = credentials.user().ok_or(Refusal::Unauthenticated)?;
        Ok(Identity::User(user.into()))
    }

    /// Grants a caller all rights that a request takes, or none.
    ///
    /// # Errors
    ///
    /// When the policy does not allow one of the rights.
    pub fn authorise(&self, identity: Identity, rights: &[Right<'_>]) -> Result<Permit, Denied> {
        if rights.iter().all(|right| self.policy.allows(&identity, right)) {
            Ok(Permit { identity })
        } else {
            Err(Denied)
        }
    }

    /// How many times bcrypt was run since the start.
    #[must_use]
    pub fn verifications(&self) -> u64 {
        match &self.authenticator {
            Authenticator::Open => 0,
            Authenticator::Htpasswd { verifier, .. } => verifier.runs(),
        }
    }

    /// How many requests wait for a password check.
    #[must_use]
    pub fn waiting(&self) -> usize {
        match &self.authenticator {
            Authenticator::Open => 0,
            Authenticator::Htpasswd { verifier, .. } => verifier.waiting(),
        }
    }

    /// How many requests had each outcome since the start: `anonymous` where the gate is open;
    /// `bcrypt` and `memory` for those admitted by a run of bcrypt and without one; `missing` for
    /// those without credentials; `refused` for wrong credentials; `throttled` and `busy` for
    /// credentials that were not checked, because too many were wrong or because too many waited.
    pub fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.outcomes.numbers()
    }
}

/// The result of [`Gate::recall`].
#[expect(missing_debug_implementations, reason = "credentials must not reach the log")]
pub enum Recalled {
    /// The caller is authenticated.
    Known(Identity),
    /// The caller is refused.
    Refused(Refusal),
    /// [`Gate::authenticate`] has to check these credentials.
    Undecided(Credentials),
}

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The gate is open and asks no caller for a name.
    Anonymous,
    /// A user of the htpasswd file, by name.
    User(Arc<str>),
}

impl Identity {
    /// The user's name; `None` for an anonymous caller.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::User(name) => Some(name),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("-"),
            Self::User(name) => f.write_str(name),
        }
    }
}

/// Something a caller may or may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right<'a> {
    /// Delete blobs, tags or manifests of a repository, or the repository.
    Delete(&'a RepositoryName),
    /// List the repositories.
    List,
    /// Read from a repository.
    Pull(&'a RepositoryName),
    /// Write to a repository.
    Push(&'a RepositoryName),
}

/// Decides what callers may do.
pub trait Policy: fmt::Debug + Send + Sync + 'static {
    /// Whether the caller has the right.
    fn allows(&self, identity: &Identity, right: &Right<'_>) -> bool;
}

/// Every authenticated caller may do everything, as with registry:2's htpasswd.
#[derive(Clone, Copy, Debug)]
pub struct EverythingAllowed;

impl Policy for EverythingAllowed {
    fn allows(&self, _: &Identity, _: &Right<'_>) -> bool {
        true
    }
}

/// The proof that a caller may do what a request asks for. Only [`Gate::authorise`] makes one.
#[derive(Debug)]
pub struct Permit {
    identity: Identity,
}

impl Permit {
    /// The caller that it was granted to.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }
}

/// Why a caller was not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too many callers wait for their passwords to be checked.
    #[error("too many passwords are waiting to be checked")]
    Busy {
        /// How long the caller should wait before it tries again.
        retry_after: Duration,
    },
    /// Too many passwords were wrong: none is checked for now.
    #[error("too many passwords were wrong")]
    Throttled {
        /// How long until passwords are checked again.
        retry_after: Duration,
    },
    /// No credentials, or wrong ones.
    #[error("no credentials, or wrong ones")]
    Unauthenticated,
}

/// The policy denies a caller one of the rights that its request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy does not allow it")]
pub struct Denied;

/// The system's random number generator failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system's random number generator failed")]
pub struct NoRandomness;

/// `auth`: `htpasswd` (the default) or, in words, `none`.
#[derive(Clone, Debug)]
pub enum Options {
    /// No authentication: every caller may do everything. Only the word `none` means this.
    None,
    /// HTTP Basic (RFC 7617) against an htpasswd file.
    Htpasswd(HtpasswdOptions),
}

impl Default for Options {
    fn default() -> Self {
        Self::Htpasswd(HtpasswdOptions::default())
    }
}

/// `auth.htpasswd`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct HtpasswdOptions {
    /// The realm of the challenge, shown by some clients.
    pub realm: String,
    /// The password file. `serve` creates it, with one user, when it is missing.
    pub path: PathBuf,
    /// Also accepts the other formats that nginx and Apache verify: apr1, SHA-1, SHA-2 crypt.
    pub legacyformats: bool,
    /// How long a verified password is remembered after its last use; zero verifies each request
    /// by bcrypt.
    pub cachettl: Duration,
    /// The limits of wrong passwords.
    pub throttle: ThrottleOptions,
}

impl HtpasswdOptions {
    /// Which formats of hashes are accepted.
    #[must_use]
    pub const fn formats(&self) -> htpasswd::Formats {
        if self.legacyformats {
            htpasswd::Formats::WithLegacy
        } else {
            htpasswd::Formats::BcryptOnly
        }
    }
}

impl Default for HtpasswdOptions {
    fn default() -> Self {
        Self {
            realm: "Portcullis".to_owned(),
            path: PathBuf::from("auth/htpasswd"),
            legacyformats: false,
            cachettl: Duration::from_secs(300),
            throttle: ThrottleOptions::default(),
        }
    }
}

impl<'de> Deserialize<'de> for Options {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Shape {
            Word(String),
            Section {
                htpasswd: Option<Option<HtpasswdOptions>>,
                none: Option<Option<serde_json::Map<String, serde_json::Value>>>,
            },
        }
        use serde::de::Error as _;
        match Shape::deserialize(deserializer)? {
            Shape::Word(word) if word == "none" => Ok(Self::None),
            Shape::Word(word) if word == "htpasswd" => Ok(Self::default()),
            Shape::Word(word) => {
                Err(D::Error::custom(format!("expected `htpasswd` or `none`, not `{word}`")))
            }
            Shape::Section { htpasswd: Some(_), none: Some(_) } => {
                Err(D::Error::custom("both `htpasswd` and `none` are set: keep one"))
            }
            Shape::Section { none: Some(_), .. } => Ok(Self::None),
            Shape::Section { htpasswd, .. } => {
                Ok(Self::Htpasswd(htpasswd.flatten().unwrap_or_default()))
            }
        }
    }
}
