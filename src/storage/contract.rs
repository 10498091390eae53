//! What every backend must do. A backend's tests call [`all`] with a fresh, empty storage, and with the same
//! storage as another process has it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::{
    Durability, Entry, ErrorKind, Holders, Key, Look, Note, STARTED_AT, Staged, Storage,
    fences::{Closed, Fenced, Part, Reliance, Run, Stripe, Validity},
};

mod fences;
mod staging;

pub(super) async fn all(storage: &dyn Storage, other: &dyn Storage) {
    absent_object_is_none(storage).await;
    object_that_was_put_is_read_and_replaced(storage).await;
    object_is_read_in_ranges(storage).await;
    open_object_outlives_its_deletion(storage).await;
    relocated_object_is_at_its_new_key(storage).await;
    staging::all(storage).await;
    lists_are_sorted_and_paged(storage).await;
    holders_are_those_that_hold(storage).await;
    deletion_reaches_what_it_names(storage).await;
    some_are_deleted_and_others_stay(storage).await;
    discarded_object_is_gone(storage).await;
    pruning_upward_takes_no_object(storage).await;
    times_go_on(storage).await;
    survey_sees_every_object(storage).await;
    fences::all(storage, other).await;
    unsafe_keys_are_refused(storage).await;
}

fn key(path: &str) -> Key {
    Key::new(path.to_owned())
}

async fn put(storage: &dyn Storage, path: &str, bytes: &'static [u8]) {
    storage.put(&key(path), Bytes::from_static(bytes), Durability::Synced).await.unwrap();
}

/// A closed fence, through which anything can be deleted.
async fn closed(storage: &dyn Storage) -> Box<dyn Closed> {
    let repository = Fenced { key: key("any"), stripe: Stripe::of(63) };
    storage.fences().close(repository).await.unwrap()
}

async fn read(storage: &dyn Storage, path: &str) -> Option<Bytes> {
    storage.read(&key(path), 1 << 20).await.unwrap()
}

async fn absent_object_is_none(storage: &dyn Storage) {
    let closed = closed(storage).await;
    put(storage, "absent/file", b"").await;
    for path in ["nothing", "nothing/below", "absent", "absent/file/below"] {
        assert_eq!(read(storage, path).await, None, "{path}");
        assert_eq!(storage.size(&key(path)).await.unwrap(), None, "{path}");
        assert!(storage.open(&key(path)).await.unwrap().is_none(), "{path}");
    }
    assert!(!closed.delete(&key("nothing")).await.unwrap());
    closed.delete_all(&key("nothing")).await.unwrap();
    assert_eq!(storage.list(&key("nothing"), None, 10).await.unwrap(), []);
    assert!(storage.relocate(&key("nothing"), &key("something")).await.is_err());
}

async fn object_that_was_put_is_read_and_replaced(storage: &dyn Storage) {
    put(storage, "put/a/b", b"one").await;
    assert_eq!(read(storage, "put/a/b").await.unwrap(), "one");
    put(storage, "put/a/b", b"three").await;
    assert_eq!(read(storage, "put/a/b").await.unwrap(), "three");
    assert_eq!(storage.size(&key("put/a/b")).await.unwrap(), Some(5));
    storage.put(&key("put/lazy"), Bytes::new(), Durability::Lazy).await.unwrap();
    assert_eq!(read(storage, "put/lazy").await.unwrap(), "");
    let longer = storage.read(&key("put/a/b"), 4).await.unwrap_err();
    assert_eq!(longer.kind(), ErrorKind::TooLong);
    assert_eq!(storage.list(&key("put/a"), None, 9).await.unwrap().len(), 1, "nothing beside it");
}

async fn object_is_read_in_ranges(storage: &dyn Storage) {
    let bytes: Bytes = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    storage.put(&key("ranges"), bytes.clone(), Durability::Lazy).await.unwrap();
    let length = bytes.len() as u64;
    for range in [0..length, 0..1, 1..1, length - 1..length, 262_143..262_145, length..length] {
        let object = storage.open(&key("ranges")).await.unwrap().unwrap();
        assert_eq!(object.size(), length);
        let pieces: Vec<Bytes> = object.stream(range.clone()).try_collect().await.unwrap();
        let expected = &bytes[range.start as usize..range.end as usize];
        assert!(pieces.concat() == expected, "{range:?}");
    }
}

async fn open_object_outlives_its_deletion(storage: &dyn Storage) {
    let closed = closed(storage).await;
    put(storage, "deleted", b"still here").await;
    let object = storage.open(&key("deleted")).await.unwrap().unwrap();
    assert!(closed.delete(&key("deleted")).await.unwrap());
    let pieces: Vec<Bytes> = object.stream(0..10).try_collect().await.unwrap();
    assert_eq!(pieces.concat(), b"still here");
}

