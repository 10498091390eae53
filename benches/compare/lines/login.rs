//! Line 6: the first login at a fresh server, beside one bcrypt of the same cost.

use std::time::Instant;

use crate::{
    Outcome,
    client::Client,
    line::{Line, Reading, Requirement, Unit, Work},
    sides::Side,
    site::PASSWORD,
    stage::Stage,
};

/// How much longer than bcrypt it may take, in seconds.
const MORE: f64 = 0.010;

/// GET /v2/ with a password, over a new connection to a server that has just started.
#[derive(Debug, Default)]
pub(super) struct FirstLogin;

impl Work for FirstLogin {
    fn lines(&self) -> Vec<Line> {
        vec![Line {
            number: "6",
            figure: "first login on a fresh server".to_owned(),
            unit: Unit::Time,
            bound: "one bcrypt",
            requirement: Requirement::NearBound(1.0, MORE),
        }]
    }

    fn rounds(&self, planned: usize) -> usize {
        // Short, and easily disturbed.
        planned.max(5)
    }

    fn measure(&mut self, stage: &Stage, side: Side) -> Outcome<Vec<Reading>> {
        let seconds = if side == Side::Bound {
            let started = Instant::now();
            #[expect(clippy::disallowed_methods, reason = "no server waits: it is what is timed")]
            let right = bcrypt::verify(PASSWORD, &stage.site.hash)?;
            assert!(right, "the password is that of the hash");
            started.elapsed().as_secs_f64()
        } else {
            let server = stage.fresh(side, "login", &stage.path("login"))?;
            Client::new(&stage.site, &stage.runtime)?.timed_get(&server.url("/v2/"))?
        };
        Ok(vec![Reading::of(seconds)])
    }
}
