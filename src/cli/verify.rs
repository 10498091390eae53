//! `portcullis verify`: checks that the stored content is whole.

use std::{
    num::NonZeroU64,
    ops::ControlFlow,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use self::report::Report;
use super::{
    block_on,
    failure::{Failure, tell},
    storage_configuration,
};
use crate::{
    app::{
        self,
        verify::{Finding, Options, Progress},
    },
    config::Config,
};

mod report;

const EXAMPLES: &str = "\
One line on standard output for each finding:
  problem  acknowledged content that is damaged, missing or unreadable
  note     content that nothing references: leftovers of a killed
           process, foreign files
Open uploads are not checked.

--repair moves damaged content to portcullis-quarantine/<time>/, at the root of the storage, \
below the path that it had; it deletes nothing, and moving the content back undoes it. An image \
that lacks something has to be pushed again.

Examples:
  portcullis verify               in the storage of `portcullis serve`
  portcullis verify /etc/docker/registry/config.yml --limit 50M
  portcullis verify --json | jq 'select(.severity == \"problem\")'

Exit codes: 0 no problem; 1 problems, repaired or not; 2 could not be run.";

/// Hash every blob and check every link, revision and tag, beside a running server too.
///
/// Write nothing without --repair.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Verify {
    /// The configuration file of the server; REGISTRY_… variables apply too
    config: Option<PathBuf>,
    /// Move corrupt blobs, and links that lead nowhere, to a quarantine
    #[arg(long)]
    repair: bool,
    /// Print a JSON object in each line, the last one a summary
    #[arg(long)]
    json: bool,
    /// The most bytes of blobs to read in a second: 50M are 50 times 1024 times 1024
    #[arg(long, value_name = "RATE", value_parser = rate)]
    limit: Option<NonZeroU64>,
}

/// How often the line of progress changes.
const TICK: Duration = Duration::from_millis(200);

impl Verify {
    /// Runs the command, and prints its findings on standard output.
    ///
    /// # Errors
    ///
    /// Code 1 when there are problems, 2 when the storage could not be verified.
    pub(super) fn run(self) -> Result<(), Failure> {
        let (summary, problems) =
            self.report().map_err(|failure| Failure { code: 2, ..failure })?;
        if problems > 0 {
            return Err(Failure::new(summary));
        }
        tell(&summary);
        Ok(())
    }

    /// Gives the summary, and how many problems there are.
    fn report(self) -> Result<(String, u64), Failure> {
        let config = storage_configuration(self.config.as_deref())?;
        block_on(self.verify(&config))
    }

    async fn verify(self, config: &Config) -> Result<(String, u64), Failure> {
        let registry = app::open_registry(config)?;
        let options = Options { repair: self.repair, limit: self.limit };
        let progress = Progress::default();
        let report = Mutex::new(Report::new(self.json));
        let locked = || report.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failed = None;
        let mut found = |finding: Finding| match locked().finding(&finding) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        };
        {
            let mut verifying =
                std::pin::pin!(registry.verification().run(&options, &progress, &mut found));
            let mut ticks = tokio::time::interval(TICK);
            loop {
                tokio::select! {
                    () = &mut verifying => break,
                    _ = ticks.tick() => locked().progress(progress.checked()),
                }
            }
        }
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(locked().end(progress.checked())?),
        }
    }
}

/// Reads a number of bytes: digits, and K, M, G or T for powers of 1024.
fn rate(text: &str) -> Result<NonZeroU64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => Some(0),
        "K" | "KB" | "KIB" => Some(10),
        "M" | "MB" | "MIB" => Some(20),
        "G" | "GB" | "GIB" => Some(30),
        "T" | "TB" | "TIB" => Some(40),
        _ => None,
    };
    let bytes = digits.parse::<u64>().ok().zip(shift);
    bytes
        .and_then(|(number, shift)| number.checked_mul(1 << shift))
        .and_then(NonZeroU64::new)
        .ok_or_else(|| "expected bytes per second, such as 800K, 50M or 1G".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_is_a_number_of_bytes() {
        for (text, bytes) in [
            ("1", Some(1)),
            ("800K", Some(800 << 10)),
            ("50M", Some(50 << 20)),
            ("50mib", Some(50 << 20)),
            ("2GB", Some(2 << 30)),
            ("0", None),
            ("M", None),
            ("", None),
            ("-5M", None),
            ("1.5M", None),
            ("5 parsecs", None),
            ("99999999999T", None),
        ] {
            assert_eq!(rate(text).ok().map(NonZeroU64::get), bytes, "{text}");
        }
    }
}