async fn relocated_object_is_at_its_new_key(storage: &dyn Storage) {
    put(storage, "promote/from", b"new").await;
    put(storage, "promote/to/data", b"old").await;
    storage.relocate(&key("promote/from"), &key("promote/to/data")).await.unwrap();
    assert_eq!(read(storage, "promote/from").await, None);
    assert_eq!(read(storage, "promote/to/data").await.unwrap(), "new");
    storage.relocate(&key("promote/to/data"), &key("promote/far/away/data")).await.unwrap();
    assert_eq!(read(storage, "promote/far/away/data").await.unwrap(), "new");
}

async fn lists_are_sorted_and_paged(storage: &dyn Storage) {
    for path in ["list/b", "list/a-b/x", "list/a/x", "list/a/y", "list/C"] {
        put(storage, path, b"").await;
    }
    let entry = |name: &str, is_prefix| Entry { name: name.to_owned(), is_prefix };
    let all = [entry("C", false), entry("a", true), entry("a-b", true), entry("b", false)];
    let list = async |after, limit| storage.list(&key("list"), after, limit).await.unwrap();
    assert_eq!(list(None, 100).await, all);
    assert_eq!(list(None, 2).await, all[..2]);
    assert_eq!(list(Some("a"), 1).await, all[2..3]);
    assert_eq!(list(Some("aa"), 9).await, all[3..]);
    assert_eq!(list(Some("b"), 9).await, []);
    assert_eq!(list(None, 0).await, []);
}

async fn holders_are_those_that_hold(storage: &dyn Storage) {
    for path in ["hold/a/x/y", "hold/b/x", "hold/c/x/y/z", "hold/d/x/y", "hold/e/x/y", "hold/f"] {
        put(storage, path, b"").await;
    }
    let list =
        async |after, limit| storage.list_holders(&key("hold"), "x/y", after, limit).await.unwrap();
    let holders = async |after, limit| list(after, limit).await.names;
    // Twice: the second may be given from memory.
    for _ in 0..2 {
        assert_eq!(holders(None, 9).await, ["a", "d", "e"]);
        assert_eq!(holders(None, 2).await, ["a", "d"]);
        assert_eq!(holders(Some("a"), 1).await, ["d"]);
        assert_eq!(holders(Some("e"), 9).await, [""; 0]);
    }
    assert_eq!(list(None, 9).await.objects, 1, "f");
    assert_eq!(list(Some("f"), 9).await.objects, 0);
    let nothing = storage.list_holders(&key("nothing"), "x", None, 9).await.unwrap();
    assert_eq!(nothing, Holders::default());
}

async fn deletion_reaches_what_it_names(storage: &dyn Storage) {
    let closed = closed(storage).await;
    for path in ["delete/a/x", "delete/a/y/z", "delete/ab"] {
        put(storage, path, b"").await;
    }
    assert!(closed.delete(&key("delete/a/x")).await.unwrap());
    assert!(!closed.delete(&key("delete/a/x")).await.unwrap());
    closed.delete_all(&key("delete/a")).await.unwrap();
    assert_eq!(read(storage, "delete/a/y/z").await, None);
    assert!(read(storage, "delete/ab").await.is_some());
    put(storage, "delete/a/x", b"again").await;
    assert_eq!(read(storage, "delete/a/x").await.unwrap(), "again");
}

async fn unsafe_keys_are_refused(storage: &dyn Storage) {
    let closed = closed(storage).await;
    for path in ["", "..", "a/../../b", "/etc/passwd", "a//b", "a\0"] {
        let key = key(path);
        assert!(storage.read(&key, 1).await.is_err(), "{path:?}");
        assert!(storage.put(&key, Bytes::new(), Durability::Lazy).await.is_err(), "{path:?}");
        assert!(storage.staging().resume(&key).await.is_err(), "{path:?}");
        assert!(closed.delete(&key).await.is_err(), "{path:?}");
        assert!(closed.delete_all(&key).await.is_err(), "{path:?}");
    }
}

async fn some_are_deleted_and_others_stay(storage: &dyn Storage) {
    let closed = closed(storage).await;
    for path in ["some/a/x", "some/a/y/z", "some/b/x", "some/ab/x"] {
        put(storage, path, b"").await;
    }
    let names = ["a", "absent"].map(str::to_owned).to_vec();
    closed.delete_below(&key("some"), names.clone(), Durability::Synced).await.unwrap();
    closed.delete_below(&key("nothing/at/all"), names, Durability::Lazy).await.unwrap();
    let left: Vec<String> = storage
        .list(&key("some"), None, 9)
        .await
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(left, ["ab", "b"]);
}

