//! Session tokens at the gate: issued for the credentials that let a caller in, and taken in place of
//! them.

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use super::{
    Authenticator, Caller, Ceiling, Credentials, Gate, Identity, Issuer, NoRandomness, Recalled,
    Refusal, Right, Scope, Session, issuer,
    outcomes::Outcome,
    policy::Policy,
    tokens::{
        Bearer, Challenge, Issued, Presented, SessionTokens, Valid, deploy::Form, granted,
        key_file::KeyFileError,
    },
};

/// A request for a session token.
#[expect(missing_debug_implementations, reason = "credentials must not reach the log")]
pub struct Login<'a> {
    /// `None` for a caller whom the certificate of the connection names, and for an anonymous one.
    pub credentials: Option<Credentials>,
    /// The address of the client; `None` on a Unix socket.
    pub address: Option<IpAddr>,
    /// The connection.
    pub session: &'a Session,
    /// What the token is to cover.
    pub scopes: Vec<Scope>,
}

/// Why no token is issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The gate does not let the caller in.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The server failed.
    #[error(transparent)]
    Failed(#[from] NoRandomness),
}

impl Gate {
    /// Whether session tokens are issued.
    #[must_use]
    pub fn issues_tokens(&self) -> bool {
        self.session_tokens().is_some()
    }

    /// Whether a caller at `address` without credentials is asked for a session token at `/v2/`, and not
    /// for a password.
    #[must_use]
    pub fn asks_for_token(&self, address: Option<IpAddr>) -> bool {
        self.session_tokens().is_some_and(|tokens| match tokens.challenge() {
            Challenge::Auto => self.admits_anonymous(address),
            Challenge::Basic => false,
            Challenge::Bearer => true,
        })
    }

    /// Authenticates the caller that presents a session token, or a token of the external issuer. Never waits and never runs bcrypt.
    ///
    /// `Refused` when no key in force has signed the token, when it is over, when the line that let its
    /// caller in has changed or is gone, and when it was issued for a certificate that is not the one of the
    /// connection; never `Undecided`.
    pub fn recall_bearer(
        &self,
        token: &str,
        address: Option<IpAddr>,
        session: &Session,
    ) -> Recalled {
        let tokens = match &self.authenticator {
            Authenticator::Open => return Recalled::Known(self.unasked(address, session)),
            Authenticator::Issuer(issuer) => return self.recall_issued(issuer, token, address),
            Authenticator::Htpasswd { tokens: None, .. } => {
                return self.recall_unreadable(address, session);
            }
            Authenticator::Htpasswd { tokens: Some(tokens), .. } => tokens,
        };
        let now = SystemTime::now();
        let remembered = session.token().recall(token, |valid| {
            let is_valid = tokens.accepts(valid, now) && self.has_line(valid);
            is_valid.then(|| Caller {
                ceiling: Some(Arc::clone(&valid.ceiling)),
                ..Caller::new(valid.identity.clone(), None)
            })
        });
        match remembered.or_else(|| self.verify_bearer(tokens, token, session, now)) {
            Some(caller)
                if caller.identity != Identity::Anonymous || self.admits_anonymous(address) =>
            {
                self.outcomes.count(Outcome::Session);
                Recalled::Known(Caller { address, ..caller })
            }
            _ => {
                self.outcomes.count(Outcome::Refused);
                tracing::debug!(?address, "a session token is not valid");
                Recalled::Refused(Refusal::InvalidToken)
            }
        }
    }

    /// Verifies a session token, and remembers it for its connection. The caller lacks its address.
    fn verify_bearer(
        &self,
        tokens: &SessionTokens,
        token: &str,
        session: &Session,
        now: SystemTime,
    ) -> Option<Caller> {
        let mut grant = None;
        let mut signed = None;
        let presented = tokens.verify(token, now, |identity, key, is_it| {
            if let Identity::Token(name) = identity {
                grant = self.grant_of(name, |line| is_it(&key.fingerprint(&line.parts())));
                return grant.is_some();
            }
            if let Identity::Certificate(name) = identity {
                return session.certificate().is_some_and(|certificate| {
                    certificate.name == *name && is_it(&key.fingerprint(&certificate.parts()))
                });
            }
            self.line(identity, |line| {
                let is_in_force = is_it(&key.fingerprint(line));
                signed = is_in_force.then(|| line.concat().into_boxed_slice());
                is_in_force
            })
            .unwrap_or(false)
        })?;
        // A deploy token may expire, or lose the user that bounds it.
        if signed.is_some() || presented.identity == Identity::Anonymous {
            session.token().remember(presented.valid(token, signed));
        }
        let Presented { identity, ceiling, .. } = presented;
        Some(Caller { grant, ceiling: Some(ceiling), ..Caller::new(identity, None) })
    }

