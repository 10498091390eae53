//! Events: what of a request and its outcome goes into them.
//!
//! The event of a change is emitted when the change is durable and before its client has the
//! response, also when the client does not wait for that. An event that no endpoint wants costs
//! nothing here.

use std::sync::Arc;

use axum::http::header;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::{
    base_url::{BaseUrl, BaseUrls},
    call::Head,
    middleware::Authorised,
};
use crate::{
    gate::Identity,
    notify::{Action, Event, Notifier, Request, Target},
    oci::{Digest, Manifest, Reference, RepositoryName, Tag},
    registry::{self, Registry, StoredManifest},
};

/// The media type of blobs in events, whatever their content is.
const BLOB: &str = "application/octet-stream";

/// How many deleted tags may wait for their events.
const TAGS: usize = 64;

/// Emits the events of one request and one repository.
#[derive(Debug)]
pub(super) struct EventEmitter {
    notifier: Notifier,
    action: Action,
    repository: RepositoryName,
    request: Request,
    actor: Option<Arc<str>>,
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

/// Makes the events of requests.
#[derive(Debug)]
pub(super) struct Events {
    pub(super) registry: Registry,
    pub(super) notifier: Notifier,
    pub(super) base_urls: Arc<BaseUrls>,
}

impl Events {
    /// What emits the event of an action; `None` when no endpoint wants such events.
    pub(super) fn emitter(
        &self,
        action: Action,
        request: &Authorised,
        name: &RepositoryName,
    ) -> Option<EventEmitter> {
        self.notifier.wants(action).then(|| EventEmitter {
            notifier: self.notifier.clone(),
            action,
            repository: name.clone(),
            request: described(&request.head),
            actor: match request.permit.identity() {
                Identity::Anonymous => None,
                Identity::User(name) => Some(Arc::clone(name)),
            },
            base_url: self.base_urls.of(&request.head),
        })
    }

    /// Makes a change and emits its event, both to the end even when the client goes away.
    pub(super) async fn with_event<T: Send + 'static>(
        &self,
        emitter: Option<EventEmitter>,
        change: impl Future<Output = Result<T, registry::Error>> + Send + 'static,
        emit: impl FnOnce(EventEmitter, &T) -> BoxFuture<'static, ()> + Send + 'static,
    ) -> Result<T, registry::Error> {
        let Some(emitter) = emitter else { return change.await };
        let work = async move {
            let changed = change.await?;
            emit(emitter, &changed).await;
            Ok(changed)
        };
        self.registry.detached(work).await
    }

    /// Deletes a manifest, and emits the events of each tag that went with it and then of the
    /// manifest, in the order in which they go. `false` when it was not there.
    pub(super) async fn delete_manifest_with_events(
        &self,
        emitter: EventEmitter,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, registry::Error> {
        let (registry, name, digest) = (self.registry.clone(), name.clone(), digest.clone());
        let work = async move {
            let (sender, mut untagged) = mpsc::channel(TAGS);
            let deletion = registry.manifests().delete(&name, &digest, Some(sender));
            let emitting = async {
                while let Some(tag) = untagged.recv().await {
                    emitter.untagged(&[tag]).await;
                }
            };
            let (deleted, ()) = futures_util::future::join(deletion, emitting).await;
            let deleted = deleted?;
            emitter.gone(deleted.then_some(digest)).await;
            Ok(deleted)
        };
        self.registry.detached(work).await
    }
}

/// The request as events describe it.
fn described(head: &Head) -> Request {
    let authority = head.uri.authority().map(|authority| authority.as_str());
    let host = authority.or_else(|| head.header(header::HOST));
    let agent = head.headers.get(header::USER_AGENT);
    Request {
        id: head.id.to_string(),
        // The port of a client behind a proxy is not known.
        addr: match head.client().filter(|client| Some(*client) != head.connection.peer.ip()) {
            Some(client) => client.to_string(),
            None => head.connection.peer.to_string(),
        },
        host: host.unwrap_or_default().to_owned(),
        method: head.method.to_string(),
        useragent: agent
            .map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned())
            .unwrap_or_default(),
    }
}

impl EventEmitter {
    /// A blob was pushed or pulled.
    pub(super) async fn blob(self, digest: Digest, size: u64) {
        let target = self.content(("blobs", digest), size, BLOB);
        self.emit(target).await;
    }

    /// A blob was mounted, if `size` is there.
    pub(super) async fn mounted(
        self,
        digest: Digest,
        size: Option<u64>,
        from: Option<RepositoryName>,
    ) {
        if let Some(size) = size {
            let target = self.content(("blobs", digest), size, BLOB);
            self.emit(target.mounted_from(from.as_ref())).await;
        }
    }

    /// A manifest was pulled.
    pub(super) async fn pulled(self, manifest: StoredManifest, reference: Reference) {
        let StoredManifest { digest, media_type, bytes } = manifest;
        let tag = match &reference {
            Reference::Tag(tag) => Some(tag),
            Reference::Digest(_) => None,
        };
        let target = self.content(("manifests", digest), bytes.len() as u64, &media_type);
        let references = self.notifier.references(&bytes);
        self.emit(target.tagged(tag).referring(references)).await;
    }

    /// A manifest was pushed: one event for each of its tags, or one without a tag.
    pub(super) async fn pushed(self, digest: Digest, Pushed { tags, bytes }: Pushed) {
        let media_type = Manifest::stored_media_type(&bytes);
        let target = self
            .content(("manifests", digest), bytes.len() as u64, &media_type)
            .referring(self.notifier.references(&bytes));
        if tags.is_empty() {
            self.emit(target.clone()).await;
        }
        for tag in &tags {
            self.emit(target.clone().tagged(Some(tag))).await;
        }
    }

    /// Content was deleted, if `digest` is there.
    pub(super) async fn gone(&self, digest: Option<Digest>) {
        if let Some(digest) = digest {
            self.emit(Target::gone(&self.repository, digest)).await;
        }
    }

    /// Tags were deleted.
    pub(super) async fn untagged(&self, tags: &[Tag]) {
        for tag in tags {
            self.emit(Target::untagged(&self.repository, tag)).await;
        }
    }

    /// The repository was deleted.
    pub(super) async fn repository_gone(&self) {
        self.emit(Target::repository(&self.repository)).await;
    }

    fn content(&self, (kind, digest): (&str, Digest), size: u64, media_type: &str) -> Target {
        let url = self.base_url.address(&format!("/v2/{}/{kind}/{digest}", self.repository));
        Target::content(&self.repository, digest, size, media_type, url)
    }

    async fn emit(&self, target: Target) {
        let (request, actor) = (self.request.clone(), self.actor.clone());
        self.notifier.tell(Event { action: self.action, target, request, actor }).await;
    }
}
