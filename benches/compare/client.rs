//! The program's own client, for requests that no tool sends: the small requests around a push,
//! many pushes from memory, timed pages.

use std::{fs, sync::Arc, time::Instant};

use bytes::Bytes;
use futures_util::stream;
use reqwest::{Method, Response, StatusCode, header};
use rustls::{
    ClientConfig, RootCertStore, client::Resumption, crypto::aws_lc_rs::default_provider,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use testkit::blob::closing;
use tokio::{runtime::Handle, task::JoinSet};

use crate::{
    Outcome,
    content::Payload,
    sides::Served,
    site::{PASSWORD, Site, USER},
};

/// The size of the pieces of a blob in memory.
const PIECE: usize = 64 * 1024;

/// A client that trusts all sides and knows the password.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    runtime: Handle,
    http: reqwest::Client,
}

impl Client {
    /// A client with connections of its own. All sides have one name, so it resumes no session: it
    /// would present the ticket of one side to another.
    pub(crate) fn new(site: &Site, runtime: &Handle) -> Outcome<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(site.path("certs/ca.crt"))?)?;
        let mut tls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.resumption = Resumption::disabled();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .http1_only()
            .build()?;
        Ok(Self { runtime: runtime.clone(), http })
    }

    /// The seconds that an authenticated GET takes, to the last byte.
    pub(crate) fn timed_get(&self, url: &str) -> Outcome<f64> {
        self.runtime.block_on(async {
            let started = Instant::now();
            let response = self.http.get(url).basic_auth(USER, Some(PASSWORD)).send().await?;
            response.error_for_status()?.bytes().await?;
            Ok(started.elapsed().as_secs_f64())
        })
    }

    /// A session token for a scope.
    pub(crate) fn session_token(&self, side: &Served, scope: &str) -> Outcome<String> {
        let url = side.url(&format!("/auth/token?scope={scope}"));
        self.runtime.block_on(async {
            let body = self.send(self.http.get(url)).await?.bytes().await?;
            let answer: serde_json::Value = serde_json::from_slice(&body)?;
            Ok(answer["token"].as_str().ok_or("no token in the answer")?.to_owned())
        })
    }

    /// The status of a GET without a password.
    pub(crate) fn anonymous_status(&self, url: &str) -> Outcome<StatusCode> {
        self.runtime.block_on(async { Ok(self.http.get(url).send().await?.status()) })
    }

    /// Begins an upload and gives its URL.
    pub(crate) fn begin_upload(&self, side: &Served, name: &str) -> Outcome<String> {
        self.runtime.block_on(self.begin(&side.url(&format!("/v2/{name}/blobs/uploads/"))))
    }

    /// Ends an upload.
    pub(crate) fn end_upload(&self, location: &str, digest: &str) -> Outcome<()> {
        self.runtime.block_on(self.end(location, digest))
    }

    /// Pushes a small blob and gives its digest and size.
    pub(crate) fn push(&self, side: &Served, name: &str, bytes: &[u8]) -> Outcome<(String, usize)> {
        let location = self.begin_upload(side, name)?;
        let digest = crate::content::digest(bytes);
        let size = bytes.len();
        let body = Bytes::copy_from_slice(bytes);
        self.runtime.block_on(async {
            let location = self.patch(&location, body.into()).await?;
            self.end(&location, &digest).await
        })?;
        Ok((digest, size))
    }

    /// Tags a manifest.
    pub(crate) fn put_manifest(&self, url: &str, media_type: &str, body: Vec<u8>) -> Outcome<()> {
        self.runtime.block_on(async {
            let request = self.http.put(url).header(header::CONTENT_TYPE, media_type).body(body);
            self.send(request).await?;
            Ok(())
        })
    }

    /// Pushes `count` different blobs of the payload's size at once; gives their digests.
    pub(crate) fn push_many(
        &self,
        side: &Served,
        name: &str,
        payload: &Payload,
        count: usize,
    ) -> Outcome<Vec<String>> {
        let mut bytes = fs::read(&payload.path)?;
        let (tail, _) = payload.another()?;
        bytes.truncate(payload.size - tail.len());
        let bytes = Bytes::from(bytes);
        let url = side.url(&format!("/v2/{name}/blobs/uploads/"));
        let mut pushes = JoinSet::new();
        let mut digests = Vec::new();
        for _ in 0..count {
            let (tail, digest) = payload.another()?;
            let (client, url, bytes) = (self.clone(), url.clone(), bytes.clone());
            digests.push(digest.clone());
            pushes.spawn_on(
                async move {
                    let location = client.begin(&url).await?;
                    let last = [Bytes::copy_from_slice(&tail)];
                    let pieces = (0..bytes.len())
                        .step_by(PIECE)
                        .map(move |at| bytes.slice(at..bytes.len().min(at + PIECE)))
                        .chain(last)
                        .map(Ok::<_, std::io::Error>);
                    let body = reqwest::Body::wrap_stream(stream::iter(pieces));
                    let location = client.patch(&location, body).await?;
                    client.end(&location, &digest).await
                },
                &self.runtime,
            );
        }
        self.runtime.block_on(async {
            while let Some(push) = pushes.join_next().await {
                push??;
            }
            Ok(digests)
        })
    }

    async fn begin(&self, url: &str) -> Outcome<String> {
        location(&self.send(self.http.request(Method::POST, url)).await?)
    }

    async fn patch(&self, location_now: &str, body: reqwest::Body) -> Outcome<String> {
        let request = self
            .http
            .patch(location_now)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(body);
        location(&self.send(request).await?)
    }

    async fn end(&self, location: &str, digest: &str) -> Outcome<()> {
        self.send(self.http.put(closing(location, digest))).await?;
        Ok(())
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Outcome<Response> {
        let response = request.basic_auth(USER, Some(PASSWORD)).send().await?;
        Ok(response.error_for_status()?)
    }
}

fn location(response: &Response) -> Outcome<String> {
    let location = response.headers().get(header::LOCATION).ok_or("no Location in the answer")?;
    Ok(response.url().join(location.to_str()?)?.to_string())
}
