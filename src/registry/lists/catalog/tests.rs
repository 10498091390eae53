use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    oci::Digest,
    registry::{Filter, Options, Registry, SystemClock, tree::TreeKey},
    storage::{Durability, Storage as _, memory::Memory},
};

const NAME: &str = "[ab]([-.][ab]){0,2}(/[ab]([-.][ab])?){0,2}";

fn registry(names: &[String]) -> (tokio::runtime::Runtime, Registry) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let memory = Memory::default();
    let digest = Digest::of(Algorithm::Sha256, b"");
    for name in names {
        let key = TreeKey::Revision(&name.parse().unwrap(), &digest).key();
        runtime.block_on(memory.put(&key, Bytes::new(), Durability::Lazy)).unwrap();
    }
    (runtime, Registry::new(Arc::new(memory), Arc::new(SystemClock), Options::default()))
}

/// Passes the names that begin with a text and end in one.
#[derive(Debug)]
struct Between {
    beginnings: Vec<String>,
    end: &'static str,
}

impl Filter for Between {
    fn passes(&self, name: &RepositoryName) -> bool {
        let name = name.as_str();
        name.ends_with(self.end) && self.beginnings.iter().any(|text| name.starts_with(text))
    }

    fn prefixes(&self) -> Vec<String> {
        self.beginnings.clone()
    }
}

proptest! {
    #[test]
    fn page_has_the_next_sorted_names(
        names in proptest::collection::btree_set(NAME, 0..20),
        after in "([ab./-]{0,5}|\\PC{0,3})", limit in 0_usize..8,
    ) {
        let names: Vec<String> = names.into_iter().collect();
        let (runtime, registry) = registry(&names);
        let query = CatalogQuery { after: &after, term: "", limit };
        let page = runtime.block_on(registry.lists().repositories(query, Shown::All)).unwrap();
        let expected: Vec<&String> = names.iter().filter(|name| **name > after).collect();
        let found: Vec<String> = page.items.iter().map(ToString::to_string).collect();
        prop_assert_eq!(found.iter().collect::<Vec<_>>(), &expected[..limit.min(expected.len())]);
        prop_assert_eq!(page.more, expected.len() > limit);
    }

    #[test]
    fn page_is_full_of_the_names_that_are_shown(
        names in proptest::collection::btree_set(NAME, 0..20),
        beginnings in proptest::collection::vec("[ab./-]{0,4}", 0..4),
        end in prop_oneof![Just(""), Just("a")],
        after in "[ab./-]{0,5}", limit in 0_usize..8,
    ) {
        let names: Vec<String> = names.into_iter().collect();
        let (runtime, registry) = registry(&names);
        let filter = Between { beginnings, end };
        let query = CatalogQuery { after: &after, term: "", limit };
        let shown = registry.lists().repositories(query, Shown::Only(&filter));
        let page = runtime.block_on(shown).unwrap();
        let is_shown = |name: &&String| **name > after && filter.passes(&name.parse().unwrap());
        let expected: Vec<&String> = names.iter().filter(is_shown).collect();
        let found: Vec<String> = page.items.iter().map(ToString::to_string).collect();
        prop_assert_eq!(found.iter().collect::<Vec<_>>(), &expected[..limit.min(expected.len())]);
        prop_assert_eq!(page.more, expected.len() > limit);
    }
}

/// The cache has the page of everything, which the next caller may not see.
#[test]
fn cached_page_is_not_shown_to_another_caller() {
    let (runtime, registry) = registry(&["a/one", "b/one"].map(str::to_owned));
    let query = CatalogQuery { after: "", term: "one", limit: 9 };
    let names = |shown: Shown<'_>| {
        let page = runtime.block_on(registry.lists().repositories(query, shown)).unwrap();
        page.items.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let of = |beginning: &str| Between { beginnings: vec![beginning.to_owned()], end: "" };
    assert_eq!(names(Shown::Only(&of("a/"))), ["a/one"]);
    assert_eq!(names(Shown::All), ["a/one", "b/one"]);
    assert_eq!(names(Shown::Only(&of("b/"))), ["b/one"]);
    assert_eq!(names(Shown::Only(&of("c/"))), [""; 0]);
    assert_eq!(names(Shown::All), ["a/one", "b/one"]);
}

/// The storage that the walk sees: the folders that it lists.
#[test]
fn walk_reads_no_folder_that_no_shown_name_is_in() {
    let (runtime, registry) = registry(&["a/one", "b/c/one", "b/d", "x"].map(str::to_owned));
    let listed = |beginnings: &[&str]| {
        let beginnings = beginnings.iter().map(ToString::to_string).collect();
        let filter = Between { beginnings, end: "" };
        let prefixes = Shown::Only(&filter).prefixes();
        let tree = registry.tree();
        let walks = prefixes.iter().map(|prefix| {
            let walk = Walk::below(tree, prefix, "");
            walk.levels[0].prefix.clone()
        });
        walks.collect::<Vec<_>>()
    };
    assert_eq!(listed(&["b/c/", "a/", "a/one"]), ["a/", "b/c/"]);
    assert_eq!(listed(&["b/c"]), ["b/"]);
    assert_eq!(listed(&["", "b/"]), [""]);
    let filter = Between { beginnings: vec!["b/c/".to_owned()], end: "one" };
    let query = CatalogQuery { after: "", term: "", limit: 9 };
    let page = runtime.block_on(registry.lists().repositories(query, Shown::Only(&filter)));
    let names: BTreeSet<String> = page.unwrap().items.iter().map(ToString::to_string).collect();
    assert_eq!(names, BTreeSet::from(["b/c/one".to_owned()]));
}
