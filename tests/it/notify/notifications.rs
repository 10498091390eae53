//! Notifications: the events of endpoints, their order, and when an event may be lost.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use portcullis::{
    app::App,
    config::Config,
    http::DeletableBlobs,
    notify::{EndpointOptions, Options},
    registry::RetentionOptions,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use testkit::{
    registry2::{self, Registry2},
    skip::skip,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};

use crate::support::{
    TestServer,
    content::{OCI_INDEX, OCI_MANIFEST, closing, descriptor, digest, empty_index, image, trifle},
    process::Process,
    receiver::{Got, Receiver, SILENCE},
    server::{Answered as _, PASSWORD, USER, certificates},
    watched::{Call, Verdict, Watch, Watched},
};

/// The events of a script of requests, with the values that differ from run to run replaced.
const GOLDEN: &str = include_str!("../golden/events.txt");

/// An endpoint that is tried again at once, and never backs off within a test.
fn endpoint(name: &str, url: String) -> EndpointOptions {
    EndpointOptions {
        name: name.to_owned(),
        url,
        timeout: Duration::from_secs(60),
        backoff: Duration::from_millis(20),
        ..EndpointOptions::default()
    }
}

fn to(endpoints: Vec<EndpointOptions>) -> Options {
    Options { endpoints, ..Options::default() }
}

async fn telling(receiver: &Receiver) -> TestServer {
    let endpoint = endpoint("hook", receiver.url());
    TestServer::with(|config| config.notifications = to(vec![endpoint])).await
}

/// A registry that gets the requests of the script.
struct Side<'a> {
    base: &'a str,
    client: &'a reqwest::Client,
    receiver: Receiver,
    events: String,
}

impl Side<'_> {
    /// Sends a request that causes an event.
    async fn send(&mut self, method: &str, target: &str, kind: &str, body: Vec<u8>) {
        self.quietly(method, target, kind, body).await;
        self.hear().await;
    }

    async fn quietly(&self, method: &str, target: &str, kind: &str, body: Vec<u8>) -> String {
        let url = match target.strip_prefix('/') {
            Some(path) => format!("{}/{path}", self.base),
            None => target.to_owned(),
        };
        let mut request = self
            .client
            .request(method.parse().unwrap(), url)
            .basic_auth(USER, Some(PASSWORD))
            .header("user-agent", "script/1.0 (<&>)")
            .header("accept", format!("{OCI_MANIFEST}, {OCI_INDEX}"));
        if kind.contains('-') {
            request = request.header("range", kind);
        } else if !kind.is_empty() {
            request = request.header("content-type", format!("application/{kind}"));
        }
        let answer = request.body(body).answer().await;
        assert!(answer.status.is_success(), "{method} {target}: {}", answer.text());
        answer.headers.get("location").map_or_else(String::new, |at| at.to_str().unwrap().into())
    }

    async fn hear(&mut self) {
        let got = self.receiver.next().await;
        let kind = got.headers["content-type"].to_str().unwrap();
        assert_eq!(kind, "application/vnd.docker.distribution.events.v1+json");
        assert_eq!((got.method.as_str(), got.path.as_str()), ("POST", "/hook"));
        self.events += &normalised(&got, self.base);
        self.events.push('\n');
    }

    async fn push_blob(&mut self, name: &str, bytes: &[u8]) -> String {
        let start = format!("/v2/{name}/blobs/uploads/");
        let at = self.quietly("POST", &start, "", Vec::new()).await;
        let digest = digest(bytes);
        self.send("PUT", &closing(&at, &digest), "octet-stream", bytes.to_vec()).await;
        digest
    }

    /// Every kind of event, each once.
    async fn play(&mut self) {
        let (layer, config) = (b"the bytes of a layer".as_slice(), b"{}".as_slice());
        let layer_digest = self.push_blob("team/app", layer).await;
        self.push_blob("team/app", config).await;
        let mut layer = descriptor("application/vnd.oci.image.layer.v1.tar", layer);
        layer["annotations"] = json!({ "b": "<2>", "a": "1" });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [layer],
        })
        .to_string();
        let index = json!({
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [{
                "mediaType": OCI_MANIFEST, "digest": digest(&manifest), "size": manifest.len(),
                "platform": { "architecture": "amd64", "os": "linux" },
            }],
        })
        .to_string();
        let at = |reference: &str| format!("/v2/team/app/manifests/{reference}");
        let (one, all) = (digest(&manifest), digest(&index));
        let manifest_kind = OCI_MANIFEST.strip_prefix("application/").unwrap();
        let index_kind = OCI_INDEX.strip_prefix("application/").unwrap();
        self.send("PUT", &at("v1"), manifest_kind, manifest.clone().into()).await;
        self.send("PUT", &at(&all), index_kind, index.into()).await;
        self.send("HEAD", &at("v1"), "", Vec::new()).await;
        self.send("GET", &at(&one), "", Vec::new()).await;
        self.send("GET", &at(&all), "", Vec::new()).await;
        let blob = format!("/v2/team/app/blobs/{layer_digest}");
        self.send("HEAD", &blob, "", Vec::new()).await;
        self.send("GET", &blob, "", Vec::new()).await;
        self.send("GET", &blob, "bytes=0-3", Vec::new()).await;
        let mount = format!("/v2/other/blobs/uploads/?mount={layer_digest}&from=team/app");
        self.send("POST", &mount, "", Vec::new()).await;
        self.send("DELETE", &at(&all), "", Vec::new()).await;
        self.send("DELETE", &blob, "", Vec::new()).await;
        self.receiver.is_empty();
    }
}

