//! The content of the disk after a power cut.
//!
//! A [`Recorder`] records the changes of the backend to the tree. From them [`Recording::image`]
//! makes the tree that a power cut after any step may leave: synced changes are there, and of the
//! others those that the caller chooses, in any combination, writes also in part.
//!
//! The file system is assumed to do what POSIX promises and what journaling file systems do: a
//! sync of a file makes its bytes durable and not its name; a sync of a directory makes its entries
//! durable and not their content; a rename happens in both directories or in neither.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ffi::OsString,
    fs::{self, File},
    ops::Range,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use super::watched::{Call, Given, Watch};

/// A file or a directory, independent of its name.
type Node = usize;

/// The root of the tree.
const ROOT: Node = 0;

/// A change of the tree.
#[derive(Clone, Debug)]
pub enum Step {
    Enter { dir: Node, name: OsString, node: Node, is_dir: bool },
    Leave { dir: Node, name: OsString },
    Rename { from: (Node, OsString), to: (Node, OsString), node: Node },
    Write { node: Node, offset: u64, bytes: Vec<u8> },
    Truncate { node: Node, length: u64 },
    Sync { node: Node, path: PathBuf },
}

/// The part of an unsynced step that is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Lost,
    There,
    /// Of a write, the first half; of anything else, all.
    Half,
}

/// All changes of a tree.
#[derive(Clone, Debug, Default)]
pub struct Recording(pub Vec<Step>);

/// Records the changes of a tree that is empty at first.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Log>);

#[derive(Debug)]
struct Log {
    steps: Vec<Step>,
    names: HashMap<PathBuf, Node>,
    /// By device and inode.
    opened: HashMap<(u64, u64), (Node, PathBuf)>,
    nodes: usize,
}

impl Default for Log {
    fn default() -> Self {
        let names = HashMap::from([(PathBuf::new(), ROOT)]);
        Self { steps: Vec::new(), names, opened: HashMap::new(), nodes: 1 }
    }
}

impl Recorder {
    /// The number of steps so far.
    pub fn len(&self) -> usize {
        self.log().steps.len()
    }

    pub fn recording(&self) -> Recording {
        Recording(self.log().steps.clone())
    }

    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn place(&self, path: &Path) -> (Node, OsString) {
        (self.names[path.parent().unwrap()], path.file_name().unwrap().to_owned())
    }

    fn enter(&mut self, path: &Path, is_dir: bool) -> Node {
        let (dir, name) = self.place(path);
        let node = self.nodes;
        self.nodes += 1;
        self.names.insert(path.to_owned(), node);
        self.steps.push(Step::Enter { dir, name, node, is_dir });
        node
    }

    fn opened(&mut self, path: &Path, file: &File) {
        let path = if path == Path::new(".") { Path::new("") } else { path };
        let node = match self.names.get(path) {
            Some(node) => *node,
            None => self.enter(path, false),
        };
        self.opened.insert(identity(file), (node, path.to_owned()));
    }

    fn node(&self, file: &File) -> (Node, PathBuf) {
        self.opened[&identity(file)].clone()
    }
}

fn identity(file: &File) -> (u64, u64) {
    let found = file.metadata().unwrap();
    (found.dev(), found.ino())
}

impl Watch for Recorder {
    fn after(&self, call: Call<'_>, given: Given<'_>) {
        let mut log = self.log();
        match call {
            Call::Open(path) => {
                if let Given::File(file) = given {
                    log.opened(path, file);
                }
            }
            Call::CreateDir(path) => {
                log.enter(path, true);
            }
            Call::Write(file, offset, pieces) => {
                let (node, _) = log.node(file);
                let mut bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
                if let Given::Bytes(written) = given {
                    bytes.truncate(written);
                }
                log.steps.push(Step::Write { node, offset, bytes });
            }
            Call::Truncate(file, length) => {
                let (node, _) = log.node(file);
                log.steps.push(Step::Truncate { node, length });
            }
            Call::Sync(file) => {
                let (node, path) = log.node(file);
                log.steps.push(Step::Sync { node, path });
            }
            Call::Rename(from, to) => {
                let (from_place, to_place) = (log.place(from), log.place(to));
                let node = log.names.remove(from).unwrap();
                log.names.insert(to.to_owned(), node);
                // A directory takes its content along.
                let below: Vec<PathBuf> =
                    log.names.keys().filter(|path| path.starts_with(from)).cloned().collect();
                for path in below {
                    let node = log.names.remove(&path).unwrap();
                    log.names.insert(to.join(path.strip_prefix(from).unwrap()), node);
                }
                log.steps.push(Step::Rename { from: from_place, to: to_place, node });
            }
            Call::RemoveFile(path) | Call::RemoveDir(path) => {
                let (dir, name) = log.place(path);
                log.names.remove(path);
                log.steps.push(Step::Leave { dir, name });
            }
            // Times do not matter, and lock files are empty.
            Call::Renew | Call::Lock => {}
            Call::Stat | Call::Fstat | Call::Read { .. } | Call::Allocate | Call::ReadDir => {}
        }
    }
}

