//! The challenges of a `401` (RFC 9110 §11.6.1): one scheme in one header, since clients take the first
//! of several, or the last, or mix them up.
//!
//! docker's image store of old and all that is built on containers/image read the challenge of `/v2/`
//! alone; containerd and the builders read that of the request at hand. So `/v2/` asks for a token where
//! callers without a name may do something: docker then fetches one, also without a password, and pulls.
//! All other paths ask for a password, unless the request has a token: a client that does not ask `/v2/`
//! first never meets the token endpoint.

use std::{fmt::Write as _, sync::Arc};

use super::{Error, base_url::BaseUrls, basic, call::Head, endpoint::Endpoint, token};
use crate::gate::{Denied, Gate, IssuerOptions, May, Refusal, Scope, issuer, tokens::SERVICE};

/// Makes the challenges.
#[derive(Debug)]
pub(super) struct Challenges {
    gate: Arc<Gate>,
    base_urls: Arc<BaseUrls>,
    /// `http.prefix`, without a slash at its end.
    prefix: Arc<str>,
}

/// Why a Bearer token does not open an endpoint (RFC 6750 §3.1).
#[derive(Clone, Copy, Debug)]
pub(super) enum TokenError<'a> {
    /// It is not valid.
    Invalid,
    /// It does not cover this scope; `None` where the request is about no repository.
    Insufficient(Option<&'a Scope>),
}

impl Challenges {
    pub(super) const fn new(gate: Arc<Gate>, base_urls: Arc<BaseUrls>, prefix: Arc<str>) -> Self {
        Self { gate, base_urls, prefix }
    }

    /// The challenge of a request that the gate refuses; `None` where the gate is open. At `/v2/` it
    /// depends on the address of the client, elsewhere on the scheme of what the request presents, and
    /// never on whether something is there.
    pub(super) fn of(&self, refusal: &Refusal, head: &Head) -> Option<String> {
        if let Some(issuer) = self.gate.external_issuer() {
            let error = matches!(refusal, Refusal::InvalidToken).then_some("invalid_token");
            return Some(self.of_issuer(issuer.options(), head, error));
        }
        if head.path(&self.prefix) == Some("/v2/") && self.gate.asks_for_token(head.client()) {
            return self.bearer(head, None);
        }
        match refusal {
            Refusal::InvalidToken => self.bearer(head, Some(TokenError::Invalid)),
            Refusal::Busy { .. }
            | Refusal::Throttled { .. }
            | Refusal::TokenExpired { .. }
            | Refusal::Unauthenticated => self.basic(),
        }
    }

    /// The challenge of a request that takes a name and has a session token without one.
    pub(super) fn of_nameless_token(&self, head: &Head) -> Option<String> {
        let scope = self.scope(head);
        self.bearer(head, Some(TokenError::Insufficient(scope.as_ref())))
    }

    /// Asks for a password; `None` where the gate is open.
    pub(super) fn basic(&self) -> Option<String> {
        self.gate.realm().map(basic::challenge)
    }

    /// Asks for a token of `/auth/token`, of which the challenge has the whole address: clients cannot
    /// resolve a relative one. Where that address is not known, or no tokens are issued, it asks for a
    /// password.
    pub(super) fn bearer(&self, head: &Head, error: Option<TokenError<'_>>) -> Option<String> {
        let base = self.base_urls.absolute(head).filter(|_| self.gate.issues_tokens());
        let Some(base) = base else { return self.basic() };
        let realm = format!("{base}{}", token::PATH).replace('"', "%22");
        let mut challenge = format!("Bearer realm=\"{realm}\",service=\"{SERVICE}\"");
        let asked;
        let (error, scope) = match error {
            None => return Some(challenge),
            Some(TokenError::Invalid) => {
                asked = self.scope(head);
                ("invalid_token", asked.as_ref())
            }
            Some(TokenError::Insufficient(scope)) => ("insufficient_scope", scope),
        };
        // Writing to a String cannot fail.
        let _ = match scope {
            Some(scope) => write!(challenge, ",scope=\"{scope}\",error=\"{error}\""),
            None => write!(challenge, ",error=\"{error}\""),
        };
        Some(challenge)
    }

    /// Asks for a token of the external issuer, in the words of registry:2. The scope is that of the
    /// request, whatever the request presents.
    fn of_issuer(&self, issuer: &IssuerOptions, head: &Head, error: Option<&str>) -> String {
        let own = self.base_urls.absolute(head).filter(|_| issuer.autoredirect).map(|base| {
            let origin = base.strip_suffix(&*self.prefix).unwrap_or(&base);
            format!("{origin}/{}", issuer.autoredirectpath.trim_start_matches('/'))
        });
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let realm = quoted(own.as_deref().unwrap_or(&issuer.realm));
        let mut challenge =
            format!("Bearer realm=\"{realm}\",service=\"{}\"", quoted(&issuer.service));
        let asked = self.endpoint(head).and_then(|endpoint| {
            let scope = issuer::scope(&endpoint.right()?)?;
            match &endpoint {
                // A token that covers it lets the blob be mounted.
                Endpoint::MountBlob { name, from: Some(from), .. } if from != name => {
                    Some(format!("{scope} repository:{from}:pull"))
                }
                _ => Some(scope),
            }
        });
        // Writing to a String cannot fail.
        if let Some(scope) = asked {
            let _ = write!(challenge, ",scope=\"{scope}\"");
        }
        if let Some(error) = error {
            let _ = write!(challenge, ",error=\"{error}\"");
        }
        challenge
    }

    /// The error of a request that the rules allow and the caller's token does not cover.
    pub(super) fn beyond(&self, head: &Head, denied: Denied) -> Error {
        if let Some(issuer) = self.gate.external_issuer() {
            let challenge = self.of_issuer(issuer.options(), head, Some("insufficient_scope"));
            let message = match &denied.repository {
                Some(name) => {
                    format!("the token does not cover {} of {name}", denied.action().as_str())
                }
                None => "the token does not cover the lists: registry:catalog:*".to_owned(),
            };
            return Error::Challenged { message, challenge: Some(challenge) };
        }
        let Denied { repository: Some(name), may, .. } = denied else {
            return Error::Denied(Box::new(denied));
        };
        let what = match may {
            May::Create => May::Push,
            may => may,
        };
        let message = format!("the token does not cover {what} of {name}");
        let scope = Scope::needed(name, may);
        let challenge = self.bearer(head, Some(TokenError::Insufficient(Some(&scope))));
        Error::Challenged { message, challenge }
    }

    /// The scope of the right that a request takes, for a client that gets another token.
    fn scope(&self, head: &Head) -> Option<Scope> {
        self.endpoint(head)?.right().as_ref().and_then(Scope::of)
    }

    fn endpoint(&self, head: &Head) -> Option<Endpoint> {
        let path = head.path(&self.prefix)?;
        let query = head.uri.query().unwrap_or_default();
        Endpoint::parse(&head.method, path, query).ok()
    }
}
