//! Line 3: pulls of a large blob by one client and by several.

use crate::{
    Outcome,
    arguments::Plan,
    line::{Line, Reading, Requirement, Unit, Work},
    sides::Side,
    stage::{REPOSITORY, Stage},
    tools::start_curl,
};

/// GET of a large blob by `streams` curls at once.
#[derive(Debug)]
pub(super) struct Pull {
    streams: usize,
    megabytes: usize,
}

impl Pull {
    pub(super) fn new(plan: &Plan, streams: usize) -> Self {
        Self { streams, megabytes: plan.large / 1_000_000 }
    }
}

impl Work for Pull {
    fn lines(&self) -> Vec<Line> {
        let (number, streams) = match self.streams {
            1 => ("3a", "one stream".to_owned()),
            streams => ("3b", format!("{streams} streams")),
        };
        vec![Line {
            number,
            figure: format!("pull {} MB, {streams}", self.megabytes),
            unit: Unit::Throughput,
            bound: "nginx static",
            requirement: Requirement::All(vec![
                Requirement::Better(3.0, Side::Pair),
                Requirement::Better(1.3, Side::Bound),
            ]),
        }]
    }

    fn measure(&mut self, stage: &Stage, side: Side) -> Outcome<Vec<Reading>> {
        let server = stage.side(side)?;
        let url = match side {
            Side::Bound => server.url("/large"),
            _ => server.url(&format!("/v2/{REPOSITORY}/blobs/{}", stage.large.digest)),
        };
        let ((), seconds, load) = Stage::timed(Some(server), || {
            let running = (0..self.streams)
                .map(|_| start_curl(&stage.site, &url))
                .collect::<Outcome<Vec<_>>>()?;
            for curl in running {
                curl.finish(b"")?;
            }
            Ok(())
        })?;
        let bytes = (self.streams * stage.large.size) as f64;
        Ok(vec![Reading::under(bytes / seconds, load)])
    }
}
