//! An item of `access.quotas`: how many bytes each of some repositories may hold.

use std::fmt;

use serde::Deserialize;

use crate::{
    byte_size::ByteSize,
    oci::{Glob, InvalidPattern, RepositoryName},
};

/// How many bytes each of some repositories may hold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Quota {
    repositories: Vec<NamePattern>,
    except: Vec<NamePattern>,
    bytes: ByteSize,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Written {
    repositories: Option<Vec<NamePattern>>,
    except: Vec<NamePattern>,
    bytes: Option<ByteSize>,
}

/// A glob that the name of a repository can match.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct NamePattern(Glob);

impl TryFrom<String> for NamePattern {
    type Error = InvalidPattern;

    fn try_from(written: String) -> Result<Self, InvalidPattern> {
        Glob::of_names(&written, &[]).map(Self)
    }
}

/// The error of a quota that limits nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuota {
    /// `bytes` is missing.
    #[error("the quota does not say how many bytes a repository may hold: add `bytes: 50GiB`")]
    NoBytes,
    /// `repositories` is an empty list.
    #[error("the quota is for no repository: leave `repositories` out for all of them")]
    NoRepositories,
}

impl TryFrom<Written> for Quota {
    type Error = InvalidQuota;

    fn try_from(written: Written) -> Result<Self, InvalidQuota> {
        let Written { repositories, except, bytes } = written;
        let bytes = bytes.ok_or(InvalidQuota::NoBytes)?;
        if repositories.as_ref().is_some_and(Vec::is_empty) {
            return Err(InvalidQuota::NoRepositories);
        }
        Ok(Self { repositories: repositories.unwrap_or_default(), except, bytes })
    }
}

impl Quota {
    /// The least of these quotas that are for a repository; `None` where none is.
    #[must_use]
    pub fn least(quotas: &[Self], name: &RepositoryName) -> Option<ByteSize> {
        quotas.iter().filter(|quota| quota.is_for(name)).map(|quota| quota.bytes).min()
    }

    /// Whether the quota is for this repository.
    fn is_for(&self, name: &RepositoryName) -> bool {
        let matches =
            |patterns: &[NamePattern]| patterns.iter().any(|pattern| pattern.0.matches(name));
        (self.repositories.is_empty() || matches(&self.repositories)) && !matches(&self.except)
    }

    /// Whether each repository of `other` has a quota by this one that is no greater. May miss that; never
    /// says so wrongly.
    fn covers(&self, other: &Self) -> bool {
        let all = |quota: &Self| {
            quota.repositories.is_empty()
                || quota.repositories.iter().any(|pattern| pattern.0.is_everything())
        };
        let is_within =
            |pattern: &NamePattern| self.repositories.iter().any(|wide| wide.0.covers(&pattern.0));
        self.bytes <= other.bytes
            && (all(self)
                || !other.repositories.is_empty() && other.repositories.iter().all(is_within))
            && self.except.iter().all(|except| other.excepts(except))
    }

    fn excepts(&self, pattern: &NamePattern) -> bool {
        self.except.iter().any(|except| except.0.covers(&pattern.0))
    }

    fn is_for_none(&self) -> bool {
        self.except.iter().any(|except| except.0.is_everything())
            || !self.repositories.is_empty()
                && self.repositories.iter().all(|pattern| self.excepts(pattern))
    }
}

/// Why a quota limits nothing. As text, what stands behind "has no effect: ".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UselessQuota {
    /// `except` takes away every repository.
    Excepted,
    /// The quota with this index allows none of its repositories more.
    Covered {
        /// The index, from 0.
        by: usize,
    },
}

impl fmt::Display for UselessQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Excepted => f.write_str("its `except` takes away all of its repositories"),
            Self::Covered { by } => write!(
                f,
                "access.quotas[{by}] allows these repositories no more, and the least quota holds; \
                 `except` takes repositories away from one"
            ),
        }
    }
}

/// The quotas that limit nothing, with their indices, as far as the quotas alone show it.
#[must_use]
pub fn useless(quotas: &[Quota]) -> Vec<(usize, UselessQuota)> {
    let why = |(index, quota): (usize, &Quota)| {
        if quota.is_for_none() {
            return Some((index, UselessQuota::Excepted));
        }
        let by = quotas.iter().enumerate().position(|(other, wide)| {
            // Of two that say the same, the later is useless.
            other != index && wide.covers(quota) && (other < index || !quota.covers(wide))
        });
        by.map(|by| (index, UselessQuota::Covered { by }))
    };
    quotas.iter().enumerate().filter_map(why).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn quotas(json: serde_json::Value) -> Vec<Quota> {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn least_quota_of_a_repository_holds() {
        let quotas = quotas(json!([
            { "except": ["ml/**"], "bytes": "10GiB" },
            { "repositories": ["ml/**", "data"], "bytes": "50GiB" },
        ]));
        for (name, gib) in [("app", 10), ("ml/model", 50), ("data", 10), ("ml", 10)] {
            let least = Quota::least(&quotas, &name.parse().unwrap());
            assert_eq!(least.map(ByteSize::get), Some(gib << 30), "{name}");
        }
        assert_eq!(Quota::least(&quotas[1..], &"app".parse().unwrap()), None);
    }

    #[test]
    fn quota_that_limits_nothing_is_found() {
        let covered = |index, by| vec![(index, UselessQuota::Covered { by })];
        for (written, expected) in [
            (
                json!([{ "bytes": "1GiB" }, { "repositories": ["a/**"], "bytes": "2GiB" }]),
                covered(1, 0),
            ),
            (
                json!([{ "repositories": ["a/b"], "bytes": "2GiB" }, { "repositories": ["a/**"], "bytes": "2GiB" }]),
                covered(0, 1),
            ),
            (json!([{ "bytes": "1GiB" }, { "bytes": "1GiB" }]), covered(1, 0)),
            (
                json!([{ "repositories": ["a/**"], "except": ["**"], "bytes": "1GiB" }]),
                vec![(0, UselessQuota::Excepted)],
            ),
            (
                json!([{ "except": ["a/**"], "bytes": "1GiB" }, { "repositories": ["a/**"], "bytes": "2GiB" }]),
                Vec::new(),
            ),
            (
                json!([{ "bytes": "2GiB" }, { "repositories": ["a/**"], "bytes": "1GiB" }]),
                Vec::new(),
            ),
        ] {
            assert_eq!(useless(&quotas(written.clone())), expected, "{written}");
        }
    }
}
