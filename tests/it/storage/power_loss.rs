//! A power cut between any two disk operations: acknowledged content is there, and other content is
//! there as a whole or not at all.
//!
//! A scenario runs once, over a disk that records everything. Then, for each moment, the test makes
//! the trees that a power cut may leave and opens a registry on each. To show that every sync is
//! needed, the test leaves each out in turn: some tree must then be wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use portcullis::{
    oci::{Algorithm, Digest, Reference, RepositoryName, Tag},
    registry::{
        self, Body, Caller, Chunk, Collect, DeleteMode, ExistingTags, GcEvent, GcObserver,
        NewUpload, Put, Registry, SystemClock, UploadId,
    },
    storage::filesystem::{Filesystem, disk::Os},
};
use serde_json::json;

use crate::support::{
    content::{OCI_INDEX, OCI_MANIFEST, descriptor, empty_index, noise},
    power::{Fate, Recorder, Recording, Step},
    server::in_memory,
    watched::Watched,
};

/// An object that a client can see.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Blob(&'static str, Digest),
    Manifest(&'static str, Digest),
    Tag(&'static str, &'static str),
}

/// Its content; `None` when it is absent.
type State = Option<Digest>;

/// A request of a client: the steps after which it began and was acknowledged.
#[derive(Debug)]
struct Request {
    begun: usize,
    acknowledged: usize,
    changes: Vec<(Thing, State)>,
}

/// An upload over several requests.
#[derive(Debug)]
struct Upload {
    id: UploadId,
    name: &'static str,
    bytes: Vec<u8>,
    /// While it certainly exists, except after power cuts.
    begun: usize,
    ended: usize,
}

/// The recorded steps, and the requests that caused them.
#[derive(Debug)]
struct Told {
    recording: Recording,
    requests: Vec<Request>,
    uploads: Vec<Upload>,
    /// The references of each manifest, and its subject.
    content: BTreeMap<Thing, (Vec<Thing>, Option<Digest>)>,
}

/// A scenario as it runs.
struct Scenario {
    disk: Arc<Watched<Recorder>>,
    registry: Registry,
    requests: Vec<Request>,
    uploads: Vec<Upload>,
    content: BTreeMap<Thing, (Vec<Thing>, Option<Digest>)>,
    _folder: tempfile::TempDir,
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, bytes)
}

fn open(root: &Path) -> Registry {
    let storage = Filesystem::over(Arc::new(Os::new(root.to_owned())), root.to_owned());
    Registry::new(Arc::new(storage), Arc::new(SystemClock), registry::Options::default())
}

/// An upload that Ann began.
fn of_ann(name: &RepositoryName, id: UploadId) -> registry::Upload {
    registry::Upload { name: name.clone(), id, owner: Some("ann".into()) }
}

fn chunk(bytes: &[u8]) -> Chunk {
    let length = Some(bytes.len() as u64);
    let pieces: Vec<_> = bytes.chunks(1 << 20).map(|piece| Ok(piece.to_vec().into())).collect();
    let body: Body = stream::iter(pieces).boxed();
    Chunk { body, length, range: None, largest: None }
}

impl Scenario {
    fn new() -> Self {
        let folder = in_memory();
        let disk = Arc::new(Watched::new(folder.path(), Recorder::default()));
        let storage = Filesystem::over(Arc::clone(&disk) as Arc<_>, folder.path().to_owned());
        let registry =
            Registry::new(Arc::new(storage), Arc::new(SystemClock), registry::Options::default());
        let (requests, uploads, content) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { disk, registry, requests, uploads, content, _folder: folder }
    }

    fn now(&self) -> usize {
        self.disk.watch().len()
    }

    fn acknowledged(&mut self, begun: usize, changes: Vec<(Thing, State)>) {
        let acknowledged = self.now();
        self.requests.push(Request { begun, acknowledged, changes });
    }

    /// Another process continues with the same tree: it does not know which files this one synced.
    fn restart(&mut self) {
        let root = self._folder.path();
        let storage = Filesystem::over(Arc::clone(&self.disk) as Arc<_>, root.to_owned());
        self.registry =
            Registry::new(Arc::new(storage), Arc::new(SystemClock), registry::Options::default());
    }

    async fn push_blob(&mut self, at: &'static str, bytes: &[u8]) -> Digest {
        let (begun, digest) = (self.now(), digest(bytes));
        self.registry
            .uploads()
            .put(
                &Caller::default(),
                NewUpload { name: &name(at), owner: None },
                &digest,
                chunk(bytes),
            )
            .await
            .unwrap();
        self.acknowledged(begun, vec![(Thing::Blob(at, digest.clone()), Some(digest.clone()))]);
        digest
    }

