//! The text files of the gate on disk, such as the password file: read, locked, watched, and replaced
//! atomically.
//!
//! These calls block; a running server makes them off its async workers.

mod lines;
mod watched;

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

pub use self::{
    lines::{TextLines, Utf16},
    watched::{Absent, WatchedFile},
};

pub(super) use self::lines::{utf16, without_bom};

/// As many symbolic links as Linux follows.
const MAX_LINKS: usize = 40;

/// What an edit does about a file that does not exist.
#[derive(Clone, Copy, Debug)]
pub enum Missing<'a> {
    /// It fails.
    Refused,
    /// It begins with an empty file, which gets the owner, the group and the mode of `like`, if that
    /// exists, so that the server which reads that file can read the new one.
    Created {
        /// The file beside it.
        like: &'a Path,
    },
}

/// Changes a text file, and returns the result of `change`, whose error leaves the file as it is.
///
/// Edits at the same time run one after the other, and keep each other's changes. An edit that
/// changes nothing writes nothing.
///
/// # Errors
///
/// When the file does not exist and `missing` refuses that, when it cannot be read, when `change`
/// fails, or when [`store`] does. `InvalidData` means that it is in UTF-16, in which a line in ASCII
/// could not be read.
pub fn edit<T, E: From<io::Error>>(
    path: &Path,
    missing: Missing<'_>,
    change: impl FnOnce(&mut TextLines) -> Result<T, E>,
) -> Result<T, E> {
    with_lock(path, |path| edit_locked(path, missing, change))
}

/// Calls `work` with the path that symbolic links lead to, while the lock of its folder is held: edits
/// at the same time run one after the other.
///
/// # Errors
///
/// When the folder does not exist or cannot be locked, and those of `work`.
pub(in crate::gate) fn with_lock<T, E: From<io::Error>>(
    path: &Path,
    work: impl FnOnce(&Path) -> Result<T, E>,
) -> Result<T, E> {
    let path = follow(path)?;
    // The lock is on the directory, because the file is replaced. It ends with the process at the
    // latest. On file systems without locks, edits are not serialised.
    let directory = File::open(directory_of(&path))?;
    match directory.lock() {
        Err(e) if e.kind() != io::ErrorKind::Unsupported => return Err(e.into()),
        _ => {}
    }
    work(&path)
}

fn edit_locked<T, E: From<io::Error>>(
    path: &Path,
    missing: Missing<'_>,
    change: impl FnOnce(&mut TextLines) -> Result<T, E>,
) -> Result<T, E> {
    let (bytes, like) = match (fs::read(path), missing) {
        (Ok(bytes), _) => (bytes, path),
        (Err(e), Missing::Created { like }) if e.kind() == io::ErrorKind::NotFound => {
            (Vec::new(), like)
        }
        (Err(e), _) => return Err(e.into()),
    };
    if let Some(encoding) = utf16(&bytes) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, encoding).into());
    }
    let before = TextLines::from_bytes(&bytes);
    let mut after = before.clone();
    let result = change(&mut after)?;
    if after != before {
        store_like(path, like, &after.to_bytes())?;
    }
    Ok(result)
}

/// Writes a text file atomically: a crash at any moment leaves the old content or the new, and
/// after the return the new content survives a power cut.
///
/// A new file has mode 0600. An existing one keeps its mode, and its owner and group as far as the
/// caller may set them; where the group cannot be kept, the group's access is not kept either.
/// Access lists and security labels are those of a new file. A symbolic link is followed, so that
/// its target changes and it stays a link.
///
/// # Errors
///
/// When the directory is missing or cannot be written to. `ResourceBusy` means that the path is a
/// mount point (a single file that is mounted into a container): such a file cannot be replaced.
pub fn store(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = follow(path)?;
    store_like(&path, &path, bytes)
}

/// As [`store`]; the new content has the ownership of `like`.
fn store_like(path: &Path, like: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = directory_of(path);
    let (temporary, mut file) = create_beside(path)?;
    let written = (|| {
        match fs::metadata(like) {
            Ok(old) => copy_ownership(&file, &old)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if let Err(e) = written {
        // The caller needs the first error; a file that cannot be removed is hidden and has mode 0600.
        let _ = fs::remove_file(&temporary);
        return Err(e);
    }
    File::open(directory)?.sync_all()
}

/// The path that symbolic links lead to; the target of the last one need not exist.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                path = directory_of(&path).join(fs::read_link(&path)?);
            }
            Ok(_) => return Ok(path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(path),
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

pub(super) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

pub(super) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let Some(name) = path.file_name() else {
        let message = format!("{} is not the name of a file", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    };
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.tmp", uuid::Uuid::new_v4().simple()));
    let temporary = path.with_file_name(temporary);
    let file = create_new(&temporary)?;
    Ok((temporary, file))
}

/// Gives the new file the owner, group and mode of the old one.
fn copy_ownership(file: &File, old: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::fchown;

    let mut mode = old.mode() & 0o777;
    // Group before owner: after a change of the owner, the group cannot be changed any more.
    if fchown(file, None, Some(old.gid())).is_err() {
        mode &= !0o070;
    }
    // Mode before owner, for the same reason. Only root can give files away.
    file.set_permissions(Permissions::from_mode(mode))?;
    if file.metadata()?.uid() != old.uid() {
        let _ = fchown(file, Some(old.uid()), None);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::gate::testing::{mode, names};

    #[test]
    fn new_file_is_private_and_an_old_one_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("htpasswd");
        store(&path, b"one").unwrap();
        assert_eq!(mode(&path), 0o600);

        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        store(&path, b"two").unwrap();
        assert_eq!(mode(&path), 0o644);
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(dir.path()), ["htpasswd"]);
    }

    #[test]
    fn owner_and_group_are_kept_where_the_caller_may() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("htpasswd");
        store(&path, b"one").unwrap();
        if std::os::unix::fs::chown(&path, Some(1234), Some(4321)).is_err() {
            return; // Only root can change the owner of a file.
        }
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        store(&path, b"two").unwrap();
        let after = fs::metadata(&path).unwrap();
        assert_eq!((after.uid(), after.gid()), (1234, 4321));
        assert_eq!(mode(&path), 0o640);
    }

    #[test]
    fn symbolic_link_is_followed_and_kept_even_without_a_target() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        let link = dir.path().join("link");
        let second = dir.path().join("second");
        symlink("real/htpasswd", &link).unwrap();
        symlink("link", &second).unwrap();

        store(&second, b"one").unwrap();
        store(&link, b"two").unwrap();
        assert_eq!(names(dir.path()), ["link", "real", "second"]);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(dir.path().join("real/htpasswd")).unwrap(), b"two");
        assert_eq!(names(&dir.path().join("real")), ["htpasswd"]);

        let circle = dir.path().join("circle");
        symlink("circle", &circle).unwrap();
        assert!(store(&circle, b"x").is_err());
    }

    #[test]
    fn failed_write_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("htpasswd");
        // A directory in the place of the file: the rename is what fails.
        fs::create_dir(&path).unwrap();
        fs::write(path.join("x"), "").unwrap();
        assert!(store(&path, b"one").is_err());
        assert_eq!(names(dir.path()), ["htpasswd"]);
        assert!(store(&dir.path().join("missing/htpasswd"), b"one").is_err());
    }
}
