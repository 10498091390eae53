//! What a deploy token gives, and what a session token covers.

use std::sync::Arc;

use super::{May, Right, issuer::Covered};
use crate::oci::{Glob, RepositoryName};

/// The rights in the line of a deploy token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What the token may do...
    pub may: Vec<May>,
    /// ...in repositories that match one of these.
    pub repositories: Vec<Glob>,
    /// The user whose rights of the moment bound those of the token; `None`: nothing does.
    pub user: Option<Arc<str>>,
}

impl Grant {
    /// Whether the line has the right. Lists are for every caller with a name.
    #[must_use]
    pub fn gives(&self, right: &Right<'_>) -> bool {
        let may = self.may.iter().any(|may| may.includes(right.may()));
        match right {
            Right::List => true,
            Right::PullAll => may && self.repositories.iter().any(Glob::is_everything),
            Right::Pull(name) | Right::Create(name) | Right::Push(name) | Right::Delete(name) => {
                may && self.repositories.iter().any(|glob| glob.matches(name))
            }
        }
    }
}

/// What a token covers. The rights of the caller are looked up all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ceiling {
    /// Of a session token: the repositories that the client asked for, with the actions.
    Session(Vec<Scope>),
    /// Of a token of an external issuer.
    Issued(Covered),
}

impl Default for Ceiling {
    /// A session token that covers no repository.
    fn default() -> Self {
        Self::Session(Vec::new())
    }
}

/// A repository that a session token covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The repository.
    pub repository: RepositoryName,
    /// The actions: pull, push or delete.
    pub actions: Vec<May>,
}

impl Ceiling {
    /// Whether the token covers the right. Every session token covers lists, which show what the caller may
    /// pull, and none covers all repositories.
    #[must_use]
    pub fn covers(&self, right: &Right<'_>) -> bool {
        let scopes = match self {
            Self::Session(scopes) => scopes,
            Self::Issued(covered) => return covered.covers(right),
        };
        match right {
            Right::List => true,
            Right::PullAll => false,
            Right::Pull(name) | Right::Create(name) | Right::Push(name) | Right::Delete(name) => {
                scopes.iter().any(|scope| {
                    scope.repository == **name
                        && scope.actions.iter().any(|action| action.includes(right.may()))
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grant_gives_its_words_in_its_repositories() {
        let grant = Grant {
            may: vec![May::Create],
            repositories: vec!["team-a/**".to_owned().try_into().unwrap()],
            user: None,
        };
        let app = "team-a/app".parse().unwrap();
        let other = "team-b/app".parse().unwrap();
        assert!(grant.gives(&Right::Pull(&app)) && grant.gives(&Right::Create(&app)));
        assert!(grant.gives(&Right::List));
        for denied in [Right::Push(&app), Right::Delete(&app), Right::Pull(&other), Right::PullAll]
        {
            assert!(!grant.gives(&denied), "{denied}");
        }
    }

    #[test]
    fn ceiling_covers_the_actions_of_its_repositories() {
        let app: RepositoryName = "team-a/app".parse().unwrap();
        let other = "team-b/app".parse().unwrap();
        let scope = Scope { repository: app.clone(), actions: vec![May::Pull] };
        let ceiling = Ceiling::Session(vec![scope]);
        assert!(ceiling.covers(&Right::Pull(&app)) && ceiling.covers(&Right::List));
        for beyond in [Right::Create(&app), Right::Pull(&other), Right::PullAll] {
            assert!(!ceiling.covers(&beyond), "{beyond}");
        }
    }
}
