//! The password file on disk: changed, and created with a first user.
//!
//! These calls block; a running server makes them off its async workers.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use aws_lc_rs::rand;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::{BcryptHash, DEFAULT_COST, Lines, UserName};
use crate::gate::text_file::{self, Missing, TextLines, create_new, directory_of};

pub use crate::gate::text_file::store;

/// Changes an existing password file, and returns the result of `change`.
///
/// # Errors
///
/// As for [`text_file::edit`], which says how the file is locked and replaced.
pub fn edit<T>(path: &Path, change: impl FnOnce(&mut Lines) -> T) -> io::Result<T> {
    text_file::edit(path, Missing::Refused, |text: &mut TextLines| {
        let mut lines = Lines(std::mem::take(text));
        let result = change(&mut lines);
        *text = lines.0;
        Ok(result)
    })
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

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::gate::{
        htpasswd::{Formats, Htpasswd, PasswordHash},
        testing::{mode, names},
    };

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
