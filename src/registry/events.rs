//! Domain events: the changes and pulls in repositories, with their caller, for an [`EventSink`].
//!
//! An operation emits its own events: once, after the change is durable and its fence validated or
//! opened, before the caller gets the result, and even when the caller stops waiting. So the operations
//! of requests, of jobs and of commands all emit events.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

use crate::oci::{Digest, RepositoryName, Tag};

/// The kind of operation that an event describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A client read content or its length.
    Pull,
    /// Content was added.
    Push,
    /// A blob was mounted from one repository in another.
    Mount,
    /// Content, a tag or a repository was deleted.
    Delete,
}

/// The caller of an operation.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The authenticated user; `None` where users have no names, and for jobs and commands.
    pub actor: Option<Arc<str>>,
    /// The request, where a request called and events of the action are wanted.
    pub request: Option<Arc<Request>>,
    /// The job, where a job called: `retention`, `garbage-collect`.
    pub job: Option<&'static str>,
}

impl Caller {
    /// A job of this registry.
    pub(super) const fn job(name: &'static str) -> Self {
        Self { actor: None, request: None, job: Some(name) }
    }
}

/// A request as events describe it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Its id, as the log has it.
    pub id: String,
    /// The address of the client, with its port where that is known.
    pub addr: String,
    /// The host that the client asked for.
    pub host: String,
    /// Its method.
    pub method: String,
    /// The program that sent it.
    pub user_agent: String,
    /// The base of URLs that other clients can read.
    pub base_url: String,
}

/// A manifest as events describe it.
#[derive(Clone, Debug)]
pub struct ManifestContent {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: Arc<str>,
    /// Its bytes.
    pub bytes: Bytes,
}

/// A change or a pull in a repository.
#[derive(Clone, Debug)]
pub enum Occurrence {
    /// A blob was pulled, or its size was.
    BlobPulled {
        /// Its digest.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
    },
    /// An upload became a blob.
    BlobPushed {
        /// Its digest.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
    },
    /// A blob was mounted.
    BlobMounted {
        /// Its digest.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
        /// The repository that the client named.
        from: Option<RepositoryName>,
    },
    /// A blob was deleted.
    BlobDeleted(Digest),
    /// A manifest was pulled by a tag or by its digest.
    ManifestPulled {
        /// The manifest.
        manifest: ManifestContent,
        /// The tag.
        tag: Option<Tag>,
    },
    /// A manifest was put at a tag or at its digest. A put at several tags is one occurrence for each.
    ManifestPushed {
        /// The manifest.
        manifest: ManifestContent,
        /// The tag.
        tag: Option<Tag>,
    },
    /// A manifest was deleted.
    ManifestDeleted(Digest),
    /// A tag was deleted, alone or with its manifest.
    TagDeleted(Tag),
    /// A repository was deleted with all its content.
    RepositoryDeleted,
}

impl Occurrence {
    /// The action.
    #[must_use]
    pub const fn action(&self) -> Action {
        match self {
            Self::BlobPulled { .. } | Self::ManifestPulled { .. } => Action::Pull,
            Self::BlobPushed { .. } | Self::ManifestPushed { .. } => Action::Push,
            Self::BlobMounted { .. } => Action::Mount,
            Self::BlobDeleted(_)
            | Self::ManifestDeleted(_)
            | Self::TagDeleted(_)
            | Self::RepositoryDeleted => Action::Delete,
        }
    }
}

/// An occurrence, with its caller and its repository.
#[derive(Clone, Debug)]
pub struct Event {
    /// The caller.
    pub caller: Caller,
    /// The repository.
    pub repository: RepositoryName,
    /// The occurrence.
    pub occurrence: Occurrence,
}

/// A receiver of events.
#[async_trait]
pub trait EventSink: fmt::Debug + Send + Sync + 'static {
    /// Whether the sink wants events of an action. Each operation asks, so this must be cheap.
    fn wants(&self, action: Action) -> bool;

    /// Takes an event. Returns when the end of the process cannot lose the event any more, or when the
    /// sink has dropped it. The operation waits for that.
    async fn emit(&self, event: Event);
}

/// The sink of a registry, if it has one. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Events(Option<Arc<dyn EventSink>>);

impl Events {
    /// Events that go to `sink`.
    #[must_use]
    pub fn to(sink: Arc<dyn EventSink>) -> Self {
        Self(Some(sink))
    }

