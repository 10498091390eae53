//! The group file, read again while the server runs. A file that cannot be used changes nothing.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{Groups, InvalidGroups};
use crate::stamp::Stamp;

/// The largest file that is read: room for hundreds of thousands of users.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// A group file, and its stamp when it was last read. Reading blocks.
#[derive(Debug)]
pub struct GroupFile {
    path: PathBuf,
    /// `None` makes the next reload read the file.
    seen: Option<Stamp>,
    bytes: Vec<u8>,
    broken: bool,
}

/// The error of a group file. The message has no path.
#[derive(Debug, thiserror::Error)]
pub enum GroupFileError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// It is larger than 16 MiB.
    #[error("it is larger than 16 MiB")]
    TooLarge,
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
        let mut file = Self { path: path.to_owned(), seen: None, bytes: vec![], broken: false };
        file.bytes = file.read()?;
        let groups = Groups::parse(&file.bytes)?;
        Ok((file, groups))
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file if its stamp has changed, or in any case if `anyway`. Returns the groups if the
    /// content differs from the last call's.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, then again only after it could be read meanwhile or if `anyway`;
    /// and once for each content that is not of the form. The caller keeps the groups that it has.
    pub fn reload(&mut self, anyway: bool) -> Result<Option<Groups>, GroupFileError> {
        if !anyway && self.seen == Some(Stamp::of(&self.path)) {
            return Ok(None);
        }
        let bytes = match self.read() {
            Ok(bytes) => bytes,
            Err(_) if self.broken && !anyway => return Ok(None),
            Err(error) => {
                self.broken = true;
                return Err(error);
            }
        };
        self.broken = false;
        // An editor may truncate the file before it writes it. So an empty file counts only once its
        // stamp has settled.
        if bytes == self.bytes || (bytes.is_empty() && self.seen.is_none()) {
            return Ok(None);
        }
        self.bytes = bytes;
        Ok(Some(Groups::parse(&self.bytes)?))
    }

    fn read(&mut self) -> Result<Vec<u8>, GroupFileError> {
        // The stamp is taken before the file is read: a change in between is noticed next time.
        let stamp = Stamp::of(&self.path);
        let settled = stamp.is_settled(SystemTime::now());
        self.seen = None;
        let mut bytes = Vec::new();
        fs::File::open(&self.path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(GroupFileError::TooLarge);
        }
        self.seen = settled.then_some(stamp);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
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
