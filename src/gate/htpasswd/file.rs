//! The password file on disk: read, locked, and replaced atomically.
//!
//! These calls block; a running server makes them off its async workers.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use aws_lc_rs::rand;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::{BcryptHash, DEFAULT_COST, Lines, Reason, UserName};

/// As many symbolic links as Linux follows.
const MAX_LINKS: usize = 40;

/// Changes an existing password file, and returns the result of `change`.
///
/// Edits at the same time run one after the other, and keep each other's changes. An edit that
/// changes nothing writes nothing.
///
/// # Errors
///
/// When the file does not exist, cannot be read, or [`store`] fails. `InvalidData` means that it is
/// in UTF-16, in which a line in ASCII could not be read.
pub fn edit<T>(path: &Path, change: impl FnOnce(&mut Lines) -> T) -> io::Result<T> {
    with_lock(path, |path| {
        let bytes = fs::read(path)?;
        if let Some(encoding) = super::lines::utf16(&bytes) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, Reason::Utf16(encoding)));
        }
        let before = Lines::from_bytes(&bytes);
        let mut after = before.clone();
        let result = change(&mut after);
        if after != before {
            store(path, &after.to_bytes())?;
        }
        Ok(result)
    })
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

/// Writes a password file atomically: a crash at any moment leaves the old content or the new, and
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
    let directory = directory_of(&path);
    let (temporary, mut file) = create_beside(&path)?;
    let written = (|| {
        match fs::metadata(&path) {
            Ok(old) => copy_ownership(&file, &old)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    })();
    if let Err(e) = written {
        // The caller needs the first error; a file that cannot be removed is hidden and has mode 0600.
        let _ = fs::remove_file(&temporary);
        return Err(e);
    }
    File::open(directory)?.sync_all()
}

/// Where the password of a first user goes, beside its hash in the password file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstPassword {
    /// To the terminal.
    Shown,
    /// To a file of its own beside the password file: see [`first_password_file`].
    Kept,
}

/// The file with the password of a first user: `admin.password` beside the password file.
#[must_use]
pub fn first_password_file(path: &Path, user: &UserName) -> PathBuf {
    path.with_file_name(format!("{user}.password"))
}

/// Creates the password file of a first start, with one user, and returns the random password:
/// 256 bits as 43 characters of base64url.
///
/// The directory is created too, with mode 0700. An existing password file is never touched. A file
/// with the password (mode 0600) is durable before the password file appears, so that there is no
/// user without a known password.
///
/// # Errors
///
/// `AlreadyExists` when there is a file, even an empty one; otherwise when the directory or a file
/// cannot be created.
pub fn provision(
    path: &Path,
    user: &UserName,
    destination: FirstPassword,
) -> io::Result<Zeroizing<String>> {
    let mut random = Zeroizing::new([0; 32]);
    rand::fill(random.as_mut()).map_err(io::Error::other)?;
    let password = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(random.as_ref()));
    let hash = BcryptHash::new(&password, DEFAULT_COST).map_err(io::Error::other)?;
    let mut lines = Lines::from_bytes(b"");
    lines.set(user, &hash);

    let directory = directory_of(path);
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    if path.try_exists()? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    if destination == FirstPassword::Kept {
        let kept = first_password_file(path, user);
        // It may be left from an earlier first start, whose password file was deleted.
        match fs::remove_file(&kept) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = create_new(&kept)?;
        file.write_all(password.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
    }
    // The hash is computed by now, so a crash leaves at worst an empty file, which has no users.
    let mut file = create_new(path)?;
    let written = file.write_all(&lines.to_bytes()).and_then(|()| file.sync_all());
    if let Err(e) = written {
        // A file that stays would keep the next start from creating a usable one.
        let _ = fs::remove_file(path);
        return Err(e);
    }
    File::open(directory)?.sync_all()?;
    Ok(password)
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

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn create_new(path: &Path) -> io::Result<File> {
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
    use crate::gate::htpasswd::{Formats, Htpasswd, PasswordHash};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

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

    #[test]
    fn concurrent_edits_keep_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("htpasswd");
        store(&path, b"").unwrap();
        let hash = BcryptHash::new("x", 4).unwrap();
        std::thread::scope(|scope| {
            for n in 0..16 {
                let path = &path;
                let hash = &hash;
                let user: UserName = format!("user{n}").parse().unwrap();
                scope.spawn(move || edit(path, |lines| lines.set(&user, hash)).unwrap());
            }
        });
        let parsed = Htpasswd::parse(&fs::read(&path).unwrap(), Formats::BcryptOnly);
        assert_eq!(parsed.entries().len(), 16);
    }

    #[test]
    fn provisioning_creates_one_user_in_a_private_file_and_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/auth/htpasswd");
        let user: UserName = "docker".parse().unwrap();
        let password = provision(&path, &user, FirstPassword::Shown).unwrap();
        assert_eq!(names(path.parent().unwrap()), ["htpasswd"]);
        assert_eq!(password.len(), 43);
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        let parsed = Htpasswd::parse(&fs::read(&path).unwrap(), Formats::BcryptOnly);
        let hash = parsed.find("docker").unwrap();
        let PasswordHash::Bcrypt(hash) = hash else { panic!("it is bcrypt") };
        assert_eq!(hash.cost(), DEFAULT_COST);
        assert!(hash.verify(password.as_bytes()));

        for content in [&b"mine"[..], b""] {
            fs::write(&path, content).unwrap();
            for destination in [FirstPassword::Shown, FirstPassword::Kept] {
                let refused = provision(&path, &user, destination).unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
                assert_eq!(fs::read(&path).unwrap(), content);
            }
            assert_eq!(names(path.parent().unwrap()), ["htpasswd"]);
        }
    }

    #[test]
    fn kept_first_password_is_private_and_replaces_an_older_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("htpasswd");
        let user: UserName = "admin".parse().unwrap();
        let kept = dir.path().join("admin.password");
        fs::write(&kept, "old").unwrap();
        fs::set_permissions(&kept, Permissions::from_mode(0o644)).unwrap();
        let password = provision(&path, &user, FirstPassword::Kept).unwrap();
        assert_eq!(first_password_file(&path, &user), kept);
        assert_eq!(fs::read_to_string(&kept).unwrap(), format!("{}\n", *password));
        assert_eq!(mode(&kept), 0o600);
        assert_eq!(names(dir.path()), ["admin.password", "htpasswd"]);
    }
}
