//! Reads and atomically replaces the files of the authority.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::Path,
};

use zeroize::Zeroizing;

use super::AuthorityError;

/// The users that may read a file.
#[derive(Clone, Copy)]
pub(in crate::server) enum Access {
    /// All users: for certificates.
    Public,
    /// The owner: for keys.
    Private,
}

/// Creates the directory if it is missing, and locks it. Other processes that call this function wait
/// until the returned file is dropped.
pub(super) fn lock(directory: &Path) -> Result<File, AuthorityError> {
    let locked = (|| {
        fs::create_dir_all(directory)?;
        let directory = File::open(directory)?;
        match directory.lock() {
            // Some file systems have no locks.
            Err(e) if e.kind() != io::ErrorKind::Unsupported => Err(e),
            _ => Ok(directory),
        }
    })();
    locked.map_err(|source| AuthorityError::Directory { path: directory.to_owned(), source })
}

/// The bytes of a file; `None` if it does not exist.
pub(super) fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, AuthorityError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(AuthorityError::Read { path: path.to_owned(), source }),
    }
}

/// Renames the files `names` of the directory to `NAME.SUFFIX`, and ignores those that do not exist.
pub(super) fn set_aside(
    directory: &Path,
    names: &[&str],
    suffix: &str,
) -> Result<(), AuthorityError> {
    for name in names {
        let path = directory.join(name);
        let aside = directory.join(format!("{name}.{suffix}"));
        match fs::rename(&path, aside) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(AuthorityError::Write { path, source }),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Replaces a file atomically and durably: after a crash it has the old bytes or the new ones, and a
/// power cut after the return does not lose the new ones. The new file has the owner of the old one,
/// if this process may set it.
pub(in crate::server) fn write(
    path: &Path,
    bytes: &[u8],
    access: Access,
) -> Result<(), AuthorityError> {
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
            // Only root may change the owner. The server must still be able to read its key after
            // root has renewed the certificate.
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
        // The first error is returned. A temporary file that stays is readable by its owner only.
        let _ = fs::remove_file(temporary);
        AuthorityError::Write { path: path.to_owned(), source }
    })
}
