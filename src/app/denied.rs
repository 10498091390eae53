//! A file or folder that this process may not use: which user it runs as, whose the file is, and the
//! command that changes that.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, access},
    process::{getegid, geteuid},
};

/// What the process needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// To read a file.
    Read,
    /// To write a file, or into a folder.
    Write,
}

/// The system denied this process a file or a folder. The text has the cause and the remedy.
#[derive(Debug)]
pub struct Denied(Box<Denial>);

/// The parts of the text.
#[derive(Debug)]
struct Denial {
    /// What the path is, with a space behind it; empty where the path says it.
    what: &'static str,
    path: PathBuf,
    /// The folder whose owner has to change, where it is more than `path`.
    tree: Option<PathBuf>,
    need: Need,
    source: io::Error,
    user: User,
    /// The file or folder whose permissions deny the access; `None` where the permissions allow it and
    /// the file system refuses all the same.
    by: Option<Denier>,
    in_container: bool,
}

/// The user of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
struct User {
    uid: u32,
    gid: u32,
    name: Option<String>,
}

/// A file or folder that denies access, and its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Denier {
    path: PathBuf,
    owner: User,
    mode: u32,
    place: Place,
}

/// Where a denier is, seen from the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It is the path.
    Itself,
    /// It is the folder in which the path, which is missing, would be created.
    Parent,
    /// It is a folder further up, which may not be entered.
    Above,
}

impl Denied {
    /// The denial behind an error of the system, where it is one; otherwise gives the error back.
    ///
    /// # Errors
    ///
    /// An error of another kind.
    pub(super) fn new(
        what: &'static str,
        path: &Path,
        need: Need,
        source: io::Error,
    ) -> Result<Self, io::Error> {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        if !matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem) {
            return Err(source);
        }
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let by = if source.kind() == PermissionDenied { denier(&path, need) } else { None };
        let in_container = ["/.dockerenv", "/run/.containerenv"].iter().any(|file| {
            // They are the marks of docker and of podman.
            Path::new(file).exists()
        });
        let user = User::of_this_process();
        let tree = None;
        Ok(Self(Box::new(Denial { what, path, tree, need, source, user, by, in_container })))
    }

    /// The same denial, of a path in this folder, which has to have one owner as a whole.
    pub(super) fn within(mut self, tree: &Path) -> Self {
        let tree = std::path::absolute(tree).unwrap_or_else(|_| tree.to_owned());
        self.0.tree = self.0.path.starts_with(&tree).then_some(tree);
        self
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Denial { what, path, tree, need, source, user, by, in_container } = &*self.0;
        let verb = match need {
            Need::Read => "read",
            Need::Write => "write to",
        };
        write!(f, "cannot {verb} {what}{} as {user}: {source}; ", path.display())?;
        let Some(Denier { path: denier, owner, mode, place }) = by else {
            return f.write_str(match source.kind() {
                io::ErrorKind::ReadOnlyFilesystem => {
                    "mount it writable, or set storage.maintenance.readonly.enabled to serve images \
                     without writing"
                }
                _ => {
                    "its file system refuses: look at how it is mounted (NFS: root_squash) and at the \
                     security modules of this system (SELinux, AppArmor)"
                }
            });
        };
        let User { uid, gid, .. } = user;
        let shown = denier.display();
        match place {
            Place::Above => {
                return write!(
                    f,
                    "{shown}, which belongs to {owner}, does not let this user in (mode {mode:04o}): \
                     `chmod a+x {shown}` does"
                );
            }
            Place::Parent => {
                let mount =
                    if *in_container { "; or mount a folder of that owner there" } else { "" };
                return write!(
                    f,
                    "it is missing, and {shown} belongs to {owner}: `install -d -o {uid} -g {gid} {}` \
                     makes it for this user{mount}",
                    path.display()
                );
            }
            Place::Itself if owner.uid == *uid => {
                let bits = if *need == Need::Read { "r" } else { "rwx" };
                return write!(
                    f,
                    "its mode {mode:04o} forbids it: `chmod u+{bits} {shown}` allows it"
                );
            }
            Place::Itself => {}
        }
        let recursive = if *need == Need::Write { "-R " } else { "" };
        let whole = tree.as_ref().unwrap_or(denier).display();
        write!(f, "{shown} belongs to {owner}: ")?;
        match in_container {
            false => write!(f, "`chown {recursive}{uid}:{gid} {whole}` gives it to this user"),
            true => write!(
                f,
                "on the host, `chown {recursive}{uid}:{gid}` of what is mounted there gives it to this \
                 user; or `docker run --user {}:{}` starts as its owner",
                owner.uid, owner.gid
            ),
        }
    }
}

impl std::error::Error for Denied {}

impl User {
    fn of_this_process() -> Self {
        Self::new(geteuid().as_raw(), getegid().as_raw())
    }

