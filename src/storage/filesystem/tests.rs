use std::{fs, time::Duration};

use super::*;
use crate::{
    stamp::Stamp,
    storage::{Note, STARTED_AT, Staged, contract},
};

fn filesystem() -> (tempfile::TempDir, Filesystem) {
    let folder = tempfile::tempdir().unwrap();
    let rootdirectory = folder.path().join("root");
    let filesystem = Filesystem::open(&Options { rootdirectory }).unwrap();
    (folder, filesystem)
}

/// A file at `data` below a key, opened to be written at its end.
async fn staged(filesystem: &Filesystem, at: &str) -> Box<dyn Staged> {
    let started = Note { name: STARTED_AT, text: Bytes::new() };
    filesystem.begin(&key(at), vec![started]).await.unwrap();
    filesystem.resume(&key(at)).await.unwrap().unwrap()
}

fn key(path: &str) -> Key {
    Key::new(path.to_owned())
}

#[tokio::test]
async fn keeps_the_contract() {
    let (folder, filesystem) = filesystem();
    let rootdirectory = folder.path().join("root");
    let other = Filesystem::open(&Options { rootdirectory }).unwrap();
    contract::all(&filesystem, &other).await;
}

/// Every operation that takes a key, and whether it was refused.
async fn refusals(filesystem: &Filesystem, path: &str) -> Vec<(&'static str, bool)> {
    let other = key("other");
    let key = key(path);
    let bytes = Bytes::from_static(b"x");
    filesystem.put(&other, bytes.clone(), Durability::Lazy).await.unwrap();
    vec![
        ("read", filesystem.read(&key, 100).await.is_err()),
        ("size", filesystem.size(&key).await.is_err()),
        ("open", Storage::open(filesystem, &key).await.is_err()),
        ("resume", filesystem.resume(&key).await.is_err()),
        ("list", Storage::list(filesystem, &key, None, 9).await.is_err()),
        ("list_holders", filesystem.list_holders(&key, "x", None, 9).await.is_err()),
        ("delete_all", filesystem.delete_all(&key).await.is_err()),
        ("put", filesystem.put(&key.child("x"), bytes, Durability::Synced).await.is_err()),
        ("relocate", filesystem.relocate(&other, &key.child("x")).await.is_err()),
        ("delete", filesystem.delete(&key.child("kept")).await.is_err()),
    ]
}

#[tokio::test]
async fn symbolic_link_that_leads_out_of_the_root_is_not_followed() {
    let (folder, filesystem) = filesystem();
    let root = folder.path().join("root");
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "secret").unwrap();
    let links = [("absolute", outside.clone()), ("relative", PathBuf::from("../outside"))];
    for (name, target) in &links {
        std::os::unix::fs::symlink(target, root.join(name)).unwrap();
        for (operation, refused) in refusals(&filesystem, name).await {
            assert!(refused, "{operation} of {name}");
        }
        let file = key(name).child("kept");
        assert!(filesystem.read(&file, 100).await.is_err());
        assert!(filesystem.size(&file).await.is_err());
        assert!(filesystem.resume(&file).await.is_err());
    }
    // A link to where nothing is yet: it must not be made.
    std::os::unix::fs::symlink(outside.join("new"), root.join("dangling")).unwrap();
    assert!(filesystem.resume(&key("dangling")).await.is_err());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read(outside.join("kept")).unwrap(), b"secret");
}

#[tokio::test]
async fn file_replaced_by_a_link_that_leads_out_is_not_read_through_it() {
    let (folder, filesystem) = filesystem();
    let root = folder.path().join("root");
    let outside = folder.path().join("outside");
    filesystem.put(&key("a"), Bytes::from_static(b"mine"), Durability::Lazy).await.unwrap();
    assert_eq!(filesystem.size(&key("a")).await.unwrap(), Some(4));
    fs::write(&outside, "theirs").unwrap();
    fs::remove_file(root.join("a")).unwrap();
    std::os::unix::fs::symlink(&outside, root.join("a")).unwrap();
    assert!(filesystem.size(&key("a")).await.is_err());
    assert!(filesystem.read(&key("a"), 100).await.is_err());
}

#[tokio::test]
async fn symbolic_link_within_the_root_and_one_to_the_root_are_followed() {
    let (folder, filesystem) = filesystem();
    filesystem.put(&key("a/b"), Bytes::from_static(b"x"), Durability::Lazy).await.unwrap();
    std::os::unix::fs::symlink("a", folder.path().join("root/within")).unwrap();
    assert_eq!(filesystem.read(&key("within/b"), 9).await.unwrap().unwrap(), "x");
    let rootdirectory = folder.path().join("other");
    std::os::unix::fs::symlink("root", &rootdirectory).unwrap();
    let other = Filesystem::open(&Options { rootdirectory }).unwrap();
    assert_eq!(other.read(&key("a/b"), 9).await.unwrap().unwrap(), "x");
}