/// The body, with the values that differ from run to run replaced.
fn normalised(got: &Got, base: &str) -> String {
    let event = got.event();
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
    for pointer in ["/id", "/source/instanceID"] {
        text(pointer).parse::<uuid::Uuid>().unwrap();
    }
    let moment = text("/timestamp");
    moment.parse::<jiff::Timestamp>().unwrap();
    assert_eq!(moment.find('T'), Some(10), "{moment}");
    let host = base.split_once("://").unwrap().1;
    assert_eq!(text("/request/host"), host);
    assert!(text("/request/addr").parse::<std::net::SocketAddr>().is_ok());
    let mut body = got.text().replace(base, "<base>");
    for (pointer, name) in [
        ("/id", "<id>"),
        ("/timestamp", "<timestamp>"),
        ("/request/id", "<request>"),
        ("/request/addr", "<addr>"),
        ("/request/host", "<host>"),
        ("/source/addr", "<source>"),
        ("/source/instanceID", "<instance>"),
    ] {
        body = body.replace(&format!("\"{}\"", text(pointer)), &format!("\"{name}\""));
    }
    body
}

#[tokio::test]
async fn endpoints_get_the_golden_events() {
    let receiver = Receiver::start().await;
    let mut options = to(vec![endpoint("hook", receiver.url())]);
    options.events.includereferences = true;
    let server = TestServer::with(|config| {
        config.notifications = options;
        // As in registry:2, a referenced blob can be deleted.
        config.storage.delete.blobs = DeletableBlobs::Force;
    })
    .await;
    let (base, client) = (server.base.as_str(), &server.client);
    let mut side = Side { base, client, receiver, events: String::new() };
    side.play().await;
    assert_eq!(side.events, GOLDEN);
}

