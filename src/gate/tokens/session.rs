//! Tokens of a session: what a client gets for a password at `/auth/token`, and presents instead of it.
//!
//! A token names its caller and the line of the file that let the caller in, and has a ceiling: the
//! scopes that the client asked for and the caller had the right to. It grants nothing: the rules in
//! force judge each request. The token ends with the line: when the password changes, or the user is
//! removed.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::{
    key_file::{KeyFile, KeyFileError},
    keys::{Fingerprint, Key, Keys, Secret},
    remembered::Valid,
    scope::{self, Access},
};
use crate::gate::{Ceiling, Identity, NoRandomness, Scope};

/// The shortest validity: docker takes a shorter one for this.
pub const MIN_EXPIRY: Duration = Duration::from_secs(60);

/// How long after its end a token is still accepted: the clocks of servers that share a key differ.
const GRACE: u64 = 60;

/// Issuer and audience of all tokens, and the `service` of challenges.
pub const SERVICE: &str = "portcullis";

/// `auth.htpasswd.sessions`, which registry:2 does not have.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct SessionOptions {
    /// How clients without credentials are asked for some at `/v2/`.
    pub challenge: Challenge,
    /// How long a token is valid.
    pub expiry: Duration,
    /// The file of the keys that sign tokens. It is made when the first token is issued.
    pub keyfile: PathBuf,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            challenge: Challenge::Auto,
            expiry: Duration::from_secs(15 * 60),
            keyfile: PathBuf::from("auth/session.key"),
        }
    }
}

/// The scheme of the challenge at `/v2/`. Everywhere else it is that of the request's credentials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Challenge {
    /// `Bearer` where a client at this address may do something without credentials, else `Basic`.
    #[default]
    Auto,
    /// Always `Basic`: no tokens are issued.
    Basic,
    /// Always `Bearer`.
    Bearer,
}

/// A token, as `/auth/token` answers with it.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The token.
    pub token: String,
    /// How long it is valid.
    pub expires_in: Duration,
}

/// Issues and verifies tokens.
#[derive(Debug)]
pub(in crate::gate) struct SessionTokens {
    challenge: Challenge,
    expiry: Duration,
    keys: ArcSwap<Keys>,
    file: Mutex<KeyFile>,
}

/// A token that a key in force has signed, and that is not over.
pub(in crate::gate) struct Presented {
    /// The caller.
    pub(in crate::gate) identity: Identity,
    /// What the token covers.
    pub(in crate::gate) ceiling: Arc<Ceiling>,
    /// The last second, since 1970, in which it is valid.
    last_second: u64,
    /// The keys in force.
    keys: Arc<Keys>,
}

/// Whom a token is for.
#[derive(Debug)]
pub(in crate::gate) struct Bearer<'a> {
    pub(in crate::gate) identity: &'a Identity,
    /// The line that let the caller in; `None` for an anonymous caller.
    pub(in crate::gate) line: Option<Fingerprint>,
    /// What the token covers.
    pub(in crate::gate) scopes: &'a [Scope],
}

/// The payload of a token.
#[derive(Deserialize, Serialize)]
struct Claims<'a> {
    #[serde(borrow)]
    iss: Cow<'a, str>,
    /// The identity as logs show it; empty for an anonymous caller, whose `-` a user may be called.
    #[serde(borrow)]
    sub: Cow<'a, str>,
    #[serde(borrow)]
    aud: Cow<'a, str>,
    iat: u64,
    exp: u64,
    #[serde(borrow)]
    jti: Cow<'a, str>,
    #[serde(borrow)]
    access: Vec<Access<'a>>,
    /// The fingerprint of the line that let the caller in.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    fp: Option<Cow<'a, str>>,
}

