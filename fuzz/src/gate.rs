//! The inputs of the gate: the `Authorization` header, the password file, the group file and the token
//! file.

use std::{sync::OnceLock, time::Duration};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use portcullis::{
    gate::{
        Gate, HtpasswdOptions, Policy, Recalled, Refusal, Session,
        access::Groups,
        htpasswd::{
            BcryptHash, Formats, Htpasswd, Lines, MAX_COST, MIN_COST, PasswordHash, Set, UserName,
        },
        tokens::{
            self,
            deploy::{DeployToken, DeployTokens, Expiry, Form, PREFIX, TokenLines},
        },
    },
    http::{basic, bearer as bearer_header},
};

use crate::{assert_printable, text};

/// The value of `Authorization`: the parsed credentials are those of the client, and have only one
/// encoding.
pub fn authorization(data: &[u8]) {
    let Some(credentials) = basic::credentials(data) else { return };
    let (user, password) = (credentials.user_bytes(), credentials.password());
    let pair = [user, b":", password].concat();
    assert!(!user.contains(&b':'), "{user:?}");
    assert_eq!(credentials.user(), std::str::from_utf8(user).ok());
    // RFC 7617 §2, except the tab.
    assert!(!user.iter().any(u8::is_ascii_control), "{pair:?}");
    assert!(!password.iter().any(|b| b.is_ascii_control() && *b != b'\t'), "{pair:?}");

    let value = text(data).expect("the value is text").trim_ascii();
    let (scheme, token) = value.split_once(' ').expect("a scheme and a token");
    assert!(scheme.eq_ignore_ascii_case("basic"), "{scheme:?}");
    let token = token.trim_ascii().trim_end_matches('=');
    assert_eq!(token, STANDARD_NO_PAD.encode(&pair), "another text for {pair:?}");

    let again = basic::credentials(format!("Basic {}", STANDARD.encode(&pair)).as_bytes());
    let again = again.expect("credentials can be sent again");
    assert_eq!((again.user_bytes(), again.password()), (user, password));
}

/// The key of the tokens that [`bearer`] gets, as a line of a key file.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

/// A gate with a session key and without users.
fn gate() -> &'static Gate {
    static GATE: OnceLock<Gate> = OnceLock::new();
    GATE.get_or_init(|| {
        let name = format!("portcullis-fuzz-{}.key", std::process::id());
        let mut options = HtpasswdOptions::default();
        options.sessions.keyfile = std::env::temp_dir().join(name);
        std::fs::write(&options.sessions.keyfile, KEY).expect("the key can be written");
        let gate = Gate::htpasswd(&options, &Htpasswd::default(), Policy::everything());
        let gate = gate.expect("there is randomness");
        let keys = gate.reload_session_keys(true).expect("the key can be read");
        assert_eq!(keys, Some(1));
        std::fs::remove_file(&options.sessions.keyfile).expect("the key can be removed");
        gate
    })
}

/// The value of `Authorization`: a token is part of it, and no token lets in a caller who is no user.
pub fn bearer(data: &[u8]) {
    let Some(token) = bearer_header::token(data) else { return };
    assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()), "{token:?}");
    assert!(basic::credentials(data).is_none(), "the header has two schemes");
    let again = format!("Bearer {token}");
    assert_eq!(bearer_header::token(again.as_bytes()), Some(token));
    let recalled = gate().recall_bearer(token, None, &Session::default());
    assert!(matches!(recalled, Recalled::Refused(Refusal::InvalidToken)), "{token:?} lets in");
}

/// The parameter `scope`: scopes are few, and the same when they are written and read again.
pub fn scopes(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let scopes = tokens::scopes([text]);
    assert!(scopes.len() <= 32, "{}", scopes.len());
    for scope in &scopes {
        crate::names::assert_name(&scope.repository);
        let written = scope.to_string();
        assert!(written.len() < 300, "{written:?}");
        assert_eq!(tokens::scopes([&*written]), std::slice::from_ref(scope), "{text:?}");
    }
    let all: Vec<_> = scopes.iter().map(ToString::to_string).collect();
    assert_eq!(tokens::scopes([&*all.join(" ")]), scopes, "{text:?}");
}

