//! The folders of repositories, a batch at a time.
//!
//! Unlike the catalog, the walk leaves nothing out. It includes a folder with content whatever its
//! name, because another registry on the same tree may serve it, and it follows symbolic links within
//! the tree, because requests follow them.

use crate::{
    oci::RepositoryName,
    registry::{
        Error,
        tree::{Tree, repositories},
    },
    storage::{Key, Look},
};

/// How many folders one survey covers.
const BATCH: usize = 64;

/// The longest path of folders, in bytes: a longer one comes from a circle of symbolic links.
const MAX_PATH: usize = 1024;

/// The folders that make up a repository.
pub(in crate::registry) const PARTS: [&str; 4] =
    ["_layers", "_manifests", "_referrers", "_uploads"];

/// The folder of a repository.
#[derive(Clone, Debug)]
pub(in crate::registry) struct RepositoryFolder {
    pub(in crate::registry) folder: Key,
    /// Its path below the folder of repositories.
    pub(in crate::registry) text: String,
    /// Its name, where the path is a valid name.
    pub(in crate::registry) name: Option<RepositoryName>,
    /// Whether it is a folder, not a symbolic link to one.
    pub(in crate::registry) is_folder: bool,
}

impl RepositoryFolder {
    pub(in crate::registry) fn of(name: &RepositoryName) -> Self {
        let folder = repositories().child(name.as_str());
        Self { folder, text: name.to_string(), name: Some(name.clone()), is_folder: true }
    }
}

/// Goes through all folders.
pub(in crate::registry) struct Folders {
    /// The folders that the walk has not visited, the next one last: paths below the folder of
    /// repositories, and whether the listing shows them as folders.
    waiting: Vec<(String, bool)>,
}

impl Folders {
    pub(in crate::registry) fn new() -> Self {
        Self { waiting: vec![(String::new(), true)] }
    }

    /// The repositories among the next folders, possibly none; `None` at the end.
    pub(in crate::registry) async fn next(
        &mut self,
        tree: &Tree,
    ) -> Result<Option<Vec<RepositoryFolder>>, Error> {
        if self.waiting.is_empty() {
            return Ok(None);
        }
        let paths = self.waiting.split_off(self.waiting.len().saturating_sub(BATCH));
        let folder = |path: &str| match path {
            "" => repositories(),
            _ => repositories().child(path),
        };
        let looks =
            paths.iter().map(|(path, _)| Look { folder: folder(path), object: None }).collect();
        let seen = tree.storage().survey(looks).await?;
        let mut places = Vec::new();
        for ((path, is_folder), mut entries) in paths.into_iter().zip(seen) {
            let is_repository = match entries.is_empty() {
                // A file has no entries either.
                true => is_folder,
                false => entries.iter().any(|entry| PARTS.contains(&entry.name.as_str())),
            };
            entries.retain(|entry| !entry.name.starts_with('_'));
            entries.sort_unstable_by(|one, other| other.name.cmp(&one.name));
            let below = entries.into_iter().map(|entry| match path.as_str() {
                "" => (entry.name, entry.is_prefix),
                _ => (format!("{path}/{}", entry.name), entry.is_prefix),
            });
            self.waiting.extend(below.filter(|(path, _)| path.len() <= MAX_PATH));
            if is_repository && !path.is_empty() {
                let name = path.parse().ok();
                places.push(RepositoryFolder {
                    folder: folder(&path),
                    text: path,
                    name,
                    is_folder,
                });
            }
        }
        places.reverse();
        Ok(Some(places))
    }
}
