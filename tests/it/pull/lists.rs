//! Lists: tags, catalog, their pages, and the search of docker's old API.

use portcullis::{oci::ErrorCode, storage};
use serde_json::{Value, json};

use crate::support::{
    Answer, Answered as _, TestServer,
    content::{OCI_INDEX, empty_index, trifle},
    digest, files,
};

/// Sets many tags with few requests.
async fn tag_all(server: &TestServer, name: &str, tags: &[String]) {
    let body = empty_index(name);
    for tags in tags.chunks(100) {
        let reference = format!("{}?tag={}", digest(&body), tags.join("&tag="));
        let answer = server.push_manifest(name, &reference, OCI_INDEX, body.clone()).await;
        answer.expect(201);
    }
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    list.iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

/// Where the `Link` of a page leads (RFC 8288).
fn next(answer: &Answer) -> Option<String> {
    let link = answer.headers.get("link")?.to_str().unwrap();
    let (target, relation) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
    assert_eq!(relation.trim_start_matches([';', ' ']), "rel=\"next\"");
    Some(target.to_owned())
}

/// Follows the links to the end: every page's content.
async fn pages(server: &TestServer, target: &str, key: &str) -> Vec<Vec<String>> {
    let mut target = Some(target.to_owned());
    let mut pages = Vec::new();
    while let Some(at) = target {
        let answer = server.get(&at).await.expect(200);
        pages.push(strings(&answer.json()[key]));
        target = next(&answer);
        assert!(pages.len() < 1000, "the links have no end");
    }
    pages
}

#[tokio::test]
async fn tags_are_in_lexical_order() {
    let server = TestServer::start().await;
    let tags = ["v10", "v9", "1.10", "1.9", "1-0", "1_0", "latest", "v1", "v1.0", "v1-rc"];
    tag_all(&server, "app", &tags.map(str::to_owned)).await;
    let answer = server.get("/v2/app/tags/list").await.expect(200);
    assert_eq!(answer.header("content-type"), "application/json");
    let mut sorted = tags.to_vec();
    sorted.sort_unstable();
    assert_eq!(answer.json(), json!({ "name": "app", "tags": sorted }));
    assert_eq!(next(&answer), None);
}

#[tokio::test]
async fn pages_of_tags_hold_every_tag_once() {
    let server = TestServer::start().await;
    let mut tags: Vec<_> = (0..23).map(|number| format!("t{number}")).collect();
    tags.extend(["A", "a", "B", "b", "_x", "A.b", "a-B"].map(str::to_owned));
    tag_all(&server, "team/app", &tags).await;
    let whole = server.get("/v2/team/app/tags/list").await.expect(200).json();
    let whole = strings(&whole["tags"]);
    for n in [1, 7, 15, 29, 30, 31, 500] {
        let target = format!("/v2/team/app/tags/list?n={n}");
        let pages = pages(&server, &target, "tags").await;
        assert!(pages.iter().all(|page| page.len() <= n));
        assert_eq!(pages[0].len(), n.min(30));
        assert_eq!(pages.concat(), whole, "n={n}");
    }
    tags.sort_unstable();
    let mut sorted = whole;
    sorted.sort_unstable();
    assert_eq!(sorted, tags);
}

#[tokio::test]
async fn last_selects_the_tags_after_it() {
    let server = TestServer::start().await;
    tag_all(&server, "app", &["b", "d", "f", "h"].map(str::to_owned)).await;
    for (query, expected) in [
        ("last=b", vec!["d", "f", "h"]),
        ("last=d&n=1", vec!["f"]),
        ("n=2&last=d", vec!["f", "h"]),
        ("last=a", vec!["b", "d", "f", "h"]),
        ("last=e", vec!["f", "h"]),
        ("last=e&n=1", vec!["f"]),
        ("last=h", vec![]),
        ("last=z&n=3", vec![]),
    ] {
        let answer = server.get(&format!("/v2/app/tags/list?{query}")).await.expect(200);
        assert_eq!(strings(&answer.json()["tags"]), expected, "{query}");
    }
    let last = server.get("/v2/app/tags/list?n=2&last=d").await.expect(200);
    assert_eq!(next(&last), None);
}

#[tokio::test]
async fn n_of_zero_returns_no_tags() {
    let server = TestServer::start().await;
    tag_all(&server, "app", &["a", "b"].map(str::to_owned)).await;
    let answer = server.get("/v2/app/tags/list?n=0").await.expect(200);
    assert_eq!(answer.json(), json!({ "name": "app", "tags": [] }));
    assert_eq!(next(&answer), None);
}

#[tokio::test]
async fn empty_n_is_ignored() {
    let server = TestServer::start().await;
    trifle(&server, "app", "latest").await;
    for target in ["/v2/app/tags/list", "/v2/_catalog"] {
        let all = server.get(target).await.expect(200).json();
        for query in ["n=", "n", "n=&last="] {
            let answer = server.get(&format!("{target}?{query}")).await.expect(200);
            assert_eq!(answer.json(), all, "{target}?{query}");
        }
    }
}

#[tokio::test]
async fn malformed_number_of_tags_is_refused() {
    let server = TestServer::start().await;
    trifle(&server, "app", "latest").await;
    for n in ["-1", "x", "1.5", "1e2", "0x1", "99999999999999999999999"] {
        let answer = server.get(&format!("/v2/app/tags/list?n={n}")).await;
        assert_eq!(answer.status, 400, "{n}");
        answer.expect_error(400, ErrorCode::PaginationNumberInvalid);
    }
}

/// The links are written as registry:2 writes them: to push so many would take half a minute.
#[tokio::test]
async fn more_than_a_thousand_tags_are_given_without_a_number() {
    let server = TestServer::start().await;
    let digest = trifle(&server, "app", "t0000").await;
    let tags: Vec<_> = (0..1203).map(|number| format!("t{number:04}")).collect();
    let manifests = server.tree().join("repositories/app/_manifests");
    for tag in &tags {
        let hex = digest.strip_prefix("sha256:").unwrap();
        for folder in ["current".to_owned(), format!("index/sha256/{hex}")] {
            let folder = manifests.join("tags").join(tag).join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("link"), &digest).unwrap();
        }
    }
    let server = server.restart().await;
    let answer = server.get("/v2/app/tags/list").await.expect(200);
    assert_eq!(strings(&answer.json()["tags"]), tags);
    assert_eq!(next(&answer), None);
    let pages = pages(&server, "/v2/app/tags/list?n=1000", "tags").await;
    assert_eq!(pages.concat(), tags);
    let last = server.get("/v2/app/manifests/t1202").await.expect(200);
    assert_eq!(last.header("docker-content-digest"), digest);
}