/// A tree.
#[derive(Debug, Default)]
pub struct Image {
    directories: HashMap<Node, BTreeMap<OsString, Node>>,
    files: HashMap<Node, Vec<u8>>,
}

impl Recording {
    /// The places of the syncs.
    pub fn syncs(&self) -> Vec<usize> {
        let is_sync = |at: &usize| matches!(self.0[*at], Step::Sync { .. });
        (0..self.0.len()).filter(is_sync).collect()
    }

    /// Those of the syncs in `within` that are of the same file or directory as the one at `sync`,
    /// and that one.
    pub fn syncs_of_the_same(&self, sync: usize, within: Range<usize>) -> Vec<usize> {
        let of = |at: usize| match &self.0[at] {
            Step::Sync { node, .. } => Some(*node),
            _ => None,
        };
        let same = |at: &usize| *at == sync || (within.contains(at) && of(*at) == of(sync));
        self.syncs().into_iter().filter(same).collect()
    }

    /// The tree after the first `end` steps and a power cut, without the syncs at
    /// `without`. `fate` decides over each step that no sync covers.
    pub fn image(&self, end: usize, without: &[usize], mut fate: impl FnMut() -> Fate) -> Image {
        let mut synced = HashSet::new();
        let mut fates = vec![Fate::There; end];
        for (at, step) in self.0[..end].iter().enumerate().rev() {
            let covered = match step {
                Step::Sync { node, .. } => {
                    if !without.contains(&at) {
                        synced.insert(*node);
                    }
                    true
                }
                Step::Enter { dir, .. } | Step::Leave { dir, .. } => synced.contains(dir),
                Step::Rename { from, to, .. } => synced.contains(&from.0) || synced.contains(&to.0),
                Step::Write { node, .. } | Step::Truncate { node, .. } => synced.contains(node),
            };
            if !covered {
                fates[at] = fate();
            }
        }
        let mut image = Image::default();
        image.directories.insert(ROOT, BTreeMap::new());
        for (step, fate) in self.0[..end].iter().zip(fates) {
            image.apply(step, fate);
        }
        image
    }
}

impl Image {
    fn apply(&mut self, step: &Step, fate: Fate) {
        // The target of a name exists as soon as the name does.
        if let Step::Enter { node, is_dir, .. } = step {
            if *is_dir {
                self.directories.entry(*node).or_default();
            } else {
                self.files.entry(*node).or_default();
            }
        }
        if fate == Fate::Lost {
            return;
        }
        match step {
            Step::Enter { dir, name, node, .. } => self.enter(*dir, name, *node),
            Step::Leave { dir, name } => self.leave(*dir, name),
            Step::Rename { from, to, node } => {
                if self.directories.get(&from.0).and_then(|dir| dir.get(&from.1)) == Some(node) {
                    self.leave(from.0, &from.1);
                }
                self.enter(to.0, &to.1, *node);
            }
            Step::Write { node, offset, bytes } => {
                let half = if fate == Fate::Half { bytes.len() / 2 } else { bytes.len() };
                let (start, end) = (*offset as usize, *offset as usize + bytes.len());
                let file = self.files.entry(*node).or_default();
                // The length is there before the bytes are: the rest reads as zeroes.
                file.resize(file.len().max(end), 0);
                file[start..start + half].copy_from_slice(&bytes[..half]);
            }
            Step::Truncate { node, length } => {
                self.files.entry(*node).or_default().resize(*length as usize, 0);
            }
            Step::Sync { .. } => {}
        }
    }

    fn enter(&mut self, dir: Node, name: &OsString, node: Node) {
        self.directories.entry(dir).or_default().insert(name.clone(), node);
    }

    fn leave(&mut self, dir: Node, name: &OsString) {
        self.directories.entry(dir).or_default().remove(name);
    }

    /// The files with names, and their content.
    pub fn files(&self) -> BTreeMap<PathBuf, &[u8]> {
        let mut files = BTreeMap::new();
        self.collect(ROOT, Path::new(""), &mut files);
        files
    }

    fn collect<'a>(&'a self, dir: Node, path: &Path, files: &mut BTreeMap<PathBuf, &'a [u8]>) {
        for (name, node) in &self.directories[&dir] {
            let path = path.join(name);
            match self.files.get(node) {
                Some(bytes) => {
                    files.insert(path, bytes);
                }
                None => self.collect(*node, &path, files),
            }
        }
    }

    /// Writes the tree to a folder that is there.
    pub fn write(&self, folder: &Path) {
        self.write_below(ROOT, folder);
    }

    fn write_below(&self, dir: Node, folder: &Path) {
        for (name, node) in &self.directories[&dir] {
            let path = folder.join(name);
            if self.directories.contains_key(node) {
                fs::create_dir(&path).unwrap();
                self.write_below(*node, &path);
            } else {
                fs::write(&path, &self.files[node]).unwrap();
            }
        }
    }
}
