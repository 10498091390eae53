//! The catalog: the repositories that have a manifest.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use self::answers::Question;
use super::{Lists, Shown};
use crate::{
    oci::{Algorithm, RepositoryName},
    registry::{
        Error, Page,
        tree::{Tree, TreeKey, repositories},
    },
};

mod answers;

pub(super) use self::answers::Answers;

/// A part of the catalog.
#[derive(Clone, Copy, Debug)]
pub struct CatalogQuery<'a> {
    /// The name behind which the part begins; the empty text is before all names.
    pub after: &'a str,
    /// The text that each name contains.
    pub term: &'a str,
    /// The largest number of names.
    pub limit: usize,
}

impl Lists {
    /// The repositories of a part of the catalog that are shown to its caller, in the order of their
    /// bytes, without repositories whose last manifest was deleted. A page is full of them while there
    /// are more.
    ///
    /// The list has every change that this process made before the call. A change by another process
    /// may be missing for a second.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn repositories(
        &self,
        query: CatalogQuery<'_>,
        shown: Shown<'_>,
    ) -> Result<Arc<Page<RepositoryName>>, Error> {
        let question = Question::from(query);
        let answers = &self.answers;
        if let Shown::Only(_) = shown {
            // The cache does not know the caller, and has the pages that show all.
            let _turn = answers.filtered_turn(&question).await;
            return Ok(Arc::new(self.walk(&question, shown).await?));
        }
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
        let page = Arc::new(self.walk(&question, shown).await?);
        answers.keep(question, began, &page);
        Ok(page)
    }

    async fn walk(
        &self,
        question: &Question,
        shown: Shown<'_>,
    ) -> Result<Page<RepositoryName>, Error> {
        let mut names = Vec::new();
        for prefix in shown.prefixes() {
            self.walk_below(&prefix, question, shown, &mut names).await?;
        }
        Ok(Page::cut(names, question.limit))
    }

    /// Adds to `names`, up to one more than the limit, the names of the answer that begin with `prefix`.
    async fn walk_below(
        &self,
        prefix: &str,
        Question { after, term, limit }: &Question,
        shown: Shown<'_>,
        names: &mut Vec<RepositoryName>,
    ) -> Result<(), Error> {
        // All names that begin with the prefix are before `after`.
        let is_over = **after > *prefix && !after.starts_with(prefix);
        // The walk does not look for names that no repository can have.
        let is_impossible = prefix
            .rsplit_once('/')
            .is_some_and(|(folder, _)| folder.parse::<RepositoryName>().is_err());
        if is_over || is_impossible {
            return Ok(());
        }
        let term = term.as_str();
        // A walk yields names behind a text, and the prefix may be a name.
        let mut first = prefix.parse().ok().filter(|_| **after < *prefix);
        let mut walk = Walk::below(&self.tree, prefix, after);
        while names.len() <= *limit {
            let next = match first.take() {
                Some(name) => Some(name),
                None => walk.next().await?,
            };
            let Some(name) = next.filter(|name| name.as_str().starts_with(prefix)) else {
                break;
            };
            let is_asked_for = name.as_str().contains(term) && shown.has(&name);
            if is_asked_for && self.has_manifest(&name).await? {
                names.push(name);
            }
        }
        Ok(())
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

    /// A walk through the names behind `after` and behind `prefix`, which reads no folder outside of the
    /// one that all names with this prefix are in. Behind those names it may yield others of that folder.
    fn below(tree: &'a Tree, prefix: &str, after: &str) -> Self {
        let begin = after.max(prefix);
        let folder = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
        let after = begin.strip_prefix(folder).unwrap_or_default();
        Self { tree, levels: vec![Level::behind(folder.to_owned(), after)] }
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
mod tests;
