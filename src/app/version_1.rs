//! The folder of docker-registry 1, which its tutorials mount and nothing reads.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use crate::storage;

/// Where docker-registry 1 kept its images unless it was told otherwise.
const FOLDER: &str = "/tmp/registry";

/// Warns if that folder is mounted, as `-v DIR:/tmp/registry` does, and the images go elsewhere: DIR
/// would stay empty.
pub(super) fn warn_of_its_folder(options: &storage::Options) {
    let storage::Options::Filesystem(options) = options else { return };
    let folder = Path::new(FOLDER);
    if is_mounted(folder) && !options.rootdirectory.starts_with(folder) {
        let root = options.rootdirectory.display();
        tracing::warn!(
            "{FOLDER} is mounted and stays empty: docker-registry 1 kept images there, and this \
             registry keeps them in {root}; mount the folder at {root}"
        );
    }
}

/// Whether a folder is of another file system than the folder above it.
fn is_mounted(folder: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.dev());
    let here = device(folder);
    here.is_some() && here != folder.parent().and_then(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_is_mounted_where_its_file_system_begins() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_mounted(folder.path()));
        assert!(!is_mounted(&folder.path().join("missing")));
        assert!(is_mounted(Path::new("/proc")));
    }
}