/// The password file: a rewritten file accepts the same users, and an edit changes only one user.
pub fn htpasswd(data: &[u8]) {
    for formats in [Formats::BcryptOnly, Formats::WithLegacy] {
        assert_reads(data, formats);
    }
    assert_eq!(Lines::from_bytes(data).to_bytes(), data);
    let users = users(&Htpasswd::parse(data, Formats::WithLegacy));
    let first = users.first().map_or("new", |(user, _)| user.as_str());
    for name in [first, "bob"] {
        assert_edits(data, name);
    }
}

fn assert_reads(data: &[u8], formats: Formats) {
    let parsed = Htpasswd::parse(data, formats);
    let users = users(&parsed);
    assert!(users.is_sorted_by(|a, b| a.0 < b.0), "not in order, or twice");
    for (user, hash) in &users {
        assert_eq!(user.parse::<UserName>().map(String::from).as_ref(), Ok(user));
        assert_eq!(PasswordHash::parse(hash.as_str(), formats).as_ref(), Ok(hash));
        match hash {
            PasswordHash::Bcrypt(hash) => {
                assert_eq!(hash.as_str().len(), 60);
                assert!((MIN_COST..=MAX_COST).contains(&hash.cost()));
            }
            PasswordHash::Legacy(_) => assert_eq!(formats, Formats::WithLegacy),
        }
        assert_eq!(parsed.find(user), Some(hash));
    }
    for outdated in parsed.outdated() {
        assert_printable(&outdated.to_string());
    }
    let lines = data.split(|&b| b == b'\n').count();
    assert!(parsed.problems().is_sorted_by(|a, b| a.line < b.line));
    for problem in parsed.problems() {
        assert!((1..=lines).contains(&problem.line));
        assert_printable(&problem.to_string());
    }

    let text: String =
        users.iter().map(|(user, hash)| format!("{user}:{}\n", hash.as_str())).collect();
    let again = Htpasswd::parse(text.as_bytes(), formats);
    assert_eq!(self::users(&again), users, "lost in {text:?}");
    assert_eq!(again.problems(), []);
}

/// A hash that is not in the seeds.
const OTHER: &str = "$2b$06$48DTXBDA0K1GTSIkh7V62OWGzmPQxAv5S0Qo5LZsEKyw6UgQORZ.S";

/// Sets and removes a user.
fn assert_edits(file: &[u8], name: &str) {
    let read = |bytes: &[u8]| Htpasswd::parse(bytes, Formats::WithLegacy);
    let others = |bytes: &[u8]| {
        let mut users = users(&read(bytes));
        users.retain(|(user, _)| user != name);
        users
    };
    let before = others(file);
    let (user, hash): (UserName, BcryptHash) =
        (name.parse().expect("a user's name"), OTHER.parse().expect("a hash"));

    let mut lines = Lines::from_bytes(file);
    lines.set(&user, &hash);
    let set = lines.to_bytes();
    assert_eq!(read(&set).find(name), Some(&PasswordHash::Bcrypt(hash.clone())));
    assert_eq!(others(&set), before, "setting {name:?} changes others");
    assert_eq!(lines.set(&user, &hash), Set::Updated);
    assert_eq!(lines.to_bytes(), set);

    let mut lines = Lines::from_bytes(file);
    lines.remove(name);
    let removed = lines.to_bytes();
    assert_eq!(read(&removed).find(name), None);
    assert_eq!(others(&removed), before, "removing {name:?} changes others");
    assert!(!Lines::from_bytes(&removed).remove(name), "{name:?} is still there");
}

