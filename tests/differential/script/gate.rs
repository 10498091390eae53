//! Authentication. Each user has fewer wrong passwords than the throttle's limit.

use testkit::wire::basic;

use crate::{
    content::{ABSENT, DOCKER_MANIFEST, NO_ID, digest},
    step::{PASSWORD, Step, USER, delete, get, head, patch, post, put},
};

#[expect(clippy::too_many_lines, reason = "a list")]
pub(super) fn steps() -> Vec<Step> {
    let blob = digest(ABSENT);
    let mut steps = vec![
        get("a user", "/v2/").by(Some(&basic("bob", "pass:word with a colon"))),
        get("a password with a tab", "/v2/").by(Some(&basic("tab", "pass\tword"))),
        get("a password in Latin-1", "/v2/").by(Some("Basic bGF0aW46Z3L832U=")),
        get("the same password in UTF-8", "/v2/").by(Some(&basic("latin", "grüße"))),
        get("a wrong password", "/v2/").by(Some(&basic(USER, "wrong"))),
        get("no password", "/v2/").by(Some(&basic(USER, ""))),
        get("the password of a line further up", "/v2/")
            .by(Some(&basic(USER, "an older password"))),
        get("the password of another user", "/v2/").by(Some(&basic("bob", PASSWORD))),
        get("the password and a byte more", "/v2/")
            .by(Some(&basic(USER, &format!("{PASSWORD}\n")))),
        get("an unknown user", "/v2/").by(Some(&basic("mallory", PASSWORD))),
        get("no user and no password", "/v2/").by(Some(&basic("", ""))),
        get("a user in capitals", "/v2/").by(Some(&basic("ANN", PASSWORD))),
        get("a user with SHA-1", "/v2/").by(Some(&basic("old", "password"))),
        get("a user that is a comment", "/v2/").by(Some(&basic("# users of the registry", ""))),
        get("a scheme in small letters", "/v2/")
            .by(Some(&basic(USER, PASSWORD).replace("Basic", "basic"))),
        get("two spaces behind the scheme", "/v2/")
            .by(Some(&basic(USER, PASSWORD).replace("Basic ", "Basic  "))),
        get("another scheme", "/v2/").by(Some("Bearer abc")),
        get("a scheme alone", "/v2/").by(Some("Basic")),
        get("no base64", "/v2/").by(Some("Basic !!!")),
        // "ann"
        get("no colon", "/v2/").by(Some("Basic YW5u")),
        get("an empty header", "/v2/").by(Some("")),
        get("two headers, the first right", "/v2/").header("Authorization", basic(USER, "wrong")),
        get("a good request with a wrong password", "/v2/app/tags/list")
            .by(Some(&basic(USER, "wrong"))),
    ];
    // Without credentials: each endpoint.
    for step in [
        get("check", "/v2/"),
        head("check, head", "/v2/"),
        get("catalog", "/v2/_catalog"),
        get("tags", "/v2/app/tags/list"),
        get("a manifest", "/v2/app/manifests/latest"),
        head("a manifest, head", "/v2/app/manifests/latest"),
        put("put a manifest", "/v2/app/manifests/latest")
            .header("Content-Type", DOCKER_MANIFEST)
            .body("{}"),
        delete("delete a manifest", format!("/v2/app/manifests/{blob}")),
        get("a blob", format!("/v2/app/blobs/{blob}")),
        head("a blob, head", format!("/v2/app/blobs/{blob}")),
        delete("delete a blob", format!("/v2/app/blobs/{blob}")),
        post("an upload", "/v2/app/blobs/uploads/"),
        post("a mount", format!("/v2/app/blobs/uploads/?mount={blob}&from=other")),
        get("status of an upload", format!("/v2/app/blobs/uploads/{NO_ID}")),
        patch("a chunk", format!("/v2/app/blobs/uploads/{NO_ID}")).body(ABSENT),
        put("the end of an upload", format!("/v2/app/blobs/uploads/{NO_ID}?digest={blob}")),
        delete("cancel an upload", format!("/v2/app/blobs/uploads/{NO_ID}")),
        get("a malformed name", "/v2/App/tags/list"),
        get("a malformed digest", "/v2/app/blobs/sha256:abc"),
        get("no endpoint", "/v2/app/nothing"),
        get("no endpoint beside it", "/nothing"),
        post("a wrong method", "/v2/app/tags/list"),
        Step::new("OPTIONS", "options", "/v2/app/tags/list"),
        get("without the slash", "/v2"),
    ] {
        let step = Step { name: format!("without credentials: {}", step.name), ..step };
        steps.push(step.by(None));
    }
    steps.push(
        Step::new("OPTIONS", "without credentials: a browser that asks first", "/v2/app/tags/list")
            .by(None)
            .header("Origin", "https://ui.example.com")
            .header("Access-Control-Request-Method", "GET")
            .header("Access-Control-Request-Headers", "authorization"),
    );
    let begin = || post("begin an upload", "/v2/app/blobs/uploads/");
    for (whose, site) in [("another site", "cross-site"), ("the same site", "same-site")] {
        let mut step = begin().header("Origin", "https://evil.example.com");
        step.name = format!("{} for a page of {whose}", step.name);
        steps.push(step.header("Sec-Fetch-Site", site));
    }
    steps
}