    /// In chunks; another server may take over after the first.
    async fn push_in_chunks(
        &mut self,
        at: &'static str,
        bytes: &[u8],
        first: usize,
        restarted: bool,
    ) -> Digest {
        let (begun, repository) = (self.now(), name(at));
        let owner = Some("ann".into());
        let id =
            self.registry.uploads().begin(&repository, Algorithm::Sha256, owner).await.unwrap();
        let upload = of_ann(&repository, id);
        self.registry.uploads().append(&upload, chunk(&bytes[..first])).await.unwrap();
        let appended = self.now();
        if restarted {
            self.restart();
        }
        let (ending, digest) = (self.now(), digest(bytes));
        let rest = chunk(&bytes[first..]);
        self.registry.uploads().finish(&Caller::default(), &upload, &digest, rest).await.unwrap();
        let changes = vec![(Thing::Blob(at, digest.clone()), Some(digest.clone()))];
        self.acknowledged(ending, changes);
        let (bytes, ended) = (bytes.to_vec(), self.now());
        assert!(begun < appended);
        self.uploads.push(Upload { id, name: at, bytes, begun, ended });
        digest
    }

    async fn mount(&mut self, at: &'static str, from: &str, digest: &Digest) {
        let begun = self.now();
        let mounted = self
            .registry
            .blobs()
            .mount(&Caller::default(), &name(at), digest, Some(&name(from)))
            .await;
        assert!(mounted.unwrap().is_some());
        self.acknowledged(begun, vec![(Thing::Blob(at, digest.clone()), Some(digest.clone()))]);
    }

    async fn cancel(&mut self, at: &'static str) {
        let repository = name(at);
        let id = self.registry.uploads().begin(&repository, Algorithm::Sha256, None).await.unwrap();
        let upload = registry::Upload { name: repository, id, owner: None };
        self.registry.uploads().append(&upload, chunk(b"cancelled")).await.unwrap();
        let begun = self.now();
        self.registry.uploads().cancel(&upload).await.unwrap();
        self.acknowledged(begun, Vec::new());
        let begun = self.now();
        self.uploads.push(Upload { id, name: at, bytes: Vec::new(), begun, ended: begun });
    }

    /// Puts a manifest at tags.
    async fn put(
        &mut self,
        at: &'static str,
        tags: &[&'static str],
        (media_type, manifest): (&str, String),
        (needs, subject): (Vec<Thing>, Option<&Digest>),
    ) -> Digest {
        let begun = self.now();
        let digest = digest(manifest.as_bytes());
        let thing = Thing::Manifest(at, digest.clone());
        self.content.insert(thing, (needs, subject.cloned()));
        let put = Put {
            reference: Reference::Digest(digest.clone()),
            tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
            content_type: Some(media_type.to_owned()),
            bytes: manifest.into(),
            existing_tags: ExistingTags::Move,
        };
        self.registry.manifests().put(&Caller::default(), &name(at), put).await.unwrap();
        let mut changes = vec![(Thing::Manifest(at, digest.clone()), Some(digest.clone()))];
        changes.extend(tags.iter().map(|tag| (Thing::Tag(at, tag), Some(digest.clone()))));
        self.acknowledged(begun, changes);
        digest
    }

    async fn put_image(
        &mut self,
        at: &'static str,
        tags: &[&'static str],
        (config, layer): (&[u8], &[u8]),
        subject: Option<&Digest>,
    ) -> Digest {
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
        });
        if let Some(subject) = subject {
            manifest["subject"] =
                json!({ "mediaType": OCI_MANIFEST, "digest": subject.to_string(), "size": 1 });
        }
        let needs = vec![Thing::Blob(at, digest(config)), Thing::Blob(at, digest(layer))];
        self.put(at, tags, (OCI_MANIFEST, manifest.to_string()), (needs, subject)).await
    }

    async fn delete_tag(&mut self, at: &'static str, tag: &'static str) {
        let begun = self.now();
        assert!(
            self.registry
                .manifests()
                .delete_tag(&Caller::default(), &name(at), &tag.parse().unwrap())
                .await
                .unwrap()
        );
        self.acknowledged(begun, vec![(Thing::Tag(at, tag), None)]);
    }

