//! A line of the token file: the name, then fields as `key=value`, then a comment.
//!
//! ```text
//! ci sha256=Zk1… may=push repositories=team-a/**,base/go expires=2027-02-24 created=2026-11-26 by=ann
//! ```
//!
//! A field that this version does not know makes a line unusable: it may be a misspelt or a newer
//! field that takes rights away. What is missing opens nothing either: `sha256`, `may`, `repositories`
//! and `expires` have no defaults.

use std::{fmt, str::FromStr, sync::Arc};

use jiff::civil::Date;

use super::{
    expiry::{Expiry, InvalidExpiry},
    name::{TokenName, TokenNameError},
    secret::{NoDigest, SecretDigest},
};
use crate::{
    gate::{Grant, May, htpasswd::UserName},
    oci::{Glob, InvalidGlob},
};

/// A deploy token, as its line has it. As text it is the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeployToken {
    /// The name, which is the user in HTTP Basic.
    pub name: TokenName,
    /// The SHA-256 of the secret.
    pub digest: SecretDigest,
    /// What the token may do: at least one word...
    pub may: Vec<May>,
    /// ...in repositories that match one of these: at least one glob.
    pub repositories: Vec<Glob>,
    /// When it expires.
    pub expires: Expiry,
    /// The day on which it was made.
    pub created: Option<Date>,
    /// The user of the machine who made it.
    pub by: Option<Word>,
    /// The user whose rights bound those of the token.
    pub user: Option<Word>,
    /// The text after `#`.
    pub comment: Option<String>,
}

/// A text that can stand in a field: not empty, without white space, control characters and `#`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(String);

/// The text cannot stand in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is empty, or has white space, a control character or a `#`")]
pub struct InvalidWord;