impl SessionTokens {
    /// Tokens by these options; `None` where they say that no tokens are issued. No file is read yet.
    pub(in crate::gate) fn new(options: &SessionOptions) -> Option<Self> {
        (options.challenge != Challenge::Basic).then(|| Self {
            challenge: options.challenge,
            expiry: options.expiry.max(MIN_EXPIRY),
            keys: ArcSwap::default(),
            file: Mutex::new(KeyFile::new(options.keyfile.clone())),
        })
    }

    pub(in crate::gate) const fn challenge(&self) -> Challenge {
        self.challenge
    }

    /// Reads the key file again, if it has changed or if `anyway`. Returns how many keys are newly in
    /// force. This call blocks.
    ///
    /// # Errors
    ///
    /// When the file cannot be used; the keys that were read last stay in force.
    pub(in crate::gate) fn reload(&self, anyway: bool) -> Result<Option<usize>, KeyFileError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(keys) = file.reload(anyway)? else { return Ok(None) };
        let count = keys.len();
        self.keys.store(Arc::new(keys));
        Ok(Some(count))
    }

    /// The keys; makes their file when they are needed for the first time. Where it cannot be made, the
    /// process has a key of its own, and the log says so once.
    ///
    /// # Errors
    ///
    /// When the system has no randomness.
    pub(in crate::gate) async fn keys(self: &Arc<Self>) -> Result<Arc<Keys>, NoRandomness> {
        let keys = self.keys.load_full();
        if keys.first().is_some() {
            return Ok(keys);
        }
        let tokens = Arc::clone(self);
        // A panic has been logged by its hook.
        tokio::task::spawn_blocking(move || tokens.ensure()).await.map_err(|_| NoRandomness)?
    }

    fn ensure(&self) -> Result<Arc<Keys>, NoRandomness> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = self.keys.load_full();
        if keys.first().is_some() {
            return Ok(keys);
        }
        let keys = match file.ensure() {
            Ok(keys) => {
                let path = file.path().display();
                tracing::info!(keys = keys.len(), file = %path, "keys of session tokens");
                keys
            }
            Err(error) => {
                tell_of_own_key(file.path(), &error);
                Keys::new([&Secret::random()?])
            }
        };
        let keys = Arc::new(keys);
        self.keys.store(Arc::clone(&keys));
        Ok(keys)
    }

    /// Makes a token, signed by `key`.
    ///
    /// # Errors
    ///
    /// When the system has no randomness.
    pub(in crate::gate) fn issue(
        &self,
        key: &Key,
        bearer: &Bearer<'_>,
        now: SystemTime,
    ) -> Result<Issued, NoRandomness> {
        let mut id = [0; 12];
        aws_lc_rs::rand::fill(&mut id).map_err(|_| NoRandomness)?;
        let iat = seconds(now);
        let claims = Claims {
            iss: SERVICE.into(),
            sub: subject(bearer.identity),
            aud: SERVICE.into(),
            iat,
            exp: iat.saturating_add(self.expiry.as_secs()),
            jti: super::keys::encode(&id).into(),
            access: bearer.scopes.iter().map(scope::access).collect(),
            fp: bearer.line.map(|line| line.encode().into()),
        };
        // Claims are texts and numbers, which always have a form in JSON.
        let payload = serde_json::to_vec(&claims).unwrap_or_default();
        Ok(Issued { token: key.sign(&payload), expires_in: self.expiry })
    }

    /// Verifies a token. `lets_in` says whether a line lets an identity in now that has, by a key, the
    /// fingerprint of the token. `None` if no key in force has signed the token, if it is over, or if
    /// there is no such line any more.
    pub(in crate::gate) fn verify(
        &self,
        token: &str,
        now: SystemTime,
        lets_in: impl FnOnce(&Identity, &Key, &dyn Fn(&Fingerprint) -> bool) -> bool,
    ) -> Option<Presented> {
        let keys = self.keys.load_full();
        let verified = keys.verify(token)?;
        let claims: Claims<'_> = serde_json::from_slice(&verified.payload).ok()?;
        if claims.iss != SERVICE || claims.aud != SERVICE {
            return None;
        }
        let last_second = claims.exp.saturating_add(GRACE);
        if last_second < seconds(now) {
            return None;
        }
        let identity = identity(&claims.sub)?;
        let is_in_force = match (&identity, &claims.fp) {
            (Identity::Anonymous, None) => true,
            (_, Some(fp)) => lets_in(&identity, verified.key, &|line| line.is_encoded_as(fp)),
            (_, None) => false,
        };
        let ceiling = Arc::new(scope::ceiling(&claims.access));
        is_in_force.then(|| Presented { identity, ceiling, last_second, keys: Arc::clone(&keys) })
    }

    /// Whether a token that was valid is so still, as far as its keys and its time go.
    pub(in crate::gate) fn accepts(&self, valid: &Valid, now: SystemTime) -> bool {
        valid.last_second >= seconds(now) && Arc::ptr_eq(&valid.keys, &self.keys.load())
    }
}

