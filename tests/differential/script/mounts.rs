//! Mounting blobs of one repository in another.

use crate::{
    content::{ABSENT, LAYER, LOOSE, digest, digest512},
    step::{Step, get, head, post},
};

pub(super) fn steps() -> Vec<Step> {
    let (layer, loose, absent) = (digest(LAYER), digest(LOOSE), digest(ABSENT));
    let at = |name: &str| format!("/v2/{name}/blobs/uploads/");
    vec![
        head("not there before", format!("/v2/team/app/blobs/{layer}")),
        post("a blob", at("team/app")).query(format!("mount={layer}&from=app")),
        head("there now", format!("/v2/team/app/blobs/{layer}")),
        get("there to be had", format!("/v2/team/app/blobs/{layer}")),
        post("again", at("team/app")).query(format!("mount={layer}&from=app")),
        post("from itself", at("app")).query(format!("mount={layer}&from=app")),
        post("an escaped digest and name", at("app"))
            .query(format!("mount={}&from=team%2Fapp", layer.replace(':', "%3A"))),
        post("of an unknown blob", at("team/app")).query(format!("mount={absent}&from=app")),
        post("from an unknown repository", at("team/app"))
            .query(format!("mount={loose}&from=unknown")),
        post("from a repository without it", at("team/app"))
            .query(format!("mount={loose}&from=team/app")),
        post("from a malformed name", at("team/app")).query(format!("mount={loose}&from=App")),
        post("from nowhere", at("unlinked")).query(format!("mount={layer}")),
        post("from an empty name", at("unlinked")).query(format!("mount={layer}&from=")),
        post("of a malformed digest", at("team/app")).query("mount=sha256:abc&from=app"),
        post("of an empty digest", at("team/app")).query("mount=&from=app"),
        post("by another algorithm", at("team/app"))
            .query(format!("mount={}&from=app", digest512(LAYER))),
        post("of nothing", at("team/app")).query("from=app"),
        post("in a malformed name", "/v2/Team/blobs/uploads/")
            .query(format!("mount={layer}&from=app")),
    ]
}