#[tokio::test]
async fn page_is_no_larger_than_the_operator_allows() {
    let server = TestServer::with(|config| config.tags.maxtags = 3).await;
    let tags: Vec<_> = (0..8).map(|number| format!("t{number}")).collect();
    tag_all(&server, "app", &tags).await;
    let pages = pages(&server, "/v2/app/tags/list?n=100", "tags").await;
    assert_eq!(pages[0].len(), 3);
    assert_eq!(pages.concat(), tags);
}

#[tokio::test]
async fn tags_of_an_unknown_repository_are_not_found() {
    let server = TestServer::start().await;
    trifle(&server, "team/app/sub", "latest").await;
    for name in ["nowhere", "team", "team/app", "team/app/sub/sub"] {
        for query in ["", "?n=0", "?n=5&last=x"] {
            let answer = server.get(&format!("/v2/{name}/tags/list{query}")).await;
            answer.expect_error(404, ErrorCode::NameUnknown);
        }
    }
}

#[tokio::test]
async fn repository_without_tags_has_an_empty_list() {
    let server = TestServer::start().await;
    let digest = trifle(&server, "emptied", "latest").await;
    server.delete("/v2/emptied/manifests/latest").await.expect(202);
    let empty = json!({ "name": "emptied", "tags": [] });
    assert_eq!(server.get("/v2/emptied/tags/list").await.expect(200).json(), empty);
    server.delete(&format!("/v2/emptied/manifests/{digest}")).await.expect(202);
    assert_eq!(server.get("/v2/emptied/tags/list").await.expect(200).json(), empty);
    let body = empty_index("untagged");
    let reference = crate::support::digest(&body);
    server.push_manifest("untagged", &reference, OCI_INDEX, body).await.expect(201);
    let answer = server.get("/v2/untagged/tags/list").await.expect(200);
    assert_eq!(answer.json(), json!({ "name": "untagged", "tags": [] }));
}

