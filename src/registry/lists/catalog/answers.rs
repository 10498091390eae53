//! A cache of pages of the catalog, which also bounds the walks.
//!
//! A page takes a walk through the folders of repositories, one page of them or all. So one of several
//! callers with the same question walks and the others share its page, and the page serves further
//! callers for a second. Callers with different questions wait for one of a few turns, so many callers
//! cost no more than these turns.
//!
//! A page that shows a part only, to a caller who may not see all, is not cached. It waits for a turn of
//! its own kind.
//!
//! A change by this process invalidates the pages: a client whose push has succeeded finds it in the
//! catalog. A change by another process shows a second later.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use moka::{policy::EvictionPolicy, sync::Cache};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use super::CatalogQuery;
use crate::{oci::RepositoryName, registry::Page};

/// How long an answer is valid.
const LIFETIME: Duration = Duration::from_secs(1);

/// The size of all cached answers together, in bytes.
const MAX_KEPT: u64 = 8 * 1024 * 1024;

/// The rough memory overhead of a name, in bytes.
const OVERHEAD: usize = 64;

/// An answer without callers is dropped after this time.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// How many walks of each kind run at a time, for pages, for searches and for filtered ones: a search must
/// not keep a page waiting, and a caller who sees one name of a large tree no other one.
const TURNS: usize = 4;

/// A question: up to `limit` names behind `after` that contain `term`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) after: String,
    pub(super) term: String,
    pub(super) limit: usize,
}

impl From<CatalogQuery<'_>> for Question {
    fn from(CatalogQuery { after, term, limit }: CatalogQuery<'_>) -> Self {
        Self { after: after.to_owned(), term: term.to_owned(), limit }
    }
}

#[derive(Debug)]
struct Answer {
    /// The number of changes when the walk began.
    changes: u64,
    /// When the walk ended.
    at: Instant,
    page: Arc<Page<RepositoryName>>,
}

/// The cached answers, and the turns for walks.
#[derive(Debug)]
pub(in crate::registry::lists) struct Answers {
    kept: Cache<Question, Arc<Answer>>,
    /// One for each part of the range of hashes, so that equal questions share a turn.
    pages: [Semaphore; TURNS],
    searches: [Semaphore; TURNS],
    filtered: [Semaphore; TURNS],
    hashes: RandomState,
}

impl Default for Answers {
    fn default() -> Self {
        let weight = |question: &Question, answer: &Arc<Answer>| {
            let names = answer.page.items.iter().map(|name| name.as_str().len() + OVERHEAD);
            let asked = question.after.len() + question.term.len() + 4 * OVERHEAD;
            u32::try_from(names.sum::<usize>() + asked).unwrap_or(u32::MAX)
        };
        let kept = Cache::builder()
            .weigher(weight)
            .max_capacity(MAX_KEPT)
            .time_to_live(FORGOTTEN)
            // The default policy would not admit a question that is new.
            .eviction_policy(EvictionPolicy::lru());
        let turns = || [(); TURNS].map(|()| Semaphore::new(1));
        Self {
            kept: kept.build(),
            pages: turns(),
            searches: turns(),
            filtered: turns(),
            hashes: RandomState::new(),
        }
    }
}

/// The time of a call, and the number of changes at that time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    changes: u64,
    at: Instant,
}

impl Answers {
    /// A call now, after so many changes of the catalog.
    pub(super) fn asked(changes: u64) -> Asked {
        Asked { changes, at: Instant::now() }
    }

    /// The cached answer, if it is valid for a call at that time.
    pub(super) fn known(
        &self,
        question: &Question,
        asked: Asked,
    ) -> Option<Arc<Page<RepositoryName>>> {
        let answer = self.kept.get(question)?;
        // A caller that waited for the walk takes its answer, however long the walk took.
        let is_young = answer.at >= asked.at || answer.at.elapsed() < LIFETIME;
        (answer.changes >= asked.changes && is_young).then(|| Arc::clone(&answer.page))
    }

    /// Caches the answer of a walk that began at the time of the call.
    pub(super) fn keep(&self, question: Question, began: Asked, page: &Arc<Page<RepositoryName>>) {
        let changes = began.changes;
        let at = Instant::now();
        let page = Arc::clone(page);
        self.kept.insert(question, Arc::new(Answer { changes, at, page }));
    }

