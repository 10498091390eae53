//! The command line.

use std::{
    env,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const USAGE: &str = "usage: soak [--seconds N] [--seed N]";

/// How long the short form takes.
const SECONDS: u64 = 60;

/// The command line.
#[derive(Debug)]
pub(crate) struct Arguments {
    /// How long clients work before the drain.
    pub(crate) length: Duration,
    /// The seed of the clients' choices.
    pub(crate) seed: u64,
}

impl Arguments {
    /// Reads the command line; `None` when it is meant for other tests: `cargo test NAME` gives the
    /// name to every target.
    pub(crate) fn read() -> Result<Option<Self>, String> {
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
        let (mut seconds, mut seed) = (SECONDS, u64::from(now.subsec_nanos()));
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let field = match argument.as_str() {
                "--seconds" => &mut seconds,
                "--seed" => &mut seed,
                "--nocapture" => continue,
                option if option.starts_with('-') => return Err(USAGE.to_owned()),
                _ => return Ok(None),
            };
            *field = arguments.next().and_then(|value| value.parse().ok()).ok_or(USAGE)?;
        }
        Ok(Some(Self { length: Duration::from_secs(seconds), seed }))
    }
}
