//! The password file: Apache's htpasswd format, with bcrypt, and optionally with older hashes.
//!
//! [`Htpasswd`] is the parsed file, for looking users up. [`Lines`] is the same file as text, for
//! changing a user's line and leaving all others as they are. [`mod@file`] changes and creates it on
//! disk; nothing else here touches the file system.

pub mod file;
mod hash;
mod legacy;
mod lines;
mod user;

use std::fmt;

use self::lines::{Fields, Line};
pub use self::{
    hash::{
        BcryptHash, DEFAULT_COST, Format, Formats, HashError, MAX_COST, MIN_COST, PasswordError,
        PasswordHash,
    },
    legacy::{LegacyHash, MAX_ROUNDS},
    lines::{Lines, Set},
    user::{UserName, UserNameError},
};
use super::text_file::{Utf16, utf16, without_bom};

/// A parsed password file.
///
/// The lines are read as registry:2 reads them: lines are trimmed, blank lines and lines that begin
/// with `#` are skipped, the user ends at the first colon, and of several lines for one user the last
/// one counts. That holds for an unusable last line too: appending `bob:!` locks Bob out, as with
/// registry:2. Unlike there, an unusable line is a [`Problem`] and the rest of the file still counts.
#[derive(Clone, Debug, Default)]
pub struct Htpasswd {
    // Sorted by user.
    entries: Vec<Entry>,
    problems: Vec<Problem>,
}

/// One user who can log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The line of the user; the first is 1.
    pub line: usize,
    /// The name, as clients send it in HTTP Basic.
    pub user: String,
    /// The hash of the password.
    pub hash: PasswordHash,
}

/// A user whose password is accepted but should be stored as bcrypt.
///
/// Its `Display` is a sentence for the log, without the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outdated<'a> {
    /// The line's number; the first is 1.
    pub line: usize,
    /// The user.
    pub user: &'a str,
    /// The format of the stored hash.
    pub format: Format,
}

/// A line that cannot be used.
///
/// Its `Display` is a sentence for the log. It never contains the text after the colon, nor a line
/// without a colon: either may be a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line's number; the first is 1.
    pub line: usize,
    /// The user, where the line names one.
    pub user: Option<String>,
    /// Why the line cannot be used.
    pub reason: Reason,
}

/// Why a line of the password file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// No colon separates a user from a hash.
    #[error("there is no colon; expected `user:hash`")]
    NoColon,
    /// The whole file is in UTF-16; none of its lines is read.
    #[error(transparent)]
    Utf16(Utf16),
    /// RFC 7617 has user names in UTF-8; a hash is ASCII.
    #[error("not valid UTF-8")]
    NotUtf8,
    /// The name is not one that HTTP Basic or the file can represent.
    #[error(transparent)]
    User(#[from] UserNameError),
    /// The text after the colon is not a hash that this registry verifies.
    #[error(transparent)]
    Hash(#[from] HashError),
}

impl Htpasswd {
    /// Parses a whole file, in which hashes of `formats` are accepted. Parsing never fails: lines that
    /// cannot be used are listed by [`Self::problems`], the others are users.
    ///
    /// LF and CRLF, a missing newline at the end and a byte order mark at the beginning are allowed.
    /// Text after a second colon is a comment, as for Apache's `mod_authn_file` and nginx. A file in
    /// UTF-16 has no users and one problem.
    #[must_use]
    pub fn parse(bytes: &[u8], formats: Formats) -> Self {
        let mut parsed = Self::default();
        if let Some(encoding) = utf16(bytes) {
            let reason = Reason::Utf16(encoding);
            parsed.problems.push(Problem { line: 1, user: None, reason });
            return parsed;
        }
        for (index, line) in without_bom(bytes).split(|&b| b == b'\n').enumerate() {
            let entry = match Line::read(line) {
                Line::Empty => continue,
                Line::NoColon => None,
                Line::Entry(entry) => Some(entry),
            };
            let user = entry.as_ref().and_then(|entry| str::from_utf8(entry.user).ok());
            let outcome = entry.as_ref().ok_or(Reason::NoColon);
            let outcome = outcome.and_then(|entry| read_entry(index + 1, entry, formats));
            // Sorted insertion, so that a later line replaces an earlier one of the same user.
            let place = parsed.position(user.unwrap_or_default());
            match (outcome, place) {
                (Ok(entry), Ok(at)) => parsed.entries[at] = entry,
                (Ok(entry), Err(at)) => parsed.entries.insert(at, entry),
                (Err(reason), place) => {
                    if let Ok(at) = place {
                        parsed.entries.remove(at);
                    }
                    parsed.problems.push(Problem {
                        line: index + 1,
                        user: user.map(str::to_owned),
                        reason,
                    });
                }
            }
        }
        parsed
    }

    /// The hash of a user's password; `None` if the file has no usable line for this user.
    ///
    /// Names are compared byte by byte, with case. The time this takes depends on the names in the
    /// file; the caller hides it by verifying a dummy hash for an unknown user.
    #[must_use]
    pub fn find(&self, user: &str) -> Option<&PasswordHash> {
        let at = self.position(user).ok()?;
        Some(&self.entries[at].hash)
    }

    /// All users who can log in, sorted by name, each once.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The lines that cannot be used, in the order of the file.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The users whose password is not stored as bcrypt, sorted by name.
    pub fn outdated(&self) -> impl Iterator<Item = Outdated<'_>> {
        self.entries.iter().filter_map(|Entry { line, user, hash }| match hash {
            PasswordHash::Bcrypt(_) => None,
            PasswordHash::Legacy(hash) => {
                Some(Outdated { line: *line, user, format: hash.format() })
            }
        })
    }

    fn position(&self, user: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.user.as_str().cmp(user))
    }
}

