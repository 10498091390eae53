//! The file of the keys of session tokens, `auth.htpasswd.sessions.keyfile`: a line for each key, the
//! one that signs first. Lines that begin with `#` and blank lines are skipped.
//!
//! The server makes the file when it first issues a token, and reads it again when it changes; several
//! servers with one file accept each other's tokens. These calls block.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use zeroize::Zeroizing;

use super::keys::{Keys, Secret};
use crate::{gate::text_file, stamp::Stamp};

/// How many keys a file may have: each is compared with every token.
const MAX_KEYS: usize = 16;

/// What a rotation does with the keys that were there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// The one that signed goes on verifying; the others go.
    Keep,
    /// All of them go, and every token ends.
    End,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read, made or replaced.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A line has no key.
    #[error(
        "line {0} is no key, which has 43 characters of base64url; `portcullis sessions rotate --end` \
         makes another file"
    )]
    Line(usize),
    /// It has no key at all.
    #[error("it has no key; `portcullis sessions rotate --end` makes one")]
    Empty,
    /// It has too many.
    #[error(
        "it has more than {MAX_KEYS} keys; `portcullis sessions rotate` keeps one beside a new one"
    )]
    TooMany,
}

/// A key file, and its stamp when it was last read.
#[derive(Debug)]
pub struct KeyFile {
    path: PathBuf,
    /// `None` makes the next reload read the file.
    seen: Option<Stamp>,
    secrets: Vec<Secret>,
    broken: bool,
}

impl KeyFile {
    /// Names the file. Nothing is read yet.
    pub(in crate::gate) const fn new(path: PathBuf) -> Self {
        Self { path, seen: None, secrets: Vec::new(), broken: false }
    }

    /// The path of the file.
    pub(in crate::gate) fn path(&self) -> &Path {
        &self.path
    }

    /// The keys of the file, which is made if it is missing.
    ///
    /// # Errors
    ///
    /// When it can neither be read nor made.
    pub(in crate::gate) fn ensure(&mut self) -> Result<Keys, KeyFileError> {
        self.secrets = match self.read() {
            Err(KeyFileError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                make(&self.path)?
            }
            read => read?,
        };
        Ok(Keys::new(&self.secrets))
    }

    /// Reads the file if its stamp has changed, or in any case if `anyway`. Returns the keys if they
    /// differ from the last call's. A file that has not been made yet is no error.
    ///
    /// # Errors
    ///
    /// When the file cannot be used; then again only after it could be used meanwhile, or if `anyway`.
    /// The caller keeps the keys that it has.
    pub(in crate::gate) fn reload(&mut self, anyway: bool) -> Result<Option<Keys>, KeyFileError> {
        if !anyway && self.seen == Some(Stamp::of(&self.path)) {
            return Ok(None);
        }
        let secrets = match self.read() {
            Ok(secrets) => secrets,
            Err(KeyFileError::Io(error))
                if error.kind() == io::ErrorKind::NotFound && self.secrets.is_empty() =>
            {
                return Ok(None);
            }
            Err(_) if self.broken && !anyway => return Ok(None),
            Err(error) => {
                self.broken = true;
                return Err(error);
            }
        };
        self.broken = false;
        if secrets == self.secrets {
            return Ok(None);
        }
        self.secrets = secrets;
        Ok(Some(Keys::new(&self.secrets)))
    }

    fn read(&mut self) -> Result<Vec<Secret>, KeyFileError> {
        // The stamp is taken before the file is read: a change in between is noticed next time.
        let stamp = Stamp::of(&self.path);
        let settled = stamp.is_settled(SystemTime::now());
        self.seen = None;
        let secrets = read(&self.path);
        self.seen = settled.then_some(stamp);
        secrets
    }
}

/// Puts a new key on top. Returns how many keys the file has then.
///
/// # Errors
///
/// When the file is missing or cannot be replaced; unless all old keys go, also when it cannot be used.
pub fn rotate(path: &Path, old: Old) -> Result<usize, KeyFileError> {
    text_file::with_lock(path, |path| {
        let before = match old {
            Old::Keep => read(path)?,
            // The file that replaces this one has its owner: a missing one would become root's.
            Old::End => fs::metadata(path).map(|_| Vec::new())?,
        };
        let new = Secret::random().map_err(io::Error::other)?;
        let secrets: Vec<_> = [new].into_iter().chain(before.into_iter().take(1)).collect();
        write(path, &secrets)?;
        Ok(secrets.len())
    })
}

