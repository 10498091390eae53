//! What passwords are held against: the line of a user, or a dummy hash for a name that no user has.
//!
//! A name that no user has costs the bcrypt that a user's would cost. A password that is stored as
//! one of the quick hashes that the file may have as well costs a bcrypt on top (its padding): whose
//! it is must not show in the time, and guessing it here must not be quicker.

use std::{collections::HashMap, hint::black_box, sync::Arc};

use super::{
    htpasswd::{BcryptHash, Htpasswd, PasswordHash},
    verifier::KeyedHash,
};

/// The cost that a user who does not exist is given when nobody does, and the one of the bcrypt that
/// a quick hash comes with when nobody has bcrypt.
const USUAL_COST: u8 = 12;

/// The users in force.
#[derive(Debug)]
pub(super) struct Checks {
    users: HashMap<String, Arc<Check>>,
    /// Checks that no password passes, one for each user and as much work, for names that no user
    /// has.
    dummies: Vec<Arc<Check>>,
}

/// What a password is held against.
#[derive(Debug)]
pub(super) struct Check {
    hash: PasswordHash,
    /// A bcrypt hash that is checked as well, and its result dropped, when the hash is a quick one.
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

    /// The hash that the file has.
    pub(super) const fn hash(&self) -> &PasswordHash {
        &self.hash
    }

    /// Runs bcrypt.
    pub(super) fn passes(&self, password: &[u8]) -> bool {
        let right = self.hash.verify(password);
        if let Some(padding) = &self.padding {
            // The compiler must not notice that the result is dropped.
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
        let usual = costs.get(costs.len() / 2).copied().unwrap_or(USUAL_COST);
        let check = |hash| Arc::new(Check::new(hash, usual));
        let users = file.entries().iter();
        let users = users.map(|entry| (entry.user.clone(), check(entry.hash.clone()))).collect();
        let mut dummies: Vec<_> = hashes().map(|hash| check(hash.dummy())).collect();
        if dummies.is_empty() {
            dummies.push(check(PasswordHash::Bcrypt(BcryptHash::dummy(usual))));
        }
        Self { users, dummies }
    }

    /// The check of a user.
    pub(super) fn of(&self, user: &str) -> Option<&Arc<Check>> {
        self.users.get(user)
    }

    /// The dummy of a name that no user has: always the same one, and its work spread over names as
    /// that of users is.
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
    fn a_quick_hash_comes_with_the_bcrypt_that_most_users_have() {
        let hash = |cost| BcryptHash::dummy(cost).as_str().to_owned();
        let quick = "{SHA}L55TUjtiq8FBorTWAZ0jy6g129A=";
        for (file, cost) in [
            (format!("a:{quick}\n"), USUAL_COST),
            (format!("a:{quick}\nb:{}\n", hash(5)), 5),
            (format!("a:{quick}\nb:{}\nc:{}\nd:{}\n", hash(4), hash(6), hash(16)), 6),
        ] {
            let checks = Checks::new(&Htpasswd::parse(file.as_bytes(), Formats::WithLegacy));
            let padding = |check: &Arc<Check>| check.padding.as_ref().map(BcryptHash::cost);
            assert_eq!(padding(&checks.users["a"]), Some(cost), "{file}");
            // A name without a user is told apart neither by having it nor by lacking it.
            let of = |mut paddings: Vec<_>| {
                paddings.sort_unstable();
                paddings
            };
            let of_users = of(checks.users.values().map(padding).collect());
            assert_eq!(of(checks.dummies.iter().map(padding).collect()), of_users, "{file}");
        }
    }
}
