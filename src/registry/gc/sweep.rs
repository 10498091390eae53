//! The sweep phase: it removes the bytes of digests that are not marked.

use std::{
    collections::HashMap,
    time::{Instant, SystemTime},
};

use super::{
    Collection, GcEvent,
    mark_set::{Id, Mark},
};
use crate::{
    oci::{Algorithm, Digest},
    registry::{
        Error, Stored,
        tree::{blobs, stripe},
    },
    storage::{Durability, Key, Look, Seen},
};

/// The name of the bytes in the folder of their digest.
const DATA: &str = "data";

/// How many folders one survey covers.
const BATCH: usize = 16;

/// Unmarked blobs in one folder.
struct Heap {
    folder: Key,
    algorithm: Algorithm,
    /// The names and lengths of blobs that go.
    blobs: Vec<(String, u64)>,
    /// Names of folders without bytes.
    leftovers: Vec<String>,
    /// The bytes of blobs that only the grace period keeps, and when that ends.
    young: u64,
    young_until: Option<SystemTime>,
}

impl Collection<'_> {
    /// Removes the bytes of unmarked digests, and counts those that stay.
    pub(super) async fn sweep(&mut self) -> Result<(), Error> {
        let mut heaps = Vec::new();
        let mut stored = Stored::default();
        for algorithm in Algorithm::ALL {
            self.find(algorithm, &mut heaps, &mut stored).await?;
        }
        let blobs = heaps.iter().map(|heap| heap.blobs.len()).sum();
        let marked = self.marks.len();
        let manifests = self.collected.manifests;
        self.watch.found(GcEvent::Totals { marked, blobs, manifests });
        for heap in heaps {
            if self.watch.is_over() {
                return Ok(());
            }
            let began = Instant::now();
            self.clear(heap).await?;
            self.rest(began).await?;
        }
        stored.bytes = stored.bytes.saturating_sub(self.collected.bytes);
        self.stored = Some(stored);
        Ok(())
    }

    /// Finds unmarked blobs older than the grace period, and adds up what is `stored`.
    async fn find(
        &mut self,
        algorithm: Algorithm,
        heaps: &mut Vec<Heap>,
        stored: &mut Stored,
    ) -> Result<(), Error> {
        let tree = self.tree;
        let storage = tree.storage();
        let top = blobs().child(algorithm.as_str());
        let starts = storage.survey(vec![Look { folder: top.clone(), object: None }]).await?;
        let mut folders: Vec<Key> =
            starts.iter().flatten().map(|start| top.child(&start.name)).collect();
        folders.sort_unstable();
        for some in folders.chunks(BATCH) {
            let began = Instant::now();
            let look = |folder: &Key| {
                [None, Some(DATA)].map(|object| Look { folder: folder.clone(), object })
            };
            let mut seen = storage.survey(some.iter().flat_map(look).collect()).await?.into_iter();
            for folder in some {
                let entries = seen.next().unwrap_or_default();
                let length = |Seen { name, object, .. }: Seen| Some((name, object?.0));
                let lengths: HashMap<String, u64> =
                    seen.next().unwrap_or_default().into_iter().filter_map(length).collect();
                let mut unmarked = Vec::new();
                for Seen { name, .. } in entries.into_iter().filter(|entry| entry.is_prefix) {
                    if Digest::from_parts(algorithm.as_str(), &name).is_err() {
                        continue;
                    }
                    let length = lengths.get(&name).copied().unwrap_or_default();
                    stored.bytes += length;
                    match self.marks.of(Id::from_parts(algorithm, &name)) {
                        None => unmarked.push(name),
                        Some(mark) => {
                            stored.referenced += length;
                            self.count(mark, length);
                        }
                    }
                }
                if !unmarked.is_empty() {
                    let heap = self.judge_bytes(folder, algorithm, unmarked).await?;
                    self.collected.graced.bytes += heap.young;
                    heap.young_until
                        .into_iter()
                        .for_each(|until| self.collected.graced.until(until));
                    heaps.push(heap);
                }
            }
            self.rest(began).await?;
        }
        Ok(())
    }

    /// Counts the bytes of a blob that stays without being needed.
    const fn count(&mut self, mark: Mark, length: u64) {
        match mark {
            Mark::Needed => {}
            Mark::Untagged => self.collected.untagged.bytes += length,
            Mark::Grace => self.collected.graced.bytes += length,
        }
    }

    /// Keeps of unmarked names those that are old enough, and those without bytes.
    async fn judge_bytes(
        &self,
        folder: &Key,
        algorithm: Algorithm,
        unmarked: Vec<String>,
    ) -> Result<Heap, Error> {
        let look = Look { folder: folder.clone(), object: Some(DATA) };
        let seen = self.tree.storage().survey(vec![look]).await?;
        let with_bytes: HashMap<String, _> =
            seen.into_iter().flatten().map(|Seen { name, object, .. }| (name, object)).collect();
        let mut heap = Heap {
            folder: folder.clone(),
            algorithm,
            blobs: Vec::new(),
            leftovers: Vec::new(),
            young: 0,
            young_until: None,
        };
        for name in unmarked {
            match with_bytes.get(&name).copied().flatten() {
                Some((length, since)) if since < self.limits.bytes => {
                    heap.blobs.push((name, length));
                }
                Some((length, since)) => {
                    heap.young += length;
                    heap.young_until = heap.young_until.max(Some(since + self.how.grace));
                }
                None => heap.leftovers.push(name),
            }
        }
        heap.blobs.sort_unstable();
        Ok(heap)
    }

    /// Removes the blobs of a heap that are still unmarked and old. The closed stripe keeps pushes
    /// that link these bytes out, and a push that linked them since the collection began has renewed
    /// them.
    async fn clear(&mut self, mut heap: Heap) -> Result<(), Error> {
        if let Some(run) = &self.run {
            let start = heap.folder.as_str().rsplit('/').next().unwrap_or_default();
            let closed = run.sweep(stripe(start)).await?;
            // If the clock ran backwards, renewed bytes could look old.
            if self.tree.storage().time().await? < self.limits.began {
                return Err(Error::ClockWentBack);
            }
            let names = heap.blobs.into_iter().map(|(name, _)| name).chain(heap.leftovers);
            heap = self.judge_bytes(&heap.folder, heap.algorithm, names.collect()).await?;
            let folder = &heap.folder;
            heap.blobs.retain(|(name, _)| !closed.is_relied_on(&folder.child(name).child(DATA)));
            let blobs = heap.blobs.iter().map(|(name, _)| name);
            let names = blobs.chain(&heap.leftovers).cloned().collect();
            // Bytes that a power cut brings back are still garbage.
            closed.delete_below(&heap.folder, names, Durability::Lazy).await?;
            closed.open().await?;
        }
        for (hex, length) in &heap.blobs {
            if let Ok(digest) = Digest::from_parts(heap.algorithm.as_str(), hex) {
                self.watch.found(GcEvent::Bytes(&digest));
                self.collected.blobs += 1;
                self.collected.bytes += length;
            }
        }
        Ok(())
    }
}
