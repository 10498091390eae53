//! The tree that a dead server has left, read without the server.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use crate::{
    content::{Digest, digest},
    model::Key,
};

/// The content of a tree.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Where each link leads.
    pub(crate) links: BTreeMap<Key, Digest>,
    /// Every blob, manifests too.
    pub(crate) blobs: BTreeMap<Digest, Bytes>,
    /// The manifests that the tags ever named.
    pub(crate) index: BTreeSet<(Key, Digest)>,
    /// The number of files.
    pub(crate) files: usize,
    /// The `.tmp` files that the kill left.
    pub(crate) leftovers: usize,
}

impl Tree {
    /// Reads a tree.
    ///
    /// # Errors
    ///
    /// When a blob does not match its digest, a link is malformed, or a file is unknown.
    pub(crate) fn read(root: &Path) -> Result<Self, String> {
        let mut tree = Self::default();
        let base = root.join("docker/registry/v2");
        let mut files = Vec::new();
        find(&base, &mut files).map_err(|error| format!("{}: {error}", base.display()))?;
        for file in files {
            let path = file.strip_prefix(&base).unwrap().to_str().unwrap();
            let bytes = fs::read(&file).map_err(|error| format!("{path}: {error}"))?;
            tree.enter(path, bytes.into()).map_err(|why| format!("{path}: {why}"))?;
            tree.files += 1;
        }
        Ok(tree)
    }

    fn enter(&mut self, path: &str, bytes: Bytes) -> Result<(), String> {
        if path.ends_with(".tmp") {
            self.leftovers += 1;
            return Ok(());
        }
        let parts: Vec<&str> = path.split('/').collect();
        if let ["blobs", algorithm, start, hex, "data"] = parts[..] {
            let name = named(algorithm, hex);
            let computed = digest(&bytes);
            if computed != name || !hex.starts_with(start) {
                return Err(format!("{} bytes whose digest is {computed}", bytes.len()));
            }
            self.blobs.insert(name, bytes);
            return Ok(());
        }
        let inner = parts.iter().position(|part| part.starts_with('_'));
        let (["repositories", name @ ..], inner) = parts.split_at(inner.unwrap_or(0)) else {
            return Err("an unknown file".to_owned());
        };
        let repository = name.join("/");
        match inner {
            ["_layers", algorithm, hex, "link"] => {
                let name = named(algorithm, hex);
                let target = link(&bytes, &name)?;
                self.links.insert(Key::blob(&repository, &name), target);
            }
            ["_manifests", "revisions", algorithm, hex, "link"] => {
                let name = named(algorithm, hex);
                let target = link(&bytes, &name)?;
                self.links.insert(Key::manifest(&repository, &name), target);
            }
            ["_manifests", "tags", tag, "current", "link"] => {
                let text = String::from_utf8_lossy(&bytes);
                let target = link(&bytes, &Digest::new(&text))?;
                self.links.insert(Key::tag(&repository, tag), target);
            }
            ["_manifests", "tags", tag, "index", algorithm, hex, "link"] => {
                let target = link(&bytes, &named(algorithm, hex))?;
                self.index.insert((Key::tag(&repository, tag), target));
            }
            ["_referrers", _, _, algorithm, hex, "link"] => {
                link(&bytes, &named(algorithm, hex))?;
            }
            ["_uploads", _, "data" | "startedat" | "portcullis-hasher" | "portcullis-owner"] => {}
            _ => return Err("an unknown file".to_owned()),
        }
        Ok(())
    }
}

fn named(algorithm: &str, hex: &str) -> Digest {
    Digest::new(&format!("{algorithm}:{hex}"))
}

/// Where a link leads; it must be well-formed and match its place.
fn link(bytes: &[u8], expected: &Digest) -> Result<Digest, String> {
    let text = String::from_utf8_lossy(bytes);
    let hex = text.strip_prefix("sha256:").unwrap_or_default();
    let whole = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !whole || text != expected.as_str() {
        return Err(format!("holds {text:?}"));
    }
    Ok(Digest::new(&text))
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        // The kill came before the first request.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            find(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
