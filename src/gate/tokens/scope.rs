//! Scopes: what a client asks a token for, and what a token covers
//! (the distribution project's "Token Scope Documentation").

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    gate::{Ceiling, May, Right, Scope},
    oci::RepositoryName,
};

/// How many repositories a token covers at most, and how many bytes their names may have together:
/// clients send a token in a header, which is limited. `docker push` asks for one repository, and for
/// one more where it mounts blobs.
const MAX_REPOSITORIES: usize = 32;
const MAX_NAMES: usize = 2048;

/// The words of scopes for rights on a repository, in the order in which a token has them.
const ACTIONS: [(&str, May); 3] =
    [("pull", May::Pull), ("push", May::Push), ("delete", May::Delete)];

/// An entry of a token's claim `access`.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Access<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    actions: Vec<Cow<'a, str>>,
}

/// The scopes in the values of the parameter `scope`, each of which may hold several, separated by
/// spaces. A scope that cannot be read is left out, as an unknown action is: the client gets a token for
/// the others. `registry:catalog:*` is left out too, since every token covers the lists. The actions of a
/// repository that is named twice add up.
#[must_use]
pub fn scopes<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<Scope> {
    let mut scopes: Vec<Scope> = Vec::new();
    let mut bytes = 0;
    for scope in values.into_iter().flat_map(|value| value.split(' ')).filter_map(parse) {
        if let Some(before) = scopes.iter_mut().find(|one| one.repository == scope.repository) {
            scope.actions.into_iter().for_each(|action| add(&mut before.actions, action));
            continue;
        }
        bytes += scope.repository.as_str().len();
        if bytes > MAX_NAMES || scopes.len() == MAX_REPOSITORIES {
            break;
        }
        scopes.push(scope);
    }
    scopes
}

fn parse(text: &str) -> Option<Scope> {
    let (kind, rest) = text.split_once(':')?;
    let (name, words) = rest.rsplit_once(':')?;
    // A class may follow the type in parentheses; it was for plugins.
    if kind.split('(').next()? != "repository" {
        return None;
    }
    Some(Scope { repository: name.parse().ok()?, actions: actions(words.split(',')) })
}

fn actions<'a>(words: impl Iterator<Item = &'a str>) -> Vec<May> {
    let mut all = Vec::new();
    for word in words {
        for (of, may) in ACTIONS {
            if word == of || word == "*" {
                add(&mut all, may);
            }
        }
    }
    all
}

/// Adds an action at its place: scopes that cover the same are equal.
fn add(actions: &mut Vec<May>, action: May) {
    if let Err(place) = actions.binary_search(&action) {
        actions.insert(place, action);
    }
}

/// The rights of a scope that a caller has, by `has`. The word `push` covers adding tags as well as moving
/// them, so a caller who has one of the two rights gets it.
pub(in crate::gate) fn granted(asked: Vec<Scope>, has: impl Fn(&Right<'_>) -> bool) -> Vec<Scope> {
    let of = |Scope { repository: name, actions }: Scope| {
        let may = |action: &May| match action {
            May::Push | May::Create => has(&Right::Create(&name)) || has(&Right::Push(&name)),
            May::Delete => has(&Right::Delete(&name)),
            May::Pull | May::All => has(&Right::Pull(&name)),
        };
        let actions: Vec<_> = actions.into_iter().filter(may).collect();
        (!actions.is_empty()).then_some(Scope { repository: name, actions })
    };
    asked.into_iter().filter_map(of).collect()
}

/// The entry of a token that covers a scope.
pub(super) fn access(scope: &Scope) -> Access<'_> {
    Access {
        kind: "repository".into(),
        name: scope.repository.as_str().into(),
        actions: words(&scope.actions).map(Cow::from).collect(),
    }
}

/// What the entries of a token cover.
pub(super) fn ceiling(access: &[Access<'_>]) -> Ceiling {
    let scope = |entry: &Access<'_>| {
        let actions = actions(entry.actions.iter().map(AsRef::as_ref));
        Some(Scope { repository: entry.name.parse().ok()?, actions })
    };
    let repositories = access.iter().filter(|entry| entry.kind == "repository");
    Ceiling::Session(repositories.filter_map(scope).collect())
}

fn words(actions: &[May]) -> impl Iterator<Item = &'static str> {
    ACTIONS.into_iter().filter(|(_, may)| actions.contains(may)).map(|(word, _)| word)
}

impl Scope {
    /// The scope that a client has to ask for where it lacks a right; `None` for lists, which every
    /// token covers.
    #[must_use]
    pub fn of(right: &Right<'_>) -> Option<Self> {
        Some(Self::needed(right.repository()?.clone(), right.may()))
    }

    /// The scope that a client has to ask for to do something in a repository.
    #[must_use]
    pub fn needed(repository: RepositoryName, may: May) -> Self {
        let actions = match may {
            May::Pull => vec![May::Pull],
            May::Create | May::Push => vec![May::Pull, May::Push],
            May::Delete => vec![May::Pull, May::Delete],
            May::All => vec![May::Pull, May::Push, May::Delete],
        };
        Self { repository, actions }
    }
}

