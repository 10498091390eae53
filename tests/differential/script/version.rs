//! The API version check, and the paths beside it.

use crate::step::{Step, delete, get, head, patch, post, put};

pub(super) fn steps() -> Vec<Step> {
    vec![
        get("check", "/v2/"),
        head("head", "/v2/"),
        get("with a query", "/v2/?x=y"),
        get("without the slash", "/v2"),
        head("head without the slash", "/v2"),
        get("of a client that takes HTML", "/v2/").header("Accept", "text/html"),
        get("of a client with a body", "/v2/").body("who reads this?"),
        post("post", "/v2/"),
        put("put", "/v2/"),
        patch("patch", "/v2/"),
        delete("delete", "/v2/"),
        Step::new("OPTIONS", "options", "/v2/"),
        get("the root", "/"),
        head("the root, head", "/"),
        get("the root, without credentials", "/").by(None),
        post("the root, post", "/"),
        get("version 1", "/v1/"),
        get("version 1, ping", "/v1/_ping"),
        get("version 1, search", "/v1/search?q=app"),
        get("version 3", "/v3/"),
        get("in capitals", "/V2/"),
        get("two slashes before it", "//v2/"),
        get("two slashes behind it", "/v2//"),
        get("with a dot", "/v2/./"),
        get("with two dots", "/v2/../v2/"),
        get("nothing of the kind", "/health"),
    ]
}
