//! A walk through the tree, a page of a folder at a time, which lists the objects to check.

use std::{ops::ControlFlow, vec};

use tokio::sync::mpsc::Sender;

use super::{
    Stage,
    target::{Linked, Target},
};
use crate::{
    oci::{Algorithm, Digest, RepositoryName, Tag},
    registry::tree::{blobs, repositories},
    storage::{Entry, Error, Key, Storage},
};

/// How many names of a folder are read at a time. Storage reads a folder that is too large for its cache
/// anew for each page, so a page is large.
const PAGE: usize = 8192;

/// The names in a folder.
struct Names {
    folder: Key,
    page: vec::IntoIter<Entry>,
    /// The name behind which the next page begins; `None` after the last page.
    cursor: Option<String>,
}

impl Names {
    fn of(folder: Key) -> Self {
        Self { folder, page: Vec::new().into_iter(), cursor: Some(String::new()) }
    }

    async fn next(&mut self, storage: &dyn Storage) -> Result<Option<Entry>, Error> {
        loop {
            if let Some(entry) = self.page.next() {
                return Ok(Some(entry));
            }
            let Some(cursor) = self.cursor.take() else { return Ok(None) };
            let page = storage.list(&self.folder, Some(&cursor), PAGE).await?;
            self.cursor = page.last().map(|entry| entry.name.clone());
            self.page = page.into_iter();
        }
    }
}

/// Whether the walk goes on; it breaks when the receiver of targets has gone.
type Step = ControlFlow<()>;

/// One walk through the tree, for one stage.
pub(super) struct Walk<'a> {
    pub(super) storage: &'a dyn Storage,
    pub(super) stage: Stage,
    pub(super) targets: Sender<Target>,
}

