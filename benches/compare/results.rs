//! The readings, and whether they meet the requirements.

use crate::{
    line::{Line, Reading, Requirement},
    load::Load,
    sides::Side,
};

/// A line with the readings of its turns.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) line: Line,
    readings: [Vec<Reading>; 3],
    /// Why a side has no figure.
    pub(crate) failures: Vec<(Side, String)>,
}

impl Measured {
    /// A line without readings.
    pub(crate) fn of(line: Line) -> Self {
        Self { line, readings: Default::default(), failures: Vec::new() }
    }

    /// Adds the readings of one turn.
    pub(crate) fn add(&mut self, side: Side, reading: Reading) {
        if !reading.amount.is_nan() {
            self.readings[side as usize].push(reading);
        }
    }

    fn amounts(&self, side: Side) -> Vec<f64> {
        let mut amounts: Vec<f64> =
            self.readings[side as usize].iter().map(|reading| reading.amount).collect();
        amounts.sort_unstable_by(f64::total_cmp);
        amounts
    }

    /// The median of a side's readings; `None` without readings.
    pub(crate) fn median(&self, side: Side) -> Option<f64> {
        median(&self.amounts(side))
    }

    /// The least and the greatest of a side's readings, if there are several.
    pub(crate) fn spread(&self, side: Side) -> Option<(f64, f64)> {
        let amounts = self.amounts(side);
        (amounts.len() > 1).then(|| (amounts[0], amounts[amounts.len() - 1]))
    }

    /// The load of both ends during the turns of Portcullis, on average.
    pub(crate) fn load(&self) -> Option<Load> {
        let loads: Vec<Load> =
            self.readings[Side::Portcullis as usize].iter().filter_map(|r| r.load).collect();
        let mean =
            |part: fn(&Load) -> f64| loads.iter().map(part).sum::<f64>() / loads.len() as f64;
        (!loads.is_empty()).then(|| Load {
            clients: mean(|load| load.clients),
            servers: mean(|load| load.servers),
        })
    }

    /// The processor time of a side's processes for each request or byte, in seconds: the median of
    /// its turns. Where the clients take most of the machine, rates say little of a server and this
    /// says all. `None` where the amounts are no rates, or no server of the side had a part.
    pub(crate) fn processor_time(&self, side: Side) -> Option<f64> {
        self.line.unit.processor_unit()?;
        let mut times: Vec<f64> = self.readings[side as usize]
            .iter()
            .filter_map(|reading| Some(reading.load?.servers / reading.amount))
            .filter(|seconds| seconds.is_finite())
            .collect();
        times.sort_unstable_by(f64::total_cmp);
        median(&times)
    }

    /// How many times better than a side Portcullis is.
    pub(crate) fn advantage(&self, over: Side) -> Option<f64> {
        let ours = self.median(Side::Portcullis)?;
        let theirs = self.median(over)?;
        // A ratio to a side that answered nothing has no meaning.
        (theirs > 0.0).then(|| self.line.unit.advantage(ours, theirs))
    }

    /// Whether the requirement is met; `None` when that is unknown.
    pub(crate) fn is_met(&self, others: &[Self]) -> Option<bool> {
        self.meets(&self.line.requirement, others)
    }

    fn meets(&self, requirement: &Requirement, others: &[Self]) -> Option<bool> {
        let ours = self.median(Side::Portcullis)?;
        match requirement {
            Requirement::Better(times, side) => Some(self.advantage(*side)? >= *times),
            Requirement::OfLine(times, number) => {
                let other = others.iter().find(|other| other.line.number == *number)?;
                let theirs = other.median(Side::Portcullis)?;
                Some(self.line.unit.advantage(ours, theirs) >= *times)
            }
            Requirement::AtMost(most) => Some(ours <= *most),
            Requirement::NearBound(times, more) => {
                Some(ours <= self.median(Side::Bound)? * times + more)
            }
            Requirement::All(all) => {
                let met: Vec<_> = all.iter().map(|each| self.meets(each, others)).collect();
                if met.contains(&Some(false)) {
                    Some(false)
                } else {
                    met.into_iter().collect::<Option<Vec<_>>>().map(|_| true)
                }
            }
            Requirement::Any(all) => {
                let met: Vec<_> = all.iter().map(|each| self.meets(each, others)).collect();
                if met.contains(&Some(true)) {
                    Some(true)
                } else {
                    met.into_iter().collect::<Option<Vec<_>>>().map(|_| false)
                }
            }
        }
    }

    /// The requirement, in words.
    pub(crate) fn required(&self) -> String {
        self.words(&self.line.requirement)
    }

    fn words(&self, requirement: &Requirement) -> String {
        let join = |all: &[Requirement], word| {
            all.iter().map(|each| self.words(each)).collect::<Vec<_>>().join(word)
        };
        match requirement {
            Requirement::Better(times, Side::Pair) => format!("{times} × pair"),
            Requirement::Better(times, _) => format!("{times} × limit"),
            Requirement::OfLine(times, number) => format!("{times} × line {number}"),
            Requirement::AtMost(most) => format!("≤ {}", self.line.unit.show(*most)),
            Requirement::NearBound(times, more) if *times == 1.0 => {
                format!("≤ limit + {}", self.line.unit.show(*more))
            }
            Requirement::NearBound(times, more) => {
                format!("≤ {times} × limit + {}", self.line.unit.show(*more))
            }
            Requirement::All(all) => join(all, " and "),
            Requirement::Any(all) => join(all, " or "),
        }
    }
}

/// The middle one of sorted amounts, or the mean of the middle two.
pub(crate) fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}
