//! The command line, and the sizes of a run.

use std::{env, path::PathBuf, time::Duration};

use crate::Outcome;

const USAGE: &str = "usage: compare --binary PATH [--quick] [--rounds N] [--only 1,3a] [--write]";

/// The command line.
#[derive(Debug)]
pub(crate) struct Arguments {
    /// The measured binary of Portcullis: a release build.
    pub(crate) binary: PathBuf,
    /// The numbers of the lines to measure; empty means all.
    pub(crate) only: Vec<String>,
    /// Whether docs/BENCHMARKS.md is written.
    pub(crate) write: bool,
    /// The sizes of the run.
    pub(crate) plan: Plan,
}

/// The sizes of one run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Whether this is the short form.
    pub(crate) quick: bool,
    /// How often each side has its turn.
    pub(crate) rounds: usize,
    /// How long each load of small requests lasts, in seconds.
    pub(crate) seconds: u32,
    /// The size of the blob that few clients pull and push, in bytes.
    pub(crate) large: usize,
    /// The size of the blob that many clients pull and push, in bytes.
    pub(crate) middle: usize,
    /// The repositories of the large tree, and the tags of one of them.
    pub(crate) names: usize,
    /// The repositories that share an image.
    pub(crate) shared: usize,
    /// The time limit of the whole run.
    pub(crate) limit: Duration,
}

impl Plan {
    /// How many clients pull at once in line 7.
    pub(crate) const PULLS: usize = 200;
    /// How many clients push at once in line 7.
    pub(crate) const PUSHES: usize = 32;
    /// The idle connections of line 9.
    pub(crate) const IDLE: usize = 1000;

    const FULL: Self = Self {
        quick: false,
        rounds: 5,
        seconds: 5,
        large: 1_000_000_000,
        middle: 100_000_000,
        names: 20_000,
        shared: 20_000,
        limit: Duration::from_secs(90 * 60),
    };
    const QUICK: Self = Self {
        quick: true,
        rounds: 2,
        seconds: 2,
        large: 256_000_000,
        middle: 16_000_000,
        names: 2_000,
        shared: 1_000,
        limit: Duration::from_secs(15 * 60),
    };

    /// A sentence about what the short form leaves out; empty for the long form.
    pub(crate) fn reduced(&self) -> Vec<String> {
        let full = Self::FULL;
        let words = [
            ("rounds", self.rounds, full.rounds),
            ("seconds of each load", self.seconds as usize, full.seconds as usize),
            ("MB in lines 3 and 4", self.large / 1_000_000, full.large / 1_000_000),
            ("MB in line 7", self.middle / 1_000_000, full.middle / 1_000_000),
            ("repositories and tags in line 8", self.names, full.names),
            ("repositories in line 11", self.shared, full.shared),
        ];
        words
            .into_iter()
            .filter(|(_, ours, theirs)| ours != theirs)
            .map(|(what, ours, theirs)| format!("{ours} {what} in place of {theirs}"))
            .collect()
    }
}

impl Arguments {
    /// Reads the command line. `--bench`, which cargo adds, is ignored.
    pub(crate) fn read() -> Outcome<Self> {
        let (mut binary, mut only, mut rounds) = (None, Vec::new(), None);
        let (mut write, mut quick) = (false, false);
        let mut words = env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(USAGE);
            match word.as_str() {
                "--bench" => {}
                "--quick" => quick = true,
                "--write" => write = true,
                "--binary" => binary = Some(PathBuf::from(value()?)),
                "--rounds" => rounds = Some(value()?.parse()?),
                "--only" => only = value()?.split(',').map(str::to_owned).collect(),
                _ => return Err(USAGE.into()),
            }
        }
        let mut plan = if quick { Plan::QUICK } else { Plan::FULL };
        plan.rounds = rounds.unwrap_or(plan.rounds).max(1);
        let binary = binary.ok_or(USAGE)?.canonicalize()?;
        Ok(Self { binary, only, write, plan })
    }

    /// Whether a line with this number is to be measured: `--only 3` takes 3a and 3b too.
    pub(crate) fn wants(&self, number: &str) -> bool {
        let whole = number.trim_end_matches(char::is_alphabetic);
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == number || wanted == whole)
    }
}
