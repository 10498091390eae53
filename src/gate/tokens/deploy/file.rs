//! The token file on disk: read by a running server, and changed by `portcullis token`.
//!
//! These calls block; a running server makes them off its async workers.

use std::{io, path::Path};

use super::{DeployTokens, TokenLines};
use crate::gate::text_file::{self, Absent, Missing, TextLines, WatchedFile};

/// A token file, as a running server reads it. A file that does not exist has no tokens.
#[derive(Debug)]
pub struct TokenFile(WatchedFile);

impl TokenFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    ///
    /// When it exists and cannot be read.
    pub fn open(path: &Path) -> io::Result<(Self, DeployTokens)> {
        let file = WatchedFile::open(path, Absent::Empty)?;
        let tokens = DeployTokens::parse(file.bytes());
        Ok((Self(file), tokens))
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Reads the file if its stamp has changed, or in any case if `anyway`. Returns the tokens if the
    /// content differs from the last call's.
    ///
    /// # Errors
    ///
    /// As for [`WatchedFile::reload`]: the caller keeps the tokens that it has.
    pub fn reload(&mut self, anyway: bool) -> io::Result<Option<DeployTokens>> {
        Ok(self.0.reload(anyway)?.map(DeployTokens::parse))
    }
}

/// Changes a token file, and returns the result of `change`, whose error leaves the file as it is. A
/// new file has the owner, the group and the mode of the password file, if there is one: the server
/// that reads it has to read the new one as well.
///
/// # Errors
///
/// As for [`text_file::edit`], which says how the file is locked and replaced.
pub fn change<T, E: From<io::Error>>(
    path: &Path,
    users: &Path,
    change: impl FnOnce(&mut TokenLines) -> Result<T, E>,
) -> Result<T, E> {
    text_file::edit(path, Missing::Created { like: users }, |text: &mut TextLines| {
        let mut lines = TokenLines(std::mem::take(text));
        let result = change(&mut lines)?;
        *text = lines.0;
        Ok(result)
    })
}
