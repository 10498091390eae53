//! The gate: authenticates callers and authorises their requests.
//!
//! Nothing here names HTTP. [`Credentials`] go in, and a [`Caller`] or a [`Refusal`] comes out. A
//! caller and the rights that a request takes then become a [`Permit`], which only this module can
//! make and every handler demands.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use arc_swap::ArcSwap;

use self::{
    outcomes::{Outcome, Outcomes},
    refused::RefusedLogins,
    tokens::{
        SessionTokens,
        deploy::{DeployTokens, TokensInForce},
    },
    verifier::Verifier,
};

pub mod access;
mod caller;
mod certificate;
mod checks;
mod credentials;
mod denials;
mod grant;
pub mod htpasswd;
mod identity;
pub mod issuer;
mod login;
mod options;
mod outcomes;
mod permit;
mod policy;
mod queue;
mod refusal;
mod refused;
mod right;
mod session;
#[cfg(test)]
mod testing;
pub mod text_file;
mod throttle;
pub mod tokens;
mod users;
mod verifier;

pub use access::{Access, AccessOptions};
pub use caller::Caller;
pub use certificate::Certificate;
pub use credentials::Credentials;
pub use denials::Denials;
pub use grant::{Ceiling, Grant, Scope};
pub use identity::Identity;
pub use issuer::{Issuer, IssuerOptions};
pub use login::{Login, LoginError};
pub use options::{HtpasswdOptions, Options};
pub use permit::{Action, Denied, Permit};
pub use policy::{By, Decision, Policy, Why};
pub use refusal::Refusal;
pub use right::{MAYS, May, Right, UnknownMay};
pub use session::Session;
pub use throttle::ThrottleOptions;
pub use users::UserFile;

/// The address under which the throttle and the queue count callers on Unix sockets: all of them count
/// as one.
const UNIX: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Authenticates callers and decides whether they have the rights that their requests take.
#[derive(Debug)]
pub struct Gate {
    authenticator: Authenticator,
    policy: ArcSwap<Policy>,
    outcomes: Outcomes,
    refused: RefusedLogins,
    denials: Arc<Denials>,
}

/// How callers are authenticated.
#[derive(Debug)]
enum Authenticator {
    /// Every caller is anonymous and admitted.
    Open,
    /// By a token of an external issuer.
    Issuer(Arc<Issuer>),
    /// By a password of an htpasswd file, by a deploy token, or by a session token.
    Htpasswd {
        realm: String,
        verifier: Arc<Verifier>,
        /// Deploy tokens, whose secrets are accepted in place of passwords.
        deploy_tokens: ArcSwap<TokensInForce>,
        /// Session tokens; `None` where none are issued.
        tokens: Option<Arc<SessionTokens>>,
    },
}

impl Gate {
    /// A gate that admits every caller, without a name.
    #[must_use]
    pub fn open(policy: Policy) -> Self {
        Self::new(Authenticator::Open, policy)
    }

    /// A gate that asks for a token of an external issuer.
    #[must_use]
    pub fn issuer(issuer: Arc<Issuer>, policy: Policy) -> Self {
        Self::new(Authenticator::Issuer(issuer), policy)
    }

    /// A gate that asks for a password of an htpasswd file.
    ///
    /// # Errors
    ///
    /// When the system has no randomness for the key under which passwords are remembered.
    pub fn htpasswd(
        options: &HtpasswdOptions,
        users: &htpasswd::Htpasswd,
        policy: Policy,
    ) -> Result<Self, NoRandomness> {
        let verifier = Arc::new(Verifier::new(users, options)?);
        let tokens = SessionTokens::new(&options.sessions).map(Arc::new);
        let deploy_tokens =
            ArcSwap::from_pointee(TokensInForce::new(&DeployTokens::default(), None));
        let realm = options.realm.clone();
        let authenticator = Authenticator::Htpasswd { realm, verifier, deploy_tokens, tokens };
        Ok(Self::new(authenticator, policy))
    }

    fn new(authenticator: Authenticator, policy: Policy) -> Self {
        Self {
            authenticator,
            policy: ArcSwap::from_pointee(policy),
            outcomes: Outcomes::default(),
            refused: RefusedLogins::default(),
            denials: Arc::default(),
        }
    }

    /// Puts other users in force. From now on a password that only the old file had is refused.
    pub fn set_users(&self, users: &htpasswd::Htpasswd) {
        if let Authenticator::Htpasswd { verifier, .. } = &self.authenticator {
            verifier.set_users(users);
        }
    }

    /// The realm that callers need a password for; `None` when the gate is open, and when it asks for tokens
    /// of an external issuer.
    #[must_use]
    pub fn realm(&self) -> Option<&str> {
        match &self.authenticator {
            Authenticator::Open | Authenticator::Issuer(_) => None,
            Authenticator::Htpasswd { realm, .. } => Some(realm),
        }
    }

    /// The external issuer whose tokens the gate asks for.
    #[must_use]
    pub fn external_issuer(&self) -> Option<&Arc<Issuer>> {
        match &self.authenticator {
            Authenticator::Issuer(issuer) => Some(issuer),
            Authenticator::Open | Authenticator::Htpasswd { .. } => None,
        }
    }

    /// Logs how many refused logins and denied requests have no line of their own, once a minute is over.
    pub fn sum_up_refusals(&self) {
        self.refused.sum_up();
        self.denials.sum_up();
    }

    /// The record of what the policy denies.
    #[must_use]
    pub const fn denials(&self) -> &Arc<Denials> {
        &self.denials
    }

