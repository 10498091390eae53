//! The password file as a running server reads it: again when it has changed.

use std::{io, path::Path};

use super::{
    HtpasswdOptions,
    htpasswd::{Formats, Htpasswd},
    text_file::{Absent, WatchedFile},
};

/// A password file. Reading blocks.
#[derive(Debug)]
pub struct UserFile {
    file: WatchedFile,
    formats: Formats,
}

impl UserFile {
    /// Reads the file of the options for the first time.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn open(options: &HtpasswdOptions) -> io::Result<(Self, Htpasswd)> {
        let file = WatchedFile::open(&options.path, Absent::Error)?;
        let formats = options.formats();
        let users = Htpasswd::parse(file.bytes(), formats);
        Ok((Self { file, formats }, users))
    }

    /// Whether these options name the same file and accept the same formats.
    #[must_use]
    pub fn is_that_of(&self, options: &HtpasswdOptions) -> bool {
        self.path() == options.path && self.formats == options.formats()
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Reads the file if its stamp has changed, or in any case if `anyway`. Returns the users if the
    /// content differs from the last call's.
    ///
    /// # Errors
    ///
    /// As for [`WatchedFile::reload`]: the caller keeps the users that it has.
    pub fn reload(&mut self, anyway: bool) -> io::Result<Option<Htpasswd>> {
        let changed = self.file.reload(anyway)?;
        Ok(changed.map(|bytes| Htpasswd::parse(bytes, self.formats)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const HASH: &str = "$2y$04$......................................................";

    #[test]
    fn changed_file_has_other_users() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        let line = |user: &str| format!("{user}:{}\n", &HASH[..60]);
        fs::write(&path, line("a")).unwrap();
        let options = HtpasswdOptions { path: path.clone(), ..HtpasswdOptions::default() };
        let (mut file, users) = UserFile::open(&options).unwrap();
        assert_eq!(users.entries().len(), 1);
        assert!(file.is_that_of(&options));
        fs::write(&path, line("b")).unwrap();
        let users = file.reload(false).unwrap().unwrap();
        assert_eq!(users.entries()[0].user, "b");
    }
}
