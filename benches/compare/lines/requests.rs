//! Lines 1 and 2: small requests over kept connections.
//!
//! HEAD goes over HTTP/2: wrk and h2load's HTTP/1.1 wait for the body that a response to HEAD
//! announces and does not have.

use crate::{
    Outcome,
    line::{Line, Reading, Requirement, Unit, Work},
    sides::Side,
    stage::{REPOSITORY, Stage, TAG},
    tools::{Requests, h2load, wrk},
};

const CONNECTIONS: usize = 16;
const BOUND: &str = "nginx static";

/// GET of a manifest by tag, and HEAD of a blob.
#[derive(Debug)]
pub(super) struct SmallRequests;

impl Work for SmallRequests {
    fn lines(&self) -> Vec<Line> {
        let line = |number, figure: &str, requirement| Line {
            number,
            figure: figure.to_owned(),
            unit: Unit::Requests,
            bound: BOUND,
            requirement,
        };
        let first = Requirement::All(vec![
            Requirement::Better(1000.0, Side::Pair),
            Requirement::Better(0.7, Side::Bound),
        ]);
        vec![
            line("1", "manifest GET by tag, 16 connections, h1", first),
            line("2a", "the same over h2", Requirement::OfLine(0.8, "1")),
            line("2b", "HEAD of a blob, h2", Requirement::OfLine(0.8, "1")),
        ]
    }

    fn measure(&mut self, stage: &Stage, side: Side) -> Outcome<Vec<Reading>> {
        let server = stage.side(side)?;
        let (manifest, blob) = match side {
            Side::Bound => ("/manifest".to_owned(), "/large".to_owned()),
            _ => (
                format!("/v2/{REPOSITORY}/manifests/{TAG}"),
                format!("/v2/{REPOSITORY}/blobs/{}", stage.large.digest),
            ),
        };
        let (manifest, blob) = (server.url(&manifest), server.url(&blob));
        let seconds = stage.plan.seconds;
        let requests = |url| Requests { url, connections: CONNECTIONS, seconds };
        let (h1, _, first) = Stage::timed(Some(server), || wrk(requests(&manifest)))?;
        let (h2, _, second) = Stage::timed(Some(server), || h2load(requests(&manifest), "GET"))?;
        let (head, _, third) = Stage::timed(Some(server), || h2load(requests(&blob), "HEAD"))?;
        Ok(vec![
            Reading::under(h1.rate, first),
            Reading::under(h2.rate, second),
            Reading::under(head.rate, third),
        ])
    }
}
