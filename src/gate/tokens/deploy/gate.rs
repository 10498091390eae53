//! The gate's part of deploy tokens: callers by their secrets, and the tokens in force.

use std::{net::IpAddr, sync::Arc};

use jiff::Timestamp;

use super::{DeployTokens, Form, Found, LastUses, Line, SecretDigest, TokensInForce};
use crate::gate::{
    Authenticator, Caller, Credentials, Gate, Grant, Refusal, Session, outcomes::Outcome,
    verifier::Verifier,
};

/// The difference that another token file makes, in names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangedTokens {
    /// The tokens that were not there before.
    pub added: Vec<Arc<str>>,
    /// The tokens that are not there any more.
    pub removed: Vec<Arc<str>>,
}

impl Gate {
    /// Puts other tokens in force. From now on a token that only the old file had is refused.
    pub fn set_tokens(&self, tokens: &DeployTokens) -> ChangedTokens {
        let Authenticator::Htpasswd { deploy_tokens: in_force, .. } = &self.authenticator else {
            return ChangedTokens::default();
        };
        let before = in_force.load_full();
        let after = TokensInForce::new(tokens, Some(&before));
        let changed =
            ChangedTokens { added: after.without(&before), removed: before.without(&after) };
        in_force.store(Arc::new(after));
        changed
    }

    /// Whether a token of this name is in force, expired or not.
    #[must_use]
    pub fn has_token(&self, name: &str) -> bool {
        self.with_tokens(false, |tokens, _| tokens.contains(name))
    }

    /// Whether a user of this name can log in.
    #[must_use]
    pub fn is_user(&self, name: &str) -> bool {
        self.with_tokens(false, |_, verifier| verifier.is_user(name))
    }

    /// When each token was last used, as far as known, to the second.
    #[must_use]
    pub fn token_uses(&self) -> LastUses {
        self.with_tokens(LastUses::new(), |tokens, _| tokens.last_uses())
    }

    /// Adds uses of an earlier process to those that are known.
    pub fn remember_token_uses(&self, uses: &LastUses) {
        self.with_tokens((), |tokens, _| tokens.remember(uses));
    }

    /// The seconds until the next expiry of a token that has not expired; `None` where none will. A
    /// secret that a rotation keeps for a while does not count.
    #[must_use]
    pub fn next_token_expiry(&self) -> Option<i64> {
        self.with_tokens(None, |tokens, _| tokens.next_expiry(now()))
    }

    /// Logs the tokens that expire within seven days, each once a day.
    pub fn warn_of_expiring_tokens(&self) {
        self.with_tokens((), |tokens, _| tokens.warn_of_expiry(now()));
    }

    fn with_tokens<T>(&self, open: T, work: impl FnOnce(&TokensInForce, &Verifier) -> T) -> T {
        match &self.authenticator {
            Authenticator::Open | Authenticator::Issuer(_) => open,
            Authenticator::Htpasswd { deploy_tokens, verifier, .. } => {
                work(&deploy_tokens.load(), verifier)
            }
        }
    }

    /// Authenticates a caller by the secret of a deploy token: no bcrypt, no memory and no throttle,
    /// since a secret cannot be guessed. `None` when the credentials have to be checked as those of a
    /// user, wrong secrets too: so the time of a refusal does not depend on whether there is a token of
    /// that name, and wrong secrets count as wrong passwords.
    pub(in crate::gate) fn by_token(
        &self,
        credentials: &Credentials,
        address: Option<IpAddr>,
        session: &Session,
    ) -> Option<Result<Caller, Refusal>> {
        let Form::Secret(secret) = Form::of(credentials.password()) else { return None };
        let name = credentials.user()?;
        self.with_tokens(None, |tokens, verifier| {
            let now = now();
            let authenticated = match tokens.find(name, &secret, now) {
                Found::Nothing => return None,
                Found::Valid(line) | Found::Expired(line) if !opens(line, verifier) => return None,
                Found::Expired(line) => Err(expired(line, address, now)),
                Found::Valid(line) => {
                    line.note_use(now);
                    Ok(line)
                }
            };
            Some(self.admit(authenticated, &secret, address, session))
        })
    }

    /// The rights of the token with the line that `is_it`, while that line lets a caller in.
    pub(in crate::gate) fn grant_of(
        &self,
        name: &str,
        is_it: impl Fn(&Line) -> bool,
    ) -> Option<Arc<Grant>> {
        self.with_tokens(None, |tokens, verifier| {
            let now = now();
            match tokens.find_line(name, now, is_it) {
                Found::Valid(line) if opens(line, verifier) => {
                    line.note_use(now);
                    Some(Arc::clone(&line.grant))
                }
                _ => None,
            }
        })
    }

    fn admit(
        &self,
        authenticated: Result<&Line, Refusal>,
        secret: &SecretDigest,
        address: Option<IpAddr>,
        session: &Session,
    ) -> Result<Caller, Refusal> {
        // Other credentials on the same connection are not proven by these.
        session.record(secret.as_bytes());
        let line = authenticated.inspect_err(|refusal| self.outcomes.count(refusal.into()))?;
        session.admit();
        self.outcomes.count(Outcome::Token);
        let grant = Some(Arc::clone(&line.grant));
        Ok(Caller { grant, ..Caller::new(line.identity(), address) })
    }
}

/// Whether the line opens anything beside these users: a token may not have the name of a user, and
/// goes with the user that it is bound to.
fn opens(line: &Line, verifier: &Verifier) -> bool {
    !verifier.is_user(&line.name)
        && line.grant.user.as_ref().is_none_or(|user| verifier.is_user(user))
}

/// The refusal of a token that has expired. Logs it, once an hour.
fn expired(line: &Line, address: Option<IpAddr>, now: i64) -> Refusal {
    let refusal = Refusal::TokenExpired { name: Arc::clone(&line.name), expires: line.expires };
    if line.tells_of_expired(now) {
        let address = address.map_or_else(|| "unix".to_owned(), |address| address.to_string());
        tracing::warn!(token = %line.name, address, "{refusal}");
    }
    refusal
}

fn now() -> i64 {
    Timestamp::now().as_second()
}
