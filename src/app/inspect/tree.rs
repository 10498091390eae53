//! Checks whether this user may use the tree of images: a tree of registry:2 often belongs to root,
//! and its root directory alone to the user of this process.

use std::{
    collections::VecDeque,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, access},
    process::geteuid,
};

/// The most entries that are looked at. Those nearest to the root come first: the folders of layers
/// and repositories are among them, whatever the size of the tree.
const MOST: usize = 10_000;

/// The entry of a tree that this user may not use, as a sentence that says what to do; `None` if all
/// can be used. Changes nothing, and follows no symbolic link.
pub(super) fn problem(root: &Path) -> Option<String> {
    let mut looked_at = 0;
    let mut unusable = Vec::new();
    let mut folders = VecDeque::from([root.to_owned()]);
    while let Some(folder) = folders.pop_front() {
        let entries = match entries(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                unusable.push((folder, error));
                continue;
            }
        };
        for path in entries {
            looked_at += 1;
            if looked_at > MOST {
                break;
            }
            match fs::symlink_metadata(&path) {
                Ok(found) if found.is_dir() => folders.push_back(path),
                Ok(found) if found.is_file() => {
                    if let Err(error) = access(&path, Access::READ_OK) {
                        unusable.push((path, error.into()));
                    }
                }
                // Another kind of file is not ours; a missing one was removed meanwhile.
                Ok(_) | Err(_) => {}
            }
        }
    }
    let others = unusable.len().saturating_sub(1);
    unusable.first().map(|(path, error)| sentence(path, error, others, root))
}

/// The entries of a folder in which this user may create and remove files. At most one more than
/// [`MOST`].
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    access(folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)?;
    let mut entries = fs::read_dir(folder)?
        .take(MOST + 1)
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    entries.sort_unstable();
    Ok(entries)
}

fn sentence(path: &Path, error: &io::Error, others: usize, root: &Path) -> String {
    let user = geteuid().as_raw();
    let owner = fs::symlink_metadata(path).map(|found| found.uid());
    let owner = owner.map_or_else(|_| String::new(), |owner| format!(", it belongs to {owner}"));
    let more = match others {
        0 => String::new(),
        _ => format!(", nor {others} more below {}", root.display()),
    };
    format!(
        "{} cannot be used by this user ({user}){more}: {error}{owner}; stop the registry that \
         writes to it, and `chown -R {user} {}` makes it usable",
        path.display(),
        root.display()
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn sentence_names_the_path_the_user_the_owner_and_the_command() {
        let folder = tempfile::tempdir().unwrap();
        let denied = io::Error::from_raw_os_error(13);
        let inner = folder.path().join("docker");
        fs::create_dir(&inner).unwrap();
        let user = geteuid().as_raw();
        let said = sentence(&inner, &denied, 2, folder.path());
        for words in [
            format!("{} cannot be used by this user ({user}), nor 2 more below", inner.display()),
            format!("Permission denied (os error 13), it belongs to {user};"),
            format!("`chown -R {user} {}`", folder.path().display()),
        ] {
            assert!(said.contains(&words), "{words}: {said}");
        }
    }

    #[test]
    fn tree_of_this_user_has_no_problem_and_is_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = folder.path().join("docker/registry/v2/blobs");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join("data"), "x").unwrap();
        assert_eq!(problem(folder.path()), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        if geteuid().is_root() {
            return; // who may use everything
        }
        fs::set_permissions(&blobs, fs::Permissions::from_mode(0o500)).unwrap();
        assert!(problem(folder.path()).unwrap().starts_with(&*blobs.to_string_lossy()));
    }
}
