//! What the registry must have, as far as its answers tell.
//!
//! Every blob, manifest and tag of a repository is a [`Key`] that leads to a digest or to nothing.
//! For each key the model keeps every world that the answers so far allow: what the key leads to,
//! and which of the requests under way have taken effect in it. A request may take effect at any
//! moment between its first byte and its answer; an answer rules out the worlds in which it did
//! not. When no world is left, no order of the requests explains the answers.
//!
//! A kill ends the requests under way: each has taken effect or never will. What the tree then has
//! must be in one of the worlds, and is the only world from there on.

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

/// What the link is called.
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

/// What a request does to a key.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// Tells where it leads.
    Look,
    /// The same, and no collection takes it for as long as this server lives.
    Promise,
    /// Makes it lead somewhere.
    Set(Digest),
    /// Removes it, and tells whether it was there.
    Clear,
    /// Removes it if it leads there.
    ClearIf(Digest),
    /// Removes it with the whole repository.
    Wipe,
}

/// How a request was answered.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// It has done what it was to do.
    Done,
    /// What it was to delete was not there.
    Absent,
    /// It has changed nothing.
    Refused,
    /// It has seen where the key leads.
    Saw(Option<Digest>),
    /// It has changed nothing and its answer says nothing.
    Nothing,
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Op {
    id: u64,
    keys: Vec<Key>,
}

/// What a register leads to, and what those requests saw that have taken effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    value: Option<Digest>,
    /// Whether somebody may rely on it since this server has started.
    promised: bool,
    done: BTreeMap<u64, Option<Digest>>,
}

#[derive(Debug)]
struct Register {
    worlds: BTreeSet<World>,
    pending: BTreeMap<u64, Effect>,
    /// Whether a collection may take it.
    loss: Loss,
    /// What happened since the last kill, for whoever must find out why.
    history: Vec<String>,
}

/// What a collection may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Loss {
    /// Nothing.
    #[default]
    Never,
    /// What nobody may rely on.
    Unpromised,
    /// Anything.
    Ever,
}

/// The keys of one tree.
#[derive(Debug, Default)]
pub(crate) struct Model {
    registers: BTreeMap<Key, Register>,
    next: u64,
    /// What clients began to delete since the last kill.
    deleting: BTreeSet<Key>,
    /// The repositories that they did.
    wiped: BTreeSet<String>,
    /// Those that are being deleted, by request, and the keys that came meanwhile.
    wipes: BTreeMap<u64, (String, Vec<Key>)>,
    /// Manifests that were seen without something that they name, for a client had deleted it.
    pub(crate) dangling: BTreeSet<(Key, Key)>,
    /// How it is collected.
    collecting: Option<Collecting>,
}

impl Model {
    /// Says how it is collected from now on. Whether a manifest is complete is checked all the same:
    /// what may be taken is what nobody sees to be missing.
    pub(crate) fn collects(&mut self, collecting: Collecting) {
        self.collecting = Some(collecting);
        for (key, register) in &mut self.registers {
            register.loss = Loss::of(key, self.collecting);
            register.expand();
        }
    }

    /// Whether what is there for certain now may be refused as missing in a moment.
    pub(crate) fn is_graceless(&self) -> bool {
        self.collecting.is_some_and(|collecting| collecting.graceless)
    }

    /// Whether somebody began to delete it since the last kill.
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

    /// What was not known when its repository began to be deleted is deleted all the same.
    fn join_wipes(&mut self, key: &Key) {
        for (id, (repository, came)) in &mut self.wipes {
            if *repository == key.repository && !self.registers.contains_key(key) {
                came.push(key.clone());
                self.registers.entry(key.clone()).or_default().begin(*id, Effect::Wipe);
            }
        }
    }

    /// Begins a request. It has to be told to the model before it is sent.
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

    /// Ends a request that was answered. One that was not stays under way until [`Model::cut`].
    ///
    /// # Errors
    ///
    /// When the answer cannot be true.
    pub(crate) fn end(&mut self, op: Op, end: &End) -> Result<(), String> {
        let came = self.wipes.remove(&op.id).map(|(_, came)| came);
        for key in op.keys.into_iter().chain(came.into_iter().flatten()) {
            let register = self.registers.get_mut(&key).unwrap();
            register.end(op.id, end).map_err(|why| format!("{key}: {why}"))?;
        }
        Ok(())
    }

    /// Ends what is under way, for the server is dead; tells how many requests that were.
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

    /// Takes what a dead server has left behind as the truth.
    ///
    /// # Errors
    ///
    /// When it is not what the answers allow.
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

    /// Every key that a request was ever about.
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

    /// Adds the worlds that requests and collections make of those that are known.
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

    /// What a collection may make of it.
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
        // Where nothing is, nobody relies on it.
        next.promised &= next.value.is_some();
        next.done.insert(id, seen);
        next
    }
}

impl Effect {
    /// Whether an answer can be given where the effect has taken place and seen something, or has
    /// not taken place.
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
