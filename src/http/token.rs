//! `/auth/token`: session tokens, by the distribution project's "Docker Registry v2 authentication via
//! central service" (`GET`) and "Authentication using `OAuth2`" (`POST`).
//!
//! A token is issued for the credentials with which the client could make its requests as well, so the
//! gate authenticates both alike: one run of bcrypt, one throttle.

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, Method, Response, StatusCode, header},
};
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    Call, Error,
    authorization::Authorization,
    body,
    call::Head,
    challenge::Challenges,
    error::Grant,
    response::{json as json_response, options},
};
use crate::{
    gate::{Credentials, Gate, Identity, Login, LoginError, Refusal, tokens::scopes},
    oci::ErrorCode,
    registry,
};

/// The path, below `http.prefix`.
pub(super) const PATH: &str = "/auth/token";

const METHODS: &[Method] = &[Method::GET, Method::POST];

/// The longest form.
const MAX_FORM: usize = 16 * 1024;

/// How long a form may take to arrive. Connections of clients that are not logged in are idle no longer.
const FORM_TIMEOUT: Duration = Duration::from_secs(10);

/// The only grant: there are no refresh tokens, which docker would keep in place of the password.
const PASSWORD_GRANT: &str = "password";

/// Issues session tokens.
#[derive(Debug)]
pub(super) struct TokenEndpoint {
    gate: Arc<Gate>,
    challenges: Arc<Challenges>,
}

impl TokenEndpoint {
    pub(super) const fn new(gate: Arc<Gate>, challenges: Arc<Challenges>) -> Self {
        Self { gate, challenges }
    }

    /// Whether tokens are issued. Where they are not, nothing is at the path.
    pub(super) fn is_there(&self) -> bool {
        self.gate.issues_tokens()
    }

    /// The response to a request at [`PATH`].
    ///
    /// # Errors
    ///
    /// 401 for wrong credentials, and for none where callers without credentials have no right; 429 as for
    /// other requests; 400 for a form that asks for anything but a password grant, 413 for a long one.
    pub(super) async fn respond(&self, call: Call) -> Result<Response<Body>, Error> {
        let Call { head, body } = call;
        match head.method {
            Method::GET => {
                let query = head.uri.query().unwrap_or_default().as_bytes();
                let scope = |(name, value)| (name == "scope").then_some(value);
                let asked: Vec<Cow<'_, str>> =
                    form_urlencoded::parse(query).filter_map(scope).collect();
                let credentials = match Authorization::of(&head) {
                    Authorization::Absent => None,
                    Authorization::Basic(credentials) => Some(credentials),
                    // A token is issued for credentials, not for a token.
                    Authorization::Bearer(_) | Authorization::Malformed => {
                        return Err(self.wrong());
                    }
                };
                self.issue(&head, credentials, &asked).await
            }
            Method::POST => {
                let form = body::whole(body, MAX_FORM, FORM_TIMEOUT).await;
                let form = form.map_err(registry::Error::from)?.ok_or_else(too_long)?;
                let form = Form::parse(&form)?;
                let credentials = form.credentials.ok_or_else(|| self.wrong())?;
                let credentials = Some(credentials).filter(|credentials| !credentials.is_empty());
                self.issue(&head, credentials, &form.scopes).await
            }
            Method::OPTIONS => Ok(options(METHODS)),
            _ => Err(Error::MethodNotAllowed(METHODS)),
        }
    }