fn read_entry(line: usize, entry: &Fields<'_>, formats: Formats) -> Result<Entry, Reason> {
    let user = str::from_utf8(entry.user).map_err(|_| Reason::NotUtf8)?;
    let hash = str::from_utf8(entry.hash).map_err(|_| Reason::NotUtf8)?;
    let user = user.parse::<UserName>()?.into();
    Ok(Entry { line, user, hash: PasswordHash::parse(hash, formats)? })
}

impl fmt::Display for Outdated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, user, format } = self;
        write!(
            f,
            "line {line} (user {user:?}): the password is stored as {format}, which a reader of the \
             file can guess quickly: set it again"
        )
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, user, reason } = self;
        match user {
            Some(user) => write!(f, "line {line} (user {user:?}): {reason}"),
            None => write!(f, "line {line}: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "$2y$05$TA584DbUzmR9EVi6ojp.5eri9PrENjoixM7Ca61fUWm4M3SngO.Xa";
    const OTHER: &str = "$2b$06$48DTXBDA0K1GTSIkh7V62OWGzmPQxAv5S0Qo5LZsEKyw6UgQORZ.S";

    fn read(bytes: &[u8]) -> Htpasswd {
        Htpasswd::parse(bytes, Formats::BcryptOnly)
    }

    fn reasons(text: &str) -> Vec<Reason> {
        let parsed = read(text.as_bytes());
        assert!(parsed.entries().is_empty(), "{text:?}");
        parsed.problems.into_iter().map(|p| p.reason).collect()
    }

    #[test]
    fn files_of_apache_and_of_editors_parse() {
        let text = format!(
            "\u{feff}alice:{HASH}\r\n\r\n# staff\n  bob:{OTHER}  \n\tcarol:{HASH}:Carol, CI\n\ndave:{HASH}"
        );
        let parsed = read(text.as_bytes());
        assert_eq!(parsed.problems(), []);
        let users: Vec<_> = parsed.entries().iter().map(|e| e.user.as_str()).collect();
        assert_eq!(users, ["alice", "bob", "carol", "dave"]);
        assert_eq!(parsed.find("bob").unwrap().as_str(), OTHER);
        assert_eq!(parsed.find("carol").unwrap().as_str(), HASH);
        assert!(parsed.find("Alice").is_none());
    }

    #[test]
    fn last_line_of_a_user_is_in_force_even_when_it_is_unusable() {
        let text = format!("bob:{HASH}\nbob:{OTHER}\n");
        let parsed = read(text.as_bytes());
        assert_eq!(parsed.find("bob").unwrap().as_str(), OTHER);

        for lock in ["!", "\u{fffd}", "", "{SHA}x"] {
            let parsed = read(format!("bob:{HASH}\nbob:{lock}\n").as_bytes());
            assert!(parsed.find("bob").is_none(), "{lock:?}");
        }
        let mut bytes = format!("bob:{HASH}\nbob:").into_bytes();
        bytes.push(0xff);
        assert!(read(&bytes).find("bob").is_none());
    }

    #[test]
    fn unusable_line_is_named_and_does_not_hide_the_others() {
        let text = format!("eve\nalice:{HASH}\nbob:$apr1$x$y\n:{HASH}\n");
        let parsed = read(text.as_bytes());
        assert!(parsed.find("alice").is_some());
        let problems: Vec<_> = parsed.problems().iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 3);
        assert!(problems[0].starts_with("line 1: there is no colon"), "{problems:?}");
        assert!(problems[1].starts_with("line 3 (user \"bob\"): "), "{problems:?}");
        assert!(problems[1].contains("apr1"), "{problems:?}");
        assert!(problems[2].starts_with("line 4 (user \"\"): "), "{problems:?}");
    }

    #[test]
    fn other_formats_are_named() {
        for (hash, format) in [
            ("$apr1$N5k9Kb1p$wAYd1JmZ0x5oEAu1vmC8a.", Format::Apr1),
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", Format::Sha1),
            ("{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", Format::SaltedSha1),
            ("$5$Vw0$Ab", Format::Sha256Crypt),
            ("$6$rounds=5000$Vw0$Ab", Format::Sha512Crypt),
            ("$1$Vw0$Ab", Format::Md5Crypt),
            ("$argon2id$v=19$m=65536$x$y", Format::Argon2),
            ("$y$j9T$x$y", Format::Yescrypt),
            ("rqXexS6ZhobKA", Format::DesCrypt),
            ("hunter2", Format::Unknown),
        ] {
            let problems = reasons(&format!("bob:{hash}"));
            assert_eq!(problems, [Reason::Hash(HashError::Format(format))], "{hash}");
        }
    }

    #[test]
    fn older_formats_are_accepted_by_option_and_named_otherwise() {
        let text = format!(
            "ann:{HASH}\nbob:{{SHA}}L55TUjtiq8FBorTWAZ0jy6g129A=\ncarol:$1$Vw0$Ab\ndave:$apr1$x\n"
        );
        let parsed = Htpasswd::parse(text.as_bytes(), Formats::WithLegacy);
        let users: Vec<_> = parsed.entries().iter().map(|e| e.user.as_str()).collect();
        assert_eq!(users, ["ann", "bob"]);
        let outdated: Vec<_> = parsed.outdated().collect();
        assert_eq!(outdated, [Outdated { line: 2, user: "bob", format: Format::Sha1 }]);
        assert!(outdated[0].to_string().starts_with("line 2 (user \"bob\"): "));
        let problems: Vec<_> = parsed.problems().iter().map(|p| p.reason.clone()).collect();
        let md5 = Reason::Hash(HashError::Format(Format::Md5Crypt));
        assert_eq!(problems, [md5, Reason::Hash(HashError::Malformed)]);

        // The problem of a line that is refused only for its format names the option that accepts it.
        let refused = read(text.as_bytes());
        assert_eq!(refused.outdated().count(), 0);
        let problems: Vec<_> = refused.problems().iter().map(ToString::to_string).collect();
        assert!(problems[0].contains("auth.htpasswd.legacyformats: true"), "{problems:?}");
        assert!(!problems[1].contains("legacyformats"), "{problems:?}");
    }

    #[test]
    fn bcrypt_that_costs_too_much_or_is_cut_short_is_refused() {
        let costly = HASH.replace("$05$", "$17$");
        assert_eq!(
            reasons(&format!("bob:{costly}")),
            [Reason::Hash(HashError::TooExpensive { cost: 17 })]
        );
        for broken in [
            HASH.replace("$05$", "$03$"),
            HASH.replace("$05$", "$32$"),
            HASH.replace("$05$", "$+5$"),
            HASH.replace("$05$", "$5$"),
            HASH[..59].to_owned(),
            format!("{HASH}x"),
            HASH.replace("Uz", "U!"),
            format!("$2y$05${}", "é".repeat(26) + "x"),
            "$2y$".to_owned(),
        ] {
            assert_eq!(
                reasons(&format!("bob:{broken}")),
                [Reason::Hash(HashError::Malformed)],
                "{broken}"
            );
        }
    }

    #[test]
    fn utf_16_file_is_named_and_has_no_users() {
        let text = format!("alice:{HASH}\r\nbob:{OTHER}\r\n");
        let units = |to: fn(u16) -> [u8; 2], mark: &str| -> Vec<u8> {
            format!("{mark}{text}").encode_utf16().flat_map(to).collect()
        };
        for (bytes, encoding) in [
            (units(u16::to_le_bytes, "\u{feff}"), "UTF-16"),
            (units(u16::to_be_bytes, "\u{feff}"), "UTF-16"),
            (units(u16::to_le_bytes, ""), "UTF-16LE"),
            (units(u16::to_be_bytes, ""), "UTF-16BE"),
        ] {
            let parsed = read(&bytes);
            assert!(parsed.entries().is_empty());
            let problems: Vec<_> = parsed.problems().iter().map(ToString::to_string).collect();
            assert_eq!(problems.len(), 1, "{problems:?}");
            let expected = format!("line 1: the file is encoded in {encoding}, ");
            assert!(problems[0].starts_with(&expected), "{problems:?}");
            assert!(
                problems[0].contains(&format!("`iconv -f {encoding} -t UTF-8`")),
                "{problems:?}"
            );
        }
    }

    #[test]
    fn doubled_dollars_of_docker_compose_are_named_in_every_format() {
        for hash in [HASH, "$apr1$N5k9Kb1p$wAYd1JmZ0x5oEAu1vmC8a.", "$6$Vw0$Ab"] {
            let doubled = hash.replace('$', "$$");
            let problems = reasons(&format!("bob:{doubled}"));
            assert_eq!(problems, [Reason::Hash(HashError::DoubledDollars)], "{doubled}");
            assert!(problems[0].to_string().contains("docker compose"), "{problems:?}");
        }
    }

    #[test]
    fn nothing_prints_a_hash_or_a_line_without_colon() {
        let text = format!("alice:{HASH}\nsecretsecret\nbob:plainpassword\n");
        let parsed = read(text.as_bytes());
        let mut shown = format!("{parsed:?} {:?}", Lines::from_bytes(text.as_bytes()));
        for problem in parsed.problems() {
            shown.push_str(&problem.to_string());
        }
        for secret in [&HASH[7..], "secretsecret", "plainpassword"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    /// Bytes that look like a password file often enough to reach every branch.
    fn file_like() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"\n".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b":".to_vec()),
            Just(b"#".to_vec()),
            Just(b" ".to_vec()),
            Just(b"bob".to_vec()),
            Just(b"bob:".to_vec()),
            Just(HASH.as_bytes().to_vec()),
            Just(b"\xef\xbb\xbf".to_vec()),
            Just(b"$2y$05$".to_vec()),
            "[a-z]{1,5}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..8),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    fn lines_of_others(bytes: &[u8], user: &str) -> Vec<Vec<u8>> {
        without_bom(bytes)
            .split(|&b| b == b'\n')
            .filter(|line| {
                !matches!(Line::read(line), Line::Entry(entry) if entry.user == user.as_bytes())
            })
            .filter(|line| !line.is_empty())
            .map(<[u8]>::to_vec)
            .collect()
    }

    proptest! {
        #[test]
        fn any_bytes_parse(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&bytes);
            let _ = Htpasswd::parse(&bytes, Formats::WithLegacy);
        }

        #[test]
        fn any_file_parses_and_is_written_back_byte_for_byte(bytes in file_like()) {
            let _ = read(&bytes);
            prop_assert_eq!(Lines::from_bytes(&bytes).to_bytes(), bytes);
        }

        #[test]
        fn set_user_is_found_and_the_other_lines_stay(bytes in file_like(), user in "[a-zé]{1,4}|bob") {
            let name: UserName = user.parse().unwrap();
            let hash: BcryptHash = OTHER.parse().unwrap();
            let mut text = Lines::from_bytes(&bytes);
            text.set(&name, &hash);
            let after = text.to_bytes();
            // A file in UTF-16 has no users.
            prop_assume!(utf16(&after).is_none());
            let parsed = read(&after);
            prop_assert_eq!(parsed.find(&user), Some(&PasswordHash::Bcrypt(hash.clone())));
            prop_assert_eq!(lines_of_others(&bytes, &user), lines_of_others(&after, &user));
            // Set once more: nothing but the same line changes.
            prop_assert_eq!(text.set(&name, &hash), Set::Updated);
            prop_assert_eq!(text.to_bytes(), after);
        }

        #[test]
        fn removed_user_is_not_found_and_the_other_lines_stay(bytes in file_like(), user in "[a-z]{1,4}|bob") {
            let mut text = Lines::from_bytes(&bytes);
            let there = text.remove(&user);
            let after = text.to_bytes();
            prop_assume!(utf16(&after).is_none());
            prop_assert!(read(&after).find(&user).is_none());
            prop_assert_eq!(lines_of_others(&bytes, &user), lines_of_others(&after, &user));
            prop_assert_eq!(there, after != bytes);
            prop_assert!(!text.remove(&user));
        }
    }
}
