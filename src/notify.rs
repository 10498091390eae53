//! Notifications: events about what is pushed, pulled, mounted and deleted, posted to webhooks as
//! registry:2 does (its `notifications` package), from queues that outlive the process.
//!
//! The caller of [`Notifier::tell`] waits until the event is in the queue of each endpoint that
//! wants it: a write to a file, never a request to the endpoint. A sender per endpoint posts the
//! event at the front of the queue until the endpoint accepts it. So events are delivered at least
//! once, in the order of the queue, and a slow endpoint delays only its own queue.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use serde::Deserialize;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

mod event;
mod json;
mod post;
mod queue;
mod references;
mod sender;

pub use event::{Action, Event, Request, Source, Target};
pub use post::InvalidEndpoint;
pub use queue::OpenError;

use event::Record;
use post::{Post, Webhook};
use queue::{Limits, Queue};

/// `notifications`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Options {
    /// The content of events.
    pub events: EventOptions,
    /// The receivers of events.
    pub endpoints: Vec<EndpointOptions>,
    /// How many events wait for an endpoint before further ones are dropped. registry:2 knows no
    /// limit.
    pub maxpending: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { events: EventOptions::default(), endpoints: Vec::new(), maxpending: 100_000 }
    }
}

/// `notifications.events`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct EventOptions {
    /// Lists the references of a manifest.
    pub includereferences: bool,
}

/// An item of `notifications.endpoints`.
#[derive(Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct EndpointOptions {
    /// The endpoint's name in the log, in metrics, and of its queue.
    pub name: String,
    /// Sends it nothing and queues nothing for it.
    pub disabled: bool,
    /// Where events are posted.
    pub url: String,
    /// Headers that each request has besides its own.
    pub headers: BTreeMap<String, Vec<String>>,
    /// How long an answer may take; a second unless it says otherwise.
    pub timeout: Duration,
    /// After how many failures in a row there is a wait before each attempt; ten unless it says
    /// otherwise.
    pub threshold: u32,
    /// How long that wait is; a second unless it says otherwise.
    pub backoff: Duration,
    /// Media types that it wants no events about; the older place for them.
    pub ignoredmediatypes: Vec<String>,
    /// The events that the endpoint does not get.
    pub ignore: IgnoreOptions,
}

impl fmt::Debug for EndpointOptions {
    /// Without headers and address, which have passwords in them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointOptions")
            .field("name", &self.name)
            .field("disabled", &self.disabled)
            .finish_non_exhaustive()
    }
}

/// `notifications.endpoints[].ignore`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct IgnoreOptions {
    /// Events whose target has one of these media types.
    pub mediatypes: Vec<String>,
    /// Events with one of these actions.
    pub actions: Vec<String>,
}

impl EndpointOptions {
    /// The options with registry:2's defaults for missing values and zeros.
    fn completed(&self) -> Self {
        let second = |duration: Duration| match duration {
            Duration::ZERO => Duration::from_secs(1),
            set => set,
        };
        Self {
            timeout: second(self.timeout),
            threshold: if self.threshold == 0 { 10 } else { self.threshold },
            backoff: second(self.backoff),
            ..self.clone()
        }
    }

    /// Whether it wants events of an action about content of a type. registry:2 looks at the
    /// actions only where media types are listed as well, which is an oversight of its.
    fn wants(&self, action: Action, media_type: &str) -> bool {
        let ignored = |list: &[String], what: &str| list.iter().any(|entry| entry == what);
        !ignored(&self.ignore.actions, action.as_str())
            && !ignored(&self.ignore.mediatypes, media_type)
            && !ignored(&self.ignoredmediatypes, media_type)
    }
}

/// Where queues are.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a folder of this one for each endpoint. It is made when it is needed.
    Folder(PathBuf),
    /// In memory, and gone with the process.
    Memory,
}

/// Delivers events to endpoints. Clones are the same notifier.
#[derive(Clone, Debug)]
pub struct Notifier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    place: Place,
    source: Source,
    listeners: ArcSwap<Listeners>,
    running: Mutex<Running>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Drop for Inner {
    /// Stops the tasks, for no caller can stop them any more.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The endpoints in force, for requests.
#[derive(Debug, Default)]
struct Listeners {
    endpoints: Vec<(Arc<EndpointOptions>, Arc<Queue>)>,
    references: bool,
}

/// The queues and senders that were started, by the names of endpoints.
#[derive(Debug, Default)]
struct Running {
    /// Every queue that was opened: its events wait for the day when its endpoint is configured
    /// again.
    queues: BTreeMap<String, Arc<Queue>>,
    senders: BTreeMap<String, (Arc<EndpointOptions>, CancellationToken)>,
}

/// The counts of an endpoint's events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The endpoint.
    pub name: String,
    /// Events that were queued.
    pub events: u64,
    /// Events that wait.
    pub pending: u64,
    /// Events that the endpoint accepted.
    pub successes: u64,
    /// Attempts that the endpoint answered with a refusal.
    pub failures: u64,
    /// Attempts that got no answer.
    pub errors: u64,
    /// Events that found no room in the queue, or could not be written to it.
    pub dropped: u64,
    /// Answers by their status, such as `200 OK`.
    pub statuses: Vec<(String, u64)>,
}