/// As clients write it: `repository:team/app:pull,push`.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "repository:{}:", self.repository)?;
        for (at, word) in words(&self.actions).enumerate() {
            write!(f, "{}{word}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(values: &[&str]) -> String {
        let scopes = scopes(values.iter().copied());
        scopes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    fn ceiling_of(text: &str) -> Ceiling {
        let scopes = scopes([text]);
        ceiling(&scopes.iter().map(access).collect::<Vec<_>>())
    }

    #[test]
    fn scopes_of_clients_are_read_and_add_up() {
        for (values, expected) in [
            (&["repository:a/b:pull"][..], "repository:a/b:pull"),
            // docker, as it pushes.
            (&["repository:a/b:push,pull"], "repository:a/b:pull,push"),
            // containerd, as it mounts.
            (
                &["repository:a:pull repository:b:pull,push"],
                "repository:a:pull repository:b:pull,push",
            ),
            (&["repository:a:pull", "repository:a:push"], "repository:a:pull,push"),
            (&["repository:a:*"], "repository:a:pull,push,delete"),
            (&["repository(plugin):a:pull"], "repository:a:pull"),
            (&["registry:catalog:*"], ""),
            (&["repository:a:pull,fly,pull"], "repository:a:pull"),
            (&["repository:a:fly"], "repository:a:"),
        ] {
            assert_eq!(shown(values), expected, "{values:?}");
        }
    }

    #[test]
    fn scope_that_cannot_be_read_is_left_out() {
        for text in [
            "",
            " ",
            ":",
            "::",
            "pull",
            "repository",
            "repository:a",
            "repository::pull",
            "repository:A:pull",
            "repository:a/../b:pull",
            "repository:host:5000/a:pull",
            "registry:metrics:*",
            "artifact:a:pull",
            "(repository):a:pull",
        ] {
            assert_eq!(shown(&[text]), "", "{text:?}");
            assert_eq!(shown(&[text, "repository:a:pull"]), "repository:a:pull", "{text:?}");
        }
    }

    #[test]
    fn repositories_of_a_token_are_bounded() {
        let many: Vec<_> = (0..100).map(|n| format!("repository:a{n}:pull")).collect();
        assert_eq!(scopes(many.iter().map(String::as_str)).len(), MAX_REPOSITORIES);
        let long = |n| format!("repository:{}{n}:pull", "a".repeat(200));
        let long: Vec<_> = (10..42).map(long).collect();
        assert_eq!(scopes(long.iter().map(String::as_str)).len(), 10);
    }

    #[test]
    fn token_covers_what_its_scopes_name_and_the_lists() {
        let [a, b] = ["a", "b"].map(|name| name.parse::<RepositoryName>().unwrap());
        let ceiling = ceiling_of("repository:a:pull,push registry:catalog:*");
        for (right, is_covered) in [
            (Right::List, true),
            (Right::PullAll, false),
            (Right::Pull(&a), true),
            (Right::Create(&a), true),
            (Right::Push(&a), true),
            (Right::Delete(&a), false),
            (Right::Pull(&b), false),
            (Right::Push(&b), false),
        ] {
            assert_eq!(ceiling.covers(&right), is_covered, "{right:?}");
            assert_eq!(Ceiling::default().covers(&right), right == Right::List, "{right:?}");
        }
    }

    #[test]
    fn token_is_granted_what_was_asked_and_the_caller_may() {
        let granted = |asked: &str, has: &[&str]| {
            let has = |right: &Right<'_>| has.contains(&&*right.to_string());
            let granted = granted(scopes([asked]), has);
            granted.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        let all = &["pull a", "push to a", "delete from a"][..];
        for (asked, has, expected) in [
            ("repository:a:pull,push", all, "repository:a:pull,push"),
            ("repository:a:pull,push", &["pull a"], "repository:a:pull"),
            ("repository:a:*", all, "repository:a:pull,push,delete"),
            ("repository:a:*", &["pull a", "delete from a"], "repository:a:pull,delete"),
            ("repository:b:pull repository:a:pull", all, "repository:a:pull"),
            ("repository:b:pull", all, ""),
        ] {
            assert_eq!(granted(asked, has), expected, "{asked}");
        }
    }

    #[test]
    fn scope_of_a_right_covers_it() {
        let a: RepositoryName = "a".parse().unwrap();
        for right in [Right::Pull(&a), Right::Create(&a), Right::Push(&a), Right::Delete(&a)] {
            let scope = Scope::of(&right).unwrap().to_string();
            assert!(ceiling_of(&scope).covers(&right), "{scope}");
        }
        assert_eq!((Scope::of(&Right::List), Scope::of(&Right::PullAll)), (None, None));
    }

    proptest! {
        #[test]
        fn any_text_is_scopes_or_none(text in "(repository:)?[a-z:,*() /.]{0,60}") {
            for scope in scopes([&*text]) {
                let again = scope.to_string();
                prop_assert_eq!(scopes([&*again]), [scope], "{}", text);
            }
        }
    }
}