impl Presented {
    /// The token for the memory of its connection, with the line that let its caller in.
    pub(in crate::gate) fn valid(&self, token: &str, line: Option<Box<[u8]>>) -> Valid {
        Valid {
            token: token.into(),
            keys: Arc::clone(&self.keys),
            last_second: self.last_second,
            line,
            identity: self.identity.clone(),
            ceiling: Arc::clone(&self.ceiling),
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The claim `sub` of an identity.
fn subject(identity: &Identity) -> Cow<'static, str> {
    match identity {
        Identity::Anonymous => "".into(),
        named => named.to_string().into(),
    }
}

/// The identity of a claim `sub`. No name of a user has a colon.
fn identity(subject: &str) -> Option<Identity> {
    match subject.split_once(':') {
        None if subject.is_empty() => Some(Identity::Anonymous),
        None => Some(Identity::User(subject.into())),
        Some(("token", name)) => Some(Identity::Token(name.into())),
        Some(("cert", name)) => Some(Identity::Certificate(name.into())),
        Some(_) => None,
    }
}

fn tell_of_own_key(path: &Path, error: &KeyFileError) {
    let file = path.display();
    tracing::warn!(
        %error,
        "cannot use {file}: until it can be used, session tokens are signed with a key of this process \
         alone; they end when it stops, and no other server accepts them"
    );
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token is as good as a password for a while.
        f.debug_struct("Issued").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        gate::{
            Right,
            tokens::{
                key_file::{Old, rotate},
                scopes,
            },
        },
        oci::RepositoryName,
    };

    const LINE: &[u8] = b"$2y$05$";

    struct Fixture {
        tokens: Arc<SessionTokens>,
        folder: tempfile::TempDir,
        now: SystemTime,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let keyfile = folder.path().join("session.key");
            let options = SessionOptions { keyfile, ..SessionOptions::default() };
            let tokens = Arc::new(SessionTokens::new(&options).unwrap());
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
            Self { tokens, folder, now }
        }

        async fn issue(&self, identity: &Identity, asked: &str) -> Issued {
            let keys = self.tokens.keys().await.unwrap();
            let key = keys.first().unwrap();
            let line = (*identity != Identity::Anonymous).then(|| key.fingerprint(&[LINE]));
            let bearer = Bearer { identity, line, scopes: &scopes([asked]) };
            self.tokens.issue(key, &bearer, self.now).unwrap()
        }

        fn verify(&self, token: &str, after: u64, line: Option<&[u8]>) -> Option<Presented> {
            let now = self.now + Duration::from_secs(after);
            self.tokens.verify(token, now, |_, key, is_it| {
                line.is_some_and(|line| is_it(&key.fingerprint(&[line])))
            })
        }
    }

    fn user(name: &str) -> Identity {
        Identity::User(name.into())
    }

