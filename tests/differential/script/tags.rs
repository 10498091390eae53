//! The list of tags.

use crate::step::{Step, delete, get, head, post, put};

const ALL: &str = "/v2/app/tags/list";

pub(super) fn steps() -> Vec<Step> {
    let mut steps = vec![
        get("all", ALL),
        head("head", ALL),
        get("of a name with a slash", "/v2/team/app/tags/list"),
        get("of an unknown name", "/v2/unknown/tags/list"),
        head("of an unknown name, head", "/v2/unknown/tags/list"),
        get("of the parent of a name", "/v2/team/tags/list"),
        get("of blobs without a manifest", "/v2/loose/tags/list"),
        get("a slash behind it", "/v2/app/tags/list/"),
        get("without list", "/v2/app/tags"),
        get("one tag", "/v2/app/tags/docker"),
        get("the longest name", format!("/v2/{}/tags/list", "a".repeat(255))),
        get("too long a name", format!("/v2/{}/tags/list", "a".repeat(256))),
    ];
    for query in [
        "n=1",
        "n=2",
        "n=0",
        "n=1000",
        "n=100000",
        "n=-1",
        "n=two",
        "n=",
        "n=1&last=docker",
        "last=docker",
        "last=zzz",
        "last=",
        "n=1&last=between",
    ] {
        steps.push(get(format!("?{query}"), format!("{ALL}?{query}")));
    }
    steps.extend([
        post("post", ALL),
        put("put", ALL),
        delete("delete", ALL),
        Step::new("OPTIONS", "options", ALL),
    ]);
    steps
}
