//! The content of a repository: the names and times of its links.

use std::{collections::HashMap, time::SystemTime};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::Collection;
use crate::{
    oci::{Algorithm, Digest, InvalidDigest},
    registry::{
        Error,
        tree::{LINK, PULLED, UNTAGGED, link},
        walk::RepositoryFolder,
    },
    storage::{ErrorKind, Key, Look, Seen},
};

/// How many links are read at once.
const READS: usize = 8;

/// The folder of the links to blobs.
const LAYERS: &str = "_layers";

/// The folder of the links to manifests.
const REVISIONS: &str = "_manifests/revisions";

/// The links that a look found in a repository.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// Blobs that it has links to, or has had.
    pub(super) layers: Vec<Digest>,
    /// Blobs that it has links to, with the time of the link, where the look was close.
    pub(super) links: HashMap<Digest, SystemTime>,
    /// Its manifests, with the time of the link.
    pub(super) revisions: Vec<(Digest, SystemTime)>,
    /// When manifests were last pulled, where untagged manifests go by that.
    pub(super) pulled: HashMap<Digest, SystemTime>,
    /// When collections found manifests untagged, where untagged manifests go by that.
    pub(super) noted: HashMap<Digest, SystemTime>,
    /// Whether the names of folders suggest links by digests of unknown algorithms.
    pub(super) may_have_foreign: bool,
}

/// The targets of links that are called by another digest than their target, and links of unknown
/// meaning.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    /// The digests of the targets. registry:2 keeps all bytes under their sha256, and needs a link by
    /// that digest as well.
    pub(super) targets: Vec<Digest>,
    /// Whether some are called by digests of unknown algorithms.
    pub(super) has_foreign: bool,
    /// Why the target or the meaning of a link is unknown.
    pub(super) unclear: Option<String>,
}

/// The purpose of a look at a folder.
#[derive(Clone, Copy)]
enum What {
    Layers,
    Links,
    Revisions,
    Pulled,
    Noted,
}

impl Collection<'_> {
    /// Looks at repositories; where `closely`, at each link to a blob as well.
    pub(super) async fn look(
        &self,
        places: &[RepositoryFolder],
        closely: bool,
    ) -> Result<Vec<Content>, Error> {
        let storage = self.tree.storage();
        let parts = places.iter().flat_map(|place| [LAYERS, REVISIONS].map(|part| (place, part)));
        let look = |folder, object| Look { folder, object };
        let looks = parts.clone().map(|(place, part)| look(place.folder.child(part), None));
        let algorithms = storage.survey(looks.collect()).await?;

        let mut contents: Vec<Content> = places.iter().map(|_| Content::default()).collect();
        let mut looks = Vec::new();
        let mut reasons = Vec::new();
        for (at, ((place, part), seen)) in parts.zip(algorithms).enumerate() {
            let at = at / 2;
            for Seen { name, is_prefix, .. } in seen {
                let Ok(algorithm) = name.parse::<Algorithm>() else {
                    contents[at].may_have_foreign |= is_prefix;
                    continue;
                };
                let folder = place.folder.child(part).child(&name);
                let mut add = |what, object| {
                    looks.push(look(folder.clone(), object));
                    reasons.push((at, algorithm, what));
                };
                match part {
                    LAYERS => {
                        add(What::Layers, None);
                        if closely {
                            add(What::Links, Some(LINK));
                        }
                    }
                    _ => {
                        add(What::Revisions, Some(LINK));
                        if closely && self.limits.unused.is_some() {
                            add(What::Pulled, Some(PULLED));
                            add(What::Noted, Some(UNTAGGED));
                        }
                    }
                }
            }
        }
        let seen = storage.survey(looks).await?;
        for ((at, algorithm, what), seen) in reasons.into_iter().zip(seen) {
            let content = &mut contents[at];
            let found = digests(algorithm, seen);
            let since = |(digest, since): (_, Option<_>)| Some((digest, since?));
            match what {
                What::Layers => content.layers.extend(found.map(|(digest, _)| digest)),
                What::Links => content.links.extend(found.filter_map(since)),
                What::Revisions => content.revisions.extend(found.filter_map(since)),
                What::Pulled => content.pulled.extend(found.filter_map(since)),
                What::Noted => content.noted.extend(found.filter_map(since)),
            }
        }
        Ok(contents)
    }

    /// The targets of those `layers` of a repository whose digest is no sha256, and, where it
    /// `may_have_foreign` links, the targets of those.
    pub(super) async fn aliases(
        &self,
        place: &RepositoryFolder,
        layers: &[Digest],
        may_have_foreign: bool,
    ) -> Result<Aliases, Error> {
        let mut aliases = Aliases::default();
        let folder = place.folder.child(LAYERS);
        let mut links: Vec<Key> = layers
            .iter()
            .filter(|layer| layer.algorithm() != Algorithm::Sha256)
            .map(|layer| folder.child(layer.algorithm().as_str()).child(layer.hex()).child(LINK))
            .collect();
        if may_have_foreign {
            let foreign = self.tree.foreign_links(&folder).await?;
            aliases.has_foreign = !foreign.is_empty();
            for link in &foreign {
                if self.tree.storage().size(&link.key).await?.is_none() {
                    aliases.unclear = Some(format!("the target of {} is not known", link.digest));
                }
            }
            links.extend(foreign.into_iter().map(|link| link.key));
            let revisions = self.tree.foreign_links(&place.folder.child(REVISIONS)).await?;
            if let Some(revision) = revisions.first() {
                aliases.has_foreign = true;
                aliases.unclear = Some(format!("the manifest {} cannot be read", revision.digest));
            }
        }
        let mut targets = stream::iter(links)
            .map(|key| async move { self.target(&key).await.map(|target| (key, target)) })
            .buffered(READS);
        while let Some((key, target)) = targets.try_next().await? {
            match target {
                Target::Bytes(digest) => aliases.targets.push(digest),
                Target::Nothing => {}
                Target::Unclear => aliases.unclear = Some(format!("the link {key} leads nowhere")),
            }
        }
        Ok(aliases)
    }

    async fn target(&self, key: &Key) -> Result<Target, Error> {
        let content = match self.tree.storage().read(key, link::MAX_LEN).await {
            Err(error) if error.kind() == ErrorKind::TooLong => return Ok(Target::Unclear),
            read => read?,
        };
        let Some(content) = content else { return Ok(Target::Nothing) };
        let text = std::str::from_utf8(&content).unwrap_or_default();
        Ok(match text.trim().parse() {
            Ok(digest) => Target::Bytes(digest),
            // The sweep never removes bytes by such a digest.
            Err(InvalidDigest::Algorithm) => Target::Nothing,
            Err(_) => Target::Unclear,
        })
    }
}

/// The target of a link.
enum Target {
    /// Bytes by a digest.
    Bytes(Digest),
    /// The link has gone since, or leads to bytes that are never collected.
    Nothing,
    /// The link cannot be read.
    Unclear,
}

/// The digests among some names, with the time of the object that the look asked for.
fn digests(
    algorithm: Algorithm,
    seen: Vec<Seen>,
) -> impl Iterator<Item = (Digest, Option<SystemTime>)> {
    seen.into_iter().filter_map(move |Seen { name, object, .. }| {
        let digest = Digest::from_parts(algorithm.as_str(), &name).ok()?;
        Some((digest, object.map(|(_, since)| since)))
    })
}
