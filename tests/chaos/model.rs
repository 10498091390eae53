//! The content that the registry must have, as far as its responses determine it.
//!
//! Every blob, manifest and tag of a repository is a [`Key`] that leads to a digest or to nothing.
//! For each key the model keeps every world that the responses so far allow: where the key leads,
//! and which of the requests under way have taken effect in it. A request may take effect at any
//! moment between its first byte and its response; a response rules out the worlds in which it did
//! not. When no world is left, no order of the requests explains the responses.
//!
//! A kill ends the requests under way: each has taken effect or never will. The state of the tree
//! must then be one of the worlds, and is the only world from there on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{collector::Collecting, content::Digest};

/// A link of a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) repository: String,
    pub(crate) name: Name,
}

/// The name of a link in its repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    Blob(Digest),
    Manifest(Digest),
    Tag(String),
}

impl Key {
    pub(crate) fn blob(repository: &str, digest: &Digest) -> Self {
        Self { repository: repository.to_owned(), name: Name::Blob(digest.clone()) }
    }

    pub(crate) fn manifest(repository: &str, digest: &Digest) -> Self {
        Self { repository: repository.to_owned(), name: Name::Manifest(digest.clone()) }
    }

    pub(crate) fn tag(repository: &str, tag: &str) -> Self {
        Self { repository: repository.to_owned(), name: Name::Tag(tag.to_owned()) }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Name::Blob(digest) => write!(f, "{}: blob {digest}", self.repository),
            Name::Manifest(digest) => write!(f, "{}: manifest {digest}", self.repository),
            Name::Tag(tag) => write!(f, "{}: tag {tag}", self.repository),
        }
    }
}

/// The effect of a request on a key.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// Reports where it leads.
    Look,
    /// The same with a lease: no collection takes it while this server lives.
    Promise,
    /// Makes it lead somewhere.
    Set(Digest),
    /// Removes it, and reports whether it existed.
    Clear,
    /// Removes it if it leads there.
    ClearIf(Digest),
    /// Removes it with the whole repository.
    Wipe,
}

/// The response to a request.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// It has taken effect.
    Done,
    /// The object to delete did not exist.
    Absent,
    /// It has changed nothing.
    Refused,
    /// It reports where the key leads.
    Saw(Option<Digest>),
    /// It has changed nothing and its response says nothing.
    Nothing,
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Op {
    id: u64,
    keys: Vec<Key>,
}

/// Where a register leads, and what the requests that have taken effect saw.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    value: Option<Digest>,
    /// Whether a client may rely on it since this server has started.
    promised: bool,
    done: BTreeMap<u64, Option<Digest>>,
}

#[derive(Debug)]
struct Register {
    worlds: BTreeSet<World>,
    pending: BTreeMap<u64, Effect>,
    /// Whether a collection may take it.
    loss: Loss,
    /// The events since the last kill, for the diagnosis of a failure.
    history: Vec<String>,
}

/// The content that a collection may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Loss {
    /// Nothing.
    #[default]
    Never,
    /// Content on which no client may rely.
    Unpromised,
    /// Anything.
    Ever,
}

/// The keys of one tree.
#[derive(Debug, Default)]
pub(crate) struct Model {
    registers: BTreeMap<Key, Register>,
    next: u64,
    /// The keys that clients began to delete since the last kill.
    deleting: BTreeSet<Key>,
    /// The repositories that clients began to delete since the last kill.
    wiped: BTreeSet<String>,
    /// The repositories that are being deleted, by request, and the keys that appeared meanwhile.
    wipes: BTreeMap<u64, (String, Vec<Key>)>,
    /// Manifests that were seen without referenced content, which a client had deleted.
    pub(crate) dangling: BTreeSet<(Key, Key)>,
    /// How garbage is collected.
    collecting: Option<Collecting>,
}

impl Model {
    /// Sets how garbage is collected from now on. Manifests must still be complete: a collection
    /// may take only content whose absence no client can see.
    pub(crate) fn collects(&mut self, collecting: Collecting) {
        self.collecting = Some(collecting);
        for (key, register) in &mut self.registers {
            register.loss = Loss::of(key, self.collecting);
            register.expand();
        }
    }