/// Links that registry:2 leaves after a crash or on a full disk.
#[tokio::test]
async fn broken_tag_link_does_not_break_the_list() {
    let server = TestServer::start().await;
    for tag in ["good", "empty", "torn"] {
        trifle(&server, "app", tag).await;
    }
    let tags = server.tree().join("repositories/app/_manifests/tags");
    std::fs::write(tags.join("empty/current/link"), "").unwrap();
    std::fs::write(tags.join("torn/current/link"), "sha256:12").unwrap();
    let server = server.restart().await;
    let answer = server.get("/v2/app/tags/list").await.expect(200);
    assert!(strings(&answer.json()["tags"]).contains(&"good".to_owned()));
    server.get("/v2/app/manifests/good").await.expect(200);
    for tag in ["empty", "torn"] {
        server.get(&format!("/v2/app/manifests/{tag}")).await.expect(404);
        trifle(&server, "app", tag).await;
        server.get(&format!("/v2/app/manifests/{tag}")).await.expect(200);
    }
}

/// A tree that registry:2 or a person has changed.
#[tokio::test]
async fn foreign_files_in_the_tree_are_skipped() {
    let server = TestServer::start().await;
    trifle(&server, "app", "latest").await;
    let repositories = server.tree().join("repositories");
    std::fs::create_dir_all(repositories.join("lost+found")).unwrap();
    std::fs::write(repositories.join("README"), "hello").unwrap();
    std::fs::write(repositories.join("app/.hidden"), "hello").unwrap();
    let tags = repositories.join("app/_manifests/tags");
    std::fs::write(tags.join("stray"), "hello").unwrap();
    std::fs::create_dir_all(tags.join("hollow")).unwrap();
    let server = server.restart().await;
    let answer = server.get("/v2/_catalog").await.expect(200);
    assert_eq!(answer.json(), json!({ "repositories": ["app"] }));
    let answer = server.get("/v2/app/tags/list").await.expect(200);
    assert!(strings(&answer.json()["tags"]).contains(&"latest".to_owned()));
    let digest = digest(empty_index("app:latest"));
    server.delete(&format!("/v2/app/manifests/{digest}")).await.expect(202);
    server.get("/v2/app/manifests/latest").await.expect(404);
}

const NAMES: [&str; 9] = ["a", "a-b", "a-b/c", "a.b", "a/b", "a/b/c", "a0", "a_b", "b/a"];

#[tokio::test]
async fn catalog_is_in_lexical_order() {
    let server = TestServer::start().await;
    let empty = server.get("/v2/_catalog").await.expect(200);
    assert_eq!(empty.json(), json!({ "repositories": [] }));
    for name in NAMES.iter().rev() {
        trifle(&server, name, "latest").await;
    }
    let answer = server.get("/v2/_catalog").await.expect(200);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.json(), json!({ "repositories": NAMES }));
}

