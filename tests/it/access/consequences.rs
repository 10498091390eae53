//! What the rules do to uploads, mounts, tags and lists.

use portcullis::oci::ErrorCode;
use serde_json::{Value, json};

use crate::support::{
    Answer, Answered as _, TestServer,
    access::{by, guarded, set_rules},
    content::{OCI_INDEX, closing, empty_index, trifle},
    digest,
};

fn may(who: &str, repositories: &str, may: &str) -> Value {
    json!({ "who": who, "repositories": repositories, "may": may })
}

/// The message and the detail of a `403`.
#[track_caller]
fn denied(answer: Answer) -> (String, Value) {
    let answer = answer.expect_error(403, ErrorCode::Denied);
    let error = answer.json()["errors"][0].clone();
    (error["message"].as_str().unwrap().to_owned(), error["detail"].clone())
}

#[tokio::test]
async fn denial_says_who_may_not_do_what_and_where() {
    let server = guarded(&json!([may("users", "team/**", "pull")])).await;
    for (method, target, action, message) in [
        ("POST", "/v2/team/app/blobs/uploads/", "push", "ann may not push to team/app"),
        ("GET", "/v2/other/app/tags/list", "pull", "ann may not pull other/app"),
        ("DELETE", "/v2/team/app/", "delete", "ann may not delete from team/app"),
    ] {
        let (told, detail) = denied(by(&server, "ann", method, target).answer().await);
        assert_eq!(told, message);
        let repository = target.split('/').skip(2).take(2).collect::<Vec<_>>().join("/");
        assert_eq!(detail, json!({ "action": action, "repository": repository }));
    }
}

#[tokio::test]
async fn a_changed_rule_ends_a_running_upload() {
    let server = guarded(&json!([may("ann", "team/**", "push")])).await;
    let begun = by(&server, "ann", "POST", "/v2/team/app/blobs/uploads/").answer().await;
    let location = begun.expect(202).header("location").to_owned();
    let patched = by(&server, "ann", "PATCH", &location).body("some").answer().await.expect(202);
    let location = patched.header("location").to_owned();

    set_rules(&server, &json!([may("ann", "team/**", "pull")]));

    let patched = by(&server, "ann", "PATCH", &location).body("more").answer().await;
    assert_eq!(denied(patched).0, "ann may not push to team/app");
    let finish = closing(&location, &digest("some"));
    assert_eq!(
        denied(by(&server, "ann", "PUT", &finish).answer().await).0,
        "ann may not push to team/app"
    );
    denied(by(&server, "ann", "GET", &location).answer().await);

    // With the right the upload goes on where it was.
    set_rules(&server, &json!([may("ann", "team/**", "push")]));
    by(&server, "ann", "PUT", &finish).answer().await.expect(201);
}

#[tokio::test]
async fn an_upload_belongs_to_the_caller_who_began_it() {
    let server = guarded(&json!([may("users", "team/**", "push")])).await;
    let begun = by(&server, "ann", "POST", "/v2/team/app/blobs/uploads/").answer().await;
    let location = begun.expect(202).header("location").to_owned();
    for method in ["GET", "PATCH", "DELETE"] {
        let answer = by(&server, "bob", method, &location).answer().await;
        answer.expect_error(404, ErrorCode::BlobUploadUnknown);
    }
    by(&server, "ann", "DELETE", &location).answer().await.expect(204);
}

#[tokio::test]
async fn a_mount_without_from_gives_nothing_away() {
    let rules = json!([may("ann", "team/**", "push"), may("bob", "**", "push")]);
    let server = guarded(&rules).await;
    let secret = server.push_blob("other/app", "secret").await;
    let missing = digest("missing");
    let mount = async |user: &str, query: &str| {
        let target = format!("/v2/team/app/blobs/uploads/?{query}");
        by(&server, user, "POST", &target).answer().await
    };
    for query in [
        format!("mount={secret}"),
        format!("mount={missing}"),
        format!("mount={secret}&from=other/app"),
        format!("mount={missing}&from=other/app"),
        format!("mount={secret}&from=no/such"),
    ] {
        let answer = mount("ann", &query).await.expect(202);
        assert_eq!(answer.header("range"), "0-0", "{query}: an upload begins");
    }
    server.get(&format!("/v2/team/app/blobs/{secret}")).await.expect(404);
    mount("bob", &format!("mount={missing}")).await.expect(202);
    mount("bob", &format!("mount={secret}")).await.expect(201);
    server.get(&format!("/v2/team/app/blobs/{secret}")).await.expect(200);
    // What she may read now she may mount.
    mount("ann", &format!("mount={secret}&from=team/app")).await.expect(201);
}