    /// Whether content that certainly exists now may be refused as missing in a moment.
    pub(crate) fn is_graceless(&self) -> bool {
        self.collecting.is_some_and(|collecting| collecting.graceless)
    }

    /// Whether a client began to delete it since the last kill.
    pub(crate) fn is_deleting(&self, key: &Key) -> bool {
        self.deleting.contains(key) || self.wiped.contains(&key.repository)
    }

    /// After a kill nothing is being deleted.
    pub(crate) fn forget_deletions(&mut self) {
        self.deleting.clear();
        self.wiped.clear();
    }

    /// Whether an upload of the repository may have been deleted with it.
    pub(crate) fn may_have_lost_uploads(&self, repository: &str) -> bool {
        self.wiped.contains(repository)
    }

    /// Begins to delete a repository.
    pub(crate) fn begin_wipe(&mut self, repository: &str) -> Op {
        self.wiped.insert(repository.to_owned());
        let of = |key: &&Key| key.repository == repository;
        let keys: Vec<Key> = self.registers.keys().filter(of).cloned().collect();
        let op = self.begin(keys.into_iter().map(|key| (key, Effect::Wipe)).collect());
        self.wipes.insert(op.id, (repository.to_owned(), Vec::new()));
        op
    }

    /// A key that was unknown when the deletion of its repository began is deleted as well.
    fn join_wipes(&mut self, key: &Key) {
        for (id, (repository, came)) in &mut self.wipes {
            if *repository == key.repository && !self.registers.contains_key(key) {
                came.push(key.clone());
                self.registers.entry(key.clone()).or_default().begin(*id, Effect::Wipe);
            }
        }
    }

    /// Begins a request. The client must call this before it sends the request.
    pub(crate) fn begin(&mut self, effects: Vec<(Key, Effect)>) -> Op {
        self.next += 1;
        let id = self.next;
        effects.iter().for_each(|(key, _)| self.join_wipes(key));
        let keys = effects.iter().map(|(key, _)| key.clone()).collect();
        for (key, effect) in effects {
            if matches!(effect, Effect::Clear) && !matches!(key.name, Name::Tag(_)) {
                self.deleting.insert(key.clone());
            }
            let loss = Loss::of(&key, self.collecting);
            let register = self.registers.entry(key).or_default();
            register.loss = loss;
            register.begin(id, effect);
        }
        Op { id, keys }
    }

    /// Ends a request with its response. A request without one stays under way until
    /// [`Model::cut`].
    ///
    /// # Errors
    ///
    /// When the response cannot be true.
    pub(crate) fn end(&mut self, op: Op, end: &End) -> Result<(), String> {
        let came = self.wipes.remove(&op.id).map(|(_, came)| came);
        for key in op.keys.into_iter().chain(came.into_iter().flatten()) {
            let register = self.registers.get_mut(&key).unwrap();
            register.end(op.id, end).map_err(|why| format!("{key}: {why}"))?;
        }
        Ok(())
    }

    /// Ends the requests under way, since the server is dead; returns their number.
    pub(crate) fn cut(&mut self) -> usize {
        let mut cut = BTreeSet::new();
        for register in self.registers.values_mut() {
            cut.extend(std::mem::take(&mut register.pending).into_keys());
            let values = std::mem::take(&mut register.worlds).into_iter().map(|world| world.value);
            register.worlds = values.map(World::new).collect();
            register.loss = Loss::Never;
        }
        self.collecting = None;
        self.wipes.clear();
        cut.len()
    }

    /// Takes the tree of a dead server as the truth.
    ///
    /// # Errors
    ///
    /// When the responses do not allow it.
    pub(crate) fn settle(&mut self, found: &BTreeMap<Key, Digest>) -> Result<(), String> {
        for key in found.keys() {
            self.registers.entry(key.clone()).or_default();
        }
        for (key, register) in &mut self.registers {
            let seen = World::new(found.get(key).cloned());
            if !register.worlds.iter().any(|world| world.value == seen.value) {
                return Err(format!("{key}: found {:?}, {}", seen.value, register.describe()));
            }
            register.worlds = BTreeSet::from([seen]);
            register.history.clear();
        }
        Ok(())
    }

