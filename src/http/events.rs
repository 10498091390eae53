//! Telling what happened: what of a request and its outcome goes into events.
//!
//! A change is told of when it is durable and before its client hears of it, and also when the
//! client does not wait for that. What is not wanted by anybody costs nothing here.

use axum::http::header;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::{Api, Call, base_url::BaseUrl};
use crate::{
    gate::{Identity, Permit},
    notify::{Action, Event, Notifier, Request, Target},
    oci::{Digest, Manifest, Reference, RepositoryName, Tag},
    registry::{self, StoredManifest},
};

/// What blobs are called in events, whatever is in them.
const BLOB: &str = "application/octet-stream";

/// How many tags that have gone wait to be told of.
const TAGS: usize = 64;

/// Tells of what a request does to a repository.
#[derive(Debug)]
pub(super) struct Teller {
    notifier: Notifier,
    action: Action,
    repository: RepositoryName,
    request: Request,
    actor: Option<std::sync::Arc<str>>,
    base_url: BaseUrl,
}

/// What an event says about a manifest that is being put.
#[derive(Debug)]
pub(super) struct Pushed {
    tags: Vec<Tag>,
    bytes: axum::body::Bytes,
}

impl Pushed {
    pub(super) fn new(reference: &Reference, tags: &[Tag], bytes: &axum::body::Bytes) -> Self {
        let by_tag = match reference {
            Reference::Tag(tag) => Some(tag.clone()),
            Reference::Digest(_) => None,
        };
        let others = tags.iter().filter(|tag| by_tag.as_ref() != Some(tag)).cloned();
        Self { tags: by_tag.iter().cloned().chain(others).collect(), bytes: bytes.clone() }
    }
}

impl Api {
    /// Somebody to tell of an action; `None` when nobody wants to know.
    pub(super) fn teller(
        &self,
        action: Action,
        permit: &Permit,
        name: &RepositoryName,
        call: &Call,
    ) -> Option<Teller> {
        self.notifier.wants(action).then(|| Teller {
            notifier: self.notifier.clone(),
            action,
            repository: name.clone(),
            request: self.request(call),
            actor: match permit.identity() {
                Identity::Anonymous => None,
                Identity::User(name) => Some(std::sync::Arc::clone(name)),
            },
            base_url: self.base_url(call),
        })
    }

    /// The request as events describe it.
    fn request(&self, call: &Call) -> Request {
        let authority = call.uri.authority().map(|authority| authority.as_str());
        let host = authority.or_else(|| call.header(header::HOST));
        let agent = call.headers.get(header::USER_AGENT);
        Request {
            id: call.id.to_string(),
            // Of somebody behind a proxy the port is not known.
            addr: match call.client.filter(|client| Some(*client) != call.connection.peer.ip()) {
                Some(client) => client.to_string(),
                None => call.connection.peer.to_string(),
            },
            host: host.unwrap_or_default().to_owned(),
            method: call.method.to_string(),
            useragent: agent
                .map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned())
                .unwrap_or_default(),
        }
    }

    /// Makes a change and tells of it, both to the end even when the client goes away.
    pub(super) async fn told<T: Send + 'static>(
        &self,
        teller: Option<Teller>,
        change: impl Future<Output = Result<T, registry::Error>> + Send + 'static,
        tell: impl FnOnce(Teller, &T) -> BoxFuture<'static, ()> + Send + 'static,
    ) -> Result<T, registry::Error> {
        let Some(teller) = teller else { return change.await };
        let work = async move {
            let changed = change.await?;
            tell(teller, &changed).await;
            Ok(changed)
        };
        self.registry.detached(work).await
    }

    /// Deletes a manifest, and tells of each tag that went with it and then of the manifest, in the
    /// order in which they go. `false` when it was not there.
    pub(super) async fn delete_manifest_and_tell(
        &self,
        teller: Teller,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, registry::Error> {
        let (registry, name, digest) = (self.registry.clone(), name.clone(), digest.clone());
        let work = async move {
            let (sender, mut untagged) = mpsc::channel(TAGS);
            let deletion = registry.manifests().delete(&name, &digest, Some(sender));
            let telling = async {
                while let Some(tag) = untagged.recv().await {
                    teller.untagged(&[tag]).await;
                }
            };
            let (deleted, ()) = futures_util::future::join(deletion, telling).await;
            let deleted = deleted?;
            teller.gone(deleted.then_some(digest)).await;
            Ok(deleted)
        };
        self.registry.detached(work).await
    }
}

impl Teller {
    /// Of a blob that came or was asked for.
    pub(super) async fn blob(self, digest: Digest, size: u64) {
        let target = self.content(("blobs", digest), size, BLOB);
        self.tell(target).await;
    }

    /// Of a blob that is in one more repository, if it is: then it has a size.
    pub(super) async fn mounted(
        self,
        digest: Digest,
        size: Option<u64>,
        from: Option<RepositoryName>,
    ) {
        if let Some(size) = size {
            let target = self.content(("blobs", digest), size, BLOB);
            self.tell(target.mounted_from(from.as_ref())).await;
        }
    }

    /// Of a manifest that was asked for.
    pub(super) async fn pulled(self, manifest: StoredManifest, reference: Reference) {
        let StoredManifest { digest, media_type, bytes } = manifest;
        let tag = match &reference {
            Reference::Tag(tag) => Some(tag),
            Reference::Digest(_) => None,
        };
        let target = self.content(("manifests", digest), bytes.len() as u64, &media_type);
        let references = self.notifier.references(&bytes);
        self.tell(target.tagged(tag).referring(references)).await;
    }

    /// Of a manifest that came: once for each tag that it came with, or once without one.
    pub(super) async fn pushed(self, digest: Digest, Pushed { tags, bytes }: Pushed) {
        let media_type = Manifest::stored_media_type(&bytes);
        let target = self
            .content(("manifests", digest), bytes.len() as u64, &media_type)
            .referring(self.notifier.references(&bytes));
        if tags.is_empty() {
            self.tell(target.clone()).await;
        }
        for tag in &tags {
            self.tell(target.clone().tagged(Some(tag))).await;
        }
    }

    /// Of content that has gone, if it has.
    pub(super) async fn gone(&self, digest: Option<Digest>) {
        if let Some(digest) = digest {
            self.tell(Target::gone(&self.repository, digest)).await;
        }
    }

    /// Of tags that have gone.
    pub(super) async fn untagged(&self, tags: &[Tag]) {
        for tag in tags {
            self.tell(Target::untagged(&self.repository, tag)).await;
        }
    }

    /// Of the repository, which has gone.
    pub(super) async fn repository_gone(&self) {
        self.tell(Target::repository(&self.repository)).await;
    }

    fn content(&self, (kind, digest): (&str, Digest), size: u64, media_type: &str) -> Target {
        let url = self.base_url.address(&format!("/v2/{}/{kind}/{digest}", self.repository));
        Target::content(&self.repository, digest, size, media_type, url)
    }

    async fn tell(&self, target: Target) {
        let (request, actor) = (self.request.clone(), self.actor.clone());
        self.notifier.tell(Event { action: self.action, target, request, actor }).await;
    }
}
