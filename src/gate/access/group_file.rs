//! The group file, read again while the server runs. A file that cannot be used changes nothing.

use std::{io, path::Path};

use super::{Groups, InvalidGroups};
use crate::gate::text_file::{Absent, WatchedFile};

/// A group file, as a running server reads it. Reading blocks.
#[derive(Debug)]
pub struct GroupFile(WatchedFile);

/// The error of a group file. The message has no path.
#[derive(Debug, thiserror::Error)]
pub enum GroupFileError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// A line is not of the form.
    #[error(transparent)]
    Invalid(#[from] InvalidGroups),
}

impl GroupFile {
    /// Reads a file for the first time.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or a line of it is not of the form.
    pub fn open(path: &Path) -> Result<(Self, Groups), GroupFileError> {
        let file = WatchedFile::open(path, Absent::Error)?;
        let groups = Groups::parse(file.bytes())?;
        Ok((Self(file), groups))
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Reads the file if its stamp has changed, or in any case if `anyway`. Returns the groups if the
    /// content differs from the last call's.
    ///
    /// # Errors
    ///
    /// As for [`WatchedFile::reload`], and once for each content that is not of the form. The caller
    /// keeps the groups that it has.
    pub fn reload(&mut self, anyway: bool) -> Result<Option<Groups>, GroupFileError> {
        let changed = self.0.reload(anyway)?;
        Ok(changed.map(Groups::parse).transpose()?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn file_change_is_noticed_and_a_broken_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("groups");
        fs::write(&path, "g: ann\n").unwrap();
        let (mut file, groups) = GroupFile::open(&path).unwrap();
        assert_eq!(groups.users(), ["ann"]);
        assert!(file.reload(false).unwrap().is_none(), "nothing changed");

        fs::write(&path, "g: bob\n").unwrap();
        assert_eq!(file.reload(false).unwrap().unwrap().users(), ["bob"], "same length");
        fs::write(&path, "g ann\n").unwrap();
        assert!(matches!(file.reload(false), Err(GroupFileError::Invalid(_))), "reported once");
        assert!(file.reload(false).unwrap().is_none(), "and not again");
        fs::remove_file(&path).unwrap();
        assert!(matches!(file.reload(false), Err(GroupFileError::Read(_))), "reported once");
        assert!(file.reload(false).unwrap().is_none(), "and not again");
        fs::write(&path, "g: cyd\n").unwrap();
        assert_eq!(file.reload(false).unwrap().unwrap().users(), ["cyd"]);
        fs::write(&path, "").unwrap();
        assert!(file.reload(false).unwrap().is_none(), "it is being written");
    }
}
