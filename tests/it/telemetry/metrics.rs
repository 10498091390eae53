//! Metrics: their names, their values, and the queries that use them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use portcullis::{
    gate::{
        self,
        tokens::deploy::{DeployTokens, Secret},
    },
    notify::EndpointOptions,
    registry::RetentionOptions,
    server::{CertificateSource, TlsOptions, authority, certificates},
};
use regex::Regex;
use serde_json::Value;

use crate::support::{
    Answered as _, TestServer,
    content::{closing, empty_index, trifle},
    digest,
    exposition::{Family, expose, exposed, families, number, samples, scraped, without_numbers},
    image,
    promql::Query,
    raw::GUARD,
    receiver::Receiver,
};

const GOLDEN: &str = "tests/it/golden/metrics.txt";
const PAGE: &str = "docs/METRICS.md";
const DASHBOARD: &str = "contrib/grafana/portcullis.json";

const LIMITED: &str = "zero unless http.limits is set";

/// Metrics that the dashboard does not show, each with the reason.
const NOT_SHOWN: &[(&str, &str)] = &[
    ("portcullis_limited_requests_total", LIMITED),
    ("portcullis_limited_waiting", LIMITED),
    ("portcullis_limited_bytes_total", LIMITED),
    ("portcullis_connections_refused_total", LIMITED),
    (
        "portcullis_certificate_expires_seconds",
        "the panel has the certificate that expires first; the names are for alarms",
    ),
    (
        "portcullis_certificate_not_after_timestamp_seconds",
        "the time that is left says the same, and is what alarms go by",
    ),
    (
        "portcullis_notifications_dropped_total",
        "a queue that fills shows long before, and the log says when something is dropped",
    ),
    (
        "portcullis_token_expires_seconds",
        "the log warns from seven days before on and names the token",
    ),
    ("registry_notifications_status_total", "whether an endpoint fails stands beside it, by type"),
];

/// Labels that Prometheus adds.
const OF_PROMETHEUS: &[&str] = &["instance", "job"];

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A server with requests to every endpoint, and so with a number of each kind.
async fn busy_server() -> TestServer {
    let mut receiver = Receiver::start().await;
    let hook = EndpointOptions {
        name: "hook".to_owned(),
        url: receiver.url(),
        ..EndpointOptions::default()
    };
    let server = TestServer::with(|config| {
        config.notifications.endpoints = vec![hook];
        expose(config);
    })
    .await;
    let secret = Secret::generate().unwrap().digest();
    let token = format!("ci sha256={secret} may=pull repositories=** expires=2999-12-31\n");
    server.app().gate().set_tokens(&DeployTokens::parse(token.as_bytes()));
    server.anonymous("GET", "/").answer().await.expect(200);
    server.anonymous("GET", "/v2/").answer().await.expect(401);
    let wrong = server.anonymous("GET", "/v2/").basic_auth("eve", Some("wrong"));
    wrong.answer().await.expect(401);
    server.get("/v2/").await.expect(200);
    let image = image(&server, "team/app", "latest").await;
    let location = server.open_upload("team/app").await;
    let chunk = server.patch(&location, None, "a chunk").await.expect(202);
    let location = chunk.header("location").to_owned();
    server.get(&location).await.expect(204);
    server.put(&closing(&location, &digest("a chunk")), "").await.expect(201);
    let unwanted = server.open_upload("team/app").await;
    server.delete(&unwanted).await.expect(204);
    server.head("/v2/team/app/manifests/latest").await.expect(200);
    server.get("/v2/team/app/manifests/latest").await.expect(200);
    server.get("/v2/team/app/manifests/nothing").await.expect(404);
    let blob = format!("/v2/team/app/blobs/{}", image.layer);
    server.head(&blob).await.expect(200);
    server.get(&blob).await.expect(200);
    server.request("GET", &blob).header("range", "bytes=0-3").answer().await.expect(206);
    server.get("/v2/team/app/tags/list").await.expect(200);
    server.get("/v2/_catalog").await.expect(200);
    server.get(&format!("/v2/team/app/referrers/{}", image.digest)).await.expect(200);
    server.get("/v1/search?q=app").await.expect(200);
    server.delete("/v2/nothing/").await.expect(404);
    server.request("BREW", "/v2/").answer().await.expect(405);
    server.delete("/v2/team/app/manifests/latest").await.expect(202);
    // The first of two events has its response.
    receiver.events(2).await;
    server
}