    /// Deletes a manifest and the tags it has.
    async fn delete_manifest(&mut self, at: &'static str, tags: &[&'static str], digest: &Digest) {
        let begun = self.now();
        assert!(
            self.registry.manifests().delete(&Caller::default(), &name(at), digest).await.unwrap()
        );
        let mut changes = vec![(Thing::Manifest(at, digest.clone()), None)];
        changes.extend(tags.iter().map(|tag| (Thing::Tag(at, tag), None)));
        self.acknowledged(begun, changes);
    }

    async fn delete_blob(&mut self, at: &'static str, digest: &Digest) {
        let begun = self.now();
        assert!(
            self.registry
                .blobs()
                .delete(&Caller::default(), &name(at), digest, DeleteMode::IfUnreferenced)
                .await
                .unwrap()
        );
        self.acknowledged(begun, vec![(Thing::Blob(at, digest.clone()), None)]);
    }

    /// Collects garbage without grace, which removes this many objects that clients could see.
    async fn collect(&mut self, gone: usize) {
        struct Nobody;
        impl GcObserver for Nobody {
            fn found(&mut self, _: GcEvent<'_>) {}
        }
        let things: BTreeSet<Thing> = self
            .requests
            .iter()
            .flat_map(|request| &request.changes)
            .map(|c| c.0.clone())
            .collect();
        let mut before = Vec::new();
        for thing in things {
            if look(&self.registry, &thing).await.unwrap().is_some() {
                before.push(thing);
            }
        }
        // Longer than the resolution of the file system's times.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let begun = self.now();
        let how = Collect {
            grace: Duration::ZERO,
            untagged: portcullis::app::Untagged::Go,
            dry_run: false,
            gently: false,
        };
        self.registry.gc().collect(how, &mut Nobody).await.unwrap();
        let ended = self.now();
        let mut changes = Vec::new();
        for thing in before {
            if look(&self.registry, &thing).await.unwrap().is_none() {
                changes.push((thing, None));
            }
        }
        assert_eq!(changes.len(), gone, "{changes:?}");
        self.requests.push(Request { begun, acknowledged: ended, changes });
    }

    /// Deletes a repository, which has these objects.
    async fn delete_repository(&mut self, at: &'static str, things: Vec<Thing>) {
        let begun = self.now();
        assert!(self.registry.delete_repository(&Caller::default(), &name(at)).await.unwrap());
        self.acknowledged(begun, things.into_iter().map(|thing| (thing, None)).collect());
    }

    fn end(self) -> Told {
        let Self { disk, requests, uploads, content, .. } = self;
        Told { recording: disk.watch().recording(), requests, uploads, content }
    }
}

impl Told {
    /// The permitted states of each object after `end` steps and a power cut.
    fn allowed(&self, end: usize) -> BTreeMap<Thing, BTreeSet<State>> {
        let mut allowed: BTreeMap<Thing, BTreeSet<State>> = BTreeMap::new();
        for request in &self.requests {
            for (thing, state) in &request.changes {
                let states = allowed.entry(thing.clone()).or_insert_with(|| BTreeSet::from([None]));
                if request.acknowledged <= end {
                    states.clear();
                }
                if request.begun < end || request.acknowledged <= end {
                    states.insert(state.clone());
                }
            }
        }
        allowed
    }

    /// Looks for faults in a tree that a power cut after `end` steps left.
    async fn wrong(&self, root: &Path, end: usize) -> Option<String> {
        let registry = open(root);
        let mut wrong = String::new();
        let allowed = self.allowed(end);
        let mut there = BTreeSet::new();
        for (thing, states) in &allowed {
            match look(&registry, thing).await {
                Ok(state) => {
                    if !states.contains(&state) {
                        let _ = writeln!(wrong, "{thing:?} is {state:?}, not one of {states:?}");
                    }
                    if state.is_some() {
                        there.insert(thing.clone());
                    }
                }
                Err(error) => {
                    let _ = writeln!(wrong, "{thing:?}: {error}");
                }
            }
        }
        for thing in &there {
            let Thing::Manifest(at, digest) = thing else { continue };
            let (needs, subject) = &self.content[thing];
            for need in needs.iter().filter(|need| !there.contains(need)) {
                let _ = writeln!(wrong, "{thing:?} is there without {need:?}");
            }
            let Some(subject) = subject else { continue };
            let referrers =
                registry.lists().referrers(&name(at), subject, None, None).await.unwrap();
            if !referrers.descriptors.iter().any(|json| json.contains(digest.hex())) {
                let _ = writeln!(wrong, "{thing:?} is no referrer of its subject");
            }
        }
        for thing in &there {
            // registry:2's collector may delete manifests that the index of no tag names.
            let Thing::Tag(at, tag) = thing else { continue };
            let Ok(Some(digest)) = look(&registry, thing).await else { continue };
            let place = format!(
                "docker/registry/v2/repositories/{at}/_manifests/tags/{tag}/index/sha256/{}/link",
                digest.hex()
            );
            if std::fs::read_to_string(root.join(place)).ok() != Some(digest.to_string()) {
                let _ = writeln!(wrong, "{thing:?} is not in its index");
            }
        }
        for (at, tags) in listed_tags(&registry, &there).await {
            for tag in tags {
                let reference = Reference::Tag(tag.clone());
                if registry.manifests().get(&name(at), &reference).await.unwrap().is_none() {
                    let _ = writeln!(wrong, "{at}:{tag} is listed and is not there");
                }
            }
        }
        for upload in &self.uploads {
            if let Some(trouble) = upload.wrong(&registry, end).await {
                let _ = writeln!(wrong, "{trouble}");
            }
        }
        (!wrong.is_empty()).then_some(wrong)
    }

