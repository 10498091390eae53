//! Whether this process may write to a tree, asked before the tree is served: a client would otherwise
//! find out with the first push.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

/// How many folders are looked at, and how far below the root: enough for the folders into which every
/// push writes, in a tree that another user has made.
const FOLDERS: usize = 64;
const DEPTH: usize = 4;

/// A folder that this process may not write to.
#[derive(Debug)]
pub struct NotWritable {
    /// The folder.
    pub folder: PathBuf,
    /// The system's error.
    pub source: io::Error,
}

/// Writes a file into the root and removes it, and looks at the permissions of the first folders below.
/// A full disk is no error: it can be read, and deletion makes room. This call blocks.
///
/// Other processes may use the tree meanwhile. The file is empty, and its name, which no other process
/// uses, ends in `.tmp`, as that of every incomplete file.
///
/// # Errors
///
/// With the first folder that cannot be written to.
pub fn check(root: &Path) -> Result<(), NotWritable> {
    let failed = |folder: &Path, source| NotWritable { folder: folder.to_owned(), source };
    write(root).map_err(|source| failed(root, source))?;
    let mut level = vec![root.to_owned()];
    let mut left = FOLDERS;
    for _ in 0..DEPTH {
        let mut below = Vec::new();
        for folder in level {
            for entry in fs::read_dir(&folder).map_err(|source| failed(&folder, source))? {
                let path = entry.map_err(|source| failed(&folder, source))?.path();
                if left == 0 {
                    return Ok(());
                }
                if !path.is_dir() {
                    continue;
                }
                left -= 1;
                let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
                match access(&path, all) {
                    Ok(()) => below.push(path),
                    // Another process has removed it.
                    Err(error) if error == rustix::io::Errno::NOENT => {}
                    Err(error) => return Err(failed(&path, error.into())),
                }
            }
        }
        level = below;
    }
    Ok(())
}

fn write(root: &Path) -> io::Result<()> {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    let path = root.join(format!("portcullis-probe.{}.tmp", uuid::Uuid::new_v4()));
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(_) => fs::remove_file(&path),
        Err(error) if matches!(error.kind(), StorageFull | QuotaExceeded) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writable_tree_is_as_before() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b/c/d/e")).unwrap();
        fs::write(root.path().join("a/file"), "").unwrap();
        check(root.path()).unwrap();
        let names = |path: &Path| {
            let entries = fs::read_dir(path).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(root.path()), ["a"]);
        assert_eq!(names(&root.path().join("a")), ["b", "file"]);
    }

    #[test]
    fn root_that_is_no_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let NotWritable { folder, source } = check(&file).unwrap_err();
        assert_eq!(folder, file);
        assert_eq!(source.kind(), io::ErrorKind::NotADirectory);
    }
}
