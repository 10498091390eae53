//! Groups of users, from a file in the form of Apache's `AuthGroupFile`.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use crate::oci::is_component;

/// The groups of a file.
#[derive(Clone, Debug, Default)]
pub struct Groups(Arc<Parsed>);

#[derive(Debug, Default)]
struct Parsed {
    /// The names of all groups, those without members too.
    names: HashSet<Arc<str>>,
    /// The groups of all users, those of a user side by side in the order of the file.
    memberships: Box<[Membership]>,
    /// Where in `memberships` those of each user are.
    of_users: HashMap<Box<str>, Range<usize>>,
}

/// A group that a user is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    group: Arc<str>,
    is_component: bool,
    line: usize,
}

impl Membership {
    /// The name of the group.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The line of the file that says so, from 1.
    #[must_use]
    pub const fn line(&self) -> usize {
        self.line
    }

    /// Whether the group's name can be a component of a repository's name.
    pub(super) const fn is_component(&self) -> bool {
        self.is_component
    }
}

impl Groups {
    /// Parses a file of lines `GROUP: USER USER …`. A group may have several lines; a line that begins
    /// with `#` is a comment; a name with spaces stands in quotes.
    ///
    /// # Errors
    ///
    /// When a line is not of this form, or not UTF-8: then no line is used.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidGroups> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut names = HashSet::new();
        let mut members = Vec::new();
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line_number = index + 1;
            let failed = |why| InvalidGroups { line: line_number, why };
            let text = str::from_utf8(line).map_err(|_| failed(Why::Encoding))?.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            if text.contains(|character: char| character.is_control() && character != '\t') {
                return Err(failed(Why::Control));
            }
            let (group, users) = text.split_once(':').ok_or_else(|| failed(Why::NoColon))?;
            let group = group.trim_end();
            if group.is_empty() || group.contains(char::is_whitespace) {
                return Err(failed(Why::Name(group.to_owned())));
            }
            let group = match names.get(group) {
                Some(name) => Arc::clone(name),
                None => Arc::from(group),
            };
            let is_component = is_component(&group);
            names.insert(Arc::clone(&group));
            let membership = Membership { group, is_component, line: line_number };
            let mut rest = users.trim_start();
            while !rest.is_empty() {
                let (user, behind) = word(rest).map_err(failed)?;
                members.push(Member { user, membership: membership.clone() });
                rest = behind.trim_start();
            }
        }
        Ok(Self(Arc::new(Parsed::new(names, members))))
    }

    /// The groups that a user is in.
    #[must_use]
    pub fn of(&self, user: &str) -> &[Membership] {
        self.0.of_users.get(user).map_or(&[], |place| &self.0.memberships[place.clone()])
    }

    /// Whether a line defines the group.
    #[must_use]
    pub fn has(&self, group: &str) -> bool {
        self.0.names.contains(group)
    }

    /// All users that are in a group, in the order of their names.
    #[must_use]
    pub fn users(&self) -> Vec<&str> {
        let mut users: Vec<_> = self.0.of_users.keys().map(|user| &**user).collect();
        users.sort_unstable();
        users
    }

    /// How many groups there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.names.len()
    }

    /// Whether there is no group.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.names.is_empty()
    }
}

/// A user of a line.
struct Member<'a> {
    user: &'a str,
    membership: Membership,
}

impl Parsed {
    /// These groups, in which a user is once, however often the file says so.
    fn new(names: HashSet<Arc<str>>, mut members: Vec<Member<'_>>) -> Self {
        // Members stay in the order of the file, since the sort is stable.
        members.sort_by_key(|member| member.user);
        let mut memberships: Vec<Membership> = Vec::with_capacity(members.len());
        let mut of_users = HashMap::new();
        let mut start = 0;
        for of_user in members.chunk_by(|one, next| one.user == next.user) {
            for Member { membership, .. } in of_user {
                let known = &memberships[start..];
                if !known.iter().any(|known| known.group == membership.group) {
                    memberships.push(membership.clone());
                }
            }
            of_users.insert(of_user[0].user.into(), start..memberships.len());
            start = memberships.len();
        }
        of_users.shrink_to_fit();
        Self { names, memberships: memberships.into(), of_users }
    }
}

/// The word at the beginning of a text, without its quotes, and the rest.
fn word(text: &str) -> Result<(&str, &str), Why> {
    for quote in ['"', '\''] {
        if let Some(text) = text.strip_prefix(quote) {
            return text.split_once(quote).ok_or(Why::Quote);
        }
    }
    Ok(text.split_at(text.find(char::is_whitespace).unwrap_or(text.len())))
}

/// The error of a file that is no group file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct InvalidGroups {
    /// The line, from 1.
    pub line: usize,
    why: Why,
}

/// The error of a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Why {
    /// It is not UTF-8.
    #[error("this is not UTF-8; save the file as UTF-8")]
    Encoding,
    /// It has a control character, which no user's name has.
    #[error("there is a control character; remove it")]
    Control,
    /// It has no colon.
    #[error("there is no colon; write a group in the form `GROUP: USER USER`")]
    NoColon,
    /// There is no name before the colon, or one with spaces.
    #[error("{0:?} is no name of a group; write it without spaces, in the form `GROUP: USER USER`")]
    Name(String),
    /// A quote is not closed.
    #[error("a quote is not closed")]
    Quote,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups_of(groups: &Groups, user: &str) -> Vec<(String, usize)> {
        let of = groups.of(user).iter();
        of.map(|membership| (membership.group().to_owned(), membership.line())).collect()
    }

    #[test]
    fn lines_of_one_group_add_up() {
        let text =
            "\u{feff}# people\n\nteam-a: ann  bob\r\nadmins : root\nteam-a: cyd ann\nempty:\n";
        let groups = Groups::parse(text.as_bytes()).unwrap();
        let team = |line| ("team-a".to_owned(), line);
        assert_eq!(groups_of(&groups, "ann"), [team(3)]);
        assert_eq!(groups_of(&groups, "cyd"), [team(5)]);
        assert_eq!(groups_of(&groups, "root"), [("admins".to_owned(), 4)]);
        assert_eq!(groups_of(&groups, "nobody"), []);
        assert!(groups.has("empty") && !groups.has("ann"));
        assert_eq!(groups.users(), ["ann", "bob", "cyd", "root"]);
        assert_eq!(groups.len(), 3);
    }

    #[test]
    fn name_with_spaces_stands_in_quotes() {
        let groups = Groups::parse(b"a: \"Ann B\" 'c d' e").unwrap();
        assert_eq!(groups.users(), ["Ann B", "c d", "e"]);
    }

    #[test]
    fn line_of_another_form_refuses_the_file() {
        for (text, line, message) in [
            ("a: b\nteam-a ann bob", 2, "no colon"),
            (": ann", 1, "no name of a group"),
            ("team a: ann", 1, "no name of a group"),
            ("a: \"ann", 1, "quote"),
            ("a: an\u{1b}n", 1, "control character"),
        ] {
            let error = Groups::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.line, line, "{text}");
            assert!(error.to_string().contains(message), "{error}");
        }
        assert!(Groups::parse(b"a: \xff").unwrap_err().to_string().contains("UTF-8"));
        assert!(Groups::parse(b"").unwrap().is_empty());
    }
}
