//! Portcullis serves what docker-registry has written, unchanged.

use bytes::Bytes;
use reqwest::Method;
use testkit::blob::closing;

use crate::{
    api::Api,
    content::{Author, DOCKER, OCI, digest, layer},
    ledger::Ledger,
    place::{Place, registry2_is_there},
};

const NOBODYS: &str = "00000000-0000-4000-8000-000000000000";

#[tokio::test]
async fn tree_of_registry_2_is_served_as_it_is() {
    if !registry2_is_there("bothways: there") {
        return;
    }
    let place = Place::new("there");
    let mut ledger = Ledger::default();
    let (registry, api) = place.registry2();
    Author { api: &api, ledger: &mut ledger }.fill().await;
    let bytes = layer("interrupted");
    let begun = api.begin("team/app").await;
    let half = api.begin("team/app").await;
    let half = api.chunk(&half, 0, bytes.slice(..1000)).await;
    let alone = api.begin("uploads/only").await;
    ledger.check(&api).await;
    let catalog = api.repositories().await;
    drop(registry);

    let before = place.files();
    let (server, api) = place.portcullis();
    ledger.check(&api).await;
    // registry:2 lists a repository for ever; Portcullis lists none without a manifest.
    let mut expected = catalog.clone();
    assert!(expected.remove("emptied"), "{catalog:?}");
    assert_eq!(api.repositories().await, expected);
    assert_eq!(expected, ledger.repositories());
    assert!(api.tags("emptied").await.is_empty());
    assert_eq!(place.files(), before, "who only reads leaves no trace");
    place.verify_whole();
    assert_eq!(place.verify(&["--repair"]).code, Some(0));
    assert_eq!(place.files(), before, "there is nothing to repair");
    assert_eq!(place.metric("portcullis_storage_skipped_total").await, 0);

    // The uploads that registry:2 has left: a client that knows their ids resumes or cancels them.
    nobodys_uploads_are_unknown(&api).await;
    let asked = api.get(&half).await.expect(204);
    assert_eq!(asked.header("range"), "0-999");
    api.chunk(&half, 1000, bytes.slice(1000..2000)).await;
    api.close(&half, &digest(&bytes), bytes.slice(2000..)).await;
    ledger.blob("team/app", &digest(&bytes), bytes);
    for left in [&begun, &alone] {
        assert_eq!(api.get(left).await.expect(204).header("range"), "0-0");
    }
    api.close(&begun, &digest("whole"), Bytes::from_static(b"whole")).await;
    ledger.blob("team/app", &digest("whole"), Bytes::from_static(b"whole"));
    api.send(Method::DELETE, &alone, &[], "").await.expect(204);
    api.get(&alone).await.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(api.repositories().await, expected);

    // New pushes join the existing content.
    let mut author = Author { api: &api, ledger: &mut ledger };
    author.image("team/app", &["latest", "new"], OCI, "new").await;
    author.list("team/app/nested", &["multi"], DOCKER, "newer").await;
    author.image("emptied", &["again"], OCI, "emptied").await;
    author.image("new", &["x"], DOCKER, "x").await;
    ledger.check(&api).await;
    assert_eq!(api.repositories().await, ledger.repositories());
    drop(server);
    place.verify_whole();
}

async fn nobodys_uploads_are_unknown(api: &Api) {
    let upload = |repository: &str, id: &str| format!("/v2/{repository}/blobs/uploads/{id}");
    for unknown in [upload("team/app", NOBODYS), upload("team", NOBODYS), upload("none", NOBODYS)] {
        for (method, target) in [
            (Method::GET, unknown.clone()),
            (Method::PATCH, unknown.clone()),
            (Method::PUT, closing(&unknown, &digest(""))),
            (Method::DELETE, unknown),
        ] {
            let answer = api.send(method, &target, &[], "").await;
            answer.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
        }
    }
}
