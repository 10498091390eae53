//! Line 7: resident memory, after the start and while many clients pull and push.

use crate::{
    Outcome,
    arguments::Plan,
    line::{Line, Reading, Requirement, Unit, Work},
    load,
    sides::Side,
    stage::{REPOSITORY, Stage},
    tools::start_curl,
};

const MIB: f64 = 1_048_576.0;

/// The memory of a fresh server, then its peak under two loads.
#[derive(Debug)]
pub(super) struct Memory {
    megabytes: usize,
}

impl Memory {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { megabytes: plan.middle / 1_000_000 }
    }
}

impl Work for Memory {
    fn lines(&self) -> Vec<Line> {
        let line = |number, figure, most| Line {
            number,
            figure,
            unit: Unit::Memory,
            bound: "",
            requirement: Requirement::AtMost(most * MIB),
        };
        let (pulls, pushes, megabytes) = (Plan::PULLS, Plan::PUSHES, self.megabytes);
        vec![
            line("7a", "memory after the start".to_owned(), 24.0),
            line("7b", format!("peak, {pulls} pulls of {megabytes} MB at once"), 96.0),
            line("7c", format!("peak, {pushes} pushes of {megabytes} MB at once"), 96.0),
        ]
    }

    fn sides(&self) -> &'static [Side] {
        &[Side::Portcullis, Side::Pair]
    }

    fn rounds(&self, _: usize) -> usize {
        1
    }

    fn measure(&mut self, stage: &Stage, side: Side) -> Outcome<Vec<Reading>> {
        // Over the existing tree, by a server with empty caches.
        let server = stage.fresh(side, "memory", &stage.side(side)?.root)?;
        let processes = server.processes();
        let idle = load::resident(&processes)?;

        load::forget_peak(&processes)?;
        let blob = format!("/v2/{REPOSITORY}/blobs/{}", stage.middle.digest);
        let url = format!("{}?n=[1-{}]", server.url(&blob), Plan::PULLS);
        let ((), _, pulling) = Stage::timed(Some(&server), || {
            start_curl(&stage.site, &url)?.finish(b"")?;
            Ok(())
        })?;
        let pulls = load::peak(&processes)?;

        load::forget_peak(&processes)?;
        let (digests, _, pushing) = Stage::timed(Some(&server), || {
            stage.client.push_many(&server, REPOSITORY, &stage.middle, Plan::PUSHES)
        })?;
        let pushes = load::peak(&processes)?;
        digests.iter().try_for_each(|digest| Stage::forget_blob(&server, digest))?;
        Ok(vec![Reading::of(idle), Reading::under(pulls, pulling), Reading::under(pushes, pushing)])
    }
}
