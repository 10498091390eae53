use proptest::prelude::*;

use super::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const ID: &str = "6b3c9a93-af5d-473f-a4cf-9710022185cd";

fn parse(method: &str, target: &str) -> Result<Endpoint, Error> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Endpoint::parse(&method.parse().unwrap(), path, query)
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

fn digest() -> Digest {
    DIGEST.parse().unwrap()
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

/// Each request with its endpoint and the right that the endpoint needs.
#[test]
#[expect(clippy::too_many_lines, reason = "a table, one entry for each endpoint")]
fn each_request_has_its_endpoint_and_the_right_it_needs() {
    let a = name("a");
    let id = ID.parse().unwrap();
    let create = Right::Create(&a);
    let pull = Right::Pull(&a);
    let delete = Right::Delete(&a);
    let by_tag = Reference::Tag(tag("t"));
    let by_digest = Reference::Digest(digest());
    let b = name("b");
    let page = PageQuery::default();
    for (method, target, endpoint, right) in [
        ("GET", "/v2/".to_owned(), Endpoint::Base, None),
        ("GET", "/v2/_catalog".into(), Endpoint::Catalog { page: page.clone() }, Some(Right::List)),
        ("GET", "/v2/a/tags/list".into(), Endpoint::Tags { name: a.clone(), page }, Some(pull)),
        (
            "GET",
            "/v2/a/tags/list?n=2&last=x".into(),
            Endpoint::Tags {
                name: a.clone(),
                page: PageQuery { size: Some(2), last: Some("x".into()) },
            },
            Some(pull),
        ),
        (
            "HEAD",
            "/v2/a/manifests/t".into(),
            Endpoint::ReadManifest { name: a.clone(), reference: by_tag.clone() },
            Some(pull),
        ),
        (
            "PUT",
            format!("/v2/a/manifests/{DIGEST}?tag=x&tag=y"),
            Endpoint::PutManifest {
                name: a.clone(),
                reference: by_digest.clone(),
                tags: vec![tag("x"), tag("y")],
            },
            Some(create),
        ),
        (
            "DELETE",
            format!("/v2/a/manifests/{}", DIGEST.replace(':', "%3A")),
            Endpoint::DeleteManifest { name: a.clone(), reference: by_digest },
            Some(delete),
        ),
        (
            "GET",
            format!("/v2/a/blobs/{DIGEST}"),
            Endpoint::ReadBlob { name: a.clone(), digest: digest() },
            Some(pull),
        ),
        (
            "DELETE",
            format!("/v2/a/blobs/{DIGEST}"),
            Endpoint::DeleteBlob { name: a.clone(), digest: digest() },
            Some(delete),
        ),
        ("DELETE", "/v2/a/".into(), Endpoint::DeleteRepository { name: a.clone() }, Some(delete)),
        ("DELETE", "/v2/a".into(), Endpoint::DeleteRepository { name: a.clone() }, Some(delete)),
        (
            "POST",
            "/v2/a/blobs/uploads/".into(),
            Endpoint::StartUpload { name: a.clone(), algorithm: Algorithm::Sha256 },
            Some(create),
        ),
        (
            "POST",
            "/v2/a/blobs/uploads?digest-algorithm=sha512".into(),
            Endpoint::StartUpload { name: a.clone(), algorithm: Algorithm::Sha512 },
            Some(create),
        ),
        (
            "POST",
            format!("/v2/a/blobs/uploads/?digest={DIGEST}"),
            Endpoint::PutBlob { name: a.clone(), digest: digest() },
            Some(create),
        ),
        (
            "POST",
            format!("/v2/a/blobs/uploads/?mount={DIGEST}&from=b"),
            Endpoint::MountBlob { name: a.clone(), digest: digest(), from: Some(b) },
            Some(create),
        ),
        (
            "POST",
            format!("/v2/a/blobs/uploads/?mount={DIGEST}"),
            Endpoint::MountBlob { name: a.clone(), digest: digest(), from: None },
            Some(create),
        ),
        (
            "PATCH",
            format!("/v2/a/blobs/uploads/{ID}"),
            Endpoint::AppendUpload { name: a.clone(), id },
            Some(create),
        ),
        (
            "PUT",
            format!("/v2/a/blobs/uploads/{ID}?digest={DIGEST}"),
            Endpoint::FinishUpload { name: a.clone(), id, digest: digest() },
            Some(create),
        ),
        (
            "GET",
            format!("/v2/a/blobs/uploads/{ID}"),
            Endpoint::UploadStatus { name: a.clone(), id },
            Some(create),
        ),
        (
            "DELETE",
            format!("/v2/a/blobs/uploads/{ID}"),
            Endpoint::CancelUpload { name: a.clone(), id },
            Some(create),
        ),
        (
            "GET",
            format!("/v2/a/referrers/{DIGEST}?artifactType=a%2Fb"),
            Endpoint::Referrers {
                name: a.clone(),
                query: ReferrersQuery {
                    subject: digest(),
                    artifact_type: Some("a/b".into()),
                    last: None,
                },
            },
            Some(pull),
        ),
        (
            "GET",
            "/v1/search?q=x&n=5&page=2".into(),
            Endpoint::Search { term: "x".into(), size: Some(5), page: Some(2) },
            Some(Right::List),
        ),
        (
            "GET",
            "/v1/search/?q=team/x:1.0".into(),
            Endpoint::Search { term: "team/x".into(), size: None, page: None },
            Some(Right::List),
        ),
        (
            "GET",
            "/v1/search?q=x@sha256:ab".into(),
            Endpoint::Search { term: "x".into(), size: None, page: None },
            Some(Right::List),
        ),
    ] {
        let parsed = parse(method, &target).unwrap_or_else(|e| panic!("{method} {target}: {e:?}"));
        assert_eq!(parsed, endpoint, "{method} {target}");
        assert_eq!(parsed.right(), right, "{method} {target}");
    }
    assert_eq!(
        parse("GET", "/v2/a/manifests/t").unwrap(),
        Endpoint::ReadManifest { name: a.clone(), reference: by_tag }
    );
}

#[test]
fn repository_may_be_called_what_the_endpoints_are_called() {
    for repository in
        ["blobs", "tags/list", "blobs/uploads", "manifests", "v2/referrers", "uploads"]
    {
        let Ok(Endpoint::Tags { name, .. }) = parse("GET", &format!("/v2/{repository}/tags/list"))
        else {
            panic!("{repository}");
        };
        assert_eq!(name.as_str(), repository);
        let Ok(Endpoint::ReadManifest { name, .. }) =
            parse("GET", &format!("/v2/{repository}/manifests/list"))
        else {
            panic!("{repository}");
        };
        assert_eq!(name.as_str(), repository);
        let Ok(Endpoint::StartUpload { name, .. }) =
            parse("POST", &format!("/v2/{repository}/blobs/uploads/"))
        else {
            panic!("{repository}");
        };
        assert_eq!(name.as_str(), repository);
    }
}

/// A path that ends in a slash names a repository, unless uploads begin there. Without the slash, the
/// path must not be that of another endpoint.
#[test]
fn repository_is_deleted_by_its_name() {
    for (target, expected) in [
        ("/v2/a/", Some("a")),
        ("/v2/team/app", Some("team/app")),
        ("/v2/team%2Fapp/", Some("team/app")),
        ("/v2/blobs/", Some("blobs")),
        ("/v2/a/blobs/", Some("a/blobs")),
        ("/v2/a/blobs", Some("a/blobs")),
        ("/v2/a/manifests/", Some("a/manifests")),
        ("/v2/a/referrers/", Some("a/referrers")),
        ("/v2/a/manifests/latest/", Some("a/manifests/latest")),
        ("/v2/tags/list/", Some("tags/list")),
        ("/v2/a/blobs/uploads/uploads/", Some("a/blobs/uploads/uploads")),
        ("/v2/uploads", Some("uploads")),
        ("/v2/tags", Some("tags")),
        // Paths of other endpoints, and paths without an endpoint.
        ("/v2/", None),
        ("/v2//", None),
        ("/v2/a//", None),
        ("/v2/_catalog", None),
        ("/v2/_catalog/", None),
        ("/v2/a/tags/list", None),
        ("/v2/a/blobs/uploads", None),
        ("/v2/a/blobs/uploads/", None),
        ("/v2/a/blobs/b", None),
        ("/v2/a/manifests/latest", None),
        ("/v2/a/_manifests/", None),
        ("/v2/..", None),
        ("/v2/a/../", None),
        ("/v2/A/", None),
        ("/v2/a:latest", None),
    ] {
        let name = match parse("DELETE", target) {
            Ok(Endpoint::DeleteRepository { name }) => Some(name.to_string()),
            _ => None,
        };
        assert_eq!(name.as_deref(), expected, "{target}");
        for method in ["GET", "HEAD", "PUT", "POST", "PATCH", "OPTIONS"] {
            let parsed = parse(method, target);
            assert!(!matches!(parsed, Ok(Endpoint::DeleteRepository { .. })), "{method} {target}");
        }
    }
}

#[test]
fn mount_that_makes_no_sense_becomes_an_upload() {
    for query in ["mount=x&from=b", &format!("mount={DIGEST}&from=B"), "mount=", "from=b"] {
        let target = format!("/v2/a/blobs/uploads/?{query}");
        assert!(matches!(parse("POST", &target), Ok(Endpoint::StartUpload { .. })), "{query}");
    }
}

#[test]
fn bad_request_gets_the_status_of_its_fault() {
    use axum::http::StatusCode;
    let id = crate::http::RequestId::new();
    for (method, target, status) in [
        ("GET", "/v2/A/tags/list", StatusCode::BAD_REQUEST),
        ("GET", "/v2/a%2Fb/tags/list", StatusCode::OK),
        ("GET", "/v2/../a/tags/list", StatusCode::BAD_REQUEST),
        ("GET", "/v2/%2e%2e/tags/list", StatusCode::BAD_REQUEST),
        ("GET", "/v2/a%00/tags/list", StatusCode::BAD_REQUEST),
        ("GET", "/v2/a%ff/tags/list", StatusCode::BAD_REQUEST),
        ("GET", "/v2//tags/list", StatusCode::BAD_REQUEST),
        ("GET", "/v2/tags/list", StatusCode::BAD_REQUEST),
        ("GET", "/v2/a/manifests/-", StatusCode::NOT_FOUND),
        ("PUT", "/v2/a/manifests/-", StatusCode::BAD_REQUEST),
        ("GET", "/v2/a/manifests/sha256:0", StatusCode::BAD_REQUEST),
        ("GET", "/v2/a/blobs/latest", StatusCode::BAD_REQUEST),
        ("GET", "/v2/a/referrers/latest", StatusCode::BAD_REQUEST),
        ("PATCH", "/v2/a/blobs/uploads/not-a-uuid", StatusCode::NOT_FOUND),
        ("PATCH", "/v2/a/blobs/uploads/..", StatusCode::NOT_FOUND),
        ("POST", "/v2/a/blobs/uploads/?digest=x", StatusCode::BAD_REQUEST),
        ("POST", "/v2/a/blobs/uploads/?digest-algorithm=md5", StatusCode::BAD_REQUEST),
        ("PUT", &format!("/v2/a/blobs/uploads/{ID}"), StatusCode::BAD_REQUEST),
        ("GET", "/v2/a/tags/list?n=-1", StatusCode::BAD_REQUEST),
        ("GET", "/v2/_catalog?n=many", StatusCode::BAD_REQUEST),
        ("POST", "/v2/", StatusCode::METHOD_NOT_ALLOWED),
        ("POST", "/v2/a/tags/list", StatusCode::METHOD_NOT_ALLOWED),
        ("OPTIONS", "/v2/a/manifests/t", StatusCode::METHOD_NOT_ALLOWED),
        ("GET", "/v2/a/blobs/uploads/", StatusCode::METHOD_NOT_ALLOWED),
        ("GET", "/v2/nothing", StatusCode::NOT_FOUND),
        ("GET", "/v2", StatusCode::NOT_FOUND),
        ("GET", "/v3/", StatusCode::NOT_FOUND),
    ] {
        let got = parse(method, target)
            .map_or_else(|error| error.into_response(id).status(), |_| StatusCode::OK);
        assert_eq!(got, status, "{method} {target}");
    }
}

proptest! {
    #[test]
    fn any_request_is_an_endpoint_or_refused(
        method in "(GET|HEAD|PUT|POST|PATCH|DELETE|OPTIONS)", target in "/v[12](/\\PC{0,12}){0,6}",
    ) {
        let _ = parse(&method, &target);
    }

    #[test]
    fn any_repository_name_is_read_back_from_its_paths(
        repository in "[a-z0-9]{1,4}([._-][a-z0-9]{1,4})?(/(blobs|uploads|manifests|tags|list|[a-z]{1,3})){0,4}",
    ) {
        let parsed = parse("GET", &format!("/v2/{repository}/blobs/{DIGEST}")).unwrap();
        prop_assert_eq!(parsed, Endpoint::ReadBlob { name: name(&repository), digest: digest() });
        if !repository.ends_with("/blobs/uploads") && repository != "blobs/uploads" {
            let parsed = parse("DELETE", &format!("/v2/{repository}/")).unwrap();
            prop_assert_eq!(parsed, Endpoint::DeleteRepository { name: name(&repository) });
        }
    }
}
