//! Reachability: which manifests of a repository stay.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::SystemTime,
};

use crate::oci::{Digest, References};

/// A manifest of a repository.
#[derive(Clone, Debug)]
pub(super) struct Revision {
    pub(super) digest: Digest,
    /// The time of its link.
    pub(super) linked: SystemTime,
    /// Whether a collection has noted when it lost its tags.
    pub(super) noted: bool,
    /// Whether it is younger than the grace period, or was tagged or pulled too recently, so that it stays
    /// without a reference.
    pub(super) young: bool,
    /// Its references; `None` where it cannot be read.
    pub(super) references: Option<Arc<References>>,
}

/// The roots: manifests that stay without a reference from another manifest.
#[derive(Clone, Copy, Debug)]
pub(super) enum Roots<'a> {
    /// Manifests that have a tag or are young.
    Tagged(&'a HashSet<Digest>),
    /// As `Tagged`, and every manifest but the released ones, their descendants and their referrers.
    Released { tagged: &'a HashSet<Digest>, released: &'a HashSet<Digest> },
}

/// The positions in `revisions` of the unreachable manifests, in levels: a level may be removed when
/// the levels before it have gone, so no manifest goes before one that references it.
///
/// A reachable manifest keeps its children, its subjects and its referrers.
pub(super) fn judge(revisions: &[Revision], roots: Roots<'_>) -> Vec<Vec<usize>> {
    let relations = Relations::of(revisions);
    let kept = match roots {
        Roots::Tagged(tagged) => relations.reach(
            |at| revisions[at].young || tagged.contains(&revisions[at].digest),
            |at| relations.kept_by(at),
        ),
        Roots::Released { tagged, released } => {
            // The descendants of released manifests and their referrers, not their subjects.
            let concerned = relations.reach(
                |at| released.contains(&revisions[at].digest),
                |at| relations.children[at].iter().chain(&relations.referrers[at]).copied(),
            );
            relations.reach(
                |at| !concerned[at] || tagged.contains(&revisions[at].digest),
                |at| relations.kept_by(at),
            )
        }
    };
    relations.parents_first(&kept)
}

/// Whether each of the revisions stays only because it is young: no tag, and no manifest with a tag, keeps
/// it.
pub(super) fn untagged(revisions: &[Revision], tagged: &HashSet<Digest>) -> Vec<bool> {
    let relations = Relations::of(revisions);
    let reached =
        relations.reach(|at| tagged.contains(&revisions[at].digest), |at| relations.kept_by(at));
    reached.into_iter().map(|reached| !reached).collect()
}

/// The references between the manifests of a repository, by position.
struct Relations {
    children: Vec<Vec<usize>>,
    subjects: Vec<Vec<usize>>,
    referrers: Vec<Vec<usize>>,
}

impl Relations {
    fn of(revisions: &[Revision]) -> Self {
        let places: HashMap<&Digest, usize> =
            revisions.iter().enumerate().map(|(at, revision)| (&revision.digest, at)).collect();
        let count = revisions.len();
        let mut relations = Self {
            children: vec![Vec::new(); count],
            subjects: vec![Vec::new(); count],
            referrers: vec![Vec::new(); count],
        };
        for (at, revision) in revisions.iter().enumerate() {
            let Some(references) = &revision.references else { continue };
            let here = |named: &[Digest]| -> Vec<usize> {
                named.iter().filter_map(|digest| places.get(digest).copied()).collect()
            };
            relations.children[at] = here(&references.manifests);
            relations.subjects[at] = here(&references.subjects);
            for subject in &relations.subjects[at] {
                relations.referrers[*subject].push(at);
            }
        }
        relations
    }

    /// The manifests that a reachable manifest keeps.
    fn kept_by(&self, at: usize) -> impl Iterator<Item = usize> {
        self.children[at].iter().chain(&self.subjects[at]).chain(&self.referrers[at]).copied()
    }

    /// The manifests that steps lead to from the first ones, and the first ones.
    fn reach<I: Iterator<Item = usize>>(
        &self,
        is_first: impl Fn(usize) -> bool,
        step: impl Fn(usize) -> I,
    ) -> Vec<bool> {
        let mut reached: Vec<bool> = (0..self.children.len()).map(is_first).collect();
        let mut open: Vec<usize> = (0..reached.len()).filter(|at| reached[*at]).collect();
        while let Some(at) = open.pop() {
            for next in step(at) {
                if !std::mem::replace(&mut reached[next], true) {
                    open.push(next);
                }
            }
        }
        reached
    }