async fn discarded_object_is_gone(storage: &dyn Storage) {
    let closed = closed(storage).await;
    put(storage, "discarded/a/b", b"").await;
    put(storage, "discarded-not/a", b"").await;
    assert!(closed.discard(&key("discarded")).await.unwrap());
    assert!(!closed.discard(&key("discarded")).await.unwrap());
    assert!(read(storage, "discarded/a/b").await.is_none());
    assert!(read(storage, "discarded-not/a").await.is_some());
    put(storage, "discarded/a/b", b"again").await;
    assert_eq!(read(storage, "discarded/a/b").await.unwrap(), "again");
    closed.prune(&key("discarded")).await.unwrap();
    assert_eq!(read(storage, "discarded/a/b").await.unwrap(), "again", "it is not empty");
    assert!(closed.delete(&key("discarded/a/b")).await.unwrap());
    for prune in ["discarded", "nothing/at/all"] {
        closed.prune(&key(prune)).await.unwrap();
    }
    let top = storage.list(&key("discarded"), None, 1).await.unwrap();
    assert_eq!(top, [], "no empty folder is left");
}

async fn pruning_upward_takes_no_object(storage: &dyn Storage) {
    let closed = closed(storage).await;
    put(storage, "up/a/stays", b"").await;
    put(storage, "up/a/b/c/goes", b"").await;
    let prune = || async { closed.prune_up(&key("up/a/b/c"), &key("up")).await.unwrap() };
    assert!(!prune().await);
    assert!(read(storage, "up/a/b/c/goes").await.is_some());
    assert!(closed.delete(&key("up/a/b/c/goes")).await.unwrap());
    assert!(prune().await);
    assert_eq!(storage.list(&key("up/a"), None, 9).await.unwrap().len(), 1);
    assert!(closed.delete(&key("up/a/stays")).await.unwrap());
    assert!(prune().await);
    assert_eq!(storage.list(&key("up"), None, 9).await.unwrap(), []);
    // What is gone is as good as empty, and what is written comes back.
    assert!(prune().await);
    put(storage, "up/a/b/c/goes", b"").await;
    assert!(read(storage, "up/a/b/c/goes").await.is_some());
}

async fn times_go_on(storage: &dyn Storage) {
    assert_eq!(storage.modified(&key("times/a")).await.unwrap(), None);
    assert!(!storage.renew(&key("times/a")).await.unwrap());
    let before = storage.time().await.unwrap();
    put(storage, "times/a", b"").await;
    let written = storage.modified(&key("times/a")).await.unwrap().unwrap();
    assert!(written >= before);
    // More than the steps in which a file system counts time.
    std::thread::sleep(Duration::from_millis(20));
    let later = storage.time().await.unwrap();
    assert!(later > written);
    assert!(storage.renew(&key("times/a")).await.unwrap());
    let renewed = storage.modified(&key("times/a")).await.unwrap().unwrap();
    assert!(renewed >= later);
    assert!(storage.age(&key("times/a")).await.unwrap().unwrap().as_secs() < 3600);
    assert_eq!(storage.age(&key("times/b")).await.unwrap(), None);
    storage.relocate(&key("times/a"), &key("times/b")).await.unwrap();
    assert_eq!(storage.modified(&key("times/b")).await.unwrap(), Some(renewed));
    assert_eq!(storage.modified(&key("times")).await.unwrap(), None, "not an object");
}

async fn survey_sees_every_object(storage: &dyn Storage) {
    for path in ["survey/a/link", "survey/b/other", "survey/link", "survey/c/link/below"] {
        put(storage, path, b"123").await;
    }
    let look = |folder, object| Look { folder: key(folder), object };
    let looks = vec![look("survey", None), look("nothing", None), look("survey", Some("link"))];
    let mut found = storage.survey(looks).await.unwrap();
    found.iter_mut().for_each(|seen| seen.sort());
    let names = |at: usize| -> Vec<(&str, bool)> {
        found[at].iter().map(|seen| (seen.name.as_str(), seen.is_prefix)).collect()
    };
    assert_eq!(names(0), [("a", true), ("b", true), ("c", true), ("link", false)]);
    assert_eq!(names(1), []);
    assert_eq!(names(2), [("a", true)]);
    let modified = storage.modified(&key("survey/a/link")).await.unwrap().unwrap();
    assert_eq!(found[2][0].object, Some((3, modified)));
    assert!(storage.survey(vec![look("a/../b", None)]).await.is_err());
}
