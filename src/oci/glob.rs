//! Patterns for names of repositories.
//!
//! `*` is any text without a `/`, `**` any text, `?` any character but `/`. Other characters stand for
//! themselves, and the whole name has to match. A pattern may have variables such as `{user}`, whose
//! values are given when a name is compared.

use std::fmt;

use serde::Deserialize;

use super::name::{MAX_LEN, RepositoryName, is_component};

/// A pattern for names of repositories.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Glob {
    written: String,
    pieces: Box<[Piece]>,
}

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// This text.
    Text(Box<str>),
    /// `?`: a character but `/`.
    One,
    /// `*`: any text without a `/`.
    Star,
    /// `**`: any text.
    Any,
    /// The value of the variable with this index.
    Variable(usize),
}

impl Glob {
    /// Parses a pattern in which `{NAME}` stands for the value of a variable. `variables` are the
    /// names; their values have the same order in [`matches_with`](Self::matches_with).
    ///
    /// # Errors
    ///
    /// When no name can match: an operator who writes `[ab]` or `{a,b}` expects a syntax that a
    /// pattern does not have.
    pub fn with_variables(written: &str, variables: &[&str]) -> Result<Self, InvalidGlob> {
        if written.len() > MAX_LEN {
            return Err(InvalidGlob::TooLong);
        }
        if written.split('/').any(str::is_empty) {
            return Err(InvalidGlob::Empty);
        }
        let mut pieces = Vec::new();
        let mut rest = written;
        while let Some(character) = rest.chars().next() {
            let (piece, length) = match character {
                '*' if rest.starts_with("**") => (Piece::Any, 2),
                '*' => (Piece::Star, 1),
                '?' => (Piece::One, 1),
                '{' => variable(rest, variables)?,
                character if is_of_name(character) => {
                    let length = rest.find(|c| !is_of_name(c)).unwrap_or(rest.len());
                    (Piece::Text(rest[..length].into()), length)
                }
                other => return Err(InvalidGlob::Character(other)),
            };
            pieces.push(piece);
            rest = &rest[length..];
        }
        Ok(Self { written: written.to_owned(), pieces: pieces.into() })
    }

    /// Parses a pattern as [`with_variables`](Self::with_variables) does, for callers that refuse one with a
    /// part that no name has.
    ///
    /// # Errors
    ///
    /// When no name can match, as far as the text shows it.
    pub fn of_names(written: &str, variables: &[&str]) -> Result<Self, InvalidPattern> {
        let glob = Self::with_variables(written, variables)?;
        match glob.impossible_component() {
            Some(component) => Err(InvalidPattern::Component(component.to_owned())),
            None => Ok(glob),
        }
    }

    /// Whether the name matches.
    #[must_use]
    pub fn matches(&self, name: &RepositoryName) -> bool {
        self.matches_with(name, &[])
    }

    /// Whether the name matches with these values of the variables. A variable without a value
    /// matches nothing.
    #[must_use]
    pub fn matches_with(&self, name: &RepositoryName, values: &[&str]) -> bool {
        matches(&self.pieces, name.as_str(), values)
    }

    /// Whether every name matches.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        matches!(*self.pieces, [Piece::Any])
    }

    /// Whether the variable with this index is in the pattern.
    #[must_use]
    pub fn has_variable(&self, index: usize) -> bool {
        self.pieces.contains(&Piece::Variable(index))
    }

    /// The text that every matching name begins with, with these values of the variables.
    #[must_use]
    pub fn prefix(&self, values: &[&str]) -> String {
        let mut prefix = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => prefix.push_str(text),
                Piece::Variable(index) => match values.get(*index) {
                    Some(value) => prefix.push_str(value),
                    None => break,
                },
                Piece::One | Piece::Star | Piece::Any => break,
            }
        }
        prefix
    }

    /// The first component of every matching name; `None` where names with several match.
    #[must_use]
    pub fn first_component(&self) -> Option<&str> {
        match &*self.pieces {
            [Piece::Text(text)] => text.split('/').next(),
            [Piece::Text(text), ..] => text.split_once('/').map(|(component, _)| component),
            _ => None,
        }
    }

    /// Whether every name that matches `other` matches this pattern too. May miss that it does;
    /// never says so wrongly.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        if self.pieces == other.pieces {
            return true;
        }
        match &*self.pieces {
            [Piece::Any] => true,
            [Piece::Text(prefix), Piece::Any] => {
                other.written.strip_prefix(&**prefix).is_some_and(|rest| !rest.is_empty())
            }
            pieces => match &*other.pieces {
                [Piece::Text(text)] => matches(pieces, text, &[]),
                _ => false,
            },
        }
    }

    /// A part between two `/` that no name has, such as `_layers` or `a..b`; `None` where each part
    /// without wildcards can be one of a name.
    #[must_use]
    pub fn impossible_component(&self) -> Option<&str> {
        let is_literal = |part: &&str| part.chars().all(is_of_name);
        self.written.split('/').filter(is_literal).find(|part| !is_component(part))
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl TryFrom<String> for Glob {
    type Error = InvalidGlob;

    fn try_from(written: String) -> Result<Self, InvalidGlob> {
        Self::with_variables(&written, &[])
    }
}

/// The error of a pattern that [`Glob::of_names`] refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// The glob is invalid.
    #[error(transparent)]
    Glob(#[from] InvalidGlob),
    /// No name has this part between two `/`.
    #[error(
        "no repository has {0:?} in its name: each part is made of lower-case letters and digits, \
         joined by `.`, `_`, `__` or `-`"
    )]
    Component(String),
}