    fn new(uid: u32, gid: u32) -> Self {
        // An image may have no such file.
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        Self { uid, gid, name: name_of(&users, uid) }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} (uid {})", self.uid),
            None => write!(f, "uid {}", self.uid),
        }
    }
}

/// The name of a user in the lines of `/etc/passwd`.
fn name_of(users: &str, uid: u32) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// The first folder above the path that may not be entered; else the path, or the folder that it would
/// be created in, if its permissions deny what is needed.
fn denier(path: &Path, need: Need) -> Option<Denier> {
    let found = |path: &Path, place| {
        let metadata = fs::metadata(path).ok()?;
        let owner = User::new(metadata.uid(), metadata.gid());
        Some(Denier { path: path.to_owned(), owner, mode: metadata.mode() & 0o7777, place })
    };
    let mut above: Vec<_> = path.ancestors().skip(1).collect();
    above.reverse();
    for folder in above {
        if folder.is_dir() && access(folder, Access::EXEC_OK).is_err() {
            return found(folder, Place::Above);
        }
    }
    let there = path.ancestors().find(|path| path.exists())?;
    let needed = match need {
        Need::Read => Access::READ_OK,
        Need::Write if there.is_dir() => Access::WRITE_OK | Access::EXEC_OK,
        Need::Write => Access::WRITE_OK,
    };
    let place = if there == path { Place::Itself } else { Place::Parent };
    access(there, needed).is_err().then(|| found(there, place)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32, name: Option<&str>) -> User {
        User { uid, gid: uid, name: name.map(str::to_owned) }
    }

    fn denied(need: Need, owner: u32, place: Place, in_container: bool) -> String {
        let by = Denier {
            path: "/srv/images/docker".into(),
            owner: user(owner, (owner == 0).then_some("root")),
            mode: 0o700,
            place,
        };
        let denial = Denial {
            what: "the storage ",
            path: "/srv/images/docker".into(),
            tree: None,
            need,
            source: io::Error::from_raw_os_error(13),
            user: user(990, Some("registry")),
            by: Some(by),
            in_container,
        };
        let denied = Denied(Box::new(denial));
        match need {
            Need::Read => denied,
            Need::Write => denied.within(Path::new("/srv/images")),
        }
        .to_string()
    }

    #[test]
    fn denial_names_the_user_the_owner_and_the_command() {
        use Need::{Read, Write};
        use Place::{Above, Itself, Parent};
        let at = "the storage /srv/images/docker as registry (uid 990): Permission denied (os error 13); ";
        let host = false;
        let container = true;
        for ((need, owner, place, in_container), expected) in [
            (
                (Write, 0, Itself, host),
                "/srv/images/docker belongs to root (uid 0): `chown -R 990:990 /srv/images` gives it to \
                 this user",
            ),
            (
                (Read, 7, Itself, host),
                "/srv/images/docker belongs to uid 7: `chown 990:990 /srv/images/docker` gives it to \
                 this user",
            ),
            (
                (Write, 0, Itself, container),
                "/srv/images/docker belongs to root (uid 0): on the host, `chown -R 990:990` of what is \
                 mounted there gives it to this user; or `docker run --user 0:0` starts as its owner",
            ),
            (
                (Write, 990, Itself, host),
                "its mode 0700 forbids it: `chmod u+rwx /srv/images/docker` allows it",
            ),
            (
                (Write, 0, Parent, host),
                "it is missing, and /srv/images/docker belongs to root (uid 0): `install -d -o 990 -g \
                 990 /srv/images/docker` makes it for this user",
            ),
            (
                (Write, 0, Parent, container),
                "it is missing, and /srv/images/docker belongs to root (uid 0): `install -d -o 990 -g \
                 990 /srv/images/docker` makes it for this user; or mount a folder of that owner there",
            ),
            (
                (Read, 0, Above, container),
                "/srv/images/docker, which belongs to root (uid 0), does not let this user in (mode \
                 0700): `chmod a+x /srv/images/docker` does",
            ),
        ] {
            let text = denied(need, owner, place, in_container);
            let (start, remedy) = text.split_once(at).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(start, if need == Read { "cannot read " } else { "cannot write to " });
            assert_eq!(remedy, expected);
        }
    }

    #[test]
    fn only_denials_have_this_form() {
        let other = Denied::new("", Path::new("x"), Need::Read, io::ErrorKind::NotFound.into());
        assert_eq!(other.unwrap_err().kind(), io::ErrorKind::NotFound);
        let fixed = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
        let denied = Denied::new("", Path::new("images"), Need::Write, fixed).unwrap().to_string();
        let path = std::path::absolute("images").unwrap();
        assert!(denied.contains(path.to_str().unwrap()), "{denied}");
        assert!(denied.contains("set storage.maintenance.readonly.enabled"), "{denied}");
    }

    #[test]
    fn user_has_the_name_of_its_line() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbroken\nalice:x:1000:1000::/:\n";
        assert_eq!(name_of(users, 1000), Some("alice".to_owned()));
        assert_eq!(name_of(users, 65532), None);
    }
}