#[tokio::test]
async fn pipe_in_the_place_of_a_file_is_not_waited_for() {
    let (folder, filesystem) = filesystem();
    let pipe = folder.path().join("root/pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert!(Storage::open(&filesystem, &key("pipe")).await.unwrap().is_none());
    assert_eq!(filesystem.read(&key("pipe"), 9).await.unwrap(), None);
}

#[tokio::test]
async fn failed_put_leaves_nothing_behind() {
    let (folder, filesystem) = filesystem();
    // A folder in the object's place makes the rename fail, for every user.
    fs::create_dir_all(folder.path().join("root/a/taken/full")).unwrap();
    let bytes = Bytes::from_static(b"x");
    assert!(filesystem.put(&key("a/taken"), bytes, Durability::Synced).await.is_err());
    assert_eq!(fs::read_dir(folder.path().join("root/a")).unwrap().count(), 1);
}

#[tokio::test]
async fn root_that_vanished_is_an_error_and_is_not_made_again() {
    let (folder, filesystem) = filesystem();
    let put = async || filesystem.put(&key("a/b"), Bytes::new(), Durability::Synced).await;
    put().await.unwrap();
    fs::rename(folder.path().join("root"), folder.path().join("gone")).unwrap();
    assert!(put().await.is_err());
    assert!(!folder.path().join("root").exists());
    fs::rename(folder.path().join("gone"), folder.path().join("root")).unwrap();
    put().await.unwrap();
}

#[tokio::test]
async fn folders_that_another_process_removed_are_made_again() {
    let (folder, filesystem) = filesystem();
    for name in ["a/b/c", "a/b/c", "a/d/e", "a/b/c"] {
        filesystem.put(&key(name), Bytes::new(), Durability::Synced).await.unwrap();
        fs::remove_dir_all(folder.path().join("root/a")).unwrap();
    }
}

#[tokio::test]
async fn file_that_became_shorter_ends_in_an_error() {
    use futures_util::TryStreamExt as _;
    let (folder, filesystem) = filesystem();
    filesystem.put(&key("a"), Bytes::from_static(b"long"), Durability::Lazy).await.unwrap();
    let object = Storage::open(&filesystem, &key("a")).await.unwrap().unwrap();
    fs::write(folder.path().join("root/a"), b"s").unwrap();
    assert!(object.stream(0..4).try_collect::<Vec<_>>().await.is_err());
}

#[tokio::test]
async fn room_is_made_for_what_follows_and_given_back() {
    use std::os::unix::fs::MetadataExt as _;
    let (folder, filesystem) = filesystem();
    let mut appender = staged(&filesystem, "a").await;
    appender.write(vec![Bytes::from_static(b"here")]).await.unwrap();
    let metadata = || fs::metadata(folder.path().join("root/a/data")).unwrap();
    appender.reserve(16 << 20).await.unwrap();
    assert_eq!((metadata().len(), appender.position()), (4, 4));
    assert!(metadata().blocks() * 512 >= 16 << 20, "{} blocks", metadata().blocks());
    let error = appender.reserve(1 << 60).await.unwrap_err();
    assert_eq!((metadata().len(), appender.position()), (4, 4), "{error}");
    appender.truncate(4).await.unwrap();
    assert!(metadata().blocks() * 512 < 1 << 20, "{} blocks", metadata().blocks());
}

#[tokio::test]
async fn bytes_missing_from_the_page_cache_are_read_from_disk() {
    use futures_util::TryStreamExt as _;
    let (folder, filesystem) = filesystem();
    let bytes: Vec<u8> = (0..4_u32 << 20).map(|i| i.wrapping_mul(i).to_be_bytes()[1]).collect();
    let path = folder.path().join("root/a");
    fs::write(&path, &bytes).unwrap();
    let file = File::open(&path).unwrap();
    file.sync_all().unwrap();
    for lost in [1 << 20..2 << 20, 3 << 20..(3 << 20) + 4096, 0..4 << 20_u64] {
        let length = std::num::NonZeroU64::new(lost.end - lost.start);
        rustix::fs::fadvise(&file, lost.start, length, rustix::fs::Advice::DontNeed).unwrap();
        let object = Storage::open(&filesystem, &key("a")).await.unwrap().unwrap();
        let read = object.stream(5..bytes.len() as u64).try_collect::<Vec<_>>().await.unwrap();
        assert!(read.concat() == bytes[5..], "{lost:?}");
    }
}

#[tokio::test]
async fn cached_file_is_never_one_that_another_process_has_changed() {
    let (folder, filesystem) = filesystem();
    let path = folder.path().join("root/a");
    let read = async || filesystem.read(&key("a"), 100).await.unwrap();
    // As it will be in an hour: nothing is kept of a file that is as young as these.
    let remember = |content: &'static str| {
        let later = SystemTime::now() + Duration::from_secs(3600);
        let bytes = Bytes::from_static(content.as_bytes());
        filesystem.0.remembered.keep(&key("a"), Stamp::of(&path), &bytes, later);
        assert_eq!(filesystem.0.remembered.content(&key("a"), &path).unwrap(), content);
    };
    fs::write(&path, "one").unwrap();
    assert_eq!(read().await.unwrap(), "one");
    assert!(filesystem.0.remembered.content(&key("a"), &path).is_none(), "too young");
    remember("one");
    assert_eq!(read().await.unwrap(), "one");
    assert!(filesystem.read(&key("a"), 2).await.is_err(), "the limit holds all the same");

    let other = folder.path().join("root/b");
    fs::write(&other, "two").unwrap();
    fs::rename(&other, &path).unwrap();
    assert_eq!(read().await.unwrap(), "two", "replaced by one of the same length");
    remember("two");
    fs::write(&path, "three").unwrap();
    assert_eq!(read().await.unwrap(), "three", "changed in place");
    remember("three");
    fs::remove_file(&path).unwrap();
    assert_eq!(read().await, None, "removed");
    assert_eq!(filesystem.size(&key("a")).await.unwrap(), None);
}

