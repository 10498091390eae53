//! The command line.

use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};

const USAGE: &str = "usage: chaos [--seed N] [--kills N] [--living SECONDS]";

/// How often the server is killed in the short form.
const KILLS: u64 = 20;

/// The command line.
#[derive(Debug)]
pub(crate) struct Arguments {
    /// The seed of every choice of the clients and the killer. The machine still decides when
    /// requests meet, and when exactly a kill comes.
    pub(crate) seed: u64,
    /// How often the server is killed.
    pub(crate) kills: u64,
    /// How long each server lives at least, in seconds.
    pub(crate) living: u64,
}

impl Arguments {
    /// Reads the command line; `None` when it is meant for other tests: `cargo test NAME` gives the
    /// name to every target.
    pub(crate) fn read() -> Result<Option<Self>, String> {
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
        let mut read = Self { seed: u64::from(now.subsec_nanos()), kills: KILLS, living: 0 };
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let field = match argument.as_str() {
                "--seed" => &mut read.seed,
                "--kills" => &mut read.kills,
                "--living" => &mut read.living,
                "--nocapture" => continue,
                option if option.starts_with('-') => return Err(USAGE.to_owned()),
                _ => return Ok(None),
            };
            *field = arguments.next().and_then(|value| value.parse().ok()).ok_or(USAGE)?;
        }
        Ok(Some(read))
    }
}