/// The error of a pattern that matches no repository.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGlob {
    /// A character that no name has.
    #[error(
        "no repository has a {0:?} in its name; `*` is any text without a `/`, `**` any text, `?` \
         any character but `/`"
    )]
    Character(char),
    /// It begins or ends with `/`, or has two slashes in a row.
    #[error("no repository has an empty part in its name: remove the `/` that is too many")]
    Empty,
    /// It is longer than a name can be.
    #[error("it is too long: a repository name has at most 255 characters")]
    TooLong,
    /// `{…}` names no variable.
    #[error("`{{{written}}}` stands for nothing here; {known}")]
    Variable {
        /// The text between the braces.
        written: String,
        /// The variables in words.
        known: String,
    },
}

/// Whether a name may have the character.
const fn is_of_name(character: char) -> bool {
    matches!(character, 'a'..='z' | '0'..='9' | '.' | '_' | '-' | '/')
}

/// The variable that `rest` begins with, and the length of its name with the braces.
fn variable(rest: &str, variables: &[&str]) -> Result<(Piece, usize), InvalidGlob> {
    if variables.is_empty() {
        return Err(InvalidGlob::Character('{'));
    }
    let written = rest[1..].split_once('}').map_or(&rest[1..], |(written, _)| written);
    match variables.iter().position(|name| *name == written) {
        Some(index) if rest.len() >= written.len() + 2 => {
            Ok((Piece::Variable(index), written.len() + 2))
        }
        _ => {
            let known: Vec<_> = variables.iter().map(|name| format!("`{{{name}}}`")).collect();
            let known = format!("{} can be there", known.join(" and "));
            Err(InvalidGlob::Variable { written: written.to_owned(), known })
        }
    }
}

/// A place to go on from after a mismatch: the pieces behind a wildcard, and where it ends in the name.
#[derive(Clone, Copy)]
struct Retry {
    piece: usize,
    at: usize,
}

/// Compares a name with a pattern. After a mismatch only the last `*` takes one more character, and
/// when it cannot, the last `**`: an earlier wildcard that took more would leave less to these.
fn matches(pieces: &[Piece], name: &str, values: &[&str]) -> bool {
    let name = name.as_bytes();
    let text =
        |at: usize, text: &str| name[at..].starts_with(text.as_bytes()).then_some(at + text.len());
    let mut star: Option<Retry> = None;
    let mut any: Option<Retry> = None;
    let mut piece = 0;
    let mut at = 0;
    loop {
        let next = match pieces.get(piece) {
            None if at == name.len() => return true,
            None => None,
            Some(Piece::Any) if piece + 1 == pieces.len() => return true,
            Some(Piece::Any) => {
                any = Some(Retry { piece: piece + 1, at });
                star = None;
                Some(at)
            }
            Some(Piece::Star) => {
                star = Some(Retry { piece: piece + 1, at });
                Some(at)
            }
            Some(Piece::One) => name.get(at).filter(|byte| **byte != b'/').map(|_| at + 1),
            Some(Piece::Text(literal)) => text(at, literal),
            Some(Piece::Variable(index)) => values.get(*index).and_then(|value| text(at, value)),
        };
        if let Some(next) = next {
            at = next;
            piece += 1;
            continue;
        }
        if let Some(retry) = &mut star
            && name.get(retry.at).is_some_and(|byte| *byte != b'/')
        {
            retry.at += 1;
            Retry { piece, at } = *retry;
        } else if let Some(retry) = &mut any
            && retry.at < name.len()
        {
            retry.at += 1;
            star = None;
            Retry { piece, at } = *retry;
        } else {
            return false;
        }
    }
}

#[cfg(test)]
mod tests;
