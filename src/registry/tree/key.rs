//! The layout of the tree: registry:2's, to the letter, with additions of this registry.
//!
//! ```text
//! docker/registry/v2/
//!   blobs/<alg>/<first two hex>/<hex>/data
//!   repositories/<name>/_layers/<alg>/<hex>/link
//!   repositories/<name>/_manifests/revisions/<alg>/<hex>/link
//!   repositories/<name>/_manifests/revisions/<alg>/<hex>/portcullis-{pulled,untagged}   (ours)
//!   repositories/<name>/_manifests/tags/<tag>/current/link
//!   repositories/<name>/_manifests/tags/<tag>/index/<alg>/<hex>/link
//!   repositories/<name>/_uploads/<uuid>/{data,startedat}
//!   repositories/<name>/_uploads/<uuid>/portcullis-{hasher,owner}        (ours)
//!   repositories/<name>/_referrers/<alg>/<hex>/<alg>/<hex>/link          (ours: subject, referrer)
//! portcullis-quarantine/<run>/<where it was>                             (ours)
//! portcullis-pulls                                                       (ours)
//! ```
//!
//! registry:2 ignores the additions: it walks repositories without entering folders that begin with
//! `_`, reads only the files of an upload that it knows, and reads only the link of a revision.

use crate::{
    oci::{Algorithm, Digest, RepositoryName, Tag},
    registry::UploadId,
    storage::Key,
};

const BASE: &str = "docker/registry/v2";

/// The path of a tag's link in the tag's folder.
pub(in crate::registry) const CURRENT: &str = "current/link";

/// The name of a link in its folder.
pub(in crate::registry) const LINK: &str = "link";

/// The name of the record of the last pull, beside a revision's link.
pub(in crate::registry) const PULLED: &str = "portcullis-pulled";

/// The name of the record beside a revision's link that says since when the manifest is untagged.
pub(in crate::registry) const UNTAGGED: &str = "portcullis-untagged";

/// The note of an upload that has the state of its hasher.
pub(in crate::registry) const HASHER: &str = "portcullis-hasher";

/// The note of an upload with the name of its owner.
pub(in crate::registry) const OWNER: &str = "portcullis-owner";

/// An object or a folder of the tree; [`key`](Self::key) returns its key.
#[derive(Clone, Copy, Debug)]
pub(in crate::registry) enum TreeKey<'a> {
    /// The bytes of a blob or a manifest.
    Data(&'a Digest),
    /// The link that makes a blob part of a repository.
    Layer(&'a RepositoryName, &'a Digest),
    /// The folder of the links to blobs.
    Layers(&'a RepositoryName),
    /// The folder of manifests and tags.
    Manifests(&'a RepositoryName),
    /// The link that makes a manifest part of a repository.
    Revision(&'a RepositoryName, &'a Digest),
    /// The folder of one revision: its link, and the records beside it.
    RevisionFolder(&'a RepositoryName, &'a Digest),
    /// The record of the last pull of a manifest: an empty file with that modification time.
    Pulled(&'a RepositoryName, &'a Digest),
    /// The record of an untagged manifest: an empty file, whose modification time is the time at which a
    /// garbage collection first found the manifest untagged, or last found it tagged again.
    Untagged(&'a RepositoryName, &'a Digest),
    /// The folder of revisions of one algorithm.
    Revisions(&'a RepositoryName, Algorithm),
    /// Everything of one tag.
    TagFolder(&'a RepositoryName, &'a Tag),
    /// The manifest that a tag names.
    TagCurrent(&'a RepositoryName, &'a Tag),
    /// The entry of a manifest that a tag names or has named.
    TagIndex(&'a RepositoryName, &'a Tag, &'a Digest),
    /// The folder of tags.
    Tags(&'a RepositoryName),
    /// The folder of uploads.
    Uploads(&'a RepositoryName),
    /// Everything of one upload.
    Upload(&'a RepositoryName, UploadId),
    /// The folder of entries of referrers.
    Referrers(&'a RepositoryName),
    /// The entry of a referrer under its subject.
    Referrer { name: &'a RepositoryName, subject: &'a Digest, referrer: &'a Digest },
    /// The folder of one such entry.
    ReferrerFolder { name: &'a RepositoryName, subject: &'a Digest, referrer: &'a Digest },
    /// The folder of entries under a subject, for referrers of one algorithm.
    ReferrersOf(&'a RepositoryName, &'a Digest, Algorithm),
}

impl TreeKey<'_> {
    /// The key in storage. Each request makes several keys, so this does without the formatter.
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
            Self::Untagged(name, digest) => {
                Self::RevisionFolder(name, digest).key().child(UNTAGGED)
            }
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
    /// Whether this link may lead to a digest. A link called by a digest leads to that digest, with one
    /// exception: registry:2 links the sha512 name of a blob to sha256 content.
    pub(in crate::registry) fn may_lead_to(self, target: &Digest) -> bool {
        match self {
            Self::Layer(_, digest) => digest.algorithm() != target.algorithm() || digest == target,
            Self::Revision(_, digest) => digest == target,
            _ => true,
        }
    }
}

/// A key below the folder of a repository.
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

/// The quarantine of a run for damaged objects: beside registry:2's tree, so that registry:2 never
/// walks it, and below the same root, so that a rename can move objects there.
pub(in crate::registry) fn quarantine(run: &str) -> Key {
    Key::new(format!("portcullis-quarantine/{run}"))
}

/// The record that says whether pulls have been recorded without a gap: beside registry:2's tree.
pub(in crate::registry) fn pulls() -> Key {
    Key::new("portcullis-pulls".to_owned())
}

/// The folder below which repositories lie, at any depth.
pub(in crate::registry) fn repositories() -> Key {
    Key::new(format!("{BASE}/repositories"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_paths_of_registry_2() {
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
