//! The password file while the server runs: noticed when it changes, kept when it breaks.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    HtpasswdOptions,
    htpasswd::{Formats, Htpasswd},
};
use crate::stamp::Stamp;

/// A password file, and how it looked when it was last read. Reading blocks.
#[derive(Debug)]
pub struct UserFile {
    path: PathBuf,
    formats: Formats,
    /// `None` makes the next look a reading one.
    seen: Option<Stamp>,
    bytes: Vec<u8>,
    broken: bool,
}

impl UserFile {
    /// Reads the file of the options for the first time.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn open(options: &HtpasswdOptions) -> io::Result<(Self, Htpasswd)> {
        let (path, formats) = (options.path.clone(), options.formats());
        let mut file = Self { path, formats, seen: None, bytes: vec![], broken: false };
        file.bytes = file.read()?;
        let users = Htpasswd::parse(&file.bytes, formats);
        Ok((file, users))
    }

    /// Whether it is the file of these options, read as they say.
    #[must_use]
    pub fn is_that_of(&self, options: &HtpasswdOptions) -> bool {
        self.path == options.path && self.formats == options.formats()
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The users, when they are others than at the last call; `anyway`, even when the file looks
    /// as if it had not changed.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, once until it can be read again. Whoever calls keeps the
    /// users they have.
    pub fn reload(&mut self, anyway: bool) -> io::Result<Option<Htpasswd>> {
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
        // Apache's htpasswd empties the file before it writes it. What stays empty until it has
        // settled is meant to be.
        if bytes == self.bytes || (bytes.is_empty() && self.seen.is_none()) {
            return Ok(None);
        }
        self.bytes = bytes;
        Ok(Some(Htpasswd::parse(&self.bytes, self.formats)))
    }

    fn read(&mut self) -> io::Result<Vec<u8>> {
        // Looked at before it is read: a change in between is then noticed next time.
        let stamp = Stamp::of(&self.path);
        let settled = stamp.is_settled(SystemTime::now());
        self.seen = None;
        let bytes = fs::read(&self.path)?;
        self.seen = settled.then_some(stamp);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$04$......................................................";

    fn open(path: &Path) -> io::Result<(UserFile, Htpasswd)> {
        UserFile::open(&HtpasswdOptions { path: path.to_owned(), ..HtpasswdOptions::default() })
    }

    #[test]
    fn a_change_is_noticed_and_a_broken_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        let line = |user: &str| format!("{user}:{}\n", &HASH[..60]);
        fs::write(&path, line("a")).unwrap();
        let (mut file, users) = open(&path).unwrap();
        assert_eq!(users.entries().len(), 1);
        assert!(file.reload(false).unwrap().is_none(), "nothing changed");

        fs::write(&path, line("b")).unwrap();
        let users = file.reload(false).unwrap().unwrap();
        assert_eq!(users.entries()[0].user, "b", "same length, same second");

        fs::remove_file(&path).unwrap();
        assert!(file.reload(false).is_err(), "told once");
        assert!(file.reload(false).unwrap().is_none(), "and not again");
        fs::write(&path, line("b")).unwrap();
        assert!(file.reload(false).unwrap().is_none(), "back as it was");
        fs::remove_file(&path).unwrap();
        assert!(file.reload(false).is_err(), "told again");
    }

    #[test]
    fn a_file_that_is_empty_for_a_moment_locks_nobody_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        fs::write(&path, format!("a:{}\n", &HASH[..60])).unwrap();
        let (mut file, _) = open(&path).unwrap();
        fs::write(&path, "").unwrap();
        for anyway in [false, true] {
            assert!(file.reload(anyway).unwrap().is_none(), "it is being written");
        }
        let long_ago = SystemTime::now() - std::time::Duration::from_secs(60);
        fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        assert!(file.reload(false).unwrap().unwrap().entries().is_empty(), "it is meant to be");
    }
}
