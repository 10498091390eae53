//! Turns domain events into events of `notify`, in registry:2's form.

use async_trait::async_trait;

use crate::{
    notify::{self, Notifier, Target},
    registry::{Action, Caller, Event, EventSink, ManifestContent, Occurrence},
};

/// The media type of all blobs in events.
const BLOB: &str = "application/octet-stream";

/// Hands events to the queues of endpoints.
#[derive(Debug)]
pub(super) struct ToEndpoints(pub(super) Notifier);

#[async_trait]
impl EventSink for ToEndpoints {
    fn wants(&self, action: Action) -> bool {
        self.0.wants(of(action))
    }

    async fn emit(&self, event: Event) {
        let action = of(event.occurrence.action());
        let target = self.target(&event);
        let Event { caller, .. } = event;
        let request = request(&caller);
        self.0.tell(notify::Event { action, target, request, actor: caller.actor }).await;
    }
}

impl ToEndpoints {
    fn target(&self, event: &Event) -> Target {
        let Event { repository, caller, occurrence } = event;
        let base = caller.request.as_ref().map_or("", |request| &request.base_url);
        match occurrence {
            Occurrence::BlobPulled { digest, size }
            | Occurrence::BlobPushed { digest, size }
            | Occurrence::BlobMounted { digest, size, .. } => {
                let url = format!("{base}/v2/{repository}/blobs/{digest}");
                let blob = Target::content(repository, digest.clone(), *size, BLOB, url);
                match occurrence {
                    Occurrence::BlobMounted { from, .. } => blob.mounted_from(from.as_ref()),
                    _ => blob,
                }
            }
            Occurrence::ManifestPulled { manifest, tag }
            | Occurrence::ManifestPushed { manifest, tag } => {
                let ManifestContent { digest, media_type, bytes } = manifest;
                let url = format!("{base}/v2/{repository}/manifests/{digest}");
                let size = bytes.len() as u64;
                Target::content(repository, digest.clone(), size, media_type, url)
                    .tagged(tag.as_ref())
                    .referring(self.0.references(bytes))
            }
            Occurrence::BlobDeleted(digest) | Occurrence::ManifestDeleted(digest) => {
                Target::gone(repository, digest.clone())
            }
            Occurrence::TagDeleted(tag) => Target::untagged(repository, tag),
            Occurrence::RepositoryDeleted => Target::repository(repository),
        }
    }
}

/// The request of an event. A job has no request: its name replaces the client's user agent.
fn request(caller: &Caller) -> notify::Request {
    match (&caller.request, caller.job) {
        (Some(request), _) => notify::Request {
            id: request.id.clone(),
            addr: request.addr.clone(),
            host: request.host.clone(),
            method: request.method.clone(),
            useragent: request.user_agent.clone(),
        },
        (None, Some(job)) => {
            notify::Request { useragent: format!("portcullis {job}"), ..Default::default() }
        }
        (None, None) => notify::Request::default(),
    }
}

const fn of(action: Action) -> notify::Action {
    match action {
        Action::Pull => notify::Action::Pull,
        Action::Push => notify::Action::Push,
        Action::Mount => notify::Action::Mount,
        Action::Delete => notify::Action::Delete,
    }
}
