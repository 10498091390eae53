//! The lines of the table: what is measured, on which sides, and what it must reach.

use crate::{Outcome, load::Load, sides::Side, stage::Stage};

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Line {
    /// As in the requirements: `3a`.
    pub(crate) number: &'static str,
    /// What is measured, in words.
    pub(crate) figure: String,
    pub(crate) unit: Unit,
    /// What the third side is, in a few words; empty when there is none.
    pub(crate) bound: &'static str,
    pub(crate) requirement: Requirement,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Requests a second.
    Requests,
    /// Bytes a second.
    Throughput,
    /// Seconds.
    Time,
    /// Bytes.
    Memory,
}

impl Unit {
    const fn more_is_better(self) -> bool {
        matches!(self, Self::Requests | Self::Throughput)
    }

    /// What a figure of processor time is for, where amounts of this unit are rates.
    pub(crate) const fn processor_unit(self) -> Option<ProcessorUnit> {
        match self {
            Self::Requests => Some(ProcessorUnit::Request),
            Self::Throughput => Some(ProcessorUnit::Gigabyte),
            Self::Time | Self::Memory => None,
        }
    }

    /// How many times better the first amount is.
    pub(crate) fn advantage(self, ours: f64, theirs: f64) -> f64 {
        if self.more_is_better() { ours / theirs } else { theirs / ours }
    }

    /// An amount in words.
    pub(crate) fn show(self, amount: f64) -> String {
        match self {
            Self::Requests if amount < 1000.0 => format!("{amount:.1}/s"),
            Self::Requests => format!("{amount:.0}/s"),
            Self::Throughput => format!("{:.3} GB/s", amount / 1e9),
            Self::Time if amount >= 1.0 => format!("{amount:.2} s"),
            Self::Time => format!("{:.2} ms", amount * 1e3),
            Self::Memory if amount < 1_048_576.0 => format!("{:.1} KiB", amount / 1024.0),
            Self::Memory => format!("{:.1} MiB", amount / 1_048_576.0),
        }
    }
}

/// What the processor time of a server is given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProcessorUnit {
    Request,
    Gigabyte,
}

impl ProcessorUnit {
    /// Seconds of processor time for each request, or for each byte, in words.
    pub(crate) fn show(self, seconds: f64) -> String {
        match self {
            Self::Request if seconds < 0.001 => format!("{:.1} µs", seconds * 1e6),
            Self::Request => format!("{:.1} ms", seconds * 1e3),
            Self::Gigabyte => format!("{:.2} s/GB", seconds * 1e9),
        }
    }
}

/// What Portcullis must reach.
#[derive(Clone, Debug)]
pub(crate) enum Requirement {
    /// So many times better than a side.
    Better(f64, Side),
    /// So many times what Portcullis reached in another line.
    OfLine(f64, &'static str),
    /// An amount of the line's unit.
    AtMost(f64),
    /// So many times the bound, and so much more.
    NearBound(f64, f64),
    All(Vec<Self>),
    Any(Vec<Self>),
}

/// Does the work of some lines, one side at a time.
pub(crate) trait Work {
    /// The lines that [`Work::measure`] gives readings for, in the same order.
    fn lines(&self) -> Vec<Line>;

    /// The sides there are.
    fn sides(&self) -> &'static [Side] {
        &Side::ALL
    }

    /// How often each side has its turn; as planned, unless one turn gives many readings.
    fn rounds(&self, planned: usize) -> usize {
        planned
    }

    /// Takes one turn.
    fn measure(&mut self, stage: &Stage, side: Side) -> Outcome<Vec<Reading>>;
}

/// What one turn gave for one line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// In the line's unit; not a number where the side has nothing to compare.
    pub(crate) amount: f64,
    pub(crate) load: Option<Load>,
}

impl Reading {
    /// A side that has nothing in this line.
    pub(crate) const NOTHING: Self = Self { amount: f64::NAN, load: None };

    /// An amount alone.
    pub(crate) const fn of(amount: f64) -> Self {
        Self { amount, load: None }
    }

    /// An amount, and how busy both ends were meanwhile.
    pub(crate) const fn under(amount: f64, load: Load) -> Self {
        Self { amount, load: Some(load) }
    }
}