impl Walk<'_> {
    /// Walks to the end, or until the receiver of targets has gone.
    pub(super) async fn run(self) {
        let _ = match self.stage {
            Stage::Blobs => self.blobs().await,
            _ => self.repositories().await,
        };
    }

    async fn tell(&self, target: Target) -> Step {
        match self.targets.send(target).await {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    /// Sends a name that is invalid here, once for all stages that pass it.
    async fn foreign(&self, folder: &Key, entry: &Entry) -> Step {
        if matches!(self.stage, Stage::Manifests) {
            return ControlFlow::Continue(());
        }
        let key = folder.child(&entry.name);
        self.tell(if entry.is_prefix { Target::Name(key) } else { Target::Stray(key) }).await
    }

    /// The next name. A folder that cannot be read ends here, and is sent as a target.
    async fn next(&self, names: &mut Names) -> ControlFlow<(), Option<Entry>> {
        match names.next(self.storage).await {
            Ok(entry) => ControlFlow::Continue(entry),
            Err(_) => {
                self.tell(Target::Folder(names.folder.clone())).await?;
                ControlFlow::Continue(None)
            }
        }
    }

    /// As [`next`](Self::next), where a folder may also be a symbolic link to one.
    async fn next_folder(&self, names: &mut Names) -> ControlFlow<(), Option<Entry>> {
        let Some(mut entry) = self.next(names).await? else {
            return ControlFlow::Continue(None);
        };
        if !entry.is_prefix {
            let within = self.storage.list(&names.folder.child(&entry.name), None, 1).await;
            entry.is_prefix = within.is_ok_and(|within| !within.is_empty());
        }
        ControlFlow::Continue(Some(entry))
    }

    async fn blobs(&self) -> Step {
        let mut algorithms = Names::of(blobs());
        while let Some(entry) = self.next_folder(&mut algorithms).await? {
            let Ok(algorithm) = entry.name.parse::<Algorithm>() else {
                self.foreign(&algorithms.folder, &entry).await?;
                continue;
            };
            let mut starts = Names::of(algorithms.folder.child(&entry.name));
            while let Some(start) = self.next_folder(&mut starts).await? {
                if !start.is_prefix {
                    self.foreign(&starts.folder, &start).await?;
                    continue;
                }
                let mut names = Names::of(starts.folder.child(&start.name));
                while let Some(entry) = self.next_folder(&mut names).await? {
                    match Digest::from_parts(algorithm.as_str(), &entry.name) {
                        Ok(digest) if entry.is_prefix && entry.name.starts_with(&start.name) => {
                            self.tell(Target::Blob(digest)).await?;
                        }
                        _ => self.foreign(&names.folder, &entry).await?,
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Repositories lie at any depth, one within the other; the folders of a repository's content begin
    /// with `_`. The walk does not follow symbolic links, and neither does the catalog.
    async fn repositories(&self) -> Step {
        let base = repositories();
        let mut levels = vec![Names::of(base.clone())];
        while let Some(level) = levels.last_mut() {
            let Some(entry) = self.next(level).await? else {
                levels.pop();
                continue;
            };
            let key = level.folder.child(&entry.name);
            if entry.is_prefix && !entry.name.starts_with('_') {
                levels.push(Names::of(key));
                continue;
            }
            let name = level.folder.as_str().strip_prefix(base.as_str()).unwrap_or_default();
            let name = name.trim_start_matches('/').parse::<RepositoryName>();
            match (entry.name.as_str(), name) {
                ("_layers", Ok(name)) if matches!(self.stage, Stage::Layers) => {
                    self.digests(key, |d| Target::Link(Linked::Layer(name.clone(), d))).await?;
                }
                ("_manifests", Ok(name)) => self.manifests(&key, &name).await?,
                ("_layers" | "_uploads" | "_referrers", Ok(_)) => {}
                // Each of the stages passes it.
                _ if !matches!(self.stage, Stage::Layers) => {}
                _ => self.foreign(&level.folder, &entry).await?,
            }
        }
        ControlFlow::Continue(())
    }

    async fn manifests(&self, folder: &Key, name: &RepositoryName) -> Step {
        let revisions = folder.child("revisions");
        match self.stage {
            Stage::Blobs => ControlFlow::Continue(()),
            Stage::Layers => {
                let mut entries = Names::of(folder.clone());
                while let Some(entry) = self.next(&mut entries).await? {
                    if !matches!(entry.name.as_str(), "revisions" | "tags") {
                        self.foreign(folder, &entry).await?;
                    }
                }
                ControlFlow::Continue(())
            }
            Stage::Revisions => {
                self.digests(revisions, |d| Target::Link(Linked::Revision(name.clone(), d))).await
            }
            Stage::Tags => self.tags(folder.child("tags"), name).await,
            Stage::Manifests => {
                self.digests(revisions, |d| Target::Manifest(name.clone(), d)).await
            }
        }
    }

    async fn tags(&self, folder: Key, name: &RepositoryName) -> Step {
        let mut tags = Names::of(folder);
        while let Some(entry) = self.next_folder(&mut tags).await? {
            match entry.name.parse::<Tag>() {
                Ok(tag) if entry.is_prefix => {
                    self.tell(Target::Link(Linked::Current(name.clone(), tag.clone()))).await?;
                    let index = tags.folder.child(&entry.name).child("index");
                    let entry = |d| Target::Link(Linked::Index(name.clone(), tag.clone(), d));
                    self.digests(index, entry).await?;
                }
                _ => self.foreign(&tags.folder, &entry).await?,
            }
        }
        ControlFlow::Continue(())
    }

    /// Sends a target for each digest below a folder, with the layout `<algorithm>/<hex>`.
    async fn digests(&self, folder: Key, target: impl Fn(Digest) -> Target) -> Step {
        let mut algorithms = Names::of(folder);
        while let Some(algorithm) = self.next_folder(&mut algorithms).await? {
            if !algorithm.is_prefix || algorithm.name.parse::<Algorithm>().is_err() {
                self.foreign(&algorithms.folder, &algorithm).await?;
                continue;
            }
            let mut names = Names::of(algorithms.folder.child(&algorithm.name));
            while let Some(entry) = self.next_folder(&mut names).await? {
                match Digest::from_parts(&algorithm.name, &entry.name) {
                    Ok(digest) if entry.is_prefix => self.tell(target(digest)).await?,
                    _ => self.foreign(&names.folder, &entry).await?,
                }
            }
        }
        ControlFlow::Continue(())
    }
}