#[tokio::test]
async fn pages_of_the_catalog_hold_every_repository_once() {
    let server = TestServer::start().await;
    for name in NAMES {
        trifle(&server, name, "latest").await;
    }
    for n in [1, 2, 4, 8, 9, 10] {
        let pages = pages(&server, &format!("/v2/_catalog?n={n}"), "repositories").await;
        assert_eq!(pages[0].len(), n.min(9));
        assert_eq!(pages.concat(), NAMES, "n={n}");
        assert!(n < 9 || pages.len() == 1, "a link to an empty page");
    }
    for (last, from) in
        [("a", 1), ("a-b", 2), ("a/b", 5), ("a/a", 4), ("0", 0), ("b/a", 9), ("zz", 9)]
    {
        let answer = server.get(&format!("/v2/_catalog?n=50&last={last}")).await.expect(200);
        assert_eq!(strings(&answer.json()["repositories"]), NAMES[from..], "{last}");
    }
}

#[tokio::test]
async fn catalog_without_a_number_lists_every_repository() {
    let server = TestServer::with(|config| config.storage.backend = storage::Options::Memory).await;
    let names: Vec<_> = (0..130).map(|number| format!("many/r{number:03}")).collect();
    for name in &names {
        trifle(&server, name, "latest").await;
    }
    let pages = pages(&server, "/v2/_catalog", "repositories").await;
    assert_eq!(pages.concat(), names);
}

#[tokio::test]
async fn malformed_number_of_repositories_is_refused() {
    let server = TestServer::with(|config| config.catalog.maxentries = 10).await;
    trifle(&server, "app", "latest").await;
    for n in ["-1", "x", "1.5", "11", "99999999999999999999999"] {
        let answer = server.get(&format!("/v2/_catalog?n={n}")).await;
        assert_eq!(answer.status, 400, "{n}");
        answer.expect_error(400, ErrorCode::PaginationNumberInvalid);
    }
    server.get("/v2/_catalog?n=10").await.expect(200);
    let none = server.get("/v2/_catalog?n=0").await.expect(200);
    assert_eq!(none.json(), json!({ "repositories": [] }));
    assert_eq!(next(&none), None);
}

#[tokio::test]
async fn repository_whose_last_manifest_is_deleted_is_not_in_the_catalog() {
    let server = TestServer::start().await;
    let inner = trifle(&server, "app", "one").await;
    let second = trifle(&server, "app", "two").await;
    trifle(&server, "app/sub", "latest").await;
    let listed = |answer: Answer| strings(&answer.expect(200).json()["repositories"]);
    server.delete("/v2/app/manifests/one").await.expect(202);
    server.delete(&format!("/v2/app/manifests/{inner}")).await.expect(202);
    assert_eq!(listed(server.get("/v2/_catalog").await), ["app", "app/sub"]);
    server.delete("/v2/app/manifests/two").await.expect(202);
    assert_eq!(listed(server.get("/v2/_catalog").await), ["app", "app/sub"]);
    server.delete(&format!("/v2/app/manifests/{second}")).await.expect(202);
    assert_eq!(listed(server.get("/v2/_catalog").await), ["app/sub"]);
    assert_eq!(listed(server.get("/v2/_catalog?n=1").await), ["app/sub"]);
    let server = server.restart().await;
    assert_eq!(listed(server.get("/v2/_catalog").await), ["app/sub"]);
    trifle(&server, "app", "again").await;
    assert_eq!(listed(server.get("/v2/_catalog").await), ["app", "app/sub"]);
}

#[tokio::test]
async fn repository_with_sha512_manifests_only_is_in_the_catalog() {
    let server = TestServer::start().await;
    let body = empty_index("sha512");
    let digest = crate::support::digest512(&body);
    server.push_manifest("app", &digest, OCI_INDEX, body).await.expect(201);
    let answer = server.get("/v2/_catalog").await.expect(200);
    assert_eq!(answer.json(), json!({ "repositories": ["app"] }));
    server.delete(&format!("/v2/app/manifests/{digest}")).await.expect(202);
    let answer = server.get("/v2/_catalog").await.expect(200);
    assert_eq!(answer.json(), json!({ "repositories": [] }));
}

