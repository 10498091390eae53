//! Unusual and malformed names and paths.

use crate::{
    content::{LAYER, digest},
    step::{Step, get, post},
};

/// Names of repositories, and the rest of their paths.
pub(super) fn steps() -> Vec<Step> {
    [names(), endpoints(), hosts()].into_iter().flatten().collect()
}

fn names() -> Vec<Step> {
    [
        ("capitals", "App"),
        ("a dot alone", "."),
        ("two dots", ".."),
        ("two dots that are escaped", "%2e%2e"),
        ("two dots in the middle", "team/../app"),
        ("two dots in the middle, escaped", "team%2f..%2fapp"),
        ("two slashes", "team//app"),
        ("a slash before it", "/app"),
        ("an escaped slash", "team%2Fapp"),
        ("an escaped letter", "%61pp"),
        ("an escaped space", "a%20b"),
        ("an escaped question mark", "a%3Fb"),
        ("an escaped percent sign", "a%25b"),
        ("an escaped zero", "a%00b"),
        ("bytes that are no text", "a%ff"),
        ("a letter of another alphabet", "%C3%A4"),
        ("half of an escape", "a%2"),
        ("a malformed escape", "a%zz"),
        ("a dash at the end", "app-"),
        ("a dash at the beginning", "-app"),
        ("an underscore at the beginning", "_app"),
        ("a dot at the beginning", ".app"),
        ("two dots between letters", "a..b"),
        ("three underscores", "a___b"),
        ("all separators", "a.b_c__d-e---f"),
        ("a folder of the tree", "app/_layers"),
        ("a folder of the tree, escaped", "app%2f_manifests"),
        ("a host before it", "localhost:5000/app"),
        ("a plus sign", "a+b"),
        ("a semicolon", "a;b"),
        ("an at sign", "a@b"),
        ("the word blobs", "blobs"),
        ("the words blobs/uploads", "blobs/uploads"),
        ("the words tags/list", "tags/list"),
        ("the word manifests", "manifests/x"),
        ("the word v2", "v2"),
        ("many parts", "a/b/c/d/e/f/g/h/i/j"),
    ]
    .into_iter()
    .map(|(what, name)| get(format!("a name with {what}"), format!("/v2/{name}/tags/list")))
    .collect()
}

fn endpoints() -> Vec<Step> {
    let layer = digest(LAYER);
    [
        ("no endpoint", "/v2/app".to_owned()),
        ("no endpoint and a slash", "/v2/app/".to_owned()),
        ("another endpoint", "/v2/app/nothing".to_owned()),
        ("an endpoint of nothing", "/v2/tags/list".to_owned()),
        ("blobs", "/v2/app/blobs".to_owned()),
        ("blobs and a slash", "/v2/app/blobs/".to_owned()),
        ("manifests and a slash", "/v2/app/manifests/".to_owned()),
        ("more behind a blob", format!("/v2/app/blobs/{layer}/more")),
        ("more behind a manifest", "/v2/app/manifests/docker/more".to_owned()),
        ("an endpoint that is escaped", "/v2/app/%74ags/list".to_owned()),
        ("a slash of the endpoint that is escaped", "/v2/app/tags%2flist".to_owned()),
        ("an escaped version", "/%762/app/tags/list".to_owned()),
        ("another underscore", "/v2/_nothing".to_owned()),
        ("the catalog of a repository", "/v2/app/_catalog".to_owned()),
        ("the extension discovery", "/v2/_oci/ext/discover".to_owned()),
        ("a malformed query", "/v2/app/tags/list?%zz".to_owned()),
        ("a query with a semicolon", "/v2/app/tags/list?n=1;last=x".to_owned()),
        ("the debug page", "/debug/health".to_owned()),
        ("metrics", "/metrics".to_owned()),
        ("a whole address", "https://elsewhere.example.com/v2/".to_owned()),
        ("a star", "*".to_owned()),
    ]
    .into_iter()
    .map(|(what, target)| get(what, target))
    .collect()
}

/// The scheme and host that clients use, behind proxies.
fn hosts() -> Vec<Step> {
    vec![
        post("begin an upload to two dots", "/v2/../blobs/uploads/"),
        get("another host", "/v2/").header("X-Forwarded-Host", "elsewhere.example.com"),
        post("an upload behind another host", "/v2/app/blobs/uploads/")
            .header("X-Forwarded-Host", "elsewhere.example.com")
            .header("X-Forwarded-Proto", "https"),
        post("an upload behind another scheme", "/v2/app/blobs/uploads/")
            .header("X-Forwarded-Proto", "http"),
    ]
}
