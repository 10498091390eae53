//! The cost of each part that uses neither disk nor network.
//!
//! `cargo bench --bench pure` times them; `make test` only compiles them.

#![expect(missing_docs, reason = "criterion's macros make public functions")]
#![expect(clippy::expect_used, reason = "a benchmark stops at the first surprise")]

use std::{hint::black_box, sync::Arc};

use axum::{
    body::Body,
    http::{Method, Request, StatusCode},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use hyper::service::Service as _;
use portcullis::{
    gate::{
        Access, Caller, Gate, HtpasswdOptions, Identity, Policy, Recalled, Right, Session,
        access::{Groups, Rule},
        htpasswd::{Formats, Htpasswd},
    },
    http::{Api, ApiParts, Connection, Limits, Options, Peer, basic, endpoint::Endpoint},
    oci::{Algorithm, Digest, Hasher, Manifest, RepositoryName},
    registry::{self, Registry, SystemClock},
    storage::memory::Memory,
};
use serde_json::json;
use tokio::runtime;

const PIECE: usize = 1 << 20;
const LAYERS: usize = 60;

fn endpoint_parse(criterion: &mut Criterion) {
    let digest = Digest::of(Algorithm::Sha256, b"");
    let requests = [
        ("base", Method::GET, "/v2/".to_owned(), ""),
        ("manifest by tag", Method::GET, "/v2/library/alpine/manifests/3.20".to_owned(), ""),
        ("blob", Method::HEAD, format!("/v2/library/alpine/blobs/{digest}"), ""),
        ("tags, a page", Method::GET, "/v2/a/tags/list".to_owned(), "n=100&last=v1.2"),
    ];
    let mut group = criterion.benchmark_group("endpoint");
    for (name, method, path, query) in &requests {
        group.bench_function(*name, |bencher| {
            bencher.iter(|| Endpoint::parse(method, black_box(path), query).expect("an endpoint"));
        });
    }
    group.finish();
}

fn digest_stream(criterion: &mut Criterion) {
    let piece = vec![0x5a; PIECE];
    let mut group = criterion.benchmark_group("digest of 1 MiB");
    group.throughput(Throughput::Bytes(PIECE as u64));
    for algorithm in Algorithm::ALL {
        group.bench_function(algorithm.as_str(), |bencher| {
            bencher.iter(|| {
                let mut hasher = Hasher::new(algorithm);
                hasher.update(black_box(&piece));
                hasher.finish()
            });
        });
    }
    group.finish();
}

fn manifest_parse(criterion: &mut Criterion) {
    let descriptor = |media_type: &str, number: usize| {
        let digest = Digest::of(Algorithm::Sha256, &number.to_be_bytes());
        json!({ "mediaType": media_type, "digest": digest.to_string(), "size": 65_536 })
    };
    let layers: Vec<_> = (1..=LAYERS)
        .map(|number| descriptor("application/vnd.oci.image.layer.v1.tar+gzip", number))
        .collect();
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": descriptor("application/vnd.oci.image.config.v1+json", 0),
        "layers": layers,
    });
    let bytes = manifest.to_string().into_bytes();
    criterion.bench_function("manifest of 60 layers", |bencher| {
        bencher.iter(|| {
            Manifest::parse(black_box(&bytes), Some(media_type)).expect("the manifest is valid")
        });
    });
}

fn remembered_password(criterion: &mut Criterion) {
    // bcrypt's least cost: it runs once, before the measurement.
    let hash = bcrypt::hash("correct horse battery", 4).expect("a password can be hashed");
    let users = Htpasswd::parse(format!("ann:{hash}\n").as_bytes(), Formats::BcryptOnly);
    let gate = Gate::htpasswd(&HtpasswdOptions::default(), &users, Policy::everything())
        .expect("there is randomness");
    let value = format!("Basic {}", BASE64_STANDARD.encode("ann:correct horse battery"));
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let session = Session::default();
    let address = Some([127, 0, 0, 1].into());
    let credentials = || basic::credentials(black_box(value.as_bytes()));
    let first = credentials().expect("the value is well-formed");
    let first = runtime.block_on(gate.authenticate(&first, address, &session));
    first.expect("the password is right");
    criterion.bench_function("remembered password", |bencher| {
        bencher.iter(|| {
            let recalled = gate.recall(credentials(), address, &session);
            assert!(matches!(recalled, Recalled::Known(_)), "the password is remembered");
        });
    });
    assert_eq!(gate.verifications(), 1, "bcrypt ran while the clock did");
}

