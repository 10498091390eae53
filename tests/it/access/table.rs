//! The golden table of access: each endpoint, asked by each kind of caller with each right.
//!
//! A row of `golden/access.txt` is an endpoint and a caller, a column what a rule lets that caller do to
//! `team/app`: status, code of the error, scheme of the challenge.

use std::{fmt::Write as _, fs};

use serde_json::json;

use crate::support::{
    Answer, Answered as _, TestServer,
    access::{CERTIFICATE, NOBODY, by, guarded_with, trust_certificates},
    content::{OCI_INDEX, empty_index, trifle},
    digest,
};

const GOLDEN: &str = "tests/it/golden/access.txt";

/// What a rule grants; the first grants nothing.
const GRANTS: [&str; 6] = ["-", "pull", "create", "push", "delete", "all"];

/// A caller, and the `who` of the rule that names it.
const CALLERS: [(&str, &str); 4] =
    [(NOBODY, "anyone"), ("ann", "ann"), ("bob", "group:team"), (CERTIFICATE, "node1")];

/// A request to an endpoint, on content that is there before it. `{blob}`, `{manifest}` and `{upload}`
/// are digests and the path of an upload of the caller.
struct Case {
    name: &'static str,
    method: &'static str,
    target: &'static str,
    body: &'static str,
}

const fn case(
    name: &'static str,
    method: &'static str,
    target: &'static str,
    body: &'static str,
) -> Case {
    Case { name, method, target, body }
}

const CASES: &[Case] = &[
    case("Base", "GET", "/v2/", ""),
    case("Catalog", "GET", "/v2/_catalog", ""),
    case("Search", "GET", "/v1/search?q=app", ""),
    case("Tags", "GET", "/v2/team/app/tags/list", ""),
    case("ReadManifest", "GET", "/v2/team/app/manifests/v1", ""),
    case("ReadManifest of a missing tag", "GET", "/v2/team/app/manifests/missing", ""),
    case("ReadManifest elsewhere", "GET", "/v2/other/app/manifests/v1", ""),
    case("ReadManifest nowhere", "GET", "/v2/nowhere/app/manifests/v1", ""),
    case("ReadBlob", "GET", "/v2/team/app/blobs/{blob}", ""),
    case("Referrers", "GET", "/v2/team/app/referrers/{manifest}", ""),
    case("StartUpload", "POST", "/v2/team/app/blobs/uploads/", ""),
    case("UploadStatus", "GET", "{upload}", ""),
    case("AppendUpload", "PATCH", "{upload}", "some"),
    case("FinishUpload", "PUT", "{upload}?digest={some}", "some"),
    case("CancelUpload", "DELETE", "{upload}", ""),
    case("PutBlob", "POST", "/v2/team/app/blobs/uploads/?digest={some}", "some"),
    case("MountBlob", "POST", "/v2/team/app/blobs/uploads/?mount={blob}&from=team/app", ""),
    case(
        "MountBlob from elsewhere",
        "POST",
        "/v2/team/app/blobs/uploads/?mount={secret}&from=other/app",
        "",
    ),
    case("MountBlob without from", "POST", "/v2/team/app/blobs/uploads/?mount={secret}", ""),
    case("PutManifest", "PUT", "/v2/team/app/manifests/new", "{other}"),
    case("PutManifest at a tag that is there", "PUT", "/v2/team/app/manifests/v1", "{other}"),
    case("DeleteManifest", "DELETE", "/v2/team/app/manifests/{manifest}", ""),
    case("DeleteManifest of a tag", "DELETE", "/v2/team/app/manifests/v1", ""),
    case("DeleteBlob", "DELETE", "/v2/team/app/blobs/{blob}", ""),
    case("DeleteRepository", "DELETE", "/v2/team/app/", ""),
    case("no endpoint", "GET", "/v2/team/app/nothing", ""),
    case("no method", "POST", "/v2/team/app/tags/list", ""),
    case("no name", "GET", "/v2/Team/app/tags/list", ""),
];