    /// Whether events of an action are wanted.
    #[must_use]
    pub fn wants(&self, action: Action) -> bool {
        self.0.as_ref().is_some_and(|sink| sink.wants(action))
    }

    /// Emits an occurrence, if the sink wants it.
    pub(super) async fn emit(
        &self,
        caller: &Caller,
        repository: &RepositoryName,
        occurrence: Occurrence,
    ) {
        let Some(sink) = &self.0 else { return };
        if sink.wants(occurrence.action()) {
            let event =
                Event { caller: caller.clone(), repository: repository.clone(), occurrence };
            sink.emit(event).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        ops::ControlFlow,
        sync::{Mutex, PoisonError},
        time::Duration,
    };

    use super::*;
    use crate::{
        oci::Reference,
        registry::{
            Collect, Decision, ExistingTags, GcEvent, GcObserver, Options, Put, Registry,
            RetentionRule, SystemClock,
        },
        storage::memory::Memory,
    };

    /// Records deletions: the job, and the kind of the deleted object.
    #[derive(Debug, Default)]
    struct Recorder(Mutex<Vec<(Option<&'static str>, &'static str)>>);

    impl Recorder {
        fn take(&self) -> Vec<(Option<&'static str>, &'static str)> {
            std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }
    }

    #[async_trait]
    impl EventSink for Recorder {
        fn wants(&self, action: Action) -> bool {
            action == Action::Delete
        }

        async fn emit(&self, event: Event) {
            let what = match event.occurrence {
                Occurrence::TagDeleted(_) => "tag",
                Occurrence::ManifestDeleted(_) => "manifest",
                Occurrence::RepositoryDeleted => "repository",
                other => panic!("{other:?}"),
            };
            self.0.lock().unwrap().push((event.caller.job, what));
        }
    }

    struct Silent;

    impl GcObserver for Silent {
        fn found(&mut self, _: GcEvent<'_>) {}
    }

    async fn put(registry: &Registry, name: &RepositoryName, tag: &str) {
        let index = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [],
            "annotations": { "tag": tag },
        });
        let put = Put {
            reference: Reference::Tag(tag.parse().unwrap()),
            tags: Vec::new(),
            content_type: None,
            bytes: index.to_string().into(),
            existing_tags: ExistingTags::Move,
        };
        registry.manifests().put(&Caller::default(), name, put).await.unwrap();
    }

    #[tokio::test]
    async fn events_of_deletions_name_the_job_that_deletes() {
        let recorder = Arc::new(Recorder::default());
        let events = Events::to(Arc::clone(&recorder) as Arc<dyn EventSink>);
        let options = Options { events, ..Options::default() };
        let registry = Registry::new(Arc::new(Memory::default()), Arc::new(SystemClock), options);
        let name: RepositoryName = "team/app".parse().unwrap();
        put(&registry, &name, "one").await;
        put(&registry, &name, "two").await;

        let rule = serde_json::json!({ "keeplatest": 1 });
        let rules: Vec<RetentionRule> = vec![serde_json::from_value(rule).unwrap()];
        let go_on = |_: &Decision<'_>| ControlFlow::Continue(());
        registry.retention().apply(&rules, true, go_on).await.unwrap();
        assert_eq!(recorder.take(), [], "a dry run deletes nothing");
        registry.retention().apply(&rules, false, go_on).await.unwrap();
        let retention = Some("retention");
        assert_eq!(recorder.take(), [(retention, "tag"), (retention, "manifest")]);

        let left = registry.lists().tags(&name, None, 9).await.unwrap().unwrap().items.remove(0);
        registry.manifests().delete_tag(&Caller::default(), &name, &left).await.unwrap();
        assert_eq!(recorder.take(), [(None, "tag")]);
        let grace = Duration::ZERO;
        for dry_run in [true, false] {
            let how =
                Collect { grace, untagged: crate::registry::Untagged::Go, dry_run, gently: false };
            registry.gc().collect(how, &mut Silent).await.unwrap();
            let expected = [(Some("garbage-collect"), "manifest")];
            assert_eq!(recorder.take(), if dry_run { &[][..] } else { &expected[..] });
        }

        put(&registry, &name, "three").await;
        assert!(registry.delete_repository(&Caller::default(), &name).await.unwrap());
        assert_eq!(recorder.take(), [(None, "repository")]);
    }
}
