//! The notation of docker for a repository or a manifest: `team/app`, `team/app:1.0`,
//! `team/app@sha256:…`.

use std::{fmt, str::FromStr};

use super::{Digest, InvalidDigest, InvalidName, InvalidTag, Reference, RepositoryName};

/// A repository, or one of its manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The repository.
    pub name: RepositoryName,
    /// The manifest. `None` means the repository; there is no default tag.
    pub reference: Option<Reference>,
}

impl Named {
    /// The first component, if docker would parse it as the host of a registry. Here it is part of the
    /// repository's name.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        let (first, _) = self.name.as_str().split_once('/')?;
        (first.contains('.') || first == "localhost").then_some(first)
    }

    /// The same behind the [`host`](Self::host).
    #[must_use]
    pub fn without_host(&self) -> Option<Self> {
        let rest = self.name.as_str().strip_prefix(self.host()?)?.strip_prefix('/')?;
        Some(Self { name: rest.parse().ok()?, reference: self.reference.clone() })
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, reference } = self;
        match reference {
            None => name.fmt(f),
            Some(Reference::Tag(tag)) => write!(f, "{name}:{tag}"),
            Some(Reference::Digest(digest)) => write!(f, "{name}@{digest}"),
        }
    }
}

impl FromStr for Named {
    type Err = InvalidNamed;

    fn from_str(text: &str) -> Result<Self, InvalidNamed> {
        if let Some(rest) = behind_host(text) {
            return Err(InvalidNamed::Host(Box::new(rest.parse()?)));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (name, tag) = match rest.split_once(':') {
            Some((name, tag)) => (name, Some(tag.parse()?)),
            None => (rest, None),
        };
        let reference = match (digest, tag) {
            (Some(_), Some(_)) => return Err(InvalidNamed::Both),
            (digest, tag) => digest.map(Reference::Digest).or_else(|| tag.map(Reference::Tag)),
        };
        Ok(Self { name: name.parse()?, reference })
    }
}

/// The text behind a host with a port. A repository's name has no colon, so a colon before a slash precedes
/// a port, or ends the scheme of a URL.
fn behind_host(text: &str) -> Option<&str> {
    let (first, rest) = text.split_once('/')?;
    match (first.contains(':'), rest.strip_prefix('/')) {
        (false, _) => None,
        (true, None) => Some(rest),
        (true, Some(rest)) => rest.split_once('/').map(|(_, rest)| rest),
    }
}

/// A text names neither a repository nor a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNamed {
    /// It has both a tag and a digest.
    #[error("either a tag or a digest")]
    Both,
    /// The digest is malformed.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
    /// It has the host of a registry before this repository or manifest.
    #[error("leave out the registry's host: {0}")]
    Host(Box<Named>),
    /// The repository's name is malformed.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The tag is malformed.
    #[error(transparent)]
    Tag(#[from] InvalidTag),
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_of_docker_are_parsed_and_printed_unchanged() {
        let name = "team/app".parse().unwrap();
        let tag = "1.0".parse().unwrap();
        let named = |reference| Named { name: RepositoryName::clone(&name), reference };
        for (text, expected) in [
            ("team/app".to_owned(), named(None)),
            ("team/app:1.0".to_owned(), named(Some(Reference::Tag(tag)))),
            (format!("team/app@{DIGEST}"), named(Some(Reference::Digest(DIGEST.parse().unwrap())))),
        ] {
            let read: Named = text.parse().unwrap();
            assert_eq!(read, expected, "{text}");
            assert_eq!(read.to_string(), text);
            assert_eq!(read.host(), None, "{text}");
        }
    }

    #[test]
    fn malformed_names_are_refused_with_a_reason() {
        let both = format!("app:1.0@{DIGEST}");
        let host = |named: &str| InvalidNamed::Host(Box::new(named.parse().unwrap()));
        for (text, expected) in [
            ("localhost:5000/app", host("app")),
            ("registry.example.com:5000/team/app:1.0", host("team/app:1.0")),
            ("https://registry.example.com/team/app", host("team/app")),
            ("https://registry.example.com:5000/app", host("app")),
            ("[::1]:5000/app", host("app")),
            ("localhost:5000/App", InvalidNamed::Name(InvalidName::Grammar)),
            (&both, InvalidNamed::Both),
            ("App", InvalidNamed::Name(InvalidName::Grammar)),
            ("team/", InvalidNamed::Name(InvalidName::Grammar)),
            ("", InvalidNamed::Name(InvalidName::Grammar)),
            ("app:", InvalidNamed::Tag(InvalidTag)),
            ("app:1:0", InvalidNamed::Tag(InvalidTag)),
            ("app:-", InvalidNamed::Tag(InvalidTag)),
        ] {
            assert_eq!(text.parse::<Named>(), Err(expected), "{text}");
        }
        let host = "localhost:5000/team/app:v2".parse::<Named>().unwrap_err();
        assert_eq!(host.to_string(), "leave out the registry's host: team/app:v2");
        let digest = "app@sha256:0".parse::<Named>();
        assert!(matches!(digest, Err(InvalidNamed::Digest(_))), "{digest:?}");
    }

    #[test]
    fn host_may_be_the_name_of_a_repository() {
        for (text, host) in [
            ("registry.example.com/app:1.0", Some("registry.example.com")),
            ("localhost/app", Some("localhost")),
            ("v1.0", None),
            ("team/v1.0", None),
        ] {
            assert_eq!(text.parse::<Named>().unwrap().host(), host, "{text}");
        }
        let named: Named = "localhost/team/app:1.0".parse().unwrap();
        assert_eq!(named.without_host(), Some("team/app:1.0".parse().unwrap()));
    }
}
