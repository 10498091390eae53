//! Where things lie: registry:2's tree, to the letter, and what we add to it.
//!
//! ```text
//! docker/registry/v2/
//!   blobs/<alg>/<first two hex>/<hex>/data
//!   repositories/<name>/_layers/<alg>/<hex>/link
//!   repositories/<name>/_manifests/revisions/<alg>/<hex>/link
//!   repositories/<name>/_manifests/revisions/<alg>/<hex>/portcullis-pulled   (ours)
//!   repositories/<name>/_manifests/tags/<tag>/current/link
//!   repositories/<name>/_manifests/tags/<tag>/index/<alg>/<hex>/link
//!   repositories/<name>/_uploads/<uuid>/{data,startedat}
//!   repositories/<name>/_uploads/<uuid>/portcullis-{hasher,owner}        (ours)
//!   repositories/<name>/_referrers/<alg>/<hex>/<alg>/<hex>/link          (ours: subject, referrer)
//! portcullis-quarantine/<run>/<where it was>                             (ours)
//! ```
//!
//! registry:2 walks repositories without entering folders that begin with `_`, and reads no file
//! of an upload but those it knows, nor any of a revision but its link, so that it does not trip
//! over ours.

use crate::{
    oci::{Algorithm, Digest, RepositoryName, Tag},
    registry::UploadId,
    storage::Key,
};

const BASE: &str = "docker/registry/v2";

/// Where a tag's link lies in the tag's folder.
pub(in crate::registry) const CURRENT: &str = "current/link";

/// What a link is called in its folder.
pub(in crate::registry) const LINK: &str = "link";

/// What the record of the last pull is called, beside a revision's link.
pub(in crate::registry) const PULLED: &str = "portcullis-pulled";

/// The note of an upload that has the state of its hasher.
pub(in crate::registry) const HASHER: &str = "portcullis-hasher";

/// The note of an upload that says who began it.
pub(in crate::registry) const OWNER: &str = "portcullis-owner";

