//! What a token of an issuer covers: its claim `access`, by registry:2's rules.

use serde::Deserialize;

use crate::{gate::Right, oci::RepositoryName};

/// The most entries of the claim that count.
const MAX_ENTRIES: usize = 256;

const PULL: u8 = 0b001;
const PUSH: u8 = 0b010;
const DELETE: u8 = 0b100;

/// An entry of the claim `access`.
#[derive(Deserialize)]
pub(super) struct Entry {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    #[serde(default)]
    actions: Option<Vec<String>>,
}

/// What a token covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Covered {
    /// Whether it covers lists of repositories: `registry:catalog:*`.
    lists: bool,
    /// Repositories with the bits of their actions.
    repositories: Vec<(RepositoryName, u8)>,
}

impl Covered {
    /// What these entries cover together. An entry of an unknown type, and one that names no repository,
    /// covers nothing.
    pub(super) fn by(entries: &[Entry]) -> Self {
        let mut covered = Self::default();
        for Entry { kind, name, actions } in entries.iter().take(MAX_ENTRIES) {
            let actions = actions.as_deref().unwrap_or_default();
            if kind == "registry" && name == "catalog" {
                covered.lists |= actions.iter().any(|action| action == "*");
            } else if kind == "repository"
                && let Ok(name) = name.parse()
            {
                covered.repositories.push((name, actions.iter().map(bits).fold(0, |a, b| a | b)));
            }
        }
        covered
    }

    /// Whether the token has every action that the right takes: pushing takes pull as well, deleting does
    /// not.
    #[must_use]
    pub fn covers(&self, right: &Right<'_>) -> bool {
        let (name, needed) = match right {
            Right::List => return self.lists,
            // No token names all repositories.
            Right::PullAll => return false,
            Right::Pull(name) => (name, PULL),
            Right::Create(name) | Right::Push(name) => (name, PULL | PUSH),
            Right::Delete(name) => (name, DELETE),
        };
        let entries = self.repositories.iter().filter(|(of, _)| of == *name);
        entries.fold(0, |all, (_, bits)| all | bits) & needed == needed
    }
}

fn bits(action: &String) -> u8 {
    match &**action {
        "pull" => PULL,
        "push" => PUSH,
        "delete" => DELETE,
        "*" => PULL | PUSH | DELETE,
        _ => 0,
    }
}

/// The scope that a client has to ask the token server for, as registry:2 writes it.
#[must_use]
pub fn scope(right: &Right<'_>) -> Option<String> {
    match right {
        Right::List => Some("registry:catalog:*".to_owned()),
        Right::PullAll => None,
        Right::Pull(name) => Some(format!("repository:{name}:pull")),
        Right::Create(name) | Right::Push(name) => Some(format!("repository:{name}:pull,push")),
        Right::Delete(name) => Some(format!("repository:{name}:delete")),
    }
}