#[tokio::test]
async fn a_known_digest_is_no_way_to_content_of_others() {
    let server = guarded(&json!([may("ann", "team/**", "push")])).await;
    let secret = server.push_blob("other/app", "secret").await;
    by(&server, "ann", "GET", &format!("/v2/team/app/blobs/{secret}"))
        .answer()
        .await
        .expect_error(404, ErrorCode::BlobUnknown);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": secret, "size": 6 },
        "layers": [],
    });
    let put = by(&server, "ann", "PUT", "/v2/team/app/manifests/v1");
    let put = put.header("content-type", manifest["mediaType"].as_str().unwrap());
    let answer = put.body(manifest.to_string()).answer().await;
    answer.expect_error(400, ErrorCode::ManifestBlobUnknown);
}

#[tokio::test]
async fn a_caller_who_may_create_moves_no_tag() {
    let server = guarded(&json!([may("ann", "team/**", "create")])).await;
    let put = async |reference: &str, seed: &str| {
        let target = format!("/v2/team/app/manifests/{reference}");
        let put = by(&server, "ann", "PUT", &target).header("content-type", OCI_INDEX);
        put.body(empty_index(seed)).answer().await
    };
    put("v1", "one").await.expect(201);
    put("v1", "one").await.expect(201);
    let by_digest = format!("{}?tag=v2&tag=v1", digest(empty_index("two")));
    for reference in ["v1", &by_digest] {
        let (message, detail) = denied(put(reference, "two").await);
        assert_eq!(message, "ann may add tags to team/app, not move v1");
        assert_eq!(detail, json!({ "action": "push", "repository": "team/app" }));
    }
    put("v2", "two").await.expect(201);
    let first = server.head("/v2/team/app/manifests/v1").await.expect(200);
    assert_eq!(first.header("docker-content-digest"), digest(empty_index("one")));
}

/// Follows the links to the end: the pages.
async fn pages(server: &TestServer, user: &str, n: usize) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut target = Some(format!("/v2/_catalog?n={n}"));
    while let Some(at) = target {
        let answer = by(server, user, "GET", &at).answer().await.expect(200);
        let page = answer.json()["repositories"].as_array().unwrap().clone();
        pages.push(page.iter().map(|name| name.as_str().unwrap().to_owned()).collect());
        let link = answer.headers.get("link").map(|link| link.to_str().unwrap().to_owned());
        target = link.map(|link| link[1..].split_once('>').unwrap().0.to_owned());
    }
    pages
}

#[tokio::test]
async fn catalog_pages_are_full_of_what_is_seen() {
    let rules = json!([
        may("ann", "team-b/**", "pull"),
        may("bob", "**/x", "pull"),
        { "who": "bob", "repositories": "team-a/*", "except": "team-a/secret", "may": "pull" },
    ]);
    let server = guarded(&rules).await;
    let mut all = Vec::new();
    for team in ["team-a", "team-b", "team-c"] {
        for app in ["secret", "x", "y", "z/x"] {
            all.push(format!("{team}/{app}"));
            trifle(&server, &format!("{team}/{app}"), "v1").await;
        }
    }
    let seen = |is_seen: fn(&str) -> bool| -> Vec<String> {
        let mut seen: Vec<_> = all.iter().filter(|name| is_seen(name)).cloned().collect();
        seen.sort_unstable();
        seen
    };
    for (user, expected) in [
        ("alice", seen(|_| true)),
        ("ann", seen(|name| name.starts_with("team-b/"))),
        ("bob", seen(|name| name.ends_with("/x") || name == "team-a/y")),
    ] {
        for n in [1, 2, 3, 100] {
            let pages = pages(&server, user, n).await;
            assert_eq!(pages.concat(), expected, "{user}");
            let (last, full) = pages.split_last().unwrap();
            assert!(full.iter().all(|page| page.len() == n), "{user} {n}: {pages:?}");
            assert!(!last.is_empty() && last.len() <= n, "{user} {n}: {pages:?}");
        }
        let search =
            by(&server, user, "GET", "/v1/search?q=x&n=2").answer().await.expect(200).json();
        let found = expected.iter().filter(|name| name.contains('x')).count();
        assert_eq!(search["num_results"], found, "{user}: {search}");
        assert_eq!(search["num_pages"], found.div_ceil(2), "{user}: {search}");
    }
}