/// Why a line cannot be used. No text has the value of a field, which may be a secret, but for the
/// characters that globs do not have, and a key in lower case.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The first word is no name.
    #[error(transparent)]
    Name(#[from] TokenNameError),
    /// A word is no `key=value`.
    #[error(
        "a word is no field, such as `may=pull`; the fields are sha256, may, repositories, expires, \
         created, by and user"
    )]
    NoField,
    /// A key that there is not.
    #[error(
        "there is no field {0:?}, and a line with a field that this version does not know opens \
         nothing; the fields are sha256, may, repositories, expires, created, by and user"
    )]
    Unknown(String),
    /// A key that is there twice.
    #[error("{0} is there twice")]
    Twice(&'static str),
    /// A key that every line has.
    #[error("{0} is missing{1}")]
    Missing(&'static str, &'static str),
    /// The digest of the secret.
    #[error("sha256: {0}: `portcullis token rotate` makes another secret")]
    Digest(#[from] NoDigest),
    /// The words.
    #[error("may: expected pull, create, push, delete or all, separated by commas")]
    May,
    /// The globs.
    #[error("repositories: {0}")]
    Glob(#[from] InvalidGlob),
    /// The end.
    #[error("expires: {0}")]
    Expires(#[from] InvalidExpiry),
    /// The beginning.
    #[error("created: expected a date such as 2026-11-26")]
    Created,
    /// A name.
    #[error("{0}: {1}")]
    Word(&'static str, InvalidWord),
}

/// The fields of a line, as text.
#[derive(Default)]
struct Fields<'a> {
    values: [Option<&'a str>; KEYS.len()],
    comment: Option<&'a str>,
}

const KEYS: [&str; 7] = ["sha256", "may", "repositories", "expires", "created", "by", "user"];

impl DeployToken {
    /// The rights in the line.
    #[must_use]
    pub fn grant(&self) -> Grant {
        Grant {
            may: self.may.clone(),
            repositories: self.repositories.clone(),
            user: self.user.as_ref().map(|user| Arc::from(user.as_str())),
        }
    }
}

impl FromStr for DeployToken {
    type Err = LineError;

    /// Reads a line without its ending.
    fn from_str(line: &str) -> Result<Self, LineError> {
        let line = line.trim_ascii();
        let (name, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let name = name.parse()?;
        let fields = Fields::read(rest)?;
        let [digest, may, repositories, expires, created, by, user] = fields.values;
        let missing = |key, hint| move || LineError::Missing(key, hint);
        let digest = digest.ok_or_else(missing("sha256", ""))?.parse()?;
        let may = may.ok_or_else(missing("may", ""))?;
        let may = may.split(',').map(str::parse).collect::<Result<_, _>>();
        let may = may.map_err(|_| LineError::May)?;
        let repositories = repositories
            .ok_or_else(missing("repositories", "; `**` is every repository"))?
            .split(',')
            .map(|glob| Glob::try_from(glob.to_owned()))
            .collect::<Result<_, _>>()?;
        let expires =
            expires.ok_or_else(missing("expires", "; write a date, or never"))?.parse()?;
        let created: Option<Date> =
            created.map(str::parse).transpose().map_err(|_| LineError::Created)?;
        if created.map(|date| date.to_string()).as_deref() != fields.values[4] {
            return Err(LineError::Created);
        }
        let word = |key, text: Option<&str>| {
            text.map(str::parse).transpose().map_err(|error| LineError::Word(key, error))
        };
        Ok(Self {
            name,
            digest,
            may,
            repositories,
            expires,
            created,
            by: word("by", by)?,
            user: word("user", user)?,
            comment: fields.comment.map(str::to_owned),
        })
    }
}

impl<'a> Fields<'a> {
    fn read(text: &'a str) -> Result<Self, LineError> {
        let mut fields = Self::default();
        let mut rest = text.trim_ascii_start();
        while !rest.is_empty() {
            if let Some(comment) = rest.strip_prefix('#') {
                fields.comment = Some(comment.trim_ascii());
                break;
            }
            let (word, after) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
            let (key, value) = word.split_once('=').ok_or(LineError::NoField)?;
            let Some(index) = KEYS.iter().position(|known| *known == key) else {
                let is_key = key.len() < 32 && key.bytes().all(|b| b.is_ascii_lowercase());
                let unknown = || LineError::Unknown(key.to_owned());
                return Err(if is_key { unknown() } else { LineError::NoField });
            };
            if fields.values[index].replace(value).is_some() {
                return Err(LineError::Twice(KEYS[index]));
            }
            rest = after.trim_ascii_start();
        }
        Ok(fields)
    }
}

/// The name that a line begins with; `None` for a blank line and a comment.
pub(super) fn name_in(line: &str) -> Option<&str> {
    let first = line.split_ascii_whitespace().next()?;
    (!first.starts_with('#')).then_some(first)
}

/// The line with another expiry. Everything else stays as it is; `None` if it has no such field.
pub(super) fn with_expiry(line: &str, expires: Expiry) -> Option<String> {
    let line = line.trim_ascii();
    let begins_word = |at: &usize| line[..*at].ends_with([' ', '\t']);
    let comment = line.match_indices('#').map(|(at, _)| at).find(begins_word);
    let (fields, comment) = line.split_at(comment.unwrap_or(line.len()));
    let start = fields.match_indices("expires=").map(|(at, _)| at).find(begins_word)?;
    let end = fields[start..].find([' ', '\t']).map_or(fields.len(), |length| start + length);
    Some(format!("{}expires={expires}{}{comment}", &fields[..start], &fields[end..]))
}

impl fmt::Display for DeployToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, digest, may, repositories, expires, created, by, user, comment } = self;
        write!(
            f,
            "{name} sha256={digest} may={} repositories={} expires={expires}",
            Joined(may),
            Joined(repositories)
        )?;
        if let Some(created) = created {
            write!(f, " created={created}")?;
        }
        if let Some(by) = by {
            write!(f, " by={by}")?;
        }
        if let Some(user) = user {
            write!(f, " user={user}")?;
        }
        if let Some(comment) = comment {
            write!(f, " # {comment}")?;
        }
        Ok(())
    }
}

/// Values with commas between them.
#[derive(Debug)]
pub struct Joined<'a, T>(pub &'a [T]);

impl<T: fmt::Display> fmt::Display for Joined<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, value) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{value}")?;
        }
        Ok(())
    }
}