    async fn issue(
        &self,
        head: &Head,
        credentials: Option<Credentials>,
        asked: &[Cow<'_, str>],
    ) -> Result<Response<Body>, Error> {
        let is_anonymous = credentials.is_none();
        let login = Login {
            credentials,
            address: head.client(),
            session: &head.connection.session,
            scopes: scopes(asked.iter().map(AsRef::as_ref)),
        };
        let (caller, issued) = self.gate.log_in(login).await.map_err(|error| match error {
            LoginError::Refused(Refusal::Unauthenticated) if !is_anonymous => self.wrong(),
            LoginError::Refused(refusal) => {
                Error::Unauthenticated { refusal, challenge: self.challenges.basic() }
            }
            LoginError::Failed(error) => Error::Randomness(error),
        })?;
        if caller.identity != Identity::Anonymous {
            head.connection.authenticated();
        }
        head.set_identity(caller.identity);
        let token = issued.token;
        let seconds = issued.expires_in.as_secs();
        // No `issued_at`: clients add `expires_in` to it by their own clocks. No `refresh_token`.
        let answer = json!({ "token": token, "access_token": token, "expires_in": seconds });
        let mut response = json_response(&head.method, answer.to_string());
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }

    fn wrong(&self) -> Error {
        let message = "wrong user or password".to_owned();
        Error::Challenged { message, challenge: self.challenges.basic() }
    }
}

/// The form of a password grant (RFC 6749 §4.3.2).
struct Form<'a> {
    /// `None` for credentials that HTTP Basic cannot have.
    credentials: Option<Credentials>,
    scopes: Vec<Cow<'a, str>>,
}

impl<'a> Form<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut grant = None;
        let mut user = None;
        let mut password = None;
        let mut scopes = Vec::new();
        for (name, value) in form_urlencoded::parse(bytes) {
            match &*name {
                "grant_type" => grant = Some(value),
                "username" => user = Some(value),
                "password" => password = Some(Zeroizing::new(value.into_owned())),
                "scope" => scopes.push(value),
                _ => {}
            }
        }
        match (grant.as_deref(), user, password) {
            (Some(PASSWORD_GRANT), Some(user), Some(password)) => {
                let pair = Zeroizing::new(format!("{user}:{}", *password).into_bytes());
                let credentials = (!user.contains(':')).then(|| Credentials::new(pair)).flatten();
                Ok(Self { credentials, scopes })
            }
            (Some(PASSWORD_GRANT), ..) => Err(Error::Grant(Grant::Incomplete)),
            (Some(_), ..) => Err(Error::Grant(Grant::Unsupported)),
            (None, ..) => Err(Error::Grant(Grant::Missing)),
        }
    }
}

fn too_long() -> Error {
    let why = format!("the form has more than {MAX_FORM} bytes");
    Error::refused(ErrorCode::SizeInvalid).with_status(StatusCode::PAYLOAD_TOO_LARGE).because(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../docs/API.md");

    #[test]
    fn page_has_each_method_and_what_a_form_needs() {
        let (_, table) = PAGE.split_once("| request | parameters | response |").unwrap();
        let rows: Vec<_> = table
            .trim_start()
            .lines()
            .skip(1)
            .take_while(|line| line.starts_with('|'))
            .map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>())
            .collect();
        let methods: Vec<_> = rows.iter().map(|row| row[0].split('`').nth(1).unwrap()).collect();
        let expected: Vec<_> = METHODS.iter().map(|method| format!("{method} {PATH}")).collect();
        assert_eq!(methods, expected);
        // A parameter that is not in parentheses is needed.
        let required = rows[1][1].split(", ").filter(|text| !text.starts_with('('));
        let required: Vec<_> = required.map(|text| text.trim_matches('`')).collect();
        let form = |without: usize| {
            let kept = required.iter().enumerate().filter(|(at, _)| *at != without);
            let pair =
                |text: &str| if text.contains('=') { text.to_owned() } else { format!("{text}=x") };
            kept.map(|(_, text)| pair(text)).collect::<Vec<_>>().join("&")
        };
        assert!(Form::parse(form(usize::MAX).as_bytes()).is_ok());
        for (without, name) in required.iter().enumerate() {
            assert!(Form::parse(form(without).as_bytes()).is_err(), "{name}");
        }
    }

    #[test]
    fn form_has_the_credentials_that_basic_would_have() {
        let form = b"grant_type=password&username=j%C3%BCrgen&password=a%3Ab+c&scope=x&scope=y";
        let Form { credentials, scopes } = Form::parse(form).unwrap();
        let credentials = credentials.unwrap();
        assert_eq!((credentials.user(), credentials.password()), (Some("jürgen"), &b"a:b c"[..]));
        assert_eq!(scopes, ["x", "y"]);
        for user in ["a%3Ab", "a%0Ab"] {
            let form = format!("grant_type=password&username={user}&password=x");
            assert!(Form::parse(form.as_bytes()).unwrap().credentials.is_none(), "{user}");
        }
    }
}
