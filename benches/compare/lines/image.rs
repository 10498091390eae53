//! Line 5: an image of many small layers, in and out.

use std::{fs, path::Path};

use crate::{
    Outcome,
    line::{Line, Reading, Requirement, Unit, Work},
    sides::Side,
    stage::Stage,
    tools::skopeo,
};

const LAYERS: usize = 60;
const LAYER_SIZE: usize = 64 * 1024;

/// skopeo copies an image that no side has, and copies it back.
#[derive(Debug, Default)]
pub(super) struct ManyLayers {
    turns: usize,
}

impl Work for ManyLayers {
    fn lines(&self) -> Vec<Line> {
        let line = |number, direction: &str| Line {
            number,
            figure: format!("skopeo copy {direction}, 60 layers of 64 KiB"),
            unit: Unit::Time,
            bound: "skopeo alone",
            requirement: Requirement::Better(10.0, Side::Pair),
        };
        vec![line("5a", "in"), line("5b", "out")]
    }

    fn rounds(&self, planned: usize) -> usize {
        // The pair is slow.
        planned.div_ceil(2)
    }

    fn measure(&mut self, stage: &Stage, side: Side) -> Outcome<Vec<Reading>> {
        self.turns += 1;
        let (from, to) = (stage.path("layers-in"), stage.path("layers-out"));
        crate::content::layout(&from, LAYERS, LAYER_SIZE)?;
        let local = |path: &Path| format!("oci:{}:image", path.display());
        // The limit is skopeo with a directory in place of a registry.
        let server = if side == Side::Bound { None } else { Some(stage.side(side)?) };
        let between = server.map_or_else(
            || local(&stage.path("layers-between")),
            |server| format!("docker://{}/bench/layers-{}:image", server.address, self.turns),
        );
        let ((), seconds_in, load_in) =
            Stage::timed(server, || skopeo(&stage.site, &local(&from), &between))?;
        let ((), seconds_out, load_out) =
            Stage::timed(server, || skopeo(&stage.site, &between, &local(&to)))?;
        for used in [from, to, stage.path("layers-between")] {
            if used.exists() {
                fs::remove_dir_all(used)?;
            }
        }
        Ok(vec![Reading::under(seconds_in, load_in), Reading::under(seconds_out, load_out)])
    }
}
