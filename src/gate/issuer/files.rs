//! The files of an issuer's keys, read again when they change.

use std::time::SystemTime;

use super::{IssuerOptions, Trust, TrustError};
use crate::stamp::Stamp;

/// `rootcertbundle` and `jwks`, and their stamps when they were last read. Reading blocks.
#[derive(Debug)]
pub struct TrustFiles {
    options: IssuerOptions,
    /// `None` makes the next reload read the files.
    seen: Option<Vec<Stamp>>,
}

impl TrustFiles {
    /// Reads the files at the start of the server.
    ///
    /// # Errors
    ///
    /// Those of [`Trust::read`].
    pub fn open(options: IssuerOptions) -> Result<(Self, Trust), TrustError> {
        let mut files = Self { options, seen: None };
        let trust = files.read()?;
        Ok((files, trust))
    }

    /// Reads the files again, if one has changed or if `anyway`; `None` where nothing has changed.
    ///
    /// # Errors
    ///
    /// Those of [`Trust::read`], once for each state of the files.
    pub fn reload(&mut self, anyway: bool) -> Result<Option<Trust>, TrustError> {
        let is_seen = self.seen.as_ref().is_some_and(|seen| *seen == self.stamps());
        if is_seen && !anyway { Ok(None) } else { self.read().map(Some) }
    }

    fn read(&mut self) -> Result<Trust, TrustError> {
        // The stamps are taken before the files are read, so the next check sees a change in between.
        let stamps = self.stamps();
        let now = SystemTime::now();
        let is_settled = stamps.iter().all(|stamp| stamp.is_settled(now));
        let trust = Trust::read(&self.options);
        self.seen = is_settled.then_some(stamps);
        trust
    }

    fn stamps(&self) -> Vec<Stamp> {
        let files = [&self.options.rootcertbundle, &self.options.jwks];
        files.into_iter().flatten().map(|path| Stamp::of(path)).collect()
    }
}
