//! The golden table of access: each endpoint, asked by each kind of caller with each right.
//!
//! A row of `golden/access.txt` is an endpoint and a caller, a column what a rule, or the line of a deploy
//! token, lets that caller do to `team/app`: status, code of the error, scheme of the challenge.

use std::{fmt::Write as _, fs};

use futures_util::future::join_all;
use portcullis::gate::{self, tokens::deploy::Secret};
use reqwest::RequestBuilder;
use serde_json::json;

use crate::support::{
    Answer, Answered as _, TestServer,
    access::{CERTIFICATE, NOBODY, by, guarded_with, trust_certificates},
    content::{OCI_INDEX, empty_index, trifle},
    digest,
    server::PASSWORD,
};

const GOLDEN: &str = "tests/it/golden/access.txt";

/// What a rule grants; the first grants nothing.
const GRANTS: [&str; 6] = ["-", "pull", "create", "push", "delete", "all"];

/// A kind of caller.
struct Kind {
    /// As the table has it.
    name: &'static str,
    /// The `who` of the rule that names it; none for a deploy token, whose line has its rights.
    who: Option<&'static str>,
    login: Login,
}

/// How a caller says who it is.
enum Login {
    /// By a password or a certificate, or not at all.
    Basic(&'static str),
    /// By the secret of a deploy token.
    DeployToken,
    /// By a session token that a user got for its password, with every action on `team/app`.
    SessionToken(&'static str),
}

const CALLERS: [Kind; 6] = [
    Kind { name: NOBODY, who: Some("anyone"), login: Login::Basic(NOBODY) },
    Kind { name: "ann", who: Some("ann"), login: Login::Basic("ann") },
    Kind { name: "bob", who: Some("group:team"), login: Login::Basic("bob") },
    Kind { name: CERTIFICATE, who: Some("node1"), login: Login::Basic(CERTIFICATE) },
    Kind { name: "token:ci", who: None, login: Login::DeployToken },
    Kind { name: "session of ann", who: Some("ann"), login: Login::SessionToken("ann") },
];

/// The caller of a column, who has logged in.
enum Caller {
    Basic(&'static str),
    DeployToken(Secret),
    SessionToken(String),
}

impl Caller {
    fn request(&self, server: &TestServer, method: &str, target: &str) -> RequestBuilder {
        match self {
            Self::Basic(user) => by(server, user, method, target),
            Self::DeployToken(secret) => {
                server.anonymous(method, target).basic_auth("ci", Some(secret.reveal()))
            }
            Self::SessionToken(token) => server.anonymous(method, target).bearer_auth(token),
        }
    }
}

impl Kind {
    /// A server on which this kind of caller has a right, and the caller.
    async fn with(&self, may: &str) -> (TestServer, Caller) {
        let rules = match (self.who, may) {
            (None, _) | (_, "-") => json!([]),
            (Some(who), may) => json!([{ "who": who, "repositories": "team/**", "may": may }]),
        };
        let secret = Secret::generate().unwrap();
        let line = match may {
            "-" => "may=pull repositories=elsewhere".to_owned(),
            may => format!("may={may} repositories=team/**"),
        };
        let line = format!("ci sha256={} {line} expires=never\n", secret.digest());
        let server = guarded_with(&rules, |config| {
            let gate::Options::Htpasswd(options) = &config.auth else { unreachable!() };
            fs::write(options.token_file(), line).unwrap();
            trust_certificates(config);
        })
        .await;
        let caller = match self.login {
            Login::Basic(user) => Caller::Basic(user),
            Login::DeployToken => Caller::DeployToken(secret),
            Login::SessionToken(user) => {
                let scope = "repository:team/app:pull,push,delete";
                let request = server.anonymous("GET", &format!("/auth/token?scope={scope}"));
                let answer = request.basic_auth(user, Some(PASSWORD)).answer().await.expect(200);
                Caller::SessionToken(answer.json()["token"].as_str().unwrap().to_owned())
            }
        };
        (server, caller)
    }
}

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
async fn prepare(server: &TestServer, caller: &Caller) -> Vec<(&'static str, String)> {
    let manifest = trifle(server, "team/app", "v1").await;
    trifle(server, "other/app", "v1").await;
    let blob = server.push_blob("team/app", "blob").await;
    let secret = server.push_blob("other/app", "secret").await;
    // The upload is the caller's: the path that a caller is denied is that of an upload of its own.
    let opened = caller.request(server, "POST", "/v2/team/app/blobs/uploads/").answer().await;
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

/// What each case answers to a kind of caller with a right.
async fn column(kind: &Kind, may: &str) -> Vec<String> {
    let (server, caller) = kind.with(may).await;
    let mut told_of = Vec::new();
    let mut prepared = None;
    for Case { method, target, body, .. } in CASES {
        let words = match prepared.take() {
            Some(words) => words,
            None => prepare(&server, &caller).await,
        };
        let fill = |text: &str| {
            words.iter().fold(text.to_owned(), |text, (word, value)| text.replace(word, value))
        };
        let request = caller.request(&server, method, &fill(target));
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
    told_of
}

#[tokio::test]
async fn access_table() {
    let columns = CALLERS.iter().flat_map(|kind| GRANTS.map(|may| column(kind, may)));
    let columns = join_all(columns).await;
    let mut found = String::new();
    for (row, Case { name, .. }) in CASES.iter().enumerate() {
        for (of_caller, Kind { name: caller, .. }) in CALLERS.iter().enumerate() {
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