    /// Checks one of the trees that a power cut after `end` steps may leave.
    async fn try_one(
        &self,
        end: usize,
        without: &[usize],
        fate: impl FnMut() -> Fate,
    ) -> Option<String> {
        let folder = in_memory();
        self.recording.image(end, without, fate).write(folder.path());
        self.wrong(folder.path(), end).await
    }

    /// Checks several of them: without the unsynced changes, with all of them, and with random
    /// parts of them.
    async fn try_all(&self, end: usize, without: &[usize], chances: u64) -> Option<String> {
        for fate in [Fate::Lost, Fate::There] {
            if let Some(wrong) = self.try_one(end, without, || fate).await {
                return Some(format!(
                    "after {end} steps, all that was not synced {fate:?}: {wrong}"
                ));
            }
        }
        for seed in 0..chances {
            let mut chance = noise(seed << 32 | end as u64, 4096).into_iter().cycle();
            // Some lose much, others little.
            let lost = [32, 128, 224, 64][(seed % 4) as usize];
            let fate = || match chance.next().unwrap() {
                byte if byte < lost => Fate::Lost,
                byte if byte % 8 == 0 => Fate::Half,
                _ => Fate::There,
            };
            if let Some(wrong) = self.try_one(end, without, fate).await {
                return Some(format!("after {end} steps, by chance {seed}: {wrong}"));
            }
        }
        None
    }

    async fn survives_a_power_cut_at_any_moment(&self, chances: u64) {
        let steps = self.recording.0.len();
        for end in 0..=steps {
            if let Some(wrong) = self.try_all(end, &[], chances).await {
                panic!("{wrong}");
            }
        }
    }

    /// Leaves each sync out in turn; each time some tree must be wrong. If a request syncs a
    /// directory twice, for one entry and for the next, the second makes up for the first, so both
    /// are left out together. A sync whose absence changes no tree repeats a sync of durable
    /// content.
    async fn needs_every_sync(&self, chances: u64) {
        let steps = self.recording.0.len();
        let (mut tried, mut needless) = (BTreeSet::new(), Vec::new());
        let mut repeated = 0;
        for sync in self.recording.syncs() {
            let request = self.requests.iter().find(|request| sync < request.acknowledged);
            let within = request.map_or(0..steps, |request| request.begun..request.acknowledged);
            let without = self.recording.syncs_of_the_same(sync, within.clone());
            if !tried.insert(without.clone()) {
                continue;
            }
            // First the moments at which it shows soonest: when requests are acknowledged.
            let mut moments: Vec<usize> = self.requests.iter().map(|r| r.acknowledged).collect();
            moments.push(steps);
            moments.extend(sync + 1..=steps);
            let lost = |end, without| self.recording.image(end, without, || Fate::Lost);
            let the_same =
                |end| lost(end, &[][..]).files() == lost(end, without.as_slice()).files();
            if (sync + 1..=steps).all(the_same) {
                repeated += 1;
                continue;
            }
            moments.retain(|&end| end > sync);
            let mut found = false;
            // An object that was removed and created again is missing only if one of the two
            // changes is lost and not the other: if no fault shows at first, more trees are made.
            'found: for chances in [chances, 12 * chances] {
                for end in &moments {
                    if self.try_all(*end, &without, chances).await.is_some() {
                        found = true;
                        break 'found;
                    }
                }
            }
            if !found {
                let Step::Sync { path, .. } = &self.recording.0[sync] else { continue };
                needless.push(format!("{without:?}: {}", path.display()));
            }
        }
        let needed = tried.len() - needless.len() - repeated;
        println!("{steps} steps: {needed} syncs are needed, {repeated} repeat others");
        assert!(needless.is_empty(), "nothing is wrong without these syncs: {needless:#?}");
    }
}

