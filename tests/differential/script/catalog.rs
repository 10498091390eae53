//! The list of repositories.

use crate::step::{Step, delete, get, head, post};

const ALL: &str = "/v2/_catalog";

/// Before the first push.
pub(super) fn of_nothing() -> Vec<Step> {
    vec![
        get("all", ALL),
        get("a page", "/v2/_catalog?n=1"),
        get("behind a name", "/v2/_catalog?last=app"),
    ]
}

/// With images.
pub(super) fn steps() -> Vec<Step> {
    let mut steps =
        vec![get("all", ALL), head("head", ALL), get("a slash behind it", "/v2/_catalog/")];
    for query in [
        "n=1",
        "n=2",
        "n=3",
        "n=0",
        "n=100",
        "n=1000",
        "n=1001",
        "n=99999999999999999999",
        "n=-1",
        "n=two",
        "n=",
        "n=1.5",
        "n=+1",
        "n=1&n=2",
        "n",
        "last=",
        "last=app",
        "last=app&n=1",
        "last=team%2Fapp",
        "last=team/app&n=1",
        "last=between",
        "last=zzz",
        "last=App",
        "last=..%2F..",
        "n=1&last=app&more=x",
        "N=1",
    ] {
        steps.push(get(format!("?{query}"), format!("{ALL}?{query}")));
    }
    steps.extend([post("post", ALL), delete("delete", ALL), Step::new("OPTIONS", "options", ALL)]);
    steps
}