    /// Whether the line that let in the caller of a token is as it was.
    fn has_line(&self, valid: &Valid) -> bool {
        match &valid.line {
            None => valid.identity == Identity::Anonymous,
            Some(before) => {
                self.line(&valid.identity, |line| is_concat(line, before)).unwrap_or(false)
            }
        }
    }

    fn recall_issued(&self, issuer: &Issuer, token: &str, address: Option<IpAddr>) -> Recalled {
        match issuer.verify(token, SystemTime::now()) {
            Ok(issuer::Presented { identity, covered }) => {
                self.outcomes.count(Outcome::Issuer);
                let ceiling = Some(Arc::new(Ceiling::Issued(covered)));
                Recalled::Known(Caller { ceiling, ..Caller::new(identity, address) })
            }
            Err(error) => {
                self.outcomes.count(Outcome::Refused);
                issuer.tell(error, address);
                Recalled::Refused(Refusal::InvalidToken)
            }
        }
    }

    /// Judges a request whose credentials cannot be read: unless the gate is open it is refused, whatever
    /// anonymous callers may do.
    pub fn recall_unreadable(&self, address: Option<IpAddr>, session: &Session) -> Recalled {
        match &self.authenticator {
            Authenticator::Open => Recalled::Known(self.unasked(address, session)),
            Authenticator::Issuer(_) | Authenticator::Htpasswd { .. } => {
                self.outcomes.count(Outcome::Missing);
                Recalled::Refused(Refusal::Unauthenticated)
            }
        }
    }

    /// Authenticates a caller as [`recall`](Self::recall) and [`authenticate`](Self::authenticate) do, and
    /// issues a token that covers those of the scopes that the caller has a right to now.
    ///
    /// # Errors
    ///
    /// Those of `authenticate`; without credentials and a certificate that names the caller, when no rule lets an anonymous caller do anything.
    pub async fn log_in(&self, login: Login<'_>) -> Result<(Caller, Issued), LoginError> {
        let Some(tokens) = self.session_tokens() else {
            return Err(Refusal::Unauthenticated.into());
        };
        let Login { credentials, address, session, scopes } = login;
        let before = credentials.as_ref().and_then(Credentials::user).map(|name| self.lines(name));
        let secret = credentials.as_ref().map(|credentials| Form::of(credentials.password()));
        let caller = match self.recall(credentials, address, session) {
            Recalled::Known(caller) => caller,
            Recalled::Refused(refusal) => return Err(refusal.into()),
            Recalled::Undecided(credentials) => {
                self.authenticate(&credentials, address, session).await?
            }
        };
        let keys = tokens.keys().await?;
        let key = keys.first().ok_or(NoRandomness)?;
        let line = match (&caller.identity, secret) {
            (Identity::Anonymous, _) => None,
            (Identity::Certificate(_), _) => {
                session.certificate().map(|certificate| key.fingerprint(&certificate.parts()))
            }
            // The secret is in one line of the token file.
            (Identity::Token(name), Some(Form::Secret(secret))) => {
                Some(key.fingerprint(&[name.as_bytes(), secret.as_bytes()]))
            }
            _ => {
                // A line that has changed since the credentials were sent may be that of another password.
                let same =
                    |line: &[&[u8]]| before.iter().flatten().any(|before| *before == line.concat());
                let line =
                    self.line(&caller.identity, |line| same(line).then(|| key.fingerprint(line)));
                Some(line.flatten().ok_or(Refusal::Unauthenticated)?)
            }
        };
        let policy = Policy::clone(&self.policy.load());
        let has = |right: &Right<'_>| policy.decide(&caller, right).is_allowed();
        let scopes = granted(scopes, has);
        let bearer = Bearer { identity: &caller.identity, line, scopes: &scopes };
        let issued = tokens.issue(key, &bearer, SystemTime::now())?;
        Ok((caller, issued))
    }