/// Whether the file can be used. One that has not been made yet can.
///
/// # Errors
///
/// When it cannot.
pub fn check(path: &Path) -> Result<(), KeyFileError> {
    match read(path) {
        Err(KeyFileError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        read => read.map(drop),
    }
}

/// Makes the file with one key, and its folder. The keys are another process's if that was first.
fn make(path: &Path) -> Result<Vec<Secret>, KeyFileError> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    text_file::with_lock(path, |path| match read(path) {
        Err(KeyFileError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            let secrets = vec![Secret::random().map_err(io::Error::other)?];
            write(path, &secrets)?;
            Ok(secrets)
        }
        read => read,
    })
}

fn read(path: &Path) -> Result<Vec<Secret>, KeyFileError> {
    let bytes = Zeroizing::new(fs::read(path)?);
    let mut secrets = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        if secrets.len() == MAX_KEYS {
            return Err(KeyFileError::TooMany);
        }
        secrets.push(Secret::parse(line).ok_or(KeyFileError::Line(index + 1))?);
    }
    if secrets.is_empty() { Err(KeyFileError::Empty) } else { Ok(secrets) }
}

fn write(path: &Path, secrets: &[Secret]) -> io::Result<()> {
    let mut text = Zeroizing::new(String::with_capacity(secrets.len() * 44));
    for secret in secrets {
        text.push_str(&secret.line());
        text.push('\n');
    }
    text_file::store(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn lines(path: &Path) -> Vec<String> {
        fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn missing_file_is_made_once_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth/session.key");
        let mut file = KeyFile::new(path.clone());
        assert!(file.reload(false).unwrap().is_none(), "not made yet");
        assert_eq!(file.ensure().unwrap().len(), 1);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let made = lines(&path);
        assert_eq!((made.len(), made[0].len()), (1, 43));
        assert_eq!(KeyFile::new(path.clone()).ensure().unwrap().len(), 1);
        assert_eq!(lines(&path), made, "another process takes it as it is");
        assert!(file.reload(false).unwrap().is_none(), "nothing changed");
    }

    #[test]
    fn servers_that_make_the_file_at_once_have_the_same_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.key");
        let tokens: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| KeyFile::new(path.clone()).ensure().unwrap()))
                .collect();
            all.into_iter().map(|one| one.join().unwrap().first().unwrap().sign(b"{}")).collect()
        });
        assert!(tokens.iter().all(|token| *token == tokens[0]));
    }

    #[test]
    fn rotation_puts_a_key_on_top_and_keeps_one_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.key");
        for old in [Old::Keep, Old::End] {
            assert!(rotate(&path, old).is_err() && !path.exists(), "the server makes the file");
        }
        let mut file = KeyFile::new(path.clone());
        let token = file.ensure().unwrap().first().unwrap().sign(b"{}");
        let first = lines(&path);
        assert_eq!(rotate(&path, Old::Keep).unwrap(), 2);
        assert_eq!(lines(&path)[1], first[0]);
        assert!(file.reload(false).unwrap().unwrap().verify(&token).is_some());
        let second = lines(&path);
        assert_eq!(rotate(&path, Old::Keep).unwrap(), 2);
        assert_eq!(lines(&path)[1], second[0]);
        assert!(file.reload(false).unwrap().unwrap().verify(&token).is_none());
        assert_eq!(rotate(&path, Old::End).unwrap(), 1);
        assert!(!second.contains(&lines(&path)[0]));
    }

    #[test]
    fn broken_or_lost_file_changes_nothing_and_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.key");
        let mut file = KeyFile::new(path.clone());
        file.ensure().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("# keys\n\n{text}oops\n")).unwrap();
        let told = file.reload(false).unwrap_err().to_string();
        assert!(told.starts_with("line 4 is no key"), "{told}");
        assert!(!told.contains("oops"), "it may be a key");
        assert!(file.reload(false).unwrap().is_none(), "told once");
        assert!(file.reload(true).is_err(), "and on SIGHUP");
        assert!(rotate(&path, Old::Keep).is_err(), "it would lose what is there");
        fs::write(&path, format!("# keys\n\n{text}")).unwrap();
        assert!(file.reload(false).unwrap().is_none(), "as it was");
        fs::remove_file(&path).unwrap();
        assert!(file.reload(false).is_err(), "told again");
        for (text, why) in [("", "it has no key"), ("# none\n", "it has no key")] {
            fs::write(&path, text).unwrap();
            let told = KeyFile::new(path.clone()).ensure().unwrap_err().to_string();
            assert!(told.starts_with(why), "{told}");
        }
        fs::write(&path, text.repeat(MAX_KEYS + 1)).unwrap();
        assert!(matches!(KeyFile::new(path.clone()).ensure(), Err(KeyFileError::TooMany)));
        fs::write(&path, text.repeat(MAX_KEYS)).unwrap();
        assert_eq!(KeyFile::new(path.clone()).ensure().unwrap().len(), MAX_KEYS);
        fs::write(&path, "oops\n").unwrap();
        assert_eq!(rotate(&path, Old::End).unwrap(), 1, "which needs nothing of the old file");
    }
}