#[tokio::test]
async fn exposition_matches_the_golden_file() {
    let text = exposed(&busy_server().await).await;
    let found = without_numbers(&text);
    if std::env::var_os("PORTCULLIS_RENEW").is_some() {
        fs::write(file(GOLDEN), &found).unwrap();
    }
    let golden = fs::read_to_string(file(GOLDEN)).unwrap_or_default();
    let (was, is): (BTreeSet<_>, BTreeSet<_>) = (golden.lines().collect(), found.lines().collect());
    assert!(
        golden == found,
        "what Prometheus reads is not what {GOLDEN} says.\ngone: {:#?}\nnew: {:#?}\n\
         Dashboards and alarms of others go by these names. If it is meant so, run\n    \
         PORTCULLIS_RENEW=1 cargo test --test it -- telemetry::metrics::exposition_matches_the_golden_file\n\
         look at the difference, and change {PAGE} and {DASHBOARD} as well.",
        was.difference(&is).collect::<Vec<_>>(),
        is.difference(&was).collect::<Vec<_>>(),
    );
}

#[tokio::test]
async fn no_label_comes_from_a_client() {
    let server = busy_server().await;
    let text = exposed(&server).await;
    for word in ["team", "app", "eve", "alice", "BREW", "brew", "nothing", "latest", "sha256"] {
        let found = samples(&text).find(|sample| {
            sample.labels.iter().any(|(name, value)| value.contains(word) || name.contains(word))
        });
        assert!(found.is_none(), "{word}: {found:?}");
    }
}

/// The rows of the page: name, type, labels, and meaning.
fn described(page: &str) -> BTreeMap<String, (String, BTreeSet<String>, String)> {
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, kind, labels, text] = cells[..] else { panic!("not four columns: {row}") };
        let labels = labels.split(", ").filter(|label| *label != "–");
        let labels = labels.map(|label| label.trim_matches('`').to_owned()).collect();
        (name.trim_matches('`').to_owned(), (kind.to_owned(), labels, text.to_owned()))
    })
    .collect()
}

#[tokio::test]
async fn page_describes_exactly_the_exposed_metrics() {
    let page = fs::read_to_string(file(PAGE)).unwrap();
    let described = described(&page);
    let exposed = families(&exposed(&busy_server().await).await);
    let names = |of: Vec<&String>| of.into_iter().cloned().collect::<BTreeSet<_>>();
    let described_names = names(described.keys().collect());
    let exposed_names = names(exposed.keys().collect());
    assert_eq!(
        described_names, exposed_names,
        "the tables of {PAGE}, and the names that there are"
    );
    for (name, Family { kind, labels, has_samples }) in exposed {
        let (told_kind, told_labels, text) = &described[&name];
        assert_eq!(*told_kind, kind, "{name}");
        if has_samples {
            assert_eq!(*told_labels, names(labels.keys().collect()), "{name}");
        }
        // Codes and handlers need no explanation; these values do.
        for label in ["action", "kind", "outcome", "type"] {
            for value in labels.get(label).into_iter().flatten() {
                assert!(text.contains(&format!("`{value}`")), "{name} has no word on {value}");
            }
        }
    }
}

/// Asserts that everything that a query names exists.
fn check(query: &str, exposed: &BTreeMap<String, Family>, place: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    let parsed = Query::parse(query);
    assert!(!parsed.selectors.is_empty(), "{place} asks for nothing: {query}");
    let mut groupable: BTreeSet<&str> = OF_PROMETHEUS.iter().copied().collect();
    for selector in &parsed.selectors {
        let Some((name, family)) = family(&selector.name, exposed) else {
            panic!("{place}: there is no {}: {query}", selector.name);
        };
        used.insert(name);
        let labels: BTreeSet<&str> = family.labels.keys().map(String::as_str).collect();
        groupable.extend(labels.iter().copied());
        groupable.extend(selector.name.ends_with("_bucket").then_some("le"));
        for (label, operator, value) in &selector.matchers {
            let known = OF_PROMETHEUS.contains(&label.as_str()) || labels.contains(label.as_str());
            assert!(known, "{place}: {} has no label {label}: {query}", selector.name);
            // The codes depend on the errors of the run.
            let fixed = label != "code" && !value.contains('$');
            let Some(values) = family.labels.get(label) else { continue };
            let matches = |value: &String, wanted: &str| match operator.as_str() {
                "=" | "!=" => value == wanted,
                _ => Regex::new(&format!("^(?:{wanted})$")).unwrap().is_match(value),
            };
            for wanted in value.split('|').filter(|_| fixed) {
                let there = values.iter().any(|value| matches(value, wanted));
                assert!(there, "{place}: no {label} is {wanted}: {query}");
            }
        }
    }
    for label in &parsed.grouped {
        assert!(groupable.contains(label.as_str()), "{place}: nothing has {label}: {query}");
    }
    used
}