    /// Puts another policy in force. Requests that have a permit keep the policy that gave it.
    pub fn set_policy(&self, policy: Policy) {
        self.policy.store(Arc::new(policy));
    }

    /// Whether a rule can let in a caller without a name that comes from `address`, so that the gate
    /// admits callers without credentials from there.
    #[must_use]
    pub fn admits_anonymous(&self, address: Option<IpAddr>) -> bool {
        self.policy.load().admits_anonymous(address)
    }

    /// Authenticates the caller at `address`, on the connection of `session`, from what the gate
    /// remembers. Never waits and never runs bcrypt.
    ///
    /// Without credentials the caller is the one that the certificate of the connection names, else anonymous
    /// where the rules [admit one](Self::admits_anonymous), and `Refused` elsewhere, as when the throttle refuses the
    /// credentials; `Undecided` for credentials that [`authenticate`](Self::authenticate) has to check.
    pub fn recall(
        &self,
        credentials: Option<Credentials>,
        address: Option<IpAddr>,
        session: &Session,
    ) -> Recalled {
        let verifier = match &self.authenticator {
            Authenticator::Open => return Recalled::Known(self.unasked(address, session)),
            Authenticator::Issuer(_) => return self.recall_unreadable(address, session),
            Authenticator::Htpasswd { verifier, .. } => verifier,
        };
        let Some(credentials) = credentials else {
            if let Some(caller) = self.by_certificate(address, session) {
                return Recalled::Known(caller);
            }
            if self.admits_anonymous(address) {
                return Recalled::Known(self.anonymous(address));
            }
            return self.recall_unreadable(address, session);
        };
        if let Some(authenticated) = self.by_token(&credentials, address, session) {
            return authenticated.map_or_else(Recalled::Refused, Recalled::Known);
        }
        match verifier.recall(&credentials, address.unwrap_or(UNIX), session) {
            None => Recalled::Undecided(credentials),
            Some(verified) => match self.decided(&credentials, address, verified) {
                Ok(caller) => Recalled::Known(caller),
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
        address: Option<IpAddr>,
        session: &Session,
    ) -> Result<Caller, Refusal> {
        let verifier = match &self.authenticator {
            Authenticator::Open => return Ok(self.unasked(address, session)),
            Authenticator::Issuer(_) => return Err(Refusal::Unauthenticated),
            Authenticator::Htpasswd { verifier, .. } => verifier,
        };
        if let Some(authenticated) = self.by_token(credentials, address, session) {
            return authenticated;
        }
        let verified = verifier.verify(credentials, address.unwrap_or(UNIX), session).await;
        self.decided(credentials, address, verified)
    }

    fn anonymous(&self, address: Option<IpAddr>) -> Caller {
        self.outcomes.count(Outcome::Anonymous);
        Caller::new(Identity::Anonymous, address)
    }

    /// Counts the outcome of credentials, and logs a refusal.
    fn decided(
        &self,
        credentials: &Credentials,
        address: Option<IpAddr>,
        verified: Result<Outcome, Refusal>,
    ) -> Result<Caller, Refusal> {
        let outcome = verified.as_ref().map_or_else(Outcome::from, |outcome| *outcome);
        self.outcomes.count(outcome);
        if let Err(refusal) = &verified {
            self.refused.note(address.unwrap_or(UNIX), credentials, refusal);
        }
        verified?;
        // No user has a name that is not text.
        let user = credentials.user().ok_or(Refusal::Unauthenticated)?;
        Ok(Caller::new(Identity::User(user.into()), address))
    }

    /// Grants a caller all rights that a request takes, or none.
    ///
    /// # Errors
    ///
    /// When the policy does not allow one of the rights.
    pub fn authorise(&self, caller: Caller, rights: &[Right<'_>]) -> Result<Permit, Denied> {
        let policy = Policy::clone(&self.policy.load());
        permit::grant(caller, policy, rights)
    }

    /// How many times bcrypt was run since the start.
    #[must_use]
    pub fn verifications(&self) -> u64 {
        match &self.authenticator {
            Authenticator::Open | Authenticator::Issuer(_) => 0,
            Authenticator::Htpasswd { verifier, .. } => verifier.runs(),
        }
    }

    /// How many requests wait for a password check.
    #[must_use]
    pub fn waiting(&self) -> usize {
        match &self.authenticator {
            Authenticator::Open | Authenticator::Issuer(_) => 0,
            Authenticator::Htpasswd { verifier, .. } => verifier.waiting(),
        }
    }

    /// How many requests had each outcome since the start: `anonymous` for those admitted without a name;
    /// `bcrypt` and `memory` for those admitted by a run of bcrypt and without one; `session`, `token`
    /// and `certificate` for those admitted by a session token, by a deploy token and by a client certificate;
    /// `issuer` for those admitted by a token of an external issuer; `missing` for those without
    /// credentials; `refused` for wrong credentials; `throttled` and `busy` for credentials that were not
    /// checked, because too many were wrong or because too many waited.
    pub fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.outcomes.numbers()
    }
}

/// The result of [`Gate::recall`].
#[expect(missing_debug_implementations, reason = "credentials must not reach the log")]
pub enum Recalled {
    /// The caller is authenticated.
    Known(Caller),
    /// The caller is refused.
    Refused(Refusal),
    /// [`Gate::authenticate`] has to check these credentials.
    Undecided(Credentials),
}

/// The system's random number generator failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system's random number generator failed")]
pub struct NoRandomness;
