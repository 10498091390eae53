//! `storage.immutabletags`: tags whose content the first push fixes.

use portcullis::{config::Config, oci::ErrorCode};
use serde_json::json;

use crate::support::{
    Answered as _, TestServer,
    content::{OCI_INDEX, empty_index, trifle},
    digest, files,
};

fn immutable(config: &mut Config) {
    let rules = json!([{ "repositories": "team/**", "tags": "^v[0-9]" }]);
    config.storage.tags.immutabletags = serde_json::from_value(rules).unwrap();
}

#[tokio::test]
async fn other_content_at_an_immutable_tag_gets_409_with_the_remedy() {
    let server = TestServer::with(immutable).await;
    let first = trifle(&server, "team/app", "v1").await;
    let stored = files(&server.tree());
    let other = empty_index("other");
    let by_digest = format!("{}?tag=new&tag=v1", digest(&other));
    for reference in ["v1", &by_digest] {
        let answer = server.push_manifest("team/app", reference, OCI_INDEX, other.clone()).await;
        let answer = answer.expect_error(409, ErrorCode::TagInvalid);
        let error = &answer.json()["errors"][0];
        let message = error["message"].as_str().unwrap();
        for said in ["tag v1 of team/app", "repositories team/**, tags ^v[0-9]", "push another tag"]
        {
            assert!(message.contains(said), "{message}");
        }
        assert_eq!(error["detail"]["tag"], "v1");
        assert_eq!(error["detail"]["name"], "team/app");
        assert_eq!(error["detail"]["digest"], first);
    }
    assert_eq!(files(&server.tree()), stored, "nothing is stored of what is refused");
    assert_eq!(
        server.head("/v2/team/app/manifests/v1").await.header("etag"),
        format!("\"{first}\"")
    );
}

#[tokio::test]
async fn same_content_and_other_tags_are_accepted() {
    let server = TestServer::with(immutable).await;
    trifle(&server, "team/app", "v1").await;
    trifle(&server, "team/app", "v1").await;
    let other = empty_index("other");
    for (name, reference) in [("team/app", "v2"), ("team/app", "latest"), ("apps", "v1")] {
        trifle(&server, name, "latest").await;
        server.push_manifest(name, reference, OCI_INDEX, other.clone()).await.expect(201);
    }
    server.delete("/v2/team/app/manifests/v1").await.expect(202);
    server.push_manifest("team/app", "v1", OCI_INDEX, other).await.expect(201);
    let pulled = server.request("GET", "/v2/team/app/manifests/v1").answer().await.expect(200);
    assert_eq!(pulled.text(), empty_index("other"));
}

#[tokio::test]
async fn immutable_tag_accepts_one_of_many_first_pushes() {
    let server = TestServer::with(immutable).await;
    let push = |n: usize| {
        let server = &server;
        async move {
            let index = empty_index(&n.to_string());
            server.push_manifest("team/app", "v1", OCI_INDEX, index).await
        }
    };
    let answers = futures_util::future::join_all((0..16).map(push)).await;
    let taken: Vec<usize> = (0..16).filter(|n| answers[*n].status == 201).collect();
    assert_eq!(taken.len(), 1, "{taken:?}");
    let refused = answers.into_iter().filter(|answer| answer.status != 201);
    for answer in refused {
        answer.expect_error(409, ErrorCode::TagInvalid);
    }
    let pulled = server.get("/v2/team/app/manifests/v1").await.expect(200);
    assert_eq!(pulled.text(), empty_index(&taken[0].to_string()));
}
