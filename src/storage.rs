//! Bytes at keys.
//!
//! A [`Key`] names an object; a [`Storage`] keeps objects. Nothing here knows what a blob or a
//! manifest is.

pub mod filesystem;

/// Which backend keeps the bytes: the one driver named below `storage`.
#[derive(Clone, Debug)]
pub enum Options {
    /// A directory (`storage.filesystem`).
    Filesystem(filesystem::Options),
    /// This process's memory (`storage.inmemory`): for tests, gone when the server stops.
    Memory,
}

impl Default for Options {
    fn default() -> Self {
        Self::Filesystem(filesystem::Options::default())
    }
}