/// The state of an object as a client sees it, with all bytes read.
async fn look(registry: &Registry, thing: &Thing) -> Result<State, String> {
    match thing {
        Thing::Blob(at, named) => {
            let blob =
                registry.blobs().open(&name(at), named).await.map_err(|error| error.to_string())?;
            let Some(blob) = blob else { return Ok(None) };
            let size = blob.size();
            let pieces: Vec<_> = blob.stream(0..size).try_collect().await.unwrap();
            let found = digest(&pieces.concat());
            if found == *named { Ok(Some(found)) } else { Err(format!("its bytes are {found}")) }
        }
        Thing::Manifest(at, digest) => {
            manifest(registry, at, Reference::Digest(digest.clone())).await
        }
        Thing::Tag(at, tag) => {
            manifest(registry, at, Reference::Tag(tag.parse::<Tag>().unwrap())).await
        }
    }
}

async fn manifest(registry: &Registry, at: &str, reference: Reference) -> Result<State, String> {
    let found = registry.manifests().get(&name(at), &reference).await;
    let Some(found) = found.map_err(|error| error.to_string())? else { return Ok(None) };
    let computed = digest(&found.bytes);
    if computed == found.digest {
        Ok(Some(computed))
    } else {
        Err(format!("the bytes of {} are {computed}", found.digest))
    }
}

async fn listed_tags(
    registry: &Registry,
    there: &BTreeSet<Thing>,
) -> BTreeMap<&'static str, Vec<Tag>> {
    let mut listed = BTreeMap::new();
    for thing in there {
        let (Thing::Blob(at, _) | Thing::Manifest(at, _) | Thing::Tag(at, _)) = thing;
        if !listed.contains_key(at) {
            let tags = registry.lists().tags(&name(at), None, 100).await.unwrap();
            listed.insert(*at, tags.map(|page| page.items).unwrap_or_default());
        }
    }
    listed
}

impl Upload {
    /// An upload that a power cut interrupted can be resumed or is gone. It may end with a wrong
    /// digest, since its bytes were not promised; it never becomes a blob of other bytes.
    async fn wrong(&self, registry: &Registry, end: usize) -> Option<String> {
        let (repository, digest) = (name(self.name), digest(&self.bytes));
        let upload = of_ann(&repository, self.id);
        let length = registry.uploads().length(&upload).await.ok()?;
        if self.begun == self.ended {
            return (end >= self.ended).then(|| "a cancelled upload is there again".to_owned());
        }
        if end >= self.ended {
            // Its folder may come back with its files; no client continues it.
            return None;
        }
        let rest = usize::try_from(length).unwrap();
        if rest > self.bytes.len() {
            return Some(format!("the upload has {length} bytes, more than were sent"));
        }
        let rest = chunk(&self.bytes[rest..]);
        use portcullis::registry::Error;
        match registry.uploads().finish(&Caller::default(), &upload, &digest, rest).await {
            Ok(_) => {
                let blob = Thing::Blob(self.name, digest);
                look(registry, &blob).await.err().map(|error| format!("resumed: {blob:?} {error}"))
            }
            Err(Error::DigestMismatch { .. }) => None,
            Err(error) => Some(format!("the upload cannot be resumed: {error}")),
        }
    }
}

const CONFIG: &[u8] = b"{\"config\":1}";
const LAYER: &[u8] = b"a layer";
const OTHER: &[u8] = b"another layer";