/// A decision that only the last of many rules allows: by the caller, and by the repository.
fn access(criterion: &mut Criterion) {
    let caller = Caller::new(Identity::User("ann".into()), Some([127, 0, 0, 1].into()));
    let mut group = criterion.benchmark_group("access");
    for rules in [100, 1000] {
        let last = rules - 1;
        let name: RepositoryName = format!("team-{last}/app").parse().expect("a name");
        for (kind, who) in [("groups", "group:team-"), ("repositories", "users")] {
            let rule = |number: usize| -> Rule {
                let who = if kind == "groups" { format!("{who}{number}") } else { who.to_owned() };
                let repositories = format!("team-{number}/**");
                let rule = json!({ "who": [who], "repositories": [repositories], "may": ["push"] });
                serde_json::from_value(rule).expect("a rule")
            };
            let groups = Groups::parse(format!("team-{last}: ann").as_bytes()).expect("groups");
            let rules: Vec<_> = (0..rules).map(rule).collect();
            let policy = Policy::rules(Access::new(rules, groups));
            group.bench_function(format!("{} rules, by {kind}", last + 1), |bencher| {
                bencher.iter(|| {
                    let decision = policy.decide(black_box(&caller), &Right::Push(&name));
                    assert!(decision.is_allowed(), "the last rule allows it");
                });
            });
        }
    }
    group.finish();
}

/// A request for the base of the API, by a user whose password is remembered: all layers, and a
/// handler that does nothing.
fn middleware(criterion: &mut Criterion) {
    let hash = bcrypt::hash("correct horse battery", 4).expect("a password can be hashed");
    let users = Htpasswd::parse(format!("ann:{hash}\n").as_bytes(), Formats::BcryptOnly);
    let gate = Gate::htpasswd(&HtpasswdOptions::default(), &users, Policy::everything());
    let options = registry::Options::default();
    let parts = ApiParts {
        registry: Registry::new(Arc::new(Memory::default()), Arc::new(SystemClock), options),
        gate: Arc::new(gate.expect("there is randomness")),
        health: Arc::default(),
    };
    let limits = Limits { access_log_disabled: true, ..Limits::default() };
    let api = Api::new(parts, &Options::default(), limits, true).expect("the options are valid");
    let peer = Peer::Tcp(([127, 0, 0, 1], 40_000).into());
    let service = api.service(Connection::new(peer, || {}));
    let value = format!("Basic {}", BASE64_STANDARD.encode("ann:correct horse battery"));
    let request = || {
        Request::get("/v2/")
            .header("host", "registry.example.com:5000")
            .header("authorization", value.as_str())
            .header("user-agent", "docker/27.0")
            .header("accept-encoding", "gzip")
            .body(Body::empty())
            .expect("the request is valid")
    };
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let response = runtime.block_on(service.call(request())).expect("no error passes the stack");
    assert_eq!(response.status(), StatusCode::OK);
    criterion.bench_function("a request through the middleware", |bencher| {
        bencher.iter_batched(
            request,
            |request| {
                let response = service.call(request).now_or_never();
                response.expect("the password is remembered")
            },
            BatchSize::SmallInput,
        );
    });
}

fn names(criterion: &mut Criterion) {
    let digest = Digest::of(Algorithm::Sha256, b"").to_string();
    criterion.bench_function("digest from text", |bencher| {
        bencher.iter(|| black_box(&digest).parse::<Digest>().expect("the digest is valid"));
    });
    criterion.bench_function("repository name from text", |bencher| {
        bencher.iter(|| {
            black_box("library/team-a/some_app.v2")
                .parse::<RepositoryName>()
                .expect("the name is valid")
        });
    });
}

criterion_group!(
    benches,
    endpoint_parse,
    digest_stream,
    manifest_parse,
    remembered_password,
    access,
    middleware,
    names
);
criterion_main!(benches);
