//! Reloads the password file while the server runs. A file that cannot be read changes nothing.

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

/// A password file, and its stamp when it was last read. Reading blocks.
#[derive(Debug)]
pub struct UserFile {
    path: PathBuf,
    formats: Formats,
    /// `None` makes the next reload read the file.
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
        let mut file = Self {
            path: options.path.clone(),
            formats: options.formats(),
            seen: None,
            bytes: vec![],
            broken: false,
        };
        file.bytes = file.read()?;
        let users = Htpasswd::parse(&file.bytes, file.formats);
        Ok((file, users))
    }

    /// Whether these options name the same file and accept the same formats.
    #[must_use]
    pub fn is_that_of(&self, options: &HtpasswdOptions) -> bool {
        self.path == options.path && self.formats == options.formats()
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file if its stamp has changed, or in any case if `anyway`. Returns the users if the
    /// content differs from the last call's.
    ///
    /// # Errors
    ///
    /// When the file cannot be read; then again only after it could be read meanwhile, or if
    /// `anyway`. The caller keeps the users that it has.
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
        // Apache's htpasswd truncates the file before it writes it. So an empty file counts only
        // once its stamp has settled.
        if bytes == self.bytes || (bytes.is_empty() && self.seen.is_none()) {
            return Ok(None);
        }
        self.bytes = bytes;
        Ok(Some(Htpasswd::parse(&self.bytes, self.formats)))
    }

    fn read(&mut self) -> io::Result<Vec<u8>> {
        // The stamp is taken before the file is read: a change in between is noticed next time.
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
    fn file_change_is_noticed_and_missing_file_changes_no_users() {
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
        assert!(file.reload(false).is_err(), "reported once");
        assert!(file.reload(false).unwrap().is_none(), "and not again");
        fs::write(&path, line("b")).unwrap();
        assert!(file.reload(false).unwrap().is_none(), "back as it was");
        fs::remove_file(&path).unwrap();
        assert!(file.reload(false).is_err(), "reported again");
    }

    #[test]
    fn file_that_is_empty_for_a_moment_changes_no_users() {
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
        assert!(file.reload(false).unwrap().unwrap().entries().is_empty(), "it has settled");
    }
}