/// Pushes, tags that move, deletions.
async fn scenario() -> Told {
    let mut scenario = Scenario::new();
    let config = scenario.push_blob("team/app", CONFIG).await;
    let layer = scenario.push_in_chunks("team/app", LAYER, 3, false).await;
    let first = scenario.put_image("team/app", &["latest", "v1"], (CONFIG, LAYER), None).await;
    // From now on the referrers of the repository are as they were entered.
    let listed = scenario.registry.lists().referrers(&name("team/app"), &first, None, None).await;
    assert!(listed.unwrap().descriptors.is_empty());
    scenario.mount("other", "team/app", &config).await;
    scenario.mount("other", "team/app", &layer).await;
    let elsewhere = scenario.put_image("other", &["latest"], (CONFIG, LAYER), None).await;
    let other = scenario.push_blob("team/app", OTHER).await;
    let second = scenario.put_image("team/app", &["latest"], (CONFIG, OTHER), Some(&first)).await;
    let index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [
            { "mediaType": OCI_MANIFEST, "digest": first.to_string(), "size": 1 },
            { "mediaType": OCI_MANIFEST, "digest": second.to_string(), "size": 1 },
        ],
    });
    let needs = [&first, &second].map(|child| Thing::Manifest("team/app", child.clone()));
    let index = (OCI_INDEX, index.to_string());
    let index = scenario.put("team/app", &["all"], index, (needs.into(), None)).await;
    scenario.cancel("team/app").await;
    scenario.delete_tag("team/app", "v1").await;
    scenario.delete_manifest("team/app", &["all"], &index).await;
    scenario.delete_manifest("team/app", &["latest"], &second).await;
    scenario.delete_blob("team/app", &other).await;
    // Deleted objects are pushed again.
    scenario.push_blob("team/app", OTHER).await;
    scenario.put_image("team/app", &["v1"], (CONFIG, OTHER), Some(&first)).await;
    let things = vec![
        Thing::Blob("other", config),
        Thing::Blob("other", layer),
        Thing::Manifest("other", elsewhere),
        Thing::Tag("other", "latest"),
    ];
    scenario.delete_repository("other", things).await;
    let empty = (OCI_INDEX, empty_index("last"));
    scenario.put("last", &["only"], empty, (Vec::new(), None)).await;
    scenario.end()
}

/// Collections of deleted objects, of unreferenced ones, of everything; and the same pushed again.
async fn collections() -> Told {
    let mut scenario = Scenario::new();
    scenario.push_blob("team/app", CONFIG).await;
    scenario.push_blob("team/app", LAYER).await;
    scenario.push_blob("team/app", OTHER).await;
    let first = scenario.put_image("team/app", &["v1"], (CONFIG, LAYER), None).await;
    let about = scenario.put_image("team/app", &[], (CONFIG, OTHER), Some(&first)).await;
    let index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [{ "mediaType": OCI_MANIFEST, "digest": first.to_string(), "size": 1 }],
    });
    let index = (OCI_INDEX, index.to_string());
    let needs = vec![Thing::Manifest("team/app", first.clone())];
    scenario.put("team/app", &["all"], index, (needs, None)).await;
    scenario.push_blob("other", b"nobody needs it").await;
    scenario.collect(1).await;
    scenario.delete_tag("team/app", "v1").await;
    scenario.collect(0).await;
    scenario.put_image("team/app", &["v2"], (CONFIG, OTHER), None).await;
    scenario.delete_tag("team/app", "all").await;
    // The index, its child, the child's referrers, and the layer that they alone had.
    scenario.collect(4).await;
    scenario.push_blob("team/app", LAYER).await;
    scenario.put_image("team/app", &["v1"], (CONFIG, LAYER), None).await;
    let last = scenario.put_image("team/app", &["v2"], (CONFIG, LAYER), Some(&about)).await;
    scenario.delete_manifest("team/app", &["v1"], &first).await;
    scenario.delete_manifest("team/app", &["v2"], &last).await;
    // The manifest that had the tag first, its layers and all their bytes.
    scenario.collect(4).await;
    scenario.push_blob("team/app", CONFIG).await;
    scenario.push_blob("team/app", LAYER).await;
    scenario.put_image("team/app", &["v1"], (CONFIG, LAYER), None).await;
    scenario.end()
}

/// An upload with a saved hasher, which another process resumes.
async fn long_upload() -> Told {
    let mut scenario = Scenario::new();
    let bytes = noise(7, 5 << 20);
    scenario.push_in_chunks("app", &bytes, (4 << 20) + 5, true).await;
    scenario.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_content_survives_a_power_cut_at_any_moment() {
    scenario().await.survives_a_power_cut_at_any_moment(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sync_of_the_crash_order_is_needed() {
    scenario().await.needs_every_sync(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_cut_in_a_collection_leaves_the_referenced_content() {
    let told = collections().await;
    told.survives_a_power_cut_at_any_moment(3).await;
    told.needs_every_sync(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upload_goes_on_or_is_gone_after_a_power_cut_and_is_never_another_blob() {
    let told = long_upload().await;
    told.survives_a_power_cut_at_any_moment(3).await;
    told.needs_every_sync(5).await;
}