/// The family that a name of a series belongs to.
fn family<'a>(series: &str, exposed: &'a BTreeMap<String, Family>) -> Option<(String, &'a Family)> {
    let suffixes: [(&str, bool); 4] =
        [("", false), ("_bucket", true), ("_sum", true), ("_count", true)];
    suffixes.into_iter().find_map(|(suffix, of_histograms)| {
        let name = series.strip_suffix(suffix)?;
        let family = exposed.get(name)?;
        ((family.kind == "histogram") == of_histograms).then(|| (name.to_owned(), family))
    })
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key}: {value}"))
}

#[tokio::test]
async fn dashboard_queries_existing_metrics_and_shows_all_of_ours() {
    let exposed = families(&exposed(&busy_server().await).await);
    let dashboard: Value = serde_json::from_slice(&fs::read(file(DASHBOARD)).unwrap()).unwrap();
    let mut used = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = text(panel, "title");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = text(target, "expr");
            used.extend(check(expression, &exposed, title));
            let query = Query::parse(expression);
            for selector in &query.selectors {
                for variable in OF_PROMETHEUS {
                    let wanted = format!("${variable}");
                    let chosen = selector
                        .matchers
                        .iter()
                        .any(|(label, _, value)| label == variable && *value == wanted);
                    assert!(chosen, "{title} does not heed ${variable}: {expression}");
                }
            }
            let legend = text(target, "legendFormat");
            for label in legend.split("{{").skip(1).map(|rest| rest.split_once("}}").unwrap().0) {
                // Without grouping all labels stay.
                let there = query.grouped.is_empty() || query.grouped.iter().any(|by| by == label);
                assert!(there, "{title} has no {label}: {expression}");
            }
        }
    }
    let shown = |name: &str| used.contains(name);
    for name in exposed.keys() {
        let excused = NOT_SHOWN.iter().any(|(left_out, _)| left_out == name);
        assert!(shown(name) != excused, "{name}: shown {}, left out {excused}", shown(name));
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if variable["type"] == "query" {
            let query = text(variable, "definition");
            let series = query.strip_prefix("label_values(").unwrap().rsplit_once(',').unwrap().0;
            check(series, &exposed, text(variable, "name"));
        }
    }
}

#[test]
fn dashboard_can_be_loaded_by_grafana_9() {
    let dashboard: Value = serde_json::from_slice(&fs::read(file(DASHBOARD)).unwrap()).unwrap();
    // 36 is the version of Grafana 9.0; later versions migrate it.
    assert!((36..=39).contains(&dashboard["schemaVersion"].as_u64().unwrap()));
    assert!(dashboard.get("id").is_none(), "Grafana assigns the id on import");
    let source = serde_json::json!({ "type": "prometheus", "uid": "${datasource}" });
    let variables: Vec<_> = dashboard["templating"]["list"].as_array().unwrap().iter().collect();
    let names: Vec<_> = variables.iter().map(|variable| text(variable, "name")).collect();
    assert_eq!(names, ["datasource", "job", "instance"]);
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = text(panel, "title");
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: the number is taken");
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        for x in place("x")..place("x") + place("w") {
            assert!(x < 24, "{title} is too wide");
            for y in place("y")..place("y") + place("h") {
                assert!(cells.insert((x, y)), "{title} lies over another");
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(["stat", "timeseries"].contains(&text(panel, "type")), "{title}");
        assert_eq!(panel["datasource"], source, "{title}");
        let targets = panel["targets"].as_array().unwrap();
        let of = |target: &Value| text(target, "refId").to_owned();
        assert_eq!(targets.iter().map(of).collect::<BTreeSet<_>>().len(), targets.len(), "{title}");
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            assert_eq!(target["datasource"], source, "{title}");
        }
    }
}