    /// Reads the keys of session tokens again, if their file has changed or if `anyway`. Returns how many
    /// are newly in force; `None` where nothing has changed. This call blocks.
    ///
    /// # Errors
    ///
    /// When the file cannot be used; the keys that were read last stay in force.
    pub fn reload_session_keys(&self, anyway: bool) -> Result<Option<usize>, KeyFileError> {
        self.session_tokens().map_or(Ok(None), |tokens| tokens.reload(anyway))
    }

    const fn session_tokens(&self) -> Option<&Arc<SessionTokens>> {
        match &self.authenticator {
            Authenticator::Open | Authenticator::Issuer(_) => None,
            Authenticator::Htpasswd { tokens, .. } => tokens.as_ref(),
        }
    }

    /// Calls `read` with the parts of the line that lets an identity in now; `None` without such a line.
    fn line<T>(&self, identity: &Identity, read: impl FnOnce(&[&[u8]]) -> T) -> Option<T> {
        match (&self.authenticator, identity) {
            (Authenticator::Htpasswd { verifier, .. }, Identity::User(name)) => {
                verifier.line(name, read)
            }
            _ => None,
        }
    }

    /// The lines that may let in a caller of this name.
    fn lines(&self, name: &str) -> Vec<Vec<u8>> {
        let identities = [Identity::User(name.into())];
        identities.iter().filter_map(|identity| self.line(identity, |line| line.concat())).collect()
    }
}

/// Whether `parts` behind one another are `whole`.
fn is_concat(parts: &[&[u8]], whole: &[u8]) -> bool {
    let rest = parts.iter().try_fold(whole, |rest, part| rest.strip_prefix(*part));
    rest.is_some_and(<[u8]>::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::{
        HtpasswdOptions,
        htpasswd::{BcryptHash, Formats, Htpasswd},
    };

    fn users(password: &str) -> Htpasswd {
        let hash = BcryptHash::new(password, 4).unwrap();
        Htpasswd::parse(format!("ann:{}\n", hash.as_str()).as_bytes(), Formats::BcryptOnly)
    }

    #[tokio::test]
    async fn token_that_its_connection_remembers_ends_with_the_line_of_its_user() {
        let folder = tempfile::tempdir().unwrap();
        let mut options = HtpasswdOptions::default();
        options.sessions.keyfile = folder.path().join("session.key");
        let before = users("secret");
        let gate = Gate::htpasswd(&options, &before, Policy::everything()).unwrap();
        let session = Session::default();
        let credentials = Credentials::new(b"ann:secret".to_vec().into());
        let login = Login { credentials, address: None, session: &session, scopes: Vec::new() };
        let (_, issued) = gate.log_in(login).await.unwrap();
        let address = Some([192, 0, 2, 1].into());
        let is_known = |token: &str| match gate.recall_bearer(token, address, &session) {
            Recalled::Known(caller) => {
                assert_eq!(caller.identity, Identity::User("ann".into()));
                assert_eq!(caller.address, address);
                assert!(caller.ceiling.is_some());
                true
            }
            _ => false,
        };
        assert!(is_known(&issued.token));
        assert!(session.token().recall(&issued.token, |_| Some(())).is_some(), "it is remembered");
        assert!(is_known(&issued.token));
        assert!(!is_known(&issued.token[1..]), "another token");
        gate.set_users(&users("secret"));
        assert!(!is_known(&issued.token), "the line has another salt");
        gate.set_users(&before);
        assert!(is_known(&issued.token), "the line is there again");
        gate.set_users(&Htpasswd::parse(b"", Formats::BcryptOnly));
        assert!(!is_known(&issued.token), "no such user any more");
    }

    #[test]
    fn parts_are_compared_with_their_concatenation() {
        assert!(is_concat(&[b"ann", b"", b"$2y$"], b"ann$2y$"));
        assert!(!is_concat(&[b"ann", b"$2y"], b"ann$2y$"));
        assert!(!is_concat(&[b"ann", b"$2y$."], b"ann$2y$"));
    }
}
