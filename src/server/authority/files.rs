//! Files of the authority: read if they are there, written whole.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::Path,
};

use zeroize::Zeroizing;

use super::AuthorityError;

/// Who may read a file.
#[derive(Clone, Copy)]
pub(super) enum Access {
    /// Everybody: certificates, which are handed out.
    Public,
    /// The owner: keys.
    Private,
}

/// Makes the directory if it is missing and keeps other processes that ask for the same lock out of
/// it until the result is dropped.
pub(super) fn lock(directory: &Path) -> Result<File, AuthorityError> {
    let locked = (|| {
        fs::create_dir_all(directory)?;
        let directory = File::open(directory)?;
        match directory.lock() {
            // File systems that have no locks go without.
            Err(e) if e.kind() != io::ErrorKind::Unsupported => Err(e),
            _ => Ok(directory),
        }
    })();
    locked.map_err(|source| AuthorityError::Directory { path: directory.to_owned(), source })
}

/// The bytes of a file, `None` if there is no file.
pub(super) fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, AuthorityError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(AuthorityError::Read { path: path.to_owned(), source }),
    }
}

/// Gives those of the files that are there other names, which end with `suffix`.
pub(super) fn set_aside(
    directory: &Path,
    names: &[&str],
    suffix: &str,
) -> Result<(), AuthorityError> {
    for name in names {
        let (path, aside) = (directory.join(name), directory.join(format!("{name}.{suffix}")));
        match fs::rename(&path, aside) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(AuthorityError::Write { path, source }),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Writes a file: it is there whole or, after a crash, as it was before, and it stays after a power
/// cut. A file that was there before keeps its owner, where the caller may set one.
pub(super) fn write(path: &Path, bytes: &[u8], access: Access) -> Result<(), AuthorityError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", uuid::Uuid::new_v4().simple()));
    let temporary = Path::new(&temporary);
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
        file.write_all(bytes)?;
        if matches!(access, Access::Public) {
            file.set_permissions(Permissions::from_mode(0o644))?;
        }
        if let Ok(old) = fs::metadata(path) {
            // Only root may: who renews as root should not lock the server out of its key.
            let _ = fchown(&file, Some(old.uid()), Some(old.gid()));
        }
        file.sync_all()?;
        fs::rename(temporary, path)?;
        match path.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => File::open(directory),
            _ => File::open("."),
        }?
        .sync_all()
    })();
    written.map_err(|source| {
        // What matters is the error; a file left over is readable by its owner alone.
        let _ = fs::remove_file(temporary);
        AuthorityError::Write { path: path.to_owned(), source }
    })
}
