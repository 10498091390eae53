//! The same requests to registry:2 and to Portcullis: every difference between the responses is
//! intended, has a reason, and is listed in docs/MIGRATING.md.
//!
//! `script` has the requests, in the order in which they are sent; `step` is one request. `sides`
//! starts the two servers on one configuration, `exchange` talks to them, `normal` removes from a
//! response the parts that differ by nature, `compare` compares two responses. `deviations` lists
//! the intended differences.
//!
//! A difference that is not listed, and a listed one that no longer shows, is a failure.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod compare;
mod content;
mod deviations;
mod document;
mod exchange;
mod issuer;
mod normal;
mod script;
mod sides;
mod step;

use std::{collections::BTreeSet, fmt::Write as _};

use testkit::{registry2, skip};

use crate::{compare::Difference, deviations::DEVIATIONS, sides::Sides};

/// The least number of requests: a shorter script would not support the claim of docs/MIGRATING.md.
const FEWEST_STEPS: usize = 600;

#[tokio::test]
async fn every_answer_that_differs_from_registry_2_has_a_reason() {
    if registry2::program().is_none() {
        return skip::skip("differential", "docker-registry is not installed", true);
    }
    let mut sides = Sides::start();
    let mut differences: Vec<Difference> = Vec::new();
    for step in script::all() {
        let (theirs, ours) = sides.answers(&step).await;
        differences.extend(compare::differences(&step, &theirs, &ours));
    }
    report(&differences);
}

#[test]
fn script_is_long_and_names_each_step_once() {
    let steps = script::all();
    let names: BTreeSet<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names.len(), steps.len(), "two steps have one name");
    assert!(steps.len() >= FEWEST_STEPS, "{} steps", steps.len());
}

#[test]
fn every_deviation_stands_in_the_guide_with_its_reason() {
    let ours: Vec<(&str, &str)> = DEVIATIONS.iter().map(|d| (d.title, d.reason)).collect();
    let rows = document::rows();
    let theirs: Vec<(&str, &str)> =
        rows.iter().map(|row| (row.title.as_str(), row.reason.as_str())).collect();
    assert_eq!(ours, theirs, "DEVIATIONS and the table of docs/MIGRATING.md");
}

/// Shows all differences; fails for one that is not listed, and for a listed one that is missing.
#[expect(clippy::print_stdout, reason = "shown by the test runner when the test fails")]
fn report(differences: &[Difference]) {
    let mut unknown = String::new();
    for difference in differences {
        match DEVIATIONS.iter().find(|deviation| deviation.covers(difference)) {
            Some(deviation) => println!("{difference}      because: {}\n", deviation.reason),
            None => writeln!(unknown, "{difference}").unwrap(),
        }
    }
    let mut rotten = String::new();
    for deviation in DEVIATIONS {
        for expected in deviation.differences {
            if !differences.iter().any(|difference| expected.covers(difference)) {
                writeln!(rotten, "  {}: {expected:?}", deviation.title).unwrap();
            }
        }
    }
    assert!(
        unknown.is_empty() && rotten.is_empty(),
        "answers differ that no deviation covers:\n\n{unknown}\n\
         deviations are listed that no answer shows:\n\n{rotten}"
    );
}