    #[tokio::test]
    async fn token_says_who_it_is_for_and_what_it_covers() {
        let fixture = Fixture::new();
        let identities = [
            user("ann"),
            user("-"),
            user("grüße"),
            Identity::Token("ci".into()),
            Identity::Certificate("host.example".into()),
            Identity::Anonymous,
        ];
        let a: RepositoryName = "a".parse().unwrap();
        for identity in identities {
            let issued = fixture.issue(&identity, "repository:a:pull").await;
            let presented = fixture.verify(&issued.token, 0, Some(LINE)).unwrap();
            assert_eq!(presented.identity, identity);
            assert!(presented.ceiling.covers(&Right::Pull(&a)));
            assert!(!presented.ceiling.covers(&Right::Push(&a)));
        }
    }

    #[tokio::test]
    async fn token_is_valid_until_its_end_and_a_minute_more() {
        let fixture = Fixture::new();
        let Issued { token, expires_in } = fixture.issue(&user("ann"), "").await;
        assert_eq!(expires_in, Duration::from_secs(900));
        assert!(fixture.verify(&token, 900 + 60, Some(LINE)).is_some());
        assert!(fixture.verify(&token, 900 + 61, Some(LINE)).is_none());
    }

    #[tokio::test]
    async fn token_ends_with_the_line_that_let_its_caller_in() {
        let fixture = Fixture::new();
        let Issued { token, .. } = fixture.issue(&user("ann"), "").await;
        assert!(fixture.verify(&token, 0, Some(LINE)).is_some());
        assert!(fixture.verify(&token, 0, Some(b"$2y$06$")).is_none(), "another password");
        assert!(fixture.verify(&token, 0, None).is_none(), "no such user any more");
    }

    #[tokio::test]
    async fn keys_are_those_of_the_file() {
        let fixture = Fixture::new();
        let path = fixture.folder.path().join("session.key");
        assert!(!path.exists(), "nothing has needed it yet");
        assert_eq!(fixture.tokens.reload(false).unwrap(), None);
        let Issued { token, .. } = fixture.issue(&user("ann"), "").await;
        rotate(&path, Old::Keep).unwrap();
        assert_eq!(fixture.tokens.reload(false).unwrap(), Some(2));
        assert!(fixture.verify(&token, 0, Some(LINE)).is_some());
        rotate(&path, Old::End).unwrap();
        assert_eq!(fixture.tokens.reload(false).unwrap(), Some(1));
        assert!(fixture.verify(&token, 0, Some(LINE)).is_none());
    }

    #[tokio::test]
    async fn remembered_token_ends_with_its_time_and_with_the_keys() {
        let fixture = Fixture::new();
        let Issued { token, .. } = fixture.issue(&user("ann"), "").await;
        let valid = fixture.verify(&token, 0, Some(LINE)).unwrap().valid(&token, None);
        let accepts =
            |after| fixture.tokens.accepts(&valid, fixture.now + Duration::from_secs(after));
        assert!(accepts(0) && accepts(900 + 60));
        assert!(!accepts(900 + 61));
        rotate(&fixture.folder.path().join("session.key"), Old::End).unwrap();
        fixture.tokens.reload(false).unwrap();
        assert!(!accepts(0));
    }

    #[tokio::test]
    async fn process_has_a_key_of_its_own_where_the_file_cannot_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let keyfile = folder.path().join("htpasswd/session.key");
        std::fs::write(folder.path().join("htpasswd"), "").unwrap();
        let options = SessionOptions { keyfile, ..SessionOptions::default() };
        let tokens = Arc::new(SessionTokens::new(&options).unwrap());
        let [one, two] = [tokens.keys().await.unwrap(), tokens.keys().await.unwrap()];
        assert!(Arc::ptr_eq(&one, &two) && one.first().is_some());
    }

    #[test]
    fn nothing_is_issued_where_the_challenge_is_basic() {
        let options = SessionOptions { challenge: Challenge::Basic, ..SessionOptions::default() };
        assert!(SessionTokens::new(&options).is_none());
    }
}
