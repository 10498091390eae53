//! Methods that an endpoint does not have.

use crate::{
    content::{LAYER, NO_ID, digest},
    step::Step,
};

pub(super) fn steps() -> Vec<Step> {
    let endpoints = [
        ("the check", "/v2/".to_owned()),
        ("the catalog", "/v2/_catalog".to_owned()),
        ("tags", "/v2/app/tags/list".to_owned()),
        ("a manifest", "/v2/app/manifests/docker".to_owned()),
        ("a blob", format!("/v2/app/blobs/{}", digest(LAYER))),
        ("uploads", "/v2/app/blobs/uploads/".to_owned()),
        ("an upload", format!("/v2/app/blobs/uploads/{NO_ID}")),
        ("nothing", "/v2/app/nothing".to_owned()),
    ];
    let mut steps = Vec::new();
    for (what, target) in &endpoints {
        for method in ["TRACE", "PROPFIND", "get"] {
            steps.push(Step::new(method, format!("{method} {what}"), target));
        }
    }
    for (what, target) in &endpoints[1..] {
        steps.push(Step::new("OPTIONS", format!("OPTIONS {what}"), target));
    }
    // Of the server, the probe of load balancers.
    for (what, target) in [("the root", "/"), ("the server", "*")] {
        let step = |name| Step::new("OPTIONS", name, target);
        steps.push(step(format!("OPTIONS {what}")));
        steps.push(step(format!("OPTIONS {what}, without credentials")).by(None));
    }
    // CORS preflight requests, which browsers send without credentials.
    for (what, target) in endpoints.iter().chain(&[("the root", "/".to_owned())]) {
        let preflight = Step::new("OPTIONS", format!("preflight of {what}"), target)
            .header("Origin", "https://ui.example.com")
            .header("Access-Control-Request-Method", "DELETE");
        let anonymous =
            Step::new("OPTIONS", format!("{}, without credentials", preflight.name), target);
        let anonymous = Step { headers: preflight.headers.clone(), ..anonymous }.by(None);
        steps.extend([preflight, anonymous]);
    }
    steps
}