/// A place in the tree; [`key`](Self::key) says where it is.
#[derive(Clone, Copy, Debug)]
pub(in crate::registry) enum TreeKey<'a> {
    /// The bytes of a blob or a manifest.
    Data(&'a Digest),
    /// Says that a blob belongs to a repository.
    Layer(&'a RepositoryName, &'a Digest),
    /// What says that blobs belong to a repository.
    Layers(&'a RepositoryName),
    /// The folder of manifests and tags.
    Manifests(&'a RepositoryName),
    /// Says that a manifest belongs to a repository.
    Revision(&'a RepositoryName, &'a Digest),
    /// The folder of one revision: its link, and what is ours.
    RevisionFolder(&'a RepositoryName, &'a Digest),
    /// An empty file, whose time is that of the last pull of a manifest that was recorded.
    Pulled(&'a RepositoryName, &'a Digest),
    /// The folder of revisions of one algorithm.
    Revisions(&'a RepositoryName, Algorithm),
    /// Everything of one tag.
    TagFolder(&'a RepositoryName, &'a Tag),
    /// The manifest that a tag names.
    TagCurrent(&'a RepositoryName, &'a Tag),
    /// Says that a tag named a manifest once.
    TagIndex(&'a RepositoryName, &'a Tag, &'a Digest),
    /// The folder of tags.
    Tags(&'a RepositoryName),
    /// The folder of uploads.
    Uploads(&'a RepositoryName),
    /// Everything of one upload.
    Upload(&'a RepositoryName, UploadId),
    /// The folder of what refers to something.
    Referrers(&'a RepositoryName),
    /// Says that one manifest refers to another, its subject.
    Referrer { name: &'a RepositoryName, subject: &'a Digest, referrer: &'a Digest },
    /// The folder of one such entry.
    ReferrerFolder { name: &'a RepositoryName, subject: &'a Digest, referrer: &'a Digest },
    /// The folder of what refers to a subject, by referrers of one algorithm.
    ReferrersOf(&'a RepositoryName, &'a Digest, Algorithm),
}

impl TreeKey<'_> {
    /// The key in storage. Asked for several times in a request, so without the formatter.
    pub(in crate::registry) fn key(self) -> Key {
        match self {
            Self::Data(digest) => {
                let algorithm = digest.algorithm().as_str();
                let hex = digest.hex();
                Key::new([BASE, "/blobs/", algorithm, "/", &hex[..2], "/", hex, "/data"].concat())
            }
            Self::Layer(name, digest) => linked(name, "_layers", digest),
            Self::Layers(name) => within(name, &["_layers"]),
            Self::Manifests(name) => within(name, &["_manifests"]),
            Self::Revision(name, digest) => linked(name, "_manifests/revisions", digest),
            Self::RevisionFolder(name, digest) => {
                let algorithm = digest.algorithm().as_str();
                let hex = digest.hex();
                within(name, &["_manifests/revisions/", algorithm, "/", hex])
            }
            Self::Pulled(name, digest) => Self::RevisionFolder(name, digest).key().child(PULLED),
            Self::Revisions(name, algorithm) => {
                within(name, &["_manifests/revisions/", algorithm.as_str()])
            }
            Self::TagFolder(name, tag) => within(name, &["_manifests/tags/", tag.as_str()]),
            Self::TagCurrent(name, tag) => {
                within(name, &["_manifests/tags/", tag.as_str(), "/", CURRENT])
            }
            Self::TagIndex(name, tag, digest) => {
                linked(name, &["_manifests/tags/", tag.as_str(), "/index"].concat(), digest)
            }
            Self::Tags(name) => within(name, &["_manifests/tags"]),
            Self::Uploads(name) => within(name, &["_uploads"]),
            Self::Upload(name, id) => within(name, &["_uploads/", &id.to_string()]),
            Self::Referrers(name) => within(name, &["_referrers"]),
            Self::Referrer { name, subject, referrer } => {
                Self::ReferrerFolder { name, subject, referrer }.key().child(LINK)
            }
            Self::ReferrerFolder { name, subject, referrer } => {
                Self::ReferrersOf(name, subject, referrer.algorithm()).key().child(referrer.hex())
            }
            Self::ReferrersOf(name, subject, algorithm) => {
                let of = subject.algorithm().as_str();
                let hex = subject.hex();
                within(name, &["_referrers/", of, "/", hex, "/", algorithm.as_str()])
            }
        }
    }
}

impl TreeKey<'_> {
    /// Whether a link here may lead to a digest. What is called by its digest is that and nothing
    /// else; but registry:2 links the sha512 name of a blob to sha256 content.
    pub(in crate::registry) fn may_lead_to(self, target: &Digest) -> bool {
        match self {
            Self::Layer(_, digest) => digest.algorithm() != target.algorithm() || digest == target,
            Self::Revision(_, digest) => digest == target,
            _ => true,
        }
    }
}

/// A place in a repository, below its folder.
fn within(name: &RepositoryName, path: &[&str]) -> Key {
    let mut key = String::with_capacity(256);
    let folder = [BASE, "/repositories/", name.as_str(), "/"];
    folder.iter().chain(path).for_each(|part| key.push_str(part));
    Key::new(key)
}

/// The link of a digest in a folder of a repository.
fn linked(name: &RepositoryName, folder: &str, digest: &Digest) -> Key {
    within(name, &[folder, "/", digest.algorithm().as_str(), "/", digest.hex(), "/link"])
}

/// The folder of blobs, by algorithm and the first two digits of their digests.
pub(in crate::registry) fn blobs() -> Key {
    Key::new(format!("{BASE}/blobs"))
}

/// Where what is damaged is moved to: beside registry:2's tree, which is all that it walks, and
/// below the same root, so that a rename leads there.
pub(in crate::registry) fn quarantine(run: &str) -> Key {
    Key::new(format!("portcullis-quarantine/{run}"))
}

/// The folder below which repositories lie, at any depth.
pub(in crate::registry) fn repositories() -> Key {
    Key::new(format!("{BASE}/repositories"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_that_of_registry_2() {
        let name: RepositoryName = "library/alpine".parse().unwrap();
        let tag: Tag = "latest".parse().unwrap();
        let digest = Digest::of(Algorithm::Sha256, b"");
        let hex = digest.hex();
        let repository = "docker/registry/v2/repositories/library/alpine";
        for (place, path) in [
            (TreeKey::Data(&digest), format!("docker/registry/v2/blobs/sha256/e3/{hex}/data")),
            (TreeKey::Layer(&name, &digest), format!("{repository}/_layers/sha256/{hex}/link")),
            (
                TreeKey::Revision(&name, &digest),
                format!("{repository}/_manifests/revisions/sha256/{hex}/link"),
            ),
            (
                TreeKey::TagCurrent(&name, &tag),
                format!("{repository}/_manifests/tags/latest/current/link"),
            ),
            (
                TreeKey::TagIndex(&name, &tag, &digest),
                format!("{repository}/_manifests/tags/latest/index/sha256/{hex}/link"),
            ),
        ] {
            assert_eq!(place.key().as_str(), path);
        }
    }
}