#[tokio::test]
async fn reads_make_no_repository() {
    let server = TestServer::start().await;
    for target in
        ["/v2/nowhere/tags/list", "/v2/nowhere/manifests/latest", "/v2/nowhere/blobs/sha256:0"]
    {
        server.get(target).await;
    }
    server.get(&format!("/v2/nowhere/referrers/{}", digest("x"))).await;
    assert!(files(&server.tree()).is_empty());
    assert!(!server.tree().join("repositories/nowhere").exists());
}

#[tokio::test]
async fn ping_is_open_and_reports_a_standalone_registry() {
    let server = TestServer::start().await;
    let answer = server.anonymous("GET", "/v1/_ping").answer().await.expect(200);
    assert_eq!(answer.header("x-docker-registry-standalone"), "true");
}

#[tokio::test]
async fn search_finds_the_names_that_contain_the_term() {
    let server = TestServer::start().await;
    for name in ["team/web", "team/webhook", "cobweb", "other"] {
        trifle(&server, name, "latest").await;
    }
    let answer = server.get("/v1/search?q=web&n=25").await.expect(200);
    assert!(answer.header("content-type").starts_with("application/json"));
    let json = answer.json();
    assert_eq!(json["query"], "web");
    assert_eq!(json["num_results"], 3);
    let results = json["results"].as_array().unwrap();
    let mut names: Vec<_> = results.iter().map(|one| one["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["cobweb", "team/web", "team/webhook"]);
    assert!(results.iter().all(|one| one["description"].is_string()));
    for (path, term, found) in [
        ("/v1/search", "team/", 2),
        ("/v1/search", "m%2Fwebh", 1),
        ("/v1/search", "nothing", 0),
        ("/v1/search", "", 4),
        ("/v1/search/", "team/web", 2),
        ("/v1/search", "team/webhook:latest", 1),
        ("/v1/search/", "webhook%3A1.0", 1),
        ("/v1/search", "cobweb@sha256:0123", 1),
    ] {
        let json = server.get(&format!("{path}?q={term}")).await.expect(200).json();
        assert_eq!(json["num_results"], found, "{term}");
        assert_eq!(json["results"].as_array().unwrap().len(), found, "{term}");
    }
}

#[tokio::test]
async fn pages_of_a_search_hold_every_repository_once() {
    let server = TestServer::start().await;
    let names: Vec<_> = (0..7).map(|number| format!("app{number}")).collect();
    for name in &names {
        trifle(&server, name, "latest").await;
    }
    let mut found = Vec::new();
    for page in 1..=4 {
        let target = format!("/v1/search?q=app&n=3&page={page}");
        let json = server.get(&target).await.expect(200).json();
        let results = json["results"].as_array().unwrap().clone();
        assert_eq!(results.len(), [3, 3, 1, 0][page - 1], "page {page}");
        found.extend(results.iter().map(|one| one["name"].as_str().unwrap().to_owned()));
    }
    found.sort_unstable();
    assert_eq!(found, names);
    for query in [
        "q=app&n=x",
        "q=app&n=-1",
        "q=app&page=0",
        "q=app&n=0",
        "q=app&page=99999999999999999999",
        "",
    ] {
        let answer = server.get(&format!("/v1/search?{query}")).await;
        assert!(!answer.status.is_server_error(), "{query}: {answer:?}");
    }
}

#[tokio::test]
async fn search_needs_a_user() {
    let server = TestServer::start().await;
    trifle(&server, "secret", "latest").await;
    let answer = server.anonymous("GET", "/v1/search?q=s").answer().await;
    let answer = answer.expect_error(401, ErrorCode::Unauthorized);
    assert!(answer.header("www-authenticate").starts_with("Basic realm="));
}