    fn parents_first(&self, kept: &[bool]) -> Vec<Vec<usize>> {
        let mut parents = vec![0_usize; kept.len()];
        let gone = || (0..kept.len()).filter(|at| !kept[*at]);
        for at in gone() {
            // An index may name a child twice, and is counted twice below.
            self.children[at].iter().for_each(|child| parents[*child] += 1);
        }
        let mut levels = Vec::new();
        let mut level: Vec<usize> = gone().filter(|at| parents[*at] == 0).collect();
        while !level.is_empty() {
            let mut next = Vec::new();
            for at in &level {
                for child in &self.children[*at] {
                    parents[*child] -= 1;
                    if parents[*child] == 0 && !kept[*child] {
                        next.push(*child);
                    }
                }
            }
            levels.push(std::mem::replace(&mut level, next));
        }
        levels
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    fn digest(n: usize) -> Digest {
        Digest::of(Algorithm::Sha256, &n.to_be_bytes())
    }

    fn digests(of: &[usize]) -> HashSet<Digest> {
        of.iter().copied().map(digest).collect()
    }

    /// Revisions by their children and their subjects.
    fn revisions(of: &[(&[usize], Option<usize>)]) -> Vec<Revision> {
        let revision = |(at, (children, subject)): (usize, &(&[usize], Option<usize>))| Revision {
            digest: digest(at),
            linked: SystemTime::UNIX_EPOCH,
            noted: false,
            young: false,
            references: Some(Arc::new(References {
                manifests: children.iter().copied().map(digest).collect(),
                subjects: subject.map(digest).into_iter().collect(),
                ..References::default()
            })),
        };
        of.iter().enumerate().map(revision).collect()
    }

    fn gone(revisions: &[Revision], roots: Roots<'_>) -> Vec<usize> {
        let mut gone: Vec<usize> = judge(revisions, roots).into_iter().flatten().collect();
        gone.sort_unstable();
        gone
    }

    #[test]
    fn index_a_subject_and_a_referrer_keep_each_other() {
        // 0 an index of 1 and 2; 3 is about 1; 4 is about 3; 5 is alone; 6 is about something else.
        let all = revisions(&[
            (&[1, 2], None),
            (&[], None),
            (&[], None),
            (&[], Some(1)),
            (&[], Some(3)),
            (&[], None),
            (&[], Some(99)),
        ]);
        assert_eq!(gone(&all, Roots::Tagged(&digests(&[0]))), [5, 6]);
        assert_eq!(gone(&all, Roots::Tagged(&digests(&[4]))), [0, 2, 5, 6], "what it is about");
        assert_eq!(gone(&all, Roots::Tagged(&digests(&[2]))), [0, 1, 3, 4, 5, 6]);
        assert_eq!(gone(&all, Roots::Tagged(&digests(&[]))), [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn manifest_that_is_young_or_unreadable_counts_as_a_root() {
        let mut all = revisions(&[(&[1], None), (&[], None), (&[], None)]);
        all[0].young = true;
        assert_eq!(gone(&all, Roots::Tagged(&digests(&[]))), [2]);
        all[0].references = None;
        assert_eq!(gone(&all, Roots::Tagged(&digests(&[]))), [1, 2]);
    }

    #[test]
    fn released_manifest_goes_with_the_content_that_it_alone_references() {
        // 0 and 1 are indexes that share 3; 2 is 0's own; 4 is about 0; 5 is untagged.
        let all = revisions(&[
            (&[2, 3], None),
            (&[3], None),
            (&[], None),
            (&[], None),
            (&[], Some(0)),
            (&[], None),
        ]);
        let (tagged, released) = (digests(&[1]), digests(&[0]));
        let roots = Roots::Released { tagged: &tagged, released: &released };
        assert_eq!(gone(&all, roots), [0, 2, 4], "the shared one and the untagged one stay");
        let (tagged, released) = (digests(&[0, 1]), digests(&[0]));
        let roots = Roots::Released { tagged: &tagged, released: &released };
        assert!(gone(&all, roots).is_empty(), "it has another tag");
        let (tagged, released) = (digests(&[1]), digests(&[4]));
        let roots = Roots::Released { tagged: &tagged, released: &released };
        assert!(gone(&all, roots).is_empty(), "what it is about stays, and keeps it");
    }

    #[test]
    fn parents_go_before_their_children() {
        // An index of an index, which names a child twice, and the child of both.
        let all = revisions(&[(&[1, 2], None), (&[2, 2], None), (&[], None), (&[], None)]);
        let levels = judge(&all, Roots::Tagged(&digests(&[])));
        assert_eq!(levels, [vec![0, 3], vec![1], vec![2]]);
        // One that stays has a child that goes with another parent only.
        let all = revisions(&[(&[2], None), (&[2], None), (&[], None)]);
        assert_eq!(judge(&all, Roots::Tagged(&digests(&[1]))), [vec![0]]);
    }
}