/// The token file, and any text as a secret: a rewritten file has the same tokens, an edit changes only
/// one token, and a secret has no other form.
pub fn token_file(data: &[u8]) {
    if let Form::Secret(digest) = Form::of(data) {
        assert!(data.starts_with(PREFIX.as_bytes()) && data.len() == 37, "{data:?}");
        assert!(data.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_'), "{data:?}");
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }
    assert_eq!(TokenLines::from_bytes(data).to_bytes(), data);
    let parsed = DeployTokens::parse(data);
    let lines = data.split(|&b| b == b'\n').count();
    assert!(parsed.entries().is_sorted_by(|a, b| a.line < b.line));
    assert!(parsed.problems().is_sorted_by(|a, b| a.line < b.line));
    for finding in parsed.findings(|name| name == "ann", Duration::from_secs(86_400)) {
        assert!((1..=lines).contains(&finding.line));
        assert_printable(&finding.to_string());
    }
    let text: String = tokens(data).iter().map(|token| format!("{token}\n")).collect();
    let again = DeployTokens::parse(text.as_bytes());
    assert!(again.problems().is_empty(), "{text:?}");
    assert_eq!(tokens(text.as_bytes()), tokens(data), "lost in {text:?}");
    for token in tokens(data).iter().take(3) {
        assert!(!token.may.is_empty() && !token.repositories.is_empty(), "{token}");
        assert_edits_token(data, token);
    }
}

/// Expires, removes and adds a token.
fn assert_edits_token(file: &[u8], token: &DeployToken) {
    let name = token.name.as_str();
    let part = |bytes: &[u8]| -> (Vec<DeployToken>, Vec<DeployToken>) {
        tokens(bytes).into_iter().partition(|token| token.name.as_str() == name)
    };
    let (own, others) = part(file);

    let until: Expiry = "2026-11-27T12:00:00Z".parse().expect("an expiry");
    let mut lines = TokenLines::from_bytes(file);
    lines.expire(name, until);
    let (expired, rest) = part(&lines.to_bytes());
    let expected: Vec<_> = own
        .iter()
        .map(|token| DeployToken { expires: token.expires.min(until), ..token.clone() })
        .collect();
    assert_eq!((expired, &rest), (expected, &others), "expiring {name:?}");

    let mut lines = TokenLines::from_bytes(file);
    assert!(lines.remove(name) >= own.len(), "removing {name:?}");
    assert_eq!(part(&lines.to_bytes()), (Vec::new(), others), "removing {name:?}");
    lines.add(token);
    assert_eq!(part(&lines.to_bytes()).0, std::slice::from_ref(token), "adding {name:?}");
}

fn tokens(file: &[u8]) -> Vec<DeployToken> {
    DeployTokens::parse(file).entries().iter().map(|entry| entry.token.clone()).collect()
}

fn users(file: &Htpasswd) -> Vec<(String, PasswordHash)> {
    file.entries().iter().map(|entry| (entry.user.clone(), entry.hash.clone())).collect()
}

/// The group file: each membership has a line that names the user, and a second copy of the file adds
/// nothing.
pub fn group_file(data: &[u8]) {
    let lines: Vec<_> = data.split(|byte| *byte == b'\n').collect();
    let groups = match Groups::parse(data) {
        Ok(groups) => groups,
        Err(error) => {
            assert!((1..=lines.len()).contains(&error.line));
            return assert_printable(&error.to_string());
        }
    };
    for user in groups.users() {
        assert_printable(user);
        for membership in groups.of(user) {
            assert!(groups.has(membership.group()));
            let line = text(lines[membership.line() - 1]).expect("the line is text");
            assert!(line.contains(user) && line.contains(membership.group()), "{line:?}");
        }
    }
    // A mark of the byte order stands at the beginning of a file only.
    let copy = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    let twice = Groups::parse(&[data, b"\n", copy].concat()).expect("the copy is as good");
    assert_eq!(twice.users(), groups.users());
    assert_eq!(twice.len(), groups.len());
    for user in groups.users() {
        assert_eq!(twice.of(user), groups.of(user));
    }
}
