//! The catalog: the repositories that have a manifest.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use self::answers::Question;
use super::Lists;
use crate::{
    oci::{Algorithm, RepositoryName},
    registry::{
        Error, Page,
        tree::{Tree, TreeKey, repositories},
    },
};

mod answers;

pub(super) use self::answers::Answers;

impl Lists {
    /// Up to `limit` repositories behind `after` whose name contains `term`, in the order of their
    /// bytes, without repositories whose last manifest was deleted.
    ///
    /// The list has every change that this process made before the call. A change by another process
    /// may be missing for a second.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn repositories(
        &self,
        after: Option<&str>,
        term: &str,
        limit: usize,
    ) -> Result<Arc<Page<RepositoryName>>, Error> {
        let after = after.unwrap_or_default().to_owned();
        let term = term.to_owned();
        let question = Question { after, term, limit };
        let answers = &self.answers;
        let asked = Answers::asked(self.tree.catalog_changes());
        if let Some(page) = answers.known(&question, asked) {
            return Ok(page);
        }
        let _turn = answers.turn(&question).await;
        // The caller that had the turn before may have asked the same question.
        if let Some(page) = answers.known(&question, asked) {
            return Ok(page);
        }
        let began = Answers::asked(self.tree.catalog_changes());
        let page = Arc::new(self.walk(&question).await?);
        answers.keep(question, began, &page);
        Ok(page)
    }

    async fn walk(&self, question: &Question) -> Result<Page<RepositoryName>, Error> {
        let Question { after, term, limit } = question;
        let term = term.as_str();
        let limit = *limit;
        let mut names = Vec::new();
        let mut walk = Walk::behind(&self.tree, after);
        while names.len() <= limit {
            let Some(name) = walk.next().await? else {
                break;
            };
            if name.as_str().contains(term) && self.has_manifest(&name).await? {
                names.push(name);
            }
        }
        Ok(Page::cut(names, limit))
    }

    async fn has_manifest(&self, name: &RepositoryName) -> Result<bool, Error> {
        for algorithm in Algorithm::ALL {
            let revisions = TreeKey::Revisions(name, algorithm).key();
            // registry:2 leaves the folder of a manifest that it deleted.
            if !self
                .tree
                .storage()
                .list_holders(&revisions, "link", None, 1)
                .await?
                .names
                .is_empty()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// How many folders a listing reads at a time.
const BATCH: usize = 128;

/// A walk through the folders of repositories that yields names in the order of their bytes, and
/// reads no more folders than it must.
///
/// A folder may be a repository and hold others. The walk yields its own name in its place, and the
/// names in it later, where its name with a `/` behind it belongs: `a-b` is between `a` and `a/b`.
pub(in crate::registry) struct Walk<'a> {
    tree: &'a Tree,
    /// The folders that are open, the innermost last.
    levels: Vec<Level>,
}

/// An open folder of a walk.
struct Level {
    /// The prefix of the names in it: empty, or a path that ends in `/`.
    prefix: String,
    /// Names that were read and not yielded yet, the next one last.
    names: Vec<String>,
    /// The name behind which the next listing begins; `None` after the last listing.
    cursor: Option<String>,
    /// Folders whose content was not yielded yet, with a `/` at their end, the least on top.
    folders: BinaryHeap<Reverse<String>>,
    /// One of those folders, and the name within it behind which the walk begins.
    begin: Option<(String, String)>,
}

impl<'a> Walk<'a> {
    /// A walk through the names behind `after`.
    pub(in crate::registry) fn behind(tree: &'a Tree, after: &str) -> Self {
        Self { tree, levels: vec![Level::behind(String::new(), after)] }
    }

    /// The next name.
    pub(in crate::registry) async fn next(&mut self) -> Result<Option<RepositoryName>, Error> {
        while let Some(level) = self.levels.last_mut() {
            level.fill(self.tree).await?;
            let name = level.names.last();
            match level.folders.peek() {
                Some(Reverse(folder)) if name.is_none_or(|name| folder < name) => {
                    let inner = level.enter();
                    self.levels.extend(inner);
                }
                _ => match level.names.pop() {
                    Some(name) => {
                        let full = format!("{}{name}", level.prefix);
                        level.folders.push(Reverse(format!("{name}/")));
                        match full.parse() {
                            Ok(name) => return Ok(Some(name)),
                            Err(_) => {
                                let why = "a folder that no repository can be called";
                                self.tree.skip(&repositories().child(&full), why);
                            }
                        }
                    }
                    None => {
                        self.levels.pop();
                    }
                },
            }
        }
        Ok(None)
    }
}

impl Level {
    fn behind(prefix: String, after: &str) -> Self {
        let (first, rest) = after.split_once('/').unwrap_or((after, ""));
        // Behind `a/b` come no `a-b` any more, for all that begins with `a-` is before `a/`.
        let cursor = &after[..after.len() - rest.len()];
        // Folders whose name comes before `first` and whose content comes behind it. A missing folder
        // counts as empty; the walk does not look for names that no repository can have.
        let folders = first
            .char_indices()
            .filter(|(at, character)| *at > 0 && *character < '/')
            .map(|(at, _)| &first[..at])
            .chain([first])
            .filter(|name| name.parse::<RepositoryName>().is_ok())
            .map(|name| Reverse(format!("{name}/")))
            .collect();
        let begin = Some((format!("{first}/"), rest.to_owned()));
        Self { prefix, names: Vec::new(), cursor: Some(cursor.to_owned()), folders, begin }
    }

    /// Reads more names when none are left.
    async fn fill(&mut self, tree: &Tree) -> Result<(), Error> {
        while self.names.is_empty()
            && let Some(cursor) = &self.cursor
        {
            let folder = match self.prefix.strip_suffix('/') {
                Some(folder) => repositories().child(folder),
                None => repositories(),
            };
            // Every name is greater than the empty one.
            let entries = tree.storage().list(&folder, Some(cursor), BATCH).await?;
            self.cursor = entries.last().map(|entry| entry.name.clone());
            for entry in entries.into_iter().rev().filter(|entry| !entry.name.starts_with('_')) {
                match entry.is_prefix {
                    true => self.names.push(entry.name),
                    false => tree.skip(&folder.child(&entry.name), "a file among repositories"),
                }
            }
        }
        Ok(())
    }

    /// Opens the least of the folders.
    fn enter(&mut self) -> Option<Self> {
        let Reverse(folder) = self.folders.pop()?;
        let prefix = format!("{}{folder}", self.prefix);
        let after = match self.begin.take_if(|(begin, _)| *begin == folder) {
            Some((_, after)) => after,
            None => String::new(),
        };
        Some(Self::behind(prefix, &after))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        oci::Digest,
        registry::{Options, Registry, SystemClock, tree::TreeKey},
        storage::{Durability, Storage as _, memory::Memory},
    };

    fn registry(names: &[String]) -> (tokio::runtime::Runtime, Registry) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let memory = Memory::default();
        let digest = Digest::of(Algorithm::Sha256, b"");
        for name in names {
            let key = TreeKey::Revision(&name.parse().unwrap(), &digest).key();
            runtime.block_on(memory.put(&key, Bytes::new(), Durability::Lazy)).unwrap();
        }
        (runtime, Registry::new(Arc::new(memory), Arc::new(SystemClock), Options::default()))
    }

    proptest! {
        #[test]
        fn page_has_the_next_sorted_names(
            names in proptest::collection::btree_set("[ab]([-.][ab]){0,2}(/[ab]([-.][ab])?){0,2}", 0..20),
            after in "([ab./-]{0,5}|\\PC{0,3})", limit in 0_usize..8,
        ) {
            let names: Vec<String> = names.into_iter().collect();
            let (runtime, registry) = registry(&names);
            let page = runtime.block_on(registry.lists().repositories(Some(&after), "", limit)).unwrap();
            let expected: Vec<&String> = names.iter().filter(|name| **name > after).collect();
            let found: Vec<String> = page.items.iter().map(ToString::to_string).collect();
            prop_assert_eq!(found.iter().collect::<Vec<_>>(), &expected[..limit.min(expected.len())]);
            prop_assert_eq!(page.more, expected.len() > limit);
        }
    }
}