impl Options {
    /// The problems of the endpoints that are not disabled.
    #[must_use]
    pub fn problems(&self) -> Vec<InvalidEndpoint> {
        let mut names = BTreeSet::new();
        let mut problems = Vec::new();
        for endpoint in self.endpoints.iter().filter(|endpoint| !endpoint.disabled) {
            problems.extend(Webhook::new(&endpoint.completed()).err());
            if !endpoint.name.is_empty() && !names.insert(&endpoint.name) {
                problems.push(InvalidEndpoint::NameTwice(endpoint.name.clone()));
            }
        }
        problems
    }
}

impl Notifier {
    /// A notifier without endpoints, until [`set`](Self::set) gives it some. `source` is
    /// named in each event.
    #[must_use]
    pub fn new(place: Place, source: Source) -> Self {
        Self(Arc::new(Inner {
            place,
            source,
            listeners: ArcSwap::default(),
            running: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }))
    }

    /// Whether an endpoint wants events of an action. Nearly free when there is no endpoint.
    #[must_use]
    pub fn wants(&self, action: Action) -> bool {
        let listeners = self.0.listeners.load();
        listeners.endpoints.iter().any(|(options, _)| {
            !options.ignore.actions.iter().any(|ignored| ignored == action.as_str())
        })
    }

    /// The references of a manifest for its event; empty unless `includereferences` is set.
    #[must_use]
    pub fn references(&self, manifest: &[u8]) -> Vec<event::Descriptor> {
        match self.0.listeners.load().references {
            true => references::of(manifest),
            false => Vec::new(),
        }
    }

    /// Queues an event for each endpoint that wants it. When this returns it outlives the process,
    /// or it has been counted and logged as dropped.
    pub async fn tell(&self, event: Event) {
        let record = Record::new(event, &self.0.source);
        let listeners = self.0.listeners.load_full();
        let mut line: Option<Arc<[u8]>> = None;
        let mut queued = Vec::new();
        for (options, queue) in &listeners.endpoints {
            if options.wants(record.action(), record.media_type()) {
                let line = line.get_or_insert_with(|| record.line().into());
                queued.push(queue.add(Arc::clone(line)));
            }
        }
        futures_util::future::join_all(queued).await;
    }

    /// Sends events to these endpoints from now on, and to no others. Queues go by the names of
    /// endpoints: an endpoint that stays gets its waiting events with its new options, and the
    /// events of an endpoint that goes are kept until it is configured again. Reads and writes
    /// files; needs the runtime.
    ///
    /// # Errors
    ///
    /// When an endpoint cannot be used as it is described, or its queue cannot be opened. Then
    /// everything is as it was.
    pub fn set(&self, options: &Options) -> Result<(), SetError> {
        let mut running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        let limits = Limits::of(options.maxpending);
        let mut names = BTreeSet::new();
        let mut wanted = Vec::new();
        for endpoint in options.endpoints.iter().filter(|endpoint| !endpoint.disabled) {
            let endpoint = Arc::new(endpoint.completed());
            let webhook = Webhook::new(&endpoint)?;
            if !names.insert(endpoint.name.clone()) {
                return Err(InvalidEndpoint::NameTwice(endpoint.name.clone()).into());
            }
            let queue = match running.queues.get(&endpoint.name) {
                Some(queue) => Arc::clone(queue),
                None => Arc::new(Queue::open(&self.0.place, &endpoint.name, &self.0.tasks)?),
            };
            wanted.push((endpoint, webhook, queue));
        }
        running.senders.retain(|name, (old, stop)| {
            let stays = wanted.iter().any(|(new, ..)| new.name == *name && new == old);
            if !stays {
                stop.cancel();
            }
            stays
        });
        let mut endpoints = Vec::new();
        for (endpoint, webhook, queue) in wanted {
            queue.limit(limits);
            running.queues.insert(endpoint.name.clone(), Arc::clone(&queue));
            endpoints.push((Arc::clone(&endpoint), Arc::clone(&queue)));
            if !running.senders.contains_key(&endpoint.name) {
                tracing::info!(
                    endpoint = endpoint.name,
                    pending = queue.pending(),
                    "events are sent to an endpoint"
                );
                let stop = self.0.stop.child_token();
                let entry = (Arc::clone(&endpoint), stop.clone());
                running.senders.insert(endpoint.name.clone(), entry);
                let sender = sender::run(endpoint, queue, Arc::new(webhook) as Arc<dyn Post>, stop);
                self.0.tasks.spawn(sender);
            }
        }
        let references = options.events.includereferences;
        self.0.listeners.store(Arc::new(Listeners { endpoints, references }));
        Ok(())
    }

    /// Syncs the events that were queued since the last sync.
    pub async fn sync(&self) {
        for queue in self.queues() {
            queue.sync().await;
        }
    }

    /// The counts of each endpoint.
    #[must_use]
    pub fn counts(&self) -> Vec<Counts> {
        let running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.queues.values().map(|queue| queue.counts()).collect()
    }

    /// Stops the senders. A delivery under way may take a few seconds more; undelivered events wait
    /// in their queues for the next start. No event may be queued after this.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.listeners.store(Arc::default());
        for queue in self.queues() {
            queue.close();
        }
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.sync().await;
    }

    fn queues(&self) -> Vec<Arc<Queue>> {
        let running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.queues.values().cloned().collect()
    }
}

/// Why endpoints cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// The options of an endpoint are invalid.
    #[error(transparent)]
    Endpoint(#[from] InvalidEndpoint),
    /// Its queue cannot be opened.
    #[error(transparent)]
    Queue(#[from] OpenError),
}