    /// Every key that a request ever concerned.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.registers.keys().cloned().collect()
    }
}

impl Loss {
    fn of(key: &Key, collecting: Option<Collecting>) -> Self {
        let Some(Collecting { graceless, untagged, .. }) = collecting else { return Self::Never };
        match key.name {
            Name::Tag(_) => Self::Never,
            Name::Manifest(_) if !untagged => Self::Never,
            _ if graceless => Self::Ever,
            _ => Self::Unpromised,
        }
    }
}

impl Default for Register {
    fn default() -> Self {
        let worlds = BTreeSet::from([World::new(None)]);
        Self { worlds, pending: BTreeMap::new(), loss: Loss::Never, history: Vec::new() }
    }
}

impl Register {
    fn begin(&mut self, id: u64, effect: Effect) {
        self.history.push(format!("#{id} begins: {effect:?}"));
        self.pending.insert(id, effect);
        self.expand();
    }

    /// Adds the worlds that requests and collections make of the known ones.
    fn expand(&mut self) {
        let mut open: Vec<World> = self.worlds.iter().cloned().collect();
        while let Some(world) = open.pop() {
            if let Some(lost) = world.lost(self.loss)
                && self.worlds.insert(lost.clone())
            {
                open.push(lost);
            }
            for (id, effect) in &self.pending {
                if world.done.contains_key(id) {
                    continue;
                }
                let next = world.after(*id, effect);
                if self.worlds.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
    }

    fn end(&mut self, id: u64, end: &End) -> Result<(), String> {
        self.history.push(format!("#{id} ends: {end:?}"));
        let effect = self.pending.remove(&id).unwrap();
        let before = std::mem::take(&mut self.worlds);
        for mut world in before.iter().cloned() {
            if effect.agrees(end, world.done.remove(&id).as_ref()) {
                self.worlds.insert(world);
            }
        }
        if self.worlds.is_empty() {
            self.worlds = before;
            return Err(format!("no order of the requests explains #{id}, {}", self.describe()));
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let values: BTreeSet<_> = self.worlds.iter().map(|world| &world.value).collect();
        format!("possible was {values:?} after\n  {}", self.history.join("\n  "))
    }
}

impl World {
    const fn new(value: Option<Digest>) -> Self {
        Self { value, promised: false, done: BTreeMap::new() }
    }

    /// The worlds that a collection may make of it.
    fn lost(&self, loss: Loss) -> Option<Self> {
        let may_be = match loss {
            Loss::Never => false,
            Loss::Unpromised => !self.promised,
            Loss::Ever => true,
        };
        (may_be && self.value.is_some()).then(|| Self { value: None, ..self.clone() })
    }

    fn after(&self, id: u64, effect: &Effect) -> Self {
        let mut next = self.clone();
        let mut seen = None;
        match effect {
            Effect::Look => seen.clone_from(&self.value),
            Effect::Promise => {
                seen.clone_from(&self.value);
                next.promised |= seen.is_some();
            }
            Effect::Set(digest) => (next.value, next.promised) = (Some(digest.clone()), true),
            Effect::Clear => seen = next.value.take(),
            Effect::Wipe => next.value = None,
            Effect::ClearIf(digest) => {
                next.value.take_if(|value| value == digest);
            }
        }
        // No client relies on an absent object.
        next.promised &= next.value.is_some();
        next.done.insert(id, seen);
        next
    }
}

impl Effect {
    /// Whether a response is possible in a world in which the effect has taken place and seen
    /// something, or has not taken place.
    fn agrees(&self, end: &End, done: Option<&Option<Digest>>) -> bool {
        match (end, self) {
            (End::Nothing, Self::Look | Self::Promise | Self::Wipe) => true,
            (End::Saw(seen), _) => done == Some(seen),
            (End::Done, Self::Clear) => done.is_some_and(Option::is_some),
            (End::Done, _) => done.is_some(),
            (End::Absent, Self::Clear) => done.is_some_and(Option::is_none),
            (End::Absent | End::Refused | End::Nothing, _) => done.is_none(),
        }
    }
}
