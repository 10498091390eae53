//! The deploy tokens: the file that they come from, its reload, and the file of their last uses.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    StartError,
    permissions::{self, What},
    reload::{Files, Kept, Reload},
};
use crate::{
    config::Config,
    gate::{
        self, Gate, HtpasswdOptions,
        tokens::deploy::{DeployTokens, LastUses, TokenFile, UseFile},
    },
};

/// A changed token file is in force within a second, as a changed password file is.
const WATCH: Duration = Duration::from_millis(400);

/// The deploy tokens of the gate.
#[derive(Debug)]
pub(super) struct Tokens {
    gate: Arc<Gate>,
    /// `None` with `auth: none`.
    files: Option<Mutex<TokenFiles>>,
}

/// The files of the tokens.
#[derive(Debug)]
struct TokenFiles {
    tokens: TokenFile,
    uses: UseFile,
    /// The uses that the file has.
    written: LastUses,
    /// Whether the log says already that the file of the uses cannot be written.
    has_told: bool,
    maxlifetime: Duration,
}

impl Tokens {
    /// Puts the tokens of the file in force.
    ///
    /// # Errors
    ///
    /// When the file exists and cannot be read.
    pub(super) fn open(options: &gate::Options, gate: &Arc<Gate>) -> Result<Self, StartError> {
        let gate = Arc::clone(gate);
        let gate::Options::Htpasswd(options) = options else {
            return Ok(Self { gate, files: None });
        };
        let path = options.token_file();
        let (files, tokens) =
            TokenFiles::open(options).map_err(|source| StartError::tokens(&path, source))?;
        gate.set_tokens(&tokens);
        gate.remember_token_uses(&files.written);
        if !tokens.entries().is_empty() {
            let count = tokens.entries().len();
            tracing::info!(tokens = count, file = %path.display(), "deploy tokens");
        }
        files.report(&tokens, &gate);
        Ok(Self { gate, files: Some(Mutex::new(files)) })
    }

    /// Writes when tokens were last used, if any was used since the last call, and warns of tokens that
    /// are about to expire. Blocks.
    pub(super) fn keep(&self) {
        let Some(mut files) = self.files() else { return };
        self.gate.warn_of_expiring_tokens();
        let uses = self.gate.token_uses();
        if uses == files.written {
            return;
        }
        let written = files.uses.write(&uses, |name| self.gate.has_token(name));
        match written {
            Ok(()) => files.has_told = false,
            Err(error) if !files.has_told => {
                files.has_told = true;
                tracing::warn!(
                    file = %files.uses.path().display(),
                    %error,
                    "cannot write when deploy tokens were last used: `portcullis token list` does not \
                     show it"
                );
            }
            Err(_) => {}
        }
        // A file that cannot be written is tried again with the next use.
        files.written = uses;
    }

    fn files(&self) -> Option<MutexGuard<'_, TokenFiles>> {
        Some(self.files.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other tokens in force, and logs which are new and which have gone.
    fn put_in_force(&self, files: &TokenFiles, tokens: &DeployTokens) {
        let changed = self.gate.set_tokens(tokens);
        tracing::info!(
            tokens = tokens.entries().len(),
            file = %files.tokens.path().display(),
            added = changed.added.join(" "),
            removed = changed.removed.join(" "),
            "the deploy tokens of the changed file are in force"
        );
        files.report(tokens, &self.gate);
    }
}

impl TokenFiles {
    fn open(options: &HtpasswdOptions) -> std::io::Result<(Self, DeployTokens)> {
        let path = options.token_file();
        let (file, tokens) = TokenFile::open(&path)?;
        let uses = UseFile::beside(&path);
        // The file is a convenience, and can be deleted.
        let written = uses.read().unwrap_or_default();
        let maxlifetime = options.tokens.maxlifetime;
        Ok((Self { tokens: file, uses, written, has_told: false, maxlifetime }, tokens))
    }

    /// Logs the problems of the file: the permissions of other users, and its lines.
    fn report(&self, tokens: &DeployTokens, gate: &Gate) {
        let path = self.tokens.path();
        permissions::warn(path, What::Tokens);
        for finding in tokens.findings(|name| gate.is_user(name), self.maxlifetime) {
            tracing::warn!(file = %path.display(), line = finding.line, "{finding}");
        }
    }
}

impl Reload for Tokens {
    fn keys(&self) -> &'static [&'static str] {
        &["auth.htpasswd.tokens"]
    }

    fn apply(&self, config: &Config) -> Result<(), Kept> {
        let (gate::Options::Htpasswd(options), Some(mut files)) = (&config.auth, self.files())
        else {
            return Err(Kept::UntilRestart);
        };
        files.maxlifetime = options.tokens.maxlifetime;
        let path = options.token_file();
        if files.tokens.path() == path {
            return Ok(());
        }
        let (opened, tokens) = TokenFiles::open(options).map_err(|error| {
            tracing::error!(
                file = %path.display(),
                %error,
                "cannot read the new token file; the tokens of the old one stay in force"
            );
            Kept::Unusable
        })?;
        *files = opened;
        self.put_in_force(&files, &tokens);
        self.gate.remember_token_uses(&files.written);
        Ok(())
    }

    fn watch(&self) -> Option<Duration> {
        self.files.as_ref().map(|_| WATCH)
    }

    fn read_files(&self, which: Files) {
        let Some(mut files) = self.files() else { return };
        match files.tokens.reload(which == Files::All) {
            Ok(None) if which == Files::All => {
                permissions::warn(files.tokens.path(), What::Tokens);
            }
            Ok(None) => {}
            Ok(Some(tokens)) => self.put_in_force(&files, &tokens),
            Err(error) => tracing::error!(
                file = %files.tokens.path().display(),
                %error,
                "cannot read the token file; the tokens last read stay in force"
            ),
        }
    }
}