impl Word {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Word {
    type Err = InvalidWord;

    fn from_str(text: &str) -> Result<Self, InvalidWord> {
        let is_unusable = |c: char| c.is_whitespace() || c.is_control() || c == '#';
        if text.is_empty() || text.contains(is_unusable) {
            return Err(InvalidWord);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<&UserName> for Word {
    type Error = InvalidWord;

    fn try_from(name: &UserName) -> Result<Self, InvalidWord> {
        name.as_str().parse()
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*, sample::select};

    use super::*;

    const DIGEST: &str = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";

    fn line(rest: &str) -> String {
        format!("ci sha256={DIGEST} may=push repositories=team-a/** expires=never{rest}")
    }

    fn error(line: &str) -> String {
        line.parse::<DeployToken>().unwrap_err().to_string()
    }

    #[test]
    fn line_of_the_documentation_is_read() {
        let text = format!(
            "ci-team-a sha256={DIGEST} may=push,delete repositories=team-a/**,base/go \
             expires=2027-02-24 created=2026-11-26 by=root user=ann # the nightly build"
        );
        let token: DeployToken = text.parse().unwrap();
        assert_eq!(token.name.as_str(), "ci-team-a");
        assert_eq!(token.may, [May::Push, May::Delete]);
        assert_eq!(Joined(&token.repositories).to_string(), "team-a/**,base/go");
        assert_eq!(token.user.as_ref().unwrap().as_str(), "ann");
        assert_eq!(token.comment.as_deref(), Some("the nightly build"));
        assert_eq!(token.to_string(), text);
        let grant = token.grant();
        assert_eq!((grant.may, grant.user.as_deref()), (token.may, Some("ann")));
        // White space is free, and so is the order of the fields.
        let other = format!("\tci  expires=never\tmay=pull repositories=** sha256={DIGEST}   #c");
        assert_eq!(other.parse::<DeployToken>().unwrap().comment.as_deref(), Some("c"));
    }

    #[test]
    fn what_is_missing_unknown_or_twice_makes_a_line_unusable() {
        for key in ["sha256", "may", "repositories", "expires"] {
            let without: Vec<_> = line("")
                .split(' ')
                .filter(|word| !word.starts_with(key))
                .map(str::to_owned)
                .collect();
            let error = error(&without.join(" "));
            assert!(error.starts_with(&format!("{key} is missing")), "{error}");
        }
        assert_eq!(error(&line(" may=pull")), "may is there twice");
        for (rest, expected) in [
            (" usr=ann", "there is no field \"usr\""),
            (" from=10.0.0.0/8", "there is no field \"from\""),
            (" push", "a word is no field"),
            (" PCL=x", "a word is no field"),
            (" user=", "user: it is empty"),
            (" created=yesterday", "created: expected a date"),
            (" created=20261126", "created: expected a date"),
        ] {
            let error = error(&line(rest));
            assert!(error.starts_with(expected), "{error}");
        }
        for (from, to, expected) in [
            ("may=push", "may=", "may: expected pull"),
            ("may=push", "may=push,", "may: expected pull"),
            ("may=push", "may=Push", "may: expected pull"),
            ("=team-a/**", "=", "repositories: no repository has an empty part"),
            ("=team-a/**", "=team-a/**,", "repositories: no repository has an empty part"),
            ("=team-a/**", "=Team", "repositories: no repository has a 'T'"),
            ("expires=never", "expires=90d", "expires: expected a date"),
            (DIGEST, "x", "sha256: not a SHA-256"),
            (DIGEST, &format!("{DIGEST}="), "sha256: not a SHA-256"),
            ("ci ", "CI ", "the name of a token has lower-case letters"),
        ] {
            let error = error(&line("").replacen(from, to, 1));
            assert!(error.starts_with(expected), "{to}: {error}");
        }
    }

    #[test]
    fn no_error_repeats_a_value() {
        let secret = "pcl_SECRETSECRETSECRETSECRETSECRETSECRET";
        for wrong in [
            secret.to_owned(),
            format!("{secret} may=push"),
            format!("ci {secret}"),
            line("").replace(DIGEST, secret),
            line("").replace("=push", &format!("={secret}")),
            line("").replace("never", secret),
            line(&format!(" created={secret}")),
        ] {
            let error = error(&wrong);
            assert!(!error.contains("SECRET"), "{error}");
        }
    }

    #[test]
    fn another_expiry_changes_nothing_else() {
        let until: Expiry = "2027-02-24T12:00:00Z".parse().unwrap();
        for (before, after) in [
            (
                "ci  expires=never\tmay=x # expires=1",
                "ci  expires=2027-02-24T12:00:00Z\tmay=x # expires=1",
            ),
            ("ci may=x expires=never", "ci may=x expires=2027-02-24T12:00:00Z"),
        ] {
            assert_eq!(with_expiry(before, until).as_deref(), Some(after));
        }
        for without in ["ci may=x", "ci xexpires=1", "ci may=x # expires=never"] {
            assert_eq!(with_expiry(without, until), None, "{without}");
        }
    }

    fn tokens() -> impl Strategy<Value = DeployToken> {
        let word = || option::of("[a-z0-9=,$:é]{1,12}".prop_map(|text| text.parse().unwrap()));
        let date = || {
            (1..=9998_i16, 1..=12_i8, 1..=28_i8).prop_map(|(y, m, d)| Date::new(y, m, d).unwrap())
        };
        let expiry = prop_oneof![
            Just(Expiry::Never),
            date().prop_map(Expiry::EndOf),
            (0..200_000_000_000_i64)
                .prop_map(|second| Expiry::At(jiff::Timestamp::from_second(second).unwrap())),
        ];
        let glob =
            "[a-z][a-z*?]{0,4}(/[a-z*]{1,5}){0,2}".prop_map(|glob| Glob::try_from(glob).unwrap());
        let names = ("[a-z0-9][a-z0-9._-]{0,20}", any::<[u8; 32]>());
        let rights = (
            vec(select(&[May::Pull, May::Create, May::Push, May::Delete, May::All][..]), 1..4),
            vec(glob, 1..4),
        );
        let comment = option::of("[!-~]([ -~]{0,20}[!-~])?");
        (names, rights, expiry, option::of(date()), (word(), word()), comment).prop_map(
            |((name, digest), (may, repositories), expires, created, (by, user), comment)| {
                DeployToken {
                    name: name.parse().unwrap(),
                    digest: SecretDigest::from(digest),
                    may,
                    repositories,
                    expires,
                    created,
                    by,
                    user,
                    comment,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn lines_are_read_as_they_were_written(token in tokens()) {
            let line = token.to_string();
            prop_assert_eq!(&line.parse::<DeployToken>().unwrap(), &token);
            prop_assert_eq!(name_in(&line), Some(token.name.as_str()));
            let moved = with_expiry(&line, Expiry::Never).unwrap();
            let expected = DeployToken { expires: Expiry::Never, ..token };
            prop_assert_eq!(moved.parse::<DeployToken>().unwrap(), expected);
        }

        #[test]
        fn any_text_is_a_line_or_not(text in "[ -~\t#=é]{0,80}") {
            if let Ok(token) = text.parse::<DeployToken>() {
                prop_assert_eq!(token.to_string().parse::<DeployToken>().unwrap(), token);
            }
        }
    }
}
