//! A file that is read again when it has changed. A file that cannot be read changes nothing.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::stamp::Stamp;

/// The largest file that is read: room for hundreds of thousands of lines.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// What a file that does not exist means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It cannot be read.
    Error,
    /// It is empty, once it was absent at two looks in a row: programs replace a file by removing it
    /// first.
    Empty,
}

/// A file, and its stamp when it was last read. Reading blocks.
#[derive(Debug)]
pub struct WatchedFile {
    path: PathBuf,
    absent: Absent,
    /// `None` makes the next reload read the file.
    seen: Option<Stamp>,
    was_absent: bool,
    bytes: Vec<u8>,
    broken: bool,
}

impl WatchedFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is larger than 16 MiB.
    pub fn open(path: &Path, absent: Absent) -> io::Result<Self> {
        let mut file = Self {
            path: path.to_owned(),
            absent,
            seen: None,
            was_absent: false,
            bytes: vec![],
            broken: false,
        };
        file.bytes = file.read()?;
        Ok(file)
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The content that was last read.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the file if its stamp has changed, or in any case if `anyway`. Returns the content if it
    /// differs from that of the last call.
    ///
    /// # Errors
    ///
    /// When the file cannot be read; then again only after it could be read meanwhile, or if
    /// `anyway`. The caller keeps what it has.
    pub fn reload(&mut self, anyway: bool) -> io::Result<Option<&[u8]>> {
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
        // Apache's htpasswd truncates the file before it writes it. So an empty file counts only
        // once its stamp has settled.
        if bytes == self.bytes || (bytes.is_empty() && self.seen.is_none()) {
            return Ok(None);
        }
        self.bytes = bytes;
        Ok(Some(&self.bytes))
    }

    fn read(&mut self) -> io::Result<Vec<u8>> {
        // The stamp is taken before the file is read: a change in between is noticed next time.
        let stamp = Stamp::of(&self.path);
        self.seen = None;
        let (bytes, is_settled) = match read(&self.path) {
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && self.absent == Absent::Empty =>
            {
                (Vec::new(), std::mem::replace(&mut self.was_absent, true))
            }
            read => {
                self.was_absent = false;
                (read?, stamp.is_settled(SystemTime::now()))
            }
        };
        self.seen = is_settled.then_some(stamp);
        Ok(bytes)
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 16 MiB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn file_that_is_too_large_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let file = File::create(&path).unwrap();
        file.set_len(MAX_BYTES).unwrap();
        let mut watched = WatchedFile::open(&path, Absent::Empty).unwrap();
        file.set_len(MAX_BYTES + 1).unwrap();
        let error = watched.reload(true).unwrap_err();
        assert_eq!(error.to_string(), "it is larger than 16 MiB");
        assert!(WatchedFile::open(&path, Absent::Empty).is_err());
    }

    #[test]
    fn change_is_noticed_and_a_missing_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        fs::write(&path, "a").unwrap();
        let mut file = WatchedFile::open(&path, Absent::Error).unwrap();
        assert_eq!(file.bytes(), b"a");
        assert!(file.reload(false).unwrap().is_none(), "nothing changed");

        fs::write(&path, "b").unwrap();
        assert_eq!(file.reload(false).unwrap().unwrap(), b"b", "same length, same second");

        fs::remove_file(&path).unwrap();
        assert!(file.reload(false).is_err(), "reported once");
        assert!(file.reload(false).unwrap().is_none(), "and not again");
        fs::write(&path, "b").unwrap();
        assert!(file.reload(false).unwrap().is_none(), "back as it was");
        fs::remove_file(&path).unwrap();
        assert!(file.reload(false).is_err(), "reported again");
    }

    #[test]
    fn file_that_is_empty_for_a_moment_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        fs::write(&path, "a").unwrap();
        let mut file = WatchedFile::open(&path, Absent::Error).unwrap();
        fs::write(&path, "").unwrap();
        for anyway in [false, true] {
            assert!(file.reload(anyway).unwrap().is_none(), "it is being written");
        }
        let long_ago = SystemTime::now() - std::time::Duration::from_secs(60);
        File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(file.reload(false).unwrap().unwrap(), b"", "it has settled");
    }

    #[test]
    fn absent_file_is_empty_at_the_second_look() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        assert!(WatchedFile::open(&path, Absent::Error).is_err());
        let mut file = WatchedFile::open(&path, Absent::Empty).unwrap();
        assert_eq!(file.bytes(), b"");
        fs::write(&path, "a").unwrap();
        assert_eq!(file.reload(false).unwrap().unwrap(), b"a");

        fs::remove_file(&path).unwrap();
        assert!(file.reload(false).unwrap().is_none(), "it may be on its way back");
        fs::write(&path, "a").unwrap();
        assert!(file.reload(false).unwrap().is_none(), "it is back");
        fs::remove_file(&path).unwrap();
        assert!(file.reload(false).unwrap().is_none());
        assert_eq!(file.reload(false).unwrap().unwrap(), b"", "it has gone");
        assert!(file.reload(false).unwrap().is_none());
    }
}
