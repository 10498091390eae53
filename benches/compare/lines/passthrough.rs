//! Line 13: TLS of another site that passes through, beside the site itself.

use super::idle;
use crate::{
    Outcome,
    arguments::Plan,
    line::{Line, Reading, Requirement, Unit, Work},
    sides::{Served, Side, portcullis::More},
    site::PASSED,
    stage::Stage,
    tools::curl_from,
};

const KIB: f64 = 1024.0;

/// A server that passes connections for [`PASSED`] on to the site.
fn start(stage: &Stage) -> Outcome<Served> {
    let site = &stage.side(Side::Bound)?.address;
    let tls = format!("    passthrough:\n      - {{names: [{PASSED}], addr: '{site}'}}\n");
    let root = &stage.side(Side::Portcullis)?.root;
    stage.fresh_with("passing", root, &More { tls, ..More::default() })
}

/// A download of the large file by one client.
#[derive(Debug)]
pub(super) struct Download {
    megabytes: usize,
    passing: Option<Served>,
}

impl Download {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { megabytes: plan.large / 1_000_000, passing: None }
    }
}

impl Work for Download {
    fn lines(&self) -> Vec<Line> {
        vec![Line {
            number: "13a",
            figure: format!("another site's {} MB through passthrough", self.megabytes),
            unit: Unit::Throughput,
            bound: "direct",
            requirement: Requirement::Better(0.9, Side::Bound),
        }]
    }

    fn sides(&self) -> &'static [Side] {
        &[Side::Portcullis, Side::Bound]
    }

    fn rounds(&self, planned: usize) -> usize {
        2 * planned
    }

    fn measure(&mut self, stage: &Stage, side: Side) -> Outcome<Vec<Reading>> {
        if self.passing.is_none() {
            self.passing = Some(start(stage)?);
        }
        let server = match (side, &self.passing) {
            (Side::Portcullis, Some(passing)) => passing,
            _ => stage.side(Side::Bound)?,
        };
        let url = format!("https://{PASSED}/large");
        let ((), seconds, load) = Stage::timed(Some(server), || curl_from(&server.address, &url))?;
        Ok(vec![Reading::under(stage.large.size as f64 / seconds, load)])
    }
}

/// Memory for each connection that passes through.
#[derive(Debug)]
pub(super) struct Held;

impl Work for Held {
    fn lines(&self) -> Vec<Line> {
        let idle = Plan::IDLE;
        vec![Line {
            number: "13b",
            figure: format!("memory for each of {idle} connections that pass through"),
            unit: Unit::Memory,
            bound: "",
            requirement: Requirement::AtMost(80.0 * KIB),
        }]
    }

    fn sides(&self) -> &'static [Side] {
        &[Side::Portcullis]
    }

    fn measure(&mut self, stage: &Stage, _: Side) -> Outcome<Vec<Reading>> {
        let server = start(stage)?;
        stage.client.anonymous_status(&server.url("/v2/"))?;
        let without = Stage::resident(&server)?;
        let connections = stage.runtime.block_on(idle::connect(stage, &server.address, PASSED))?;
        let with = Stage::resident(&server)?;
        Ok(vec![Reading::of((with - without).max(0.0) / connections.len() as f64)])
    }
}
