//! The media types of manifests: those that pushes may have, and those that are only served.

use std::fmt;

/// The type of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaType {
    /// `application/vnd.oci.image.manifest.v1+json`
    OciManifest,
    /// `application/vnd.oci.image.index.v1+json`
    OciIndex,
    /// `application/vnd.docker.distribution.manifest.v2+json`
    DockerManifest,
    /// `application/vnd.docker.distribution.manifest.list.v2+json`
    DockerManifestList,
    /// `application/vnd.oci.artifact.manifest.v1+json`, of an OCI 1.1 release candidate. Old clients
    /// still push it.
    OciArtifact,
}

impl MediaType {
    const ALL: [Self; 5] = [
        Self::OciManifest,
        Self::OciIndex,
        Self::DockerManifest,
        Self::DockerManifestList,
        Self::OciArtifact,
    ];

    /// The type in `Content-Type` and `mediaType`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OciManifest => "application/vnd.oci.image.manifest.v1+json",
            Self::OciIndex => "application/vnd.oci.image.index.v1+json",
            Self::DockerManifest => "application/vnd.docker.distribution.manifest.v2+json",
            Self::DockerManifestList => "application/vnd.docker.distribution.manifest.list.v2+json",
            Self::OciArtifact => "application/vnd.oci.artifact.manifest.v1+json",
        }
    }

    /// Parses a type. Ignores case, and parameters after a `;` (RFC 9110 §8.3.1).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let essence = essence(text);
        Self::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(essence))
    }
}

/// The type of a schema 1 manifest, which Docker pushed before 1.10. The registry serves those that an
/// old registry has stored, and refuses new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema1 {
    /// `application/vnd.docker.distribution.manifest.v1+json`: without its signatures, which is how
    /// registry:2 has stored them since 2.4.
    Bare,
    /// `application/vnd.docker.distribution.manifest.v1+prettyjws`
    Signed,
}

impl Schema1 {
    /// The type in `Content-Type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bare => "application/vnd.docker.distribution.manifest.v1+json",
            Self::Signed => "application/vnd.docker.distribution.manifest.v1+prettyjws",
        }
    }

    /// Parses a type as [`MediaType::parse`] does.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let essence = essence(text);
        [Self::Bare, Self::Signed]
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(essence))
    }
}

/// A type without its parameters.
fn essence(text: &str) -> &str {
    text.split(';').next().unwrap_or_default().trim()
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_case_do_not_change_a_media_type() {
        for known in MediaType::ALL {
            let shouted = format!(" {}; charset=utf-8", known.as_str().to_uppercase());
            assert_eq!(MediaType::parse(&shouted), Some(known));
        }
        assert_eq!(MediaType::parse("application/json"), None);
        assert_eq!(MediaType::parse(""), None);
    }
}
