//! A client of a registry, which may be either program.

use std::collections::BTreeSet;

use bytes::Bytes;
use reqwest::{Body, Method, header::HeaderMap};
use serde_json::Value;
use testkit::{blob::closing, site::PASSWORD};

use crate::content::{Family, digest};

/// A client of one registry.
#[derive(Debug)]
pub(crate) struct Api {
    http: reqwest::Client,
    base: String,
    /// The user of the requests; all users have one password.
    user: &'static str,
}

/// A response with its whole body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HeaderMap,
    pub(crate) body: Bytes,
    what: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}: {}", self.what, String::from_utf8_lossy(&self.body));
        self
    }

    /// Checks that the response is an error of the specification with this code; gives its detail.
    #[track_caller]
    pub(crate) fn expect_error(self, status: u16, code: &str) -> String {
        let answer = self.expect(status);
        let error = &answer.json()["errors"][0];
        assert_eq!(error["code"], code, "{}", answer.what);
        error["detail"].to_string()
    }

    /// A header; empty when absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body as JSON; null when it is not JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Its `Location`, without the name of the server.
    pub(crate) fn location(&self) -> String {
        let location = self.header("location");
        let at = location.find("/v2/").unwrap_or_else(|| panic!("{}: {location:?}", self.what));
        location[at..].to_owned()
    }
}

impl Api {
    pub(crate) const fn new(http: reqwest::Client, base: String, user: &'static str) -> Self {
        Self { http, base, user }
    }

    /// Sends a request and gives the response, whatever its status.
    pub(crate) async fn send(
        &self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let what = format!("{method} {}{target}", self.base);
        let request = self.http.request(method, format!("{}{target}", self.base));
        // docker-registry, which runs without authentication here, ignores the password.
        let request = request.basic_auth(self.user, Some(PASSWORD)).body(body);
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let response = request.send().await.unwrap_or_else(|why| panic!("{what}: {why:?}"));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.unwrap_or_else(|why| panic!("{what}: {why:?}"));
        Answer { status, headers, body, what }
    }

    /// Sends a GET that accepts every type: docker-registry hides OCI's types from other clients
    /// and turns Docker's into schema 1 for them.
    pub(crate) async fn read(&self, method: Method, target: &str) -> Answer {
        let accept = Family::types().join(", ");
        self.send(method, target, &[("accept", &accept)], "").await
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.read(Method::GET, target).await
    }

    /// Pushes a blob in one piece.
    pub(crate) async fn push(&self, name: &str, bytes: &Bytes, digest: &str) {
        let location = self.begin(name).await;
        self.close(&location, digest, bytes.clone()).await;
    }

    /// Begins an upload, and gives the URL to continue it.
    pub(crate) async fn begin(&self, name: &str) -> String {
        let target = format!("/v2/{name}/blobs/uploads/");
        self.send(Method::POST, &target, &[], "").await.expect(202).location()
    }

    /// Sends a chunk that begins at `offset`, and gives the URL to continue the upload.
    pub(crate) async fn chunk(&self, location: &str, offset: usize, bytes: Bytes) -> String {
        let range = format!("{offset}-{}", offset + bytes.len() - 1);
        let kind = "application/octet-stream";
        let headers = [("content-range", range.as_str()), ("content-type", kind)];
        self.send(Method::PATCH, location, &headers, bytes).await.expect(202).location()
    }

    /// Sends the rest of an upload, with its digest.
    pub(crate) async fn close(&self, location: &str, digest: &str, rest: Bytes) {
        let kind = [("content-type", "application/octet-stream")];
        self.send(Method::PUT, &closing(location, digest), &kind, rest).await.expect(201);
    }

    /// Puts a manifest that must be accepted.
    pub(crate) async fn put(&self, name: &str, reference: &str, kind: &str, text: &str) {
        let target = format!("/v2/{name}/manifests/{reference}");
        let headers = [("content-type", kind)];
        let answer = self.send(Method::PUT, &target, &headers, text.to_owned()).await.expect(201);
        let named = answer.header("docker-content-digest");
        assert!(named.starts_with("sha512:") || named == digest(text), "{name}: {named}");
    }

    /// The catalog, sorted: the programs have different orders.
    pub(crate) async fn repositories(&self) -> BTreeSet<String> {
        let answer = self.get("/v2/_catalog?n=1000").await.expect(200);
        texts(&answer.json()["repositories"])
    }

    /// The tags of a repository, sorted: docker-registry gives them in no order, and `null` for
    /// none.
    pub(crate) async fn tags(&self, name: &str) -> BTreeSet<String> {
        let answer = self.get(&format!("/v2/{name}/tags/list")).await.expect(200);
        texts(&answer.json()["tags"])
    }

    /// The digests of the referrers of a manifest.
    pub(crate) async fn referrers(&self, name: &str, digest: &str) -> BTreeSet<String> {
        let answer = self.get(&format!("/v2/{name}/referrers/{digest}")).await.expect(200);
        let manifests = answer.json()["manifests"].as_array().unwrap().clone();
        manifests.iter().map(|found| found["digest"].as_str().unwrap().to_owned()).collect()
    }
}

fn texts(list: &Value) -> BTreeSet<String> {
    let items = list.as_array().map_or(&[][..], Vec::as_slice);
    let found: BTreeSet<String> =
        items.iter().map(|item| item.as_str().unwrap().to_owned()).collect();
    assert_eq!(found.len(), items.len(), "{list}");
    found
}