#[tokio::test]
async fn alert_rules_of_the_page_query_existing_metrics() {
    let page = fs::read_to_string(file(PAGE)).unwrap();
    let exposed = families(&exposed(&busy_server().await).await);
    let rules: Vec<_> =
        page.lines().filter_map(|line| line.trim_start().strip_prefix("expr: ")).collect();
    assert!(rules.len() >= 5, "the alarms are not where they should be: {rules:?}");
    for rule in rules {
        check(rule, &exposed, PAGE);
    }
}

#[tokio::test]
async fn runs_of_collection_and_retention_are_counted_with_their_deletions() {
    let loose = "no manifest names it";
    let server = TestServer::with(|config| {
        expose(config);
        let interval = Duration::from_secs(1);
        let rules = serde_json::json!({ "rules": [{ "keeplatest": 1 }] });
        let retention: RetentionOptions = serde_json::from_value(rules).unwrap();
        config.storage.tags.retention = RetentionOptions { interval, ..retention };
        let collection = &mut config.storage.maintenance.garbagecollection;
        collection.interval = interval;
        collection.grace = Duration::ZERO;
    })
    .await;
    trifle(&server, "app", "v1").await;
    trifle(&server, "app", "v2").await;
    server.push_blob("app", loose).await;
    let deleted = [
        ("retention", "tag", 1.0),
        ("retention", "manifest", 1.0),
        ("garbage_collection", "link", 1.0),
        // The bytes of the manifest are a blob as well.
        ("garbage_collection", "blob", 2.0),
        ("garbage_collection", "manifest", 0.0),
    ];
    let has_deleted = |text: &str| {
        deleted.iter().all(|(task, kind, expected)| {
            let series =
                format!("portcullis_maintenance_deleted_total{{task=\"{task}\",kind=\"{kind}\"}}");
            number(text, &series) == *expected
        })
    };
    let deleting = async {
        while !has_deleted(&scraped(&server).await) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let done = tokio::time::timeout(GUARD, deleting).await;
    let text = scraped(&server).await;
    assert!(done.is_ok(), "{text}");
    let bytes = loose.len() + empty_index("app:v1").len();
    assert_eq!(number(&text, "portcullis_maintenance_deleted_bytes_total"), bytes as f64);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    for task in ["garbage_collection", "retention"] {
        let of = |name: &str| number(&text, &name.replace("TASK", &format!("task=\"{task}\"")));
        let runs = of("portcullis_maintenance_runs_total{TASK,outcome=\"success\"}");
        assert!(runs >= 1.0, "{text}");
        assert_eq!(of("portcullis_maintenance_runs_total{TASK,outcome=\"failure\"}"), 0.0);
        let seconds = of("portcullis_maintenance_run_seconds_total{TASK}");
        assert!((0.0..runs * GUARD.as_secs_f64()).contains(&seconds), "{text}");
        let last = of("portcullis_maintenance_last_success_timestamp_seconds{TASK}");
        assert!((now - GUARD.as_secs_f64()..now + 1.0).contains(&last), "{text}");
    }
}

#[tokio::test]
async fn callers_are_counted_by_outcome() {
    let server = TestServer::with(expose).await;
    let outcomes = async || {
        let text = exposed(&server).await;
        let of = |name| number(&text, &format!("portcullis_auth_total{{outcome=\"{name}\"}}"));
        let names = ["bcrypt", "memory", "missing", "refused", "throttled", "busy", "anonymous"];
        let runs = number(&text, "portcullis_bcrypt_runs_total");
        (names.map(of).map(|number| number as u64), runs as u64)
    };
    assert_eq!(outcomes().await, ([0; 7], 0));
    server.get("/v2/").await.expect(200);
    server.get("/v2/").await.expect(200);
    server.get("/v2/nothing/tags/list").await.expect(404);
    assert_eq!(outcomes().await, ([1, 2, 0, 0, 0, 0, 0], 1));
    server.anonymous("GET", "/v2/").answer().await.expect(401);
    let unreadable = server.anonymous("GET", "/v2/").header("authorization", "Digest x");
    unreadable.answer().await.expect(401);
    assert_eq!(outcomes().await, ([1, 2, 2, 0, 0, 0, 0], 1));
    let guess = async |password| {
        let request = server.anonymous("GET", "/v2/").basic_auth("eve", Some(password));
        request.header("x-forwarded-for", "192.0.2.1").answer().await
    };
    for password in 0..10 {
        guess(password).await.expect(401);
    }
    guess(10).await.expect(429);
    guess(11).await.expect(429);
    assert_eq!(outcomes().await, ([1, 2, 2, 10, 2, 0, 0], 11));
}

#[tokio::test]
async fn upload_is_in_flight_from_its_head_until_its_client_disconnects() {
    let server = TestServer::with(expose).await;
    let location = server.open_upload("app").await;
    let path = location.strip_prefix(&server.base).unwrap_or(&location);
    let in_flight = async |expected: f64| {
        let series = "registry_http_in_flight_requests{handler=\"blob_upload_chunk\"}";
        let becoming = async {
            while number(&scraped(&server).await, series) != expected {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(tokio::time::timeout(GUARD, becoming).await.is_ok(), "{expected} in flight");
    };
    let head = format!("PATCH {path}\r\ncontent-length: 1000000\r\n");
    let first = server.begin(&head).await;
    in_flight(1.0).await;
    drop(first);
    in_flight(0.0).await;
}

#[tokio::test]
async fn callers_are_anonymous_without_authentication() {
    let server = TestServer::with(|config| {
        config.auth = gate::Options::None;
        expose(config);
    })
    .await;
    server.anonymous("GET", "/v2/").answer().await.expect(200);
    server.get("/v2/").await.expect(200);
    let text = exposed(&server).await;
    assert_eq!(number(&text, "portcullis_auth_total{outcome=\"anonymous\"}"), 2.0);
    assert_eq!(number(&text, "portcullis_auth_total{outcome=\"bcrypt\"}"), 0.0);
}

#[tokio::test]
async fn end_of_the_certificate_follows_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    authority::ensure(folder.path(), &authority::Hosts::default()).unwrap();
    let (certificate, key) = (folder.path().join("server.crt"), folder.path().join("server.key"));
    let server = TestServer::with(|config| {
        let TlsOptions::On { source, .. } = &mut config.http.server.tls else {
            panic!("TLS is off");
        };
        *source = CertificateSource::Files { certificate: certificate.clone(), key: key.clone() };
        expose(config);
    })
    .await;
    let assert_told = async || {
        let chain = certificates::load_chain(&certificate).unwrap();
        let end = certificates::describe(&chain[0]).unwrap().not_after;
        let before = jiff::Timestamp::now();
        let text = exposed(&server).await;
        let after = jiff::Timestamp::now();
        let not_after = number(&text, "portcullis_certificate_not_after_timestamp_seconds");
        assert_eq!(not_after, end.as_second() as f64);
        let left = number(&text, "portcullis_certificate_expiry_seconds");
        let left_at = |now: jiff::Timestamp| end.duration_since(now).as_secs_f64();
        assert!(left_at(after) <= left && left <= left_at(before), "{left}");
        end
    };
    let first = assert_told().await;
    authority::renew(folder.path(), &authority::Hosts::default(), 7, authority::Renew::Certificate)
        .unwrap();
    server.app().reload().await;
    assert!(assert_told().await < first);
    // An invalid file changes nothing.
    let in_force = fs::read(&certificate).unwrap();
    fs::write(&certificate, "none").unwrap();
    server.app().reload().await;
    fs::write(&certificate, in_force).unwrap();
    assert_told().await;
}

#[tokio::test]
async fn certificate_expiry_is_absent_without_tls() {
    let server = TestServer::with(|config| {
        config.http.server.tls = TlsOptions::Off;
        expose(config);
    })
    .await;
    assert!(!exposed(&server).await.contains("portcullis_certificate"));
}

#[tokio::test]
async fn storage_failures_are_counted() {
    let server = TestServer::with(expose).await;
    // A file in place of a folder: the system refuses even root.
    fs::create_dir_all(server.tree()).unwrap();
    fs::write(server.tree().join("blobs"), b"").unwrap();
    let other = "portcullis_storage_errors_total{kind=\"other\"}";
    assert_eq!(number(&exposed(&server).await, other), 0.0);
    let target = format!("/v2/a/blobs/uploads/?digest={}", digest("x"));
    server.request("POST", &target).body("x").answer().await.expect(500);
    let text = exposed(&server).await;
    assert!(number(&text, other) >= 1.0, "{text}");
    assert_eq!(number(&text, "portcullis_storage_errors_total{kind=\"no_space\"}"), 0.0);
}
