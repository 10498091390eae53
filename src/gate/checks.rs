//! The hashes that passwords are checked against: a user's, or a dummy hash for an unknown name.
//!
//! A check for an unknown name costs as much as one for a user. A check of one of the fast legacy
//! hashes costs a bcrypt on top (its padding): the response time must not show which users have one,
//! and guessing their passwords over the network must not be faster.

use std::{collections::HashMap, hint::black_box, sync::Arc};

use super::{
    htpasswd::{BcryptHash, Htpasswd, PasswordHash},
    verifier::KeyedHash,
};

/// The bcrypt cost of dummy hashes and of padding when no user has a bcrypt hash.
const DEFAULT_COST: u8 = 12;

/// The users in force.
#[derive(Debug)]
pub(super) struct Checks {
    users: HashMap<String, Arc<Check>>,
    /// Checks that no password passes, one for each user and as expensive, for unknown names.
    dummies: Vec<Arc<Check>>,
}

/// The hash that a password is checked against.
#[derive(Debug)]
pub(super) struct Check {
    hash: PasswordHash,
    /// A bcrypt hash that is checked too, without regard to its result, when the hash is a fast one.
    padding: Option<BcryptHash>,
}

impl Check {
    fn new(hash: PasswordHash, cost: u8) -> Self {
        let padding = match hash {
            PasswordHash::Bcrypt(_) => None,
            PasswordHash::Legacy(_) => Some(BcryptHash::dummy(cost)),
        };
        Self { hash, padding }
    }

    /// The user's hash in the file, or the dummy.
    pub(super) const fn hash(&self) -> &PasswordHash {
        &self.hash
    }

    /// Whether the password is right. Runs bcrypt.
    pub(super) fn passes(&self, password: &[u8]) -> bool {
        let right = self.hash.verify(password);
        if let Some(padding) = &self.padding {
            // The compiler must not remove the call because its result is unused.
            black_box(padding.verify(password));
        }
        right
    }
}

impl Checks {
    pub(super) fn new(file: &Htpasswd) -> Self {
        let hashes = || file.entries().iter().map(|entry| &entry.hash);
        let mut costs: Vec<u8> = hashes()
            .filter_map(|hash| match hash {
                PasswordHash::Bcrypt(hash) => Some(hash.cost()),
                PasswordHash::Legacy(_) => None,
            })
            .collect();
        costs.sort_unstable();
        let usual = costs.get(costs.len() / 2).copied().unwrap_or(DEFAULT_COST);
        let check = |hash| Arc::new(Check::new(hash, usual));
        let users = file.entries().iter();
        let users = users.map(|entry| (entry.user.clone(), check(entry.hash.clone()))).collect();
        let mut dummies: Vec<_> = hashes().map(|hash| check(hash.dummy())).collect();
        if dummies.is_empty() {
            dummies.push(check(PasswordHash::Bcrypt(BcryptHash::dummy(usual))));
        }
        Self { users, dummies }
    }

    /// The check of a user; `None` for an unknown name.
    pub(super) fn of(&self, user: &str) -> Option<&Arc<Check>> {
        self.users.get(user)
    }

    /// The dummy check of an unknown name: always the same one, and with costs distributed over names
    /// as they are over users.
    pub(super) fn dummy(&self, name: KeyedHash) -> &Arc<Check> {
        let [a, b, c, d, ..] = name;
        let index = u32::from_be_bytes([a, b, c, d]) as usize % self.dummies.len();
        &self.dummies[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::htpasswd::Formats;

    #[test]
    fn fast_hash_is_padded_with_the_bcrypt_cost_that_most_users_have() {
        let hash = |cost| BcryptHash::dummy(cost).as_str().to_owned();
        let quick = "{SHA}L55TUjtiq8FBorTWAZ0jy6g129A=";
        for (file, cost) in [
            (format!("a:{quick}\n"), DEFAULT_COST),
            (format!("a:{quick}\nb:{}\n", hash(5)), 5),
            (format!("a:{quick}\nb:{}\nc:{}\nd:{}\n", hash(4), hash(6), hash(16)), 6),
        ] {
            let checks = Checks::new(&Htpasswd::parse(file.as_bytes(), Formats::WithLegacy));
            let padding = |check: &Arc<Check>| check.padding.as_ref().map(BcryptHash::cost);
            assert_eq!(padding(&checks.users["a"]), Some(cost), "{file}");
            // Dummies have the same paddings, so that neither sets an unknown name apart.
            let of = |mut paddings: Vec<_>| {
                paddings.sort_unstable();
                paddings
            };
            let of_users = of(checks.users.values().map(padding).collect());
            assert_eq!(of(checks.dummies.iter().map(padding).collect()), of_users, "{file}");
        }
    }
}
