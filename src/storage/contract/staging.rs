//! What every backend must do with objects on their way in.

use super::*;

pub(super) async fn all(storage: &dyn Storage) {
    staged_bytes_that_were_not_begun_are_absent(storage).await;
    bytes_go_on_where_they_ended(storage).await;
    notes_are_kept_until_they_are_deleted(storage).await;
    commit_names_the_bytes_and_replaces(storage).await;
    staged_bytes_that_have_gone_neither_rest_nor_commit(storage).await;
    staged_bytes_are_listed(storage).await;
}

fn note(name: &'static str, text: &'static [u8]) -> Note {
    Note { name, text: Bytes::from_static(text) }
}

async fn begin(storage: &dyn Storage, at: &str) -> Key {
    storage.staging().begin(&key(at), vec![note(STARTED_AT, b"now")]).await.unwrap();
    key(at)
}

async fn resume(storage: &dyn Storage, at: &Key) -> Box<dyn Staged> {
    storage.staging().resume(at).await.unwrap().unwrap()
}

async fn staged_bytes_that_were_not_begun_are_absent(storage: &dyn Storage) {
    let staging = storage.staging();
    let at = key("staged/nothing");
    assert_eq!(staging.length(&at).await.unwrap(), None);
    assert_eq!(staging.written(&at).await.unwrap(), None);
    assert_eq!(staging.note(&at, "a", 9).await.unwrap(), None);
    assert!(!staging.exists(&at).await.unwrap());
    assert!(staging.open(&at).await.unwrap().is_none());
    assert!(staging.resume(&at).await.unwrap().is_none());
    staging.delete_note(&at, "a").await.unwrap();
    staging.clear(&at).await.unwrap();
    staging.abort(&at, &key("staged"), Durability::Synced).await.unwrap();
}

async fn bytes_go_on_where_they_ended(storage: &dyn Storage) {
    let staging = storage.staging();
    let at = begin(storage, "staged/a/1").await;
    assert_eq!(staging.length(&at).await.unwrap(), Some(0));
    let before = storage.time().await.unwrap();
    let mut staged = resume(storage, &at).await;
    assert_eq!(staged.position(), 0);
    staged.write(vec![Bytes::from_static(b"ab"), Bytes::from_static(b"cd")]).await.unwrap();
    staged.sync().await.unwrap();
    assert!(staged.rest(Vec::new()).await.unwrap());
    drop(staged);
    assert_eq!(staging.length(&at).await.unwrap(), Some(4));
    assert!(staging.written(&at).await.unwrap().unwrap() >= before);
    let mut staged = resume(storage, &at).await;
    assert_eq!(staged.position(), 4);
    staged.write(vec![Bytes::from_static(b"ef")]).await.unwrap();
    staged.truncate(5).await.unwrap();
    staged.write(vec![Bytes::from_static(b"!")]).await.unwrap();
    assert_eq!(staged.position(), 6);
    // More pieces than a file system takes in one call, some of them empty.
    let pieces = (0..5000).map(|i| Bytes::from(vec![b'x'; i % 3])).collect();
    staged.write(pieces).await.unwrap();
    assert_eq!(staged.position(), 6 + 4999);
    staged.sync().await.unwrap();
    assert!(staged.rest(Vec::new()).await.unwrap());
    let object = staging.open(&at).await.unwrap().unwrap();
    assert_eq!(object.size(), 6 + 4999);
    let pieces: Vec<Bytes> = object.stream(0..7).try_collect().await.unwrap();
    assert_eq!(pieces.concat(), b"abcde!x");
}

async fn notes_are_kept_until_they_are_deleted(storage: &dyn Storage) {
    let staging = storage.staging();
    let at = key("staged/notes");
    staging.begin(&at, vec![note("owner", b"ann"), note(STARTED_AT, b"now")]).await.unwrap();
    assert_eq!(staging.note(&at, "owner", 9).await.unwrap().unwrap(), "ann");
    let longer = staging.note(&at, "owner", 2).await.unwrap_err();
    assert_eq!(longer.kind(), ErrorKind::TooLong);
    let mut staged = resume(storage, &at).await;
    assert!(staged.rest(vec![note("state", b"one")]).await.unwrap());
    assert!(staged.rest(vec![note("state", b"two")]).await.unwrap());
    assert_eq!(staging.note(&at, "state", 9).await.unwrap().unwrap(), "two");
    staging.delete_note(&at, "state").await.unwrap();
    assert_eq!(staging.note(&at, "state", 9).await.unwrap(), None);
    assert_eq!(staging.note(&at, STARTED_AT, 9).await.unwrap().unwrap(), "now");
}

async fn commit_names_the_bytes_and_replaces(storage: &dyn Storage) {
    let staging = storage.staging();
    put(storage, "committed/data", b"old").await;
    let old = storage.open(&key("committed/data")).await.unwrap().unwrap();
    for to in ["committed/data", "committed/far/away/data"] {
        let at = begin(storage, "staged/committed").await;
        let mut staged = resume(storage, &at).await;
        staged.write(vec![Bytes::from_static(b"new")]).await.unwrap();
        staged.sync().await.unwrap();
        assert!(staged.commit(&key(to)).await.unwrap());
        assert_eq!(read(storage, to).await.unwrap(), "new");
        staging.clear(&at).await.unwrap();
        assert!(!staging.exists(&at).await.unwrap());
    }
    let pieces: Vec<Bytes> = old.stream(0..3).try_collect().await.unwrap();
    assert_eq!(pieces.concat(), b"old", "a reader reads on");
}

async fn staged_bytes_that_have_gone_neither_rest_nor_commit(storage: &dyn Storage) {
    put(storage, "aborted/data", b"old").await;
    for durability in [Durability::Synced, Durability::Lazy] {
        let at = begin(storage, "staged/gone/1").await;
        let mut staged = resume(storage, &at).await;
        staged.write(vec![Bytes::from_static(b"new")]).await.unwrap();
        storage.staging().abort(&at, &key("staged"), durability).await.unwrap();
        assert!(!staged.rest(vec![note("state", b"back")]).await.unwrap());
        assert!(!staged.commit(&key("aborted/data")).await.unwrap());
        assert!(!storage.staging().exists(&at).await.unwrap());
        assert!(storage.staging().resume(&at).await.unwrap().is_none());
    }
    assert_eq!(read(storage, "aborted/data").await.unwrap(), "old");
}

async fn staged_bytes_are_listed(storage: &dyn Storage) {
    for at in ["listed/b", "listed/a", "listed/c", "other/d"] {
        begin(storage, at).await;
    }
    let staging = storage.staging();
    let list = async |after, limit| staging.list(&key("listed"), after, limit).await.unwrap();
    assert_eq!(list(None, 9).await, ["a", "b", "c"]);
    assert_eq!(list(None, 2).await, ["a", "b"]);
    assert_eq!(list(Some("b"), 9).await, ["c"]);
    // They go with what they are below.
    closed(storage).await.discard(&key("listed")).await.unwrap();
    assert_eq!(list(None, 9).await, [""; 0]);
    assert_eq!(staging.length(&key("other/d")).await.unwrap(), Some(0));
}
