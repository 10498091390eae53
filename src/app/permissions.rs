//! Warnings about password files and private keys that other users may read or write, each with the
//! command that corrects the mode.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use rustix::process::{getegid, geteuid, getgroups};

/// The kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A user who may write to it can log in; a user who may read it can try passwords offline.
    Passwords,
    /// A user who may write to it can make tokens; a user who may read it learns their names and rights.
    Tokens,
    /// A user who may read it can impersonate this server.
    Key,
    /// A user who may read it and the password file can act as every user.
    SessionKeys,
}

impl What {
    const fn name(self) -> &'static str {
        match self {
            Self::Passwords => "password file",
            Self::Tokens => "token file",
            Self::Key => "private key",
            Self::SessionKeys => "key file of session tokens",
        }
    }
}

/// The owner and the mode of a file.
struct Access {
    mode: u32,
    user: u32,
    group: u32,
}

/// The user of this process, which must still be able to read a file.
struct Reader {
    user: u32,
    groups: Vec<u32>,
}

impl Reader {
    fn this_process() -> Self {
        let mut groups = vec![getegid().as_raw()];
        groups.extend(getgroups().unwrap_or_default().into_iter().map(|group| group.as_raw()));
        Self { user: geteuid().as_raw(), groups }
    }
}

/// Logs a warning when users that do not need a file may read or write it. Errors are left to the code
/// that reads the file.
pub(super) fn warn(path: &Path, what: What) {
    if let Ok(Some(warning)) = warning(path, what) {
        tracing::warn!("{warning}");
    }
}

/// The warning about the mode of a file, for which symbolic links are followed.
pub(super) fn warning(path: &Path, what: What) -> io::Result<Option<String>> {
    let found = fs::metadata(path)?;
    let access = Access { mode: found.mode() & 0o777, user: found.uid(), group: found.gid() };
    let path = std::path::absolute(path)?;
    Ok(sentence(&path, what, &access, &Reader::this_process()))
}

fn sentence(path: &Path, what: What, access: &Access, reader: &Reader) -> Option<String> {
    let Access { mode, user, group } = *access;
    let who = match mode {
        mode if mode & 0o002 != 0 => "written to by every user of this machine",
        mode if mode & 0o020 != 0 => "written to by its group",
        mode if mode & 0o004 != 0 => "read by every user of this machine",
        _ => return None,
    };
    let name = what.name();
    let path = path.display();
    // This process must still be able to read the file after the command.
    let command = if reader.user == user || reader.user == 0 {
        format!("chmod 600 {path}")
    } else if reader.groups.contains(&group) {
        format!("chmod 640 {path}")
    } else {
        format!("chown {} {path} && chmod 600 {path}", reader.user)
    };
    Some(format!("the {name} {path} can be {who} (mode {mode:04o}): `{command}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_that_admits_other_users_is_reported_with_the_command_that_corrects_it() {
        let path = Path::new("/auth/htpasswd");
        let reader = |user| Reader { user, groups: vec![70] };
        let access = |mode| Access { mode, user: 5, group: 7 };
        let warning = |mode, user| sentence(path, What::Passwords, &access(mode), &reader(user));
        for mode in [0o600, 0o400, 0o640, 0o440] {
            assert_eq!(warning(mode, 5), None, "{mode:o}");
        }
        for (mode, who) in [
            (0o666, "written to by every user"),
            (0o602, "written to by every user"),
            (0o664, "written to by its group"),
            (0o660, "written to by its group"),
            (0o644, "read by every user"),
        ] {
            let warning = warning(mode, 5).unwrap();
            assert!(warning.starts_with("the password file /auth/htpasswd can be "), "{warning}");
            assert!(
                warning.contains(who) && warning.contains(&format!("mode {mode:04o}")),
                "{warning}"
            );
            assert!(warning.ends_with("`chmod 600 /auth/htpasswd`"), "{warning}");
        }
        assert!(warning(0o644, 0).unwrap().ends_with("`chmod 600 /auth/htpasswd`"));
        let by_chown = "`chown 9 /auth/htpasswd && chmod 600 /auth/htpasswd`";
        assert!(warning(0o644, 9).unwrap().ends_with(by_chown));
        let group = Reader { user: 9, groups: vec![70, 7] };
        let warning = sentence(path, What::Key, &access(0o644), &group).unwrap();
        assert!(warning.starts_with("the private key "), "{warning}");
        assert!(warning.ends_with("`chmod 640 /auth/htpasswd`"), "{warning}");
    }
}
