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
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        // A repository name has no colon, so a colon before a slash precedes a port.
        if rest.split_once('/').is_some_and(|(first, _)| first.contains(':')) {
            return Err(InvalidNamed::Host);
        }
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

/// A text names neither a repository nor a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNamed {
    /// It has both a tag and a digest.
    #[error("either a tag or a digest")]
    Both,
    /// The digest is malformed.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
    /// It has a host with a port.
    #[error("without the registry's host, as in team/app:1.0")]
    Host,
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
        for (text, expected) in [
            ("localhost:5000/app", InvalidNamed::Host),
            ("localhost:5000/app:1.0", InvalidNamed::Host),
            ("https://registry.example.com/app", InvalidNamed::Host),
            ("[::1]:5000/app", InvalidNamed::Host),
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
    }
}