    /// Waits for the turn to walk for a question.
    pub(super) async fn turn(&self, question: &Question) -> Option<SemaphorePermit<'_>> {
        let turns = if question.term.is_empty() { &self.pages } else { &self.searches };
        self.turn_among(turns, question).await
    }

    /// Waits for the turn to walk for the part of an answer that a filter passes.
    pub(super) async fn filtered_turn(&self, question: &Question) -> Option<SemaphorePermit<'_>> {
        self.turn_among(&self.filtered, question).await
    }

    async fn turn_among<'a>(
        &self,
        turns: &'a [Semaphore; TURNS],
        question: &Question,
    ) -> Option<SemaphorePermit<'a>> {
        let hash = usize::try_from(self.hashes.hash_one(question) % TURNS as u64).unwrap_or(0);
        // The semaphores are never closed.
        turns[hash].acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::{
        oci::{Algorithm, Digest},
        registry::{Caller, Options, Registry, Shown, SystemClock, tree::TreeKey},
        storage::{Durability, Storage as _, memory::Memory},
    };

    fn digest() -> Digest {
        Digest::of(Algorithm::Sha256, b"")
    }

    /// Creates a repository as another process does.
    async fn push_elsewhere(memory: &Memory, name: &str) {
        let key = TreeKey::Revision(&name.parse().unwrap(), &digest()).key();
        memory.put(&key, Bytes::new(), Durability::Lazy).await.unwrap();
    }

    async fn push_here(registry: &Registry, name: &str) {
        let name = name.parse().unwrap();
        registry.tree().set_link(TreeKey::Revision(&name, &digest()), &digest()).await.unwrap();
    }

    async fn page(
        registry: &Registry,
        after: &str,
        term: &str,
        limit: usize,
    ) -> Arc<Page<RepositoryName>> {
        let query = CatalogQuery { after, term, limit };
        registry.lists().repositories(query, Shown::All).await.unwrap()
    }

    async fn all(registry: &Registry, term: &str) -> Vec<String> {
        let page = page(registry, "", term, 9).await;
        page.items.iter().map(ToString::to_string).collect()
    }

    fn registry() -> (Memory, Registry) {
        let memory = Memory::default();
        let storage = Arc::new(memory.clone());
        let registry = Registry::new(storage, Arc::new(SystemClock), Options::default());
        (memory, registry)
    }

    #[tokio::test(start_paused = true)]
    async fn answer_is_repeated_for_a_second() {
        let (memory, registry) = registry();
        push_elsewhere(&memory, "a").await;
        for term in ["", "a"] {
            assert_eq!(all(&registry, term).await, ["a"]);
        }
        push_elsewhere(&memory, "aa").await;
        tokio::time::advance(LIFETIME - Duration::from_millis(1)).await;
        for term in ["", "a"] {
            assert_eq!(all(&registry, term).await, ["a"]);
        }
        // Other parameters have an answer of their own.
        assert_eq!(page(&registry, "a", "", 9).await.items.len(), 1);
        assert_eq!(page(&registry, "", "", 8).await.items.len(), 2);
        tokio::time::advance(Duration::from_millis(1)).await;
        for term in ["", "a"] {
            assert_eq!(all(&registry, term).await, ["a", "aa"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn changes_of_this_process_are_listed_at_once() {
        let (_, registry) = registry();
        assert!(all(&registry, "").await.is_empty());
        push_here(&registry, "a").await;
        push_here(&registry, "b").await;
        assert_eq!(all(&registry, "").await, ["a", "b"]);
        assert!(
            registry.delete_repository(&Caller::default(), &"a".parse().unwrap()).await.unwrap()
        );
        assert_eq!(all(&registry, "").await, ["b"]);
        let name = "b".parse().unwrap();
        assert!(registry.manifests().delete(&Caller::default(), &name, &digest()).await.unwrap());
        assert!(all(&registry, "").await.is_empty());
    }

    /// A request after a change must not get the result of a walk that began before the change.
    #[tokio::test(start_paused = true)]
    async fn walk_that_a_change_overtakes_answers_earlier_requests_only() {
        let answers = Answers::default();
        let question = Question { after: String::new(), term: String::new(), limit: 1 };
        let page = Arc::new(Page { items: Vec::new(), more: false });
        let before = Answers::asked(0);
        let began = Answers::asked(0);
        tokio::time::advance(LIFETIME * 3).await;
        let after = Answers::asked(1);
        answers.keep(question.clone(), began, &page);
        assert!(answers.known(&question, before).is_some(), "however long the walk took");
        assert!(answers.known(&question, after).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn request_waits_for_an_equal_one_and_not_for_a_search() {
        let answers = Answers::default();
        let question = |term: &str| Question { after: String::new(), term: term.into(), limit: 1 };
        let first = answers.turn(&question("")).await;
        let wait = Duration::from_secs(3600);
        assert!(tokio::time::timeout(wait, answers.turn(&question(""))).await.is_err());
        assert!(tokio::time::timeout(wait, answers.turn(&question("a"))).await.is_ok());
        drop(first);
        assert!(tokio::time::timeout(wait, answers.turn(&question(""))).await.is_ok());
    }

    #[tokio::test]
    async fn kept_answers_are_bounded() {
        let answers = Answers::default();
        let name: RepositoryName = "x".repeat(200).parse().unwrap();
        let page = Arc::new(Page { items: vec![name; 1000], more: false });
        for n in 0..500 {
            let question = Question { after: n.to_string(), term: String::new(), limit: 1 };
            answers.keep(question, Answers::asked(0), &page);
        }
        answers.kept.run_pending_tasks();
        assert!(answers.kept.weighted_size() <= MAX_KEPT);
        assert!(answers.kept.entry_count() > 10);
    }
}