/// What the storage says that it did: the lines that begin so, without the beginning.
fn told(filesystem: &Filesystem, beginning: &str) -> Vec<String> {
    let mut metrics = crate::telemetry::metrics::Metrics::default();
    filesystem.operations().unwrap().register(&mut metrics);
    let text = metrics.text();
    text.lines().filter_map(|line| line.strip_prefix(beginning)).map(str::to_owned).collect()
}

#[tokio::test]
async fn each_use_of_the_disk_is_an_operation_and_what_is_known_is_none() {
    let (folder, filesystem) = filesystem();
    let path = folder.path().join("root/a");
    let bytes = Bytes::from_static(b"x");
    filesystem.put(&key("a"), bytes.clone(), Durability::Synced).await.unwrap();
    filesystem.read(&key("a"), 9).await.unwrap();
    Storage::open(&filesystem, &key("a")).await.unwrap();
    Storage::list(&filesystem, &key("b"), None, 9).await.unwrap();
    fs::create_dir(folder.path().join("root/b")).unwrap();
    fs::write(folder.path().join("root/b/data"), "").unwrap();
    // Looks whether it is there, and opens it.
    let mut appender = filesystem.resume(&key("b")).await.unwrap().unwrap();
    appender.write(vec![bytes.clone()]).await.unwrap();
    appender.sync().await.unwrap();
    filesystem.relocate(&key("b/data"), &key("b/d")).await.unwrap();
    filesystem.delete(&key("b/d")).await.unwrap();
    filesystem.delete_all(&key("b")).await.unwrap();
    filesystem.probe().await.unwrap();
    let done =
        || told(&filesystem, "registry_storage_action_seconds_count{driver=\"filesystem\",action=");
    let expected = [
        "\"Delete\"} 2",
        "\"GetContent\"} 1",
        "\"List\"} 1",
        "\"Move\"} 1",
        "\"PutContent\"} 1",
        "\"Reader\"} 1",
        "\"Stat\"} 2",
        "\"Sync\"} 1",
        "\"Writer\"} 1",
    ];
    assert_eq!(done(), expected);
    let asked = || told(&filesystem, "registry_storage_cache_total{type=");
    assert_eq!(asked(), ["\"Request\"} 3", "\"Hit\"} 0", "\"Miss\"} 3"]);

    let later = SystemTime::now() + Duration::from_secs(3600);
    filesystem.0.remembered.keep(&key("a"), Stamp::of(&path), &bytes, later);
    for _ in 0..10 {
        assert_eq!(filesystem.read(&key("a"), 9).await.unwrap().unwrap(), "x");
        assert_eq!(filesystem.size(&key("a")).await.unwrap(), Some(1));
    }
    assert_eq!(done(), expected);
    assert_eq!(asked(), ["\"Request\"} 23", "\"Hit\"} 20", "\"Miss\"} 3"]);
}

#[tokio::test]
async fn failures_are_counted_by_their_cause() {
    use futures_util::TryStreamExt as _;
    let (folder, filesystem) = filesystem();
    let failed = || told(&filesystem, "portcullis_storage_errors_total{kind=");
    filesystem.put(&key("a"), Bytes::from_static(b"long"), Durability::Lazy).await.unwrap();
    // Absence, and an object that is longer than its reader takes, are no failures of the disk.
    assert_eq!(filesystem.read(&key("none"), 9).await.unwrap(), None);
    assert!(filesystem.read(&key("a"), 1).await.is_err());
    assert_eq!(failed(), ["\"no_space\"} 0", "\"too_many_files\"} 0", "\"other\"} 0"]);

    let mut appender = staged(&filesystem, "b").await;
    appender.reserve(1 << 60).await.unwrap_err();
    let object = Storage::open(&filesystem, &key("a")).await.unwrap().unwrap();
    fs::write(folder.path().join("root/a"), b"s").unwrap();
    assert!(object.stream(0..4).try_collect::<Vec<_>>().await.is_err());
    assert!(filesystem.read(&key("a/../b"), 9).await.is_err());
    assert_eq!(failed(), ["\"no_space\"} 1", "\"too_many_files\"} 0", "\"other\"} 2"]);

    let descriptors = rustix::io::Errno::MFILE.into();
    let error = super::failed(&filesystem.0.operations, "open", &key("a"), descriptors);
    assert_eq!(error.kind(), ErrorKind::TooManyFiles);
    assert_eq!(failed(), ["\"no_space\"} 1", "\"too_many_files\"} 1", "\"other\"} 2"]);
}