#[tokio::test]
async fn registry_2_tells_endpoints_the_same() {
    if registry2::program().is_none() {
        skip("events of registry:2", "docker-registry is not installed", false);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let config = format!(
        "version: 0.1\nlog: {{accesslog: {{disabled: true}}, level: error}}\n\
         storage: {{filesystem: {{rootdirectory: root}}, delete: {{enabled: true}}}}\n\
         http: {{addr: '{address}', secret: x}}\n\
         notifications: {{events: {{includereferences: true}}, endpoints: [{{name: hook, url: \
         '{}', timeout: 60s, threshold: 10, backoff: 1s}}]}}\n",
        receiver.url()
    );
    let registry = Registry2::start(folder.path(), &config);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let base = format!("http://{}", registry.address);
    let mut side = Side { base: &base, client: &client, receiver, events: String::new() };
    side.play().await;
    assert_eq!(side.events, GOLDEN);
}

/// An event in short.
fn about(event: &Value) -> String {
    let target = &event["target"];
    let what = target["tag"].as_str().or_else(|| target["digest"].as_str()).unwrap();
    format!(
        "{} {} {what}",
        event["action"].as_str().unwrap(),
        target["repository"].as_str().unwrap()
    )
}

#[tokio::test]
async fn deletion_emits_an_event_for_each_tag_and_for_the_manifest() {
    let mut receiver = Receiver::start().await;
    let server = telling(&receiver).await;
    let index = empty_index("x");
    let digest = digest(&index);
    let target = format!("/v2/app/manifests/{digest}?tag=a&tag=b&tag=c");
    let put = server.request("PUT", &target).header("content-type", OCI_INDEX).body(index);
    put.answer().await.expect(201);
    let pushed: Vec<_> = receiver.events(3).await.iter().map(about).collect();
    assert_eq!(pushed, ["push app a", "push app b", "push app c"]);
    server.delete("/v2/app/manifests/b").await.expect(202);
    assert_eq!(about(&receiver.event().await), "delete app b");
    server.delete(&format!("/v2/app/manifests/{digest}")).await.expect(202);
    let gone: Vec<_> = receiver.events(3).await.iter().map(about).collect();
    assert_eq!(
        gone,
        ["delete app a".into(), "delete app c".into(), format!("delete app {digest}")]
    );
    // The deletion of a missing object emits no event.
    server.delete(&format!("/v2/app/manifests/{digest}")).await.expect(404);
    server.delete("/v2/app/manifests/b").await.expect(404);
    server.delete(&format!("/v2/app/blobs/{digest}")).await.expect(404);
    server.get("/v2/app/manifests/b").await.expect(404);
    trifle(&server, "app", "last").await;
    assert_eq!(about(&receiver.event().await), "push app last");
}

/// The next deletions that an endpoint gets: the tag or the digest, and the program that deleted it.
async fn deletions(receiver: &mut Receiver, count: usize) -> Vec<(String, String)> {
    let mut deletions = Vec::new();
    while deletions.len() < count {
        let event = receiver.event().await;
        if event["action"] == "delete" {
            assert_eq!(event["target"]["repository"], "app");
            assert_eq!((&event["actor"], &event["request"]["addr"]), (&json!({}), &Value::Null));
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let target = &event["target"];
            let what = [&target["tag"], &target["digest"]].map(text).concat();
            deletions.push((what, text(&event["request"]["useragent"])));
        }
    }
    deletions
}

#[tokio::test]
async fn events_of_retention_and_garbage_collection_name_the_job() {
    let second = Duration::from_secs(1);
    let mut receiver = Receiver::start().await;
    let server = TestServer::with(|config| {
        config.notifications = to(vec![endpoint("hook", receiver.url())]);
        let rules = json!({ "rules": [{ "keeplatest": 1 }] });
        let retention: RetentionOptions = serde_json::from_value(rules).unwrap();
        config.storage.tags.retention = RetentionOptions { interval: second, ..retention };
    })
    .await;
    let first = trifle(&server, "app", "v1").await;
    trifle(&server, "app", "v2").await;
    let by = |what: &str, job: &str| (what.to_owned(), format!("portcullis {job}"));
    assert_eq!(deletions(&mut receiver, 2).await, [by("v1", "retention"), by(&first, "retention")]);
    drop(server);

    let mut receiver = Receiver::start().await;
    let server = TestServer::with(|config| {
        config.notifications = to(vec![endpoint("hook", receiver.url())]);
        let collection = &mut config.storage.maintenance.garbagecollection;
        collection.interval = second;
        collection.grace = Duration::ZERO;
        collection.deleteuntagged = true;
    })
    .await;
    let index = empty_index("untagged");
    let untagged = digest(&index);
    server.push_manifest("app", &untagged, OCI_INDEX, index).await.expect(201);
    assert_eq!(deletions(&mut receiver, 1).await, [by(&untagged, "garbage-collect")]);
}

#[tokio::test]
async fn deleted_repository_emits_one_event_with_its_name() {
    let mut receiver = Receiver::start().await;
    let server = telling(&receiver).await;
    trifle(&server, "team/app", "latest").await;
    receiver.event().await;
    server.delete("/v2/team/app/").await.expect(202);
    let event = receiver.event().await;
    assert_eq!(event["action"], "delete");
    assert_eq!(event["target"], json!({ "repository": "team/app" }));
    // The deletion of a missing object emits no event.
    server.delete("/v2/team/app/").await.expect(404);
    trifle(&server, "app", "last").await;
    assert_eq!(about(&receiver.event().await), "push app last");
}

#[tokio::test]
async fn event_names_the_user_and_the_address_that_a_trusted_proxy_reports() {
    let mut receiver = Receiver::start().await;
    let server = telling(&receiver).await;
    let digest = trifle(&server, "app", "v1").await;
    let pushed = receiver.event().await;
    assert_eq!(pushed["actor"], json!({ "name": USER }));
    let url = format!("{}/v2/app/manifests/{digest}", server.base);
    assert_eq!(pushed["target"]["url"], url);
    let request = server
        .request("GET", "/v2/app/manifests/v1")
        .header("x-forwarded-for", "192.0.2.1, 198.51.100.7")
        .header("x-forwarded-host", "registry.example.com");
    let answer = request.answer().await.expect(200);
    let pulled = receiver.event().await;
    assert_eq!(pulled["request"]["addr"], "198.51.100.7");
    assert_eq!(pulled["request"]["id"], answer.header("x-request-id"));
    assert_eq!(
        pulled["target"]["url"],
        format!("https://registry.example.com/v2/app/manifests/{digest}")
    );
    let host = pulled["source"]["addr"].as_str().unwrap();
    // The port is the configured one, as in registry:2.
    assert!(host.ends_with(":0"), "{host}");
}

#[tokio::test]
async fn not_modified_answer_is_no_pull_event() {
    let mut receiver = Receiver::start().await;
    let server = telling(&receiver).await;
    let digest = trifle(&server, "app", "v1").await;
    let blob = server.push_blob("app", b"x").await;
    receiver.events(2).await;
    let known = |target: String, digest: &str| {
        let tag = format!("\"{digest}\"");
        server.request("GET", &target).header("if-none-match", tag)
    };
    known("/v2/app/manifests/v1".into(), &digest).answer().await.expect(304);
    // A blob's is sent: registry:2 checks the conditions after it has served.
    known(format!("/v2/app/blobs/{blob}"), &blob).answer().await.expect(304);
    assert_eq!(about(&receiver.event().await), format!("pull app {blob}"));
    receiver.is_empty();
}

#[tokio::test]
async fn endpoints_get_the_events_that_they_do_not_ignore_with_their_headers() {
    let (mut all, mut few, mut none) =
        (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    let mut options = to(vec![
        endpoint("all", all.url()),
        endpoint("few", few.url()),
        endpoint("none", none.url()),
        endpoint("off", none.url()),
    ]);
    options.endpoints[0].headers =
        BTreeMap::from([("X-Two".to_owned(), vec!["1".to_owned(), "2".to_owned()])]);
    options.endpoints[1].ignore.actions = vec!["pull".to_owned()];
    options.endpoints[1].ignoredmediatypes = vec!["application/octet-stream".to_owned()];
    options.endpoints[2].ignore.actions =
        ["push", "pull", "mount", "delete"].map(String::from).into();
    options.endpoints[3].disabled = true;
    let server = TestServer::with(|config| config.notifications = options).await;
    image(&server, "app", "v1").await;
    server.get("/v2/app/manifests/v1").await.expect(200);
    server.delete("/v2/app/manifests/v1").await.expect(202);
    for action in ["push", "push", "push", "pull", "delete"] {
        let got = all.next().await;
        assert_eq!(got.event()["action"], action);
        let values: Vec<_> = got.headers.get_all("x-two").iter().collect();
        assert_eq!(values, ["1", "2"]);
        assert!(got.headers["user-agent"].to_str().unwrap().starts_with("portcullis/"));
    }
    // The event of a deletion has no type to ignore.
    for action in ["push", "delete"] {
        let event = few.event().await;
        assert_eq!(
            (event["action"].as_str(), event["target"]["tag"].as_str()),
            (Some(action), Some("v1"))
        );
    }
    few.is_empty();
    server.stop().await;
    none.is_empty();
}

#[tokio::test]
async fn endpoint_that_never_answers_delays_neither_pushes_nor_the_stop() {
    let mut silent = Receiver::answering(SILENCE).await;
    let mut healthy = Receiver::start().await;
    let mut options =
        to(vec![endpoint("silent", silent.url()), endpoint("healthy", healthy.url())]);
    options.endpoints[0].timeout = Duration::from_secs(3600);
    let server = TestServer::with(|config| config.notifications = options).await;
    for number in 0..50 {
        trifle(&server, "app", &format!("v{number}")).await;
        server.get(&format!("/v2/app/manifests/v{number}")).await.expect(200);
    }
    assert_eq!(healthy.events(100).await.len(), 100);
    silent.next().await;
    silent.is_empty();
    // The stop does not wait for an hour.
    server.stop().await;
}

#[tokio::test]
async fn refused_events_are_sent_again_in_order_and_after_a_restart() {
    let mut receiver = Receiver::answering(503).await;
    let mut server = telling(&receiver).await;
    let mut expected = Vec::new();
    for number in 0..30 {
        let tag = format!("v{number}");
        trifle(&server, "app", &tag).await;
        expected.push(format!("push app {tag}"));
        if number % 10 == 9 {
            // The sender retries it, beyond the threshold.
            for _ in 0..12 {
                assert_eq!(receiver.next().await.status, 503);
            }
            server = server.restart().await;
        }
    }
    receiver.answers(200);
    let events: Vec<_> = receiver.events(30).await.iter().map(about).collect();
    assert_eq!(events, expected);
    let folder = server.folder().join("data/portcullis-notifications/hook");
    assert!(folder.join("cursor").is_file());
    let folder = server.stop().await;
    // No event is sent twice after an orderly end.
    assert_eq!(receiver.got_now(), 0, "{}", folder.path().display());
}

#[tokio::test]
async fn acknowledged_changes_emit_their_events_after_kill_9() {
    let mut receiver = Receiver::answering(SILENCE).await;
    let url = receiver.url();
    let variables = [
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_NAME", "hook"),
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL", &*url),
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_TIMEOUT", "1h"),
    ];
    let mut server = Process::start(&variables);
    let mut expected = Vec::new();
    for round in 0..3 {
        for number in 0..20 {
            let tag = format!("v{round}-{number}");
            let index = empty_index(&tag);
            let request = server.request("PUT", &format!("/v2/app/manifests/{tag}"));
            request.header("content-type", OCI_INDEX).body(index).answer().await.expect(201);
            expected.push(format!("push app {tag}"));
        }
        let folder = server.kill();
        if round == 2 {
            receiver.answers(200);
        }
        server = Process::on(folder, &variables);
    }
    let events: Vec<_> = receiver.events(60).await.iter().map(about).collect();
    assert_eq!(events, expected);
}

/// A disk that reports the first rename and then hangs until the test releases it.
#[derive(Debug)]
struct Held {
    reached: mpsc::UnboundedSender<()>,
    go: Arc<(Mutex<bool>, Condvar)>,
}

impl Watch for Held {
    fn before(&self, call: Call<'_>) -> Verdict {
        if let Call::Rename(..) = call {
            let _ = self.reached.send(());
            let (go, changed) = &*self.go;
            drop(changed.wait_while(go.lock().unwrap(), |go| !*go).unwrap());
        }
        Verdict::Go
    }
}

#[tokio::test]
async fn push_whose_client_has_disconnected_emits_its_event() {
    let mut receiver = Receiver::start().await;
    let (reached, mut at_work) = mpsc::unbounded_channel();
    let go = Arc::new((Mutex::new(false), Condvar::new()));
    let held = Held { reached, go: Arc::clone(&go) };
    let server = TestServer::over(|root| Arc::new(Watched::new(root, held)));
    server.app().notifier().set(&to(vec![endpoint("hook", receiver.url())])).unwrap();
    let index = empty_index("gone");
    let head = format!(
        "PUT /v2/app/manifests/v1\r\ncontent-type: {OCI_INDEX}\r\ncontent-length: {}\r\n",
        index.len()
    );
    let mut stream = server.begin(&head).await;
    stream.write_all(index.as_bytes()).await.unwrap();
    at_work.recv().await.unwrap();
    // It ends its stream, and the server closes the connection without a response.
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
    *go.0.lock().unwrap() = true;
    go.1.notify_all();
    assert_eq!(about(&receiver.event().await), "push app v1");
}

#[tokio::test]
async fn full_queue_drops_and_counts_further_events() {
    let mut receiver = Receiver::answering(500).await;
    let mut options = to(vec![endpoint("hook", receiver.url())]);
    options.maxpending = 3;
    let server = TestServer::with(|config| config.notifications = options).await;
    for number in 0..5 {
        trifle(&server, "app", &format!("v{number}")).await;
    }
    let counts = &server.app().notifier().counts()[0];
    assert_eq!((counts.events, counts.pending, counts.dropped), (3, 3, 2));
    receiver.answers(200);
    let events: Vec<_> = receiver.events(3).await.iter().map(about).collect();
    assert_eq!(events, ["push app v0", "push app v1", "push app v2"]);
}

#[tokio::test]
async fn endpoints_can_be_changed_by_reload_and_keep_their_queues() {
    let (mut first, mut second) = (Receiver::answering(500).await, Receiver::start().await);
    let server = telling(&first).await;
    trifle(&server, "app", "v1").await;
    first.next().await;
    let set = |options: Options| {
        let notifier = server.app().notifier().clone();
        async move { tokio::task::spawn_blocking(move || notifier.set(&options)).await.unwrap() }
    };
    // While it is not configured, no event is queued for it.
    set(to(Vec::new())).await.unwrap();
    trifle(&server, "app", "v2").await;
    // An invalid endpoint changes nothing.
    set(to(vec![endpoint("hook", second.url()), endpoint("", second.url())])).await.unwrap_err();
    set(to(vec![endpoint("a", second.url()), endpoint("a", second.url())])).await.unwrap_err();
    trifle(&server, "app", "v3").await;
    // It returns with another URL, as after SIGHUP, and gets the waiting events.
    let notifications = to(vec![endpoint("hook", second.url())]);
    server.app().apply(&Config { notifications, ..server.config().clone() }).await;
    trifle(&server, "app", "v4").await;
    let events: Vec<_> = second.events(2).await.iter().map(about).collect();
    assert_eq!(events, ["push app v1", "push app v4"]);
    second.is_empty();
}

#[tokio::test]
async fn redirect_of_an_endpoint_is_followed_within_a_server_and_not_to_another() {
    let mut other = Receiver::start().await;
    let elsewhere = other.url().replace("127.0.0.1", "localhost");
    let any = "127.0.0.1:0".parse().unwrap();
    let mut moved = Receiver::on(any, 307, Some(other.url())).await;
    let mut away = Receiver::on(any, 308, Some(elsewhere)).await;
    let mut seen = Receiver::on(any, 302, Some(other.url())).await;
    let server = TestServer::with(|config| {
        config.notifications = to(vec![
            endpoint("moved", moved.url()),
            endpoint("away", away.url()),
            endpoint("seen", seen.url()),
        ]);
    })
    .await;
    trifle(&server, "app", "v1").await;
    assert_eq!(moved.next().await.status, 307);
    assert_eq!(about(&other.next().await.event()), "push app v1");
    // Tried again: the event was not accepted.
    let again = [away.next().await, away.next().await].map(|got| about(&got.event()));
    assert_eq!(again, ["push app v1", "push app v1"]);
    assert_eq!(about(&seen.event().await), "push app v1");
    trifle(&server, "app", "v2").await;
    assert_eq!(about(&seen.event().await), "push app v2");
    assert_eq!(about(&other.next().await.event()), "push app v2");
    other.is_empty();
}

#[tokio::test]
async fn endpoint_with_tls_is_verified_by_the_authorities_of_the_system() {
    let mut receiver = Receiver::secure(certificates()).await;
    let ca = certificates().join("ca.crt");
    let url = format!("https://localhost:{}/hook", receiver.addr.port());
    let variables = [
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_NAME", "hook"),
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL", &*url),
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_TIMEOUT", "60s"),
        ("SSL_CERT_FILE", ca.to_str().unwrap()),
    ];
    let server = Process::start(&variables);
    let request = server.request("PUT", "/v2/app/manifests/v1").header("content-type", OCI_INDEX);
    request.body(empty_index("x")).answer().await.expect(201);
    assert_eq!(about(&receiver.event().await), "push app v1");
}

#[tokio::test]
async fn events_are_counted_by_endpoint() {
    let mut receiver = Receiver::answering(500).await;
    let mut options = to(vec![endpoint("hook \"1\"", receiver.url())]);
    options.endpoints[0].backoff = Duration::from_secs(3600);
    options.endpoints[0].threshold = 1;
    let server = TestServer::with(|config| {
        config.notifications = options;
        config.http.api.debug.addr = "127.0.0.1:0".to_owned();
        config.http.api.debug.prometheus.enabled = true;
    })
    .await;
    trifle(&server, "app", "v1").await;
    trifle(&server, "app", "v2").await;
    receiver.next().await;
    let addr = server.app().debug_addr().unwrap();
    let counted = async {
        loop {
            let answer = server.client.get(format!("http://{addr}/metrics")).answer().await;
            let text = answer.expect(200).text();
            // The response is counted after the receiver has sent it.
            if text.contains("status_total{") {
                break text;
            }
            tokio::task::yield_now().await;
        }
    };
    let text = tokio::time::timeout(Duration::from_secs(60), counted).await.unwrap();
    for line in [
        "# TYPE registry_notifications_events counter",
        "registry_notifications_events_total{type=\"Events\",endpoint=\"hook \\\"1\\\"\"} 2",
        "registry_notifications_events_total{type=\"Successes\",endpoint=\"hook \\\"1\\\"\"} 0",
        "registry_notifications_events_total{type=\"Failures\",endpoint=\"hook \\\"1\\\"\"} 1",
        "registry_notifications_events_total{type=\"Errors\",endpoint=\"hook \\\"1\\\"\"} 0",
        "# TYPE registry_notifications_pending_total gauge",
        "registry_notifications_pending_total{endpoint=\"hook \\\"1\\\"\"} 2",
        "registry_notifications_status_total{code=\"500 Internal Server Error\",endpoint=\"hook \
         \\\"1\\\"\"} 1",
        "portcullis_notifications_dropped_total{endpoint=\"hook \\\"1\\\"\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn memory_storage_writes_no_queue_and_endpoints_get_events_all_the_same() {
    let mut receiver = Receiver::start().await;
    let endpoint = endpoint("hook", receiver.url());
    let server = TestServer::with(|config| {
        config.storage.backend = portcullis::storage::Options::Memory;
        config.notifications = to(vec![endpoint]);
    })
    .await;
    trifle(&server, "app", "v1").await;
    assert_eq!(about(&receiver.event().await), "push app v1");
    assert!(!server.folder().join("data").exists());
}

#[tokio::test]
async fn events_create_nothing_without_endpoints() {
    let server = TestServer::start().await;
    trifle(&server, "app", "v1").await;
    assert!(!server.folder().join("data/portcullis-notifications").exists());
}

#[tokio::test]
async fn endpoint_that_cannot_be_used_keeps_the_server_from_starting() {
    let receiver = Receiver::start().await;
    let server = telling(&receiver).await;
    // The queue belongs to the running server.
    let error = App::start(server.config()).unwrap_err();
    assert!(error.to_string().contains("portcullis-notifications/hook"), "{error}");
    let mut config = server.config().clone();
    config.notifications.endpoints[0].url = "hooks.example.com".to_owned();
    let error = App::start(&config).unwrap_err();
    assert!(error.to_string().contains("the `url` of `hook`"), "{error}");
    assert_eq!(server.get("/v2/").await.status, StatusCode::OK);
}

/// The body of a webhook's response is ignored, and may never arrive.
#[tokio::test]
async fn event_is_delivered_by_the_status_whatever_the_body() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (send, mut tags) = mpsc::unbounded_channel();
    let answering = tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = String::new();
            while !request.ends_with("]\n}") {
                let mut piece = [0; 4096];
                let length = stream.read(&mut piece).await.unwrap();
                request += &String::from_utf8_lossy(&piece[..length]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n").await.unwrap();
            let tag = ["v1", "v2"].into_iter().find(|tag| request.contains(&format!("\"{tag}\"")));
            send.send(tag).unwrap();
            open.push(stream);
        }
    });
    let slow = EndpointOptions { timeout: Duration::from_millis(300), ..endpoint("hook", url) };
    let mut options = to(vec![slow]);
    options.endpoints[0].ignore.mediatypes = vec!["application/octet-stream".to_owned()];
    let server = TestServer::with(|config| config.notifications = options).await;
    for tag in ["v1", "v2"] {
        trifle(&server, "app", tag).await;
    }
    assert_eq!(tags.recv().await.unwrap(), Some("v1"));
    assert_eq!(tags.recv().await.unwrap(), Some("v2"));
    answering.abort();
}