/// Status, code, and scheme of the challenge, in the words of the table.
fn told(answer: &Answer) -> String {
    let mut told = answer.status.as_u16().to_string();
    if answer.status.is_client_error() && answer.headers["content-type"] == "application/json" {
        let json = answer.json();
        write!(told, " {}", json["errors"][0]["code"].as_str().unwrap()).unwrap();
    }
    for challenge in answer.headers.get_all("www-authenticate") {
        let (scheme, _) = challenge.to_str().unwrap().split_once(' ').unwrap();
        write!(told, " {scheme}").unwrap();
    }
    told
}

/// Makes the content that the cases are about, and gives the words of the targets their values.
async fn prepare(server: &TestServer, caller: &str) -> Vec<(&'static str, String)> {
    let manifest = trifle(server, "team/app", "v1").await;
    trifle(server, "other/app", "v1").await;
    let blob = server.push_blob("team/app", "blob").await;
    let secret = server.push_blob("other/app", "secret").await;
    // The upload is the caller's: the path that a caller is denied is that of an upload of its own.
    let opened = by(server, caller, "POST", "/v2/team/app/blobs/uploads/").answer().await;
    let upload = match opened.headers.get("location") {
        Some(location) => {
            let location = location.to_str().unwrap();
            location.strip_prefix(&server.base).unwrap_or(location).to_owned()
        }
        None => {
            let location = server.open_upload("team/app").await;
            location.strip_prefix(&server.base).unwrap().to_owned()
        }
    };
    vec![
        ("{manifest}", manifest),
        ("{blob}", blob),
        ("{secret}", secret),
        ("{some}", digest("some")),
        ("{upload}", upload),
        ("{other}", empty_index("other")),
    ]
}

#[tokio::test]
async fn access_table() {
    let mut columns = Vec::new();
    for (caller, who) in CALLERS {
        for may in GRANTS {
            let rules = match may {
                "-" => json!([]),
                may => json!([{ "who": who, "repositories": "team/**", "may": may }]),
            };
            let server = guarded_with(&rules, trust_certificates).await;
            let mut told_of = Vec::new();
            let mut prepared = None;
            for Case { method, target, body, .. } in CASES {
                let words = match prepared.take() {
                    Some(words) => words,
                    None => prepare(&server, caller).await,
                };
                let fill = |text: &str| {
                    words
                        .iter()
                        .fold(text.to_owned(), |text, (word, value)| text.replace(word, value))
                };
                let request = by(&server, caller, method, &fill(target));
                let request = match *body {
                    "" => request,
                    "{other}" => request.header("content-type", OCI_INDEX).body(fill(body)),
                    body => request.body(body),
                };
                let answer = request.answer().await;
                told_of.push(told(&answer));
                if answer.status.is_success() && *method != "GET" {
                    // What a case made or removed is no concern of the next one.
                    server.delete("/v2/team/app/").await;
                } else {
                    prepared = Some(words);
                }
            }
            columns.push(told_of);
        }
    }
    let mut found = String::new();
    for (row, Case { name, .. }) in CASES.iter().enumerate() {
        for (of_caller, (caller, _)) in CALLERS.iter().enumerate() {
            let columns = &columns[of_caller * GRANTS.len()..][..GRANTS.len()];
            let cells: Vec<_> = GRANTS
                .iter()
                .zip(columns)
                .map(|(may, told)| format!("{may}: {}", told[row]))
                .collect();
            writeln!(found, "{name} | {caller} | {}", cells.join(" | ")).unwrap();
        }
    }
    if std::env::var_os("PORTCULLIS_RENEW").is_some() {
        fs::write(GOLDEN, &found).unwrap();
    }
    let golden = fs::read_to_string(GOLDEN).unwrap_or_default();
    let differing: Vec<_> =
        found.lines().filter(|line| !golden.lines().any(|golden| golden == *line)).collect();
    assert!(
        golden == found,
        "the rows that {GOLDEN} has otherwise or not at all:\n{}\nIf it is meant so, run\n    \
         PORTCULLIS_RENEW=1 cargo test --test it -- access::table::access_table\n\
         and look at the difference.",
        differing.join("\n"),
    );
}
