//! Removing more than one file.

use std::{io, path::Path};

use super::{Inner, TRASH, beside, directories::sync_directory, present};
use crate::storage::Durability;

impl Inner {
    /// Deletes what is at `path`, and below it.
    pub(super) fn remove_all(&self, path: &Path) -> io::Result<()> {
        for entry in self.disk.read_dir(path)? {
            let entry = entry?;
            let path = path.join(&entry.name);
            if entry.is_dir {
                self.remove_all(&path)?;
            } else {
                present(self.disk.remove_file(&path))?;
            }
        }
        present(self.disk.remove_dir(path)).map(drop)
    }

    /// Deletes what is at some names in a folder, and below them.
    pub(super) fn remove_below(
        &self,
        folder: &Path,
        names: &[String],
        durability: Durability,
    ) -> io::Result<()> {
        for name in names {
            present(self.remove_all(&folder.join(name)))?;
        }
        self.directories.forget(folder);
        if durability == Durability::Lazy {
            return Ok(());
        }
        // The folder may have gone meanwhile; then its absence is as good.
        present(sync_directory(&*self.disk, folder)).map(drop)
    }

    /// Takes a folder away in one step, durably, and then removes what was in it.
    pub(super) fn discard(&self, path: &Path) -> io::Result<bool> {
        if present(self.disk.stat(path))?.is_none() {
            return Ok(false);
        }
        let trash = Path::new(TRASH);
        let taken = trash.join(uuid::Uuid::new_v4().to_string());
        let renamed = self.directories.within(trash, Durability::Lazy, || {
            match self.disk.rename(path, &taken) {
                Ok(()) => Ok(true),
                // Another process has removed it meanwhile.
                Err(_) if present(self.disk.stat(path))?.is_none() => Ok(false),
                Err(error) => Err(error),
            }
        })?;
        if !renamed {
            return Ok(false);
        }
        self.directories.forget(path);
        present(sync_directory(&*self.disk, beside(path).0))?;
        // A crash leaves it to the next run, and a run that empties the trash may remove it first.
        present(self.remove_all(&taken))?;
        Ok(true)
    }

    /// Removes what is in a folder, to which others may add.
    pub(super) fn empty(&self, folder: &Path) -> io::Result<()> {
        let Some(entries) = present(self.disk.read_dir(folder))? else { return Ok(()) };
        for entry in entries {
            // The process that moved it here removes it as well.
            present(self.remove_all(&folder.join(entry?.name)))?;
        }
        match present(self.disk.remove_dir(folder)) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            removed => removed.map(drop),
        }
    }

    /// Removes a folder and those in it, as far as they hold nothing.
    pub(super) fn prune(&self, path: &Path) -> io::Result<()> {
        self.prune_below(path)?;
        self.directories.forget(path);
        Ok(())
    }

    /// Removes a folder and those above it, below `top`, as far as they are empty.
    pub(super) fn prune_up(&self, path: &Path, top: &Path) -> io::Result<()> {
        let mut folder = path;
        while folder != top && folder.starts_with(top) && self.directories.remove_empty(folder)? {
            let Some(above) = folder.parent() else { break };
            folder = above;
        }
        Ok(())
    }

    /// Whether the folder has gone.
    fn prune_below(&self, path: &Path) -> io::Result<bool> {
        let Some(entries) = present(self.disk.read_dir(path))? else { return Ok(true) };
        let mut empty = true;
        for entry in entries {
            let entry = entry?;
            empty &= entry.is_dir && self.prune_below(&path.join(&entry.name))?;
        }
        if !empty {
            return Ok(false);
        }
        // Something may have come meanwhile.
        self.directories.remove_empty(path)
    }
}
