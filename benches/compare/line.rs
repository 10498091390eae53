//! The lines of the table: the figure, the sides, and the requirement.

use crate::{Outcome, load::Load, sides::Side, stage::Stage};

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Line {
    /// As in the requirements: `3a`.
    pub(crate) number: &'static str,
    /// The name of the figure.
    pub(crate) figure: String,
    pub(crate) unit: Unit,
    /// The name of the third side; empty without one.
    pub(crate) bound: &'static str,
    pub(crate) requirement: Requirement,
}

/// The unit of a figure.
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

/// The requirement for Portcullis.
#[derive(Clone, Debug)]
pub(crate) enum Requirement {
    /// This many times better than a side.
    Better(f64, Side),
    /// This many times the figure of Portcullis in another line.
    OfLine(f64, &'static str),
    /// An amount of the line's unit.
    AtMost(f64),
    /// This many times the bound, plus an amount.
    NearBound(f64, f64),
    All(Vec<Self>),
    Any(Vec<Self>),
}

/// Measures some lines, one side at a time.
pub(crate) trait Work {
    /// The lines for which [`Work::measure`] gives readings, in the same order.
    fn lines(&self) -> Vec<Line>;

    /// The sides that take part.
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

/// The reading of one turn for one line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// In the line's unit; not a number for a side without a reading.
    pub(crate) amount: f64,
    pub(crate) load: Option<Load>,
}

impl Reading {
    /// A side without a reading in this line.
    pub(crate) const NOTHING: Self = Self { amount: f64::NAN, load: None };

    /// An amount alone.
    pub(crate) const fn of(amount: f64) -> Self {
        Self { amount, load: None }
    }

    /// An amount, and the load of both ends meanwhile.
    pub(crate) const fn under(amount: f64, load: Load) -> Self {
        Self { amount, load: Some(load) }
    }
}
