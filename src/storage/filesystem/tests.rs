use super::*;
use crate::storage::contract;

fn filesystem() -> (tempfile::TempDir, Filesystem) {
    let folder = tempfile::tempdir().unwrap();
    let rootdirectory = folder.path().join("root");
    let filesystem = Filesystem::open(&Options { rootdirectory }).unwrap();
    (folder, filesystem)
}

fn key(path: &str) -> Key {
    Key::new(path.to_owned())
}

#[tokio::test]
async fn keeps_the_contract() {
    contract::all(&filesystem().1).await;
}

#[tokio::test]
async fn a_failed_put_leaves_nothing_behind() {
    let (folder, filesystem) = filesystem();
    // A folder in the object's place makes the rename fail, whoever runs the test.
    fs::create_dir_all(folder.path().join("root/a/taken/full")).unwrap();
    let bytes = Bytes::from_static(b"x");
    assert!(filesystem.put(&key("a/taken"), bytes, Durability::Synced).await.is_err());
    assert_eq!(fs::read_dir(folder.path().join("root/a")).unwrap().count(), 1);
}

#[tokio::test]
async fn a_root_that_vanished_is_an_error_and_is_not_made_again() {
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
    for _ in 0..2 {
        filesystem.put(&key("a/b/c"), Bytes::new(), Durability::Synced).await.unwrap();
        fs::remove_dir_all(folder.path().join("root/a")).unwrap();
    }
}

#[tokio::test]
async fn a_file_that_became_shorter_ends_in_an_error() {
    use futures_util::TryStreamExt as _;
    let (folder, filesystem) = filesystem();
    filesystem.put(&key("a"), Bytes::from_static(b"long"), Durability::Lazy).await.unwrap();
    let object = filesystem.open(&key("a")).await.unwrap().unwrap();
    fs::write(folder.path().join("root/a"), b"s").unwrap();
    assert!(object.stream(0..4).try_collect::<Vec<_>>().await.is_err());
}

#[tokio::test]
async fn room_is_made_for_what_follows_and_given_back() {
    use std::os::unix::fs::MetadataExt as _;
    let (folder, filesystem) = filesystem();
    let mut appender = filesystem.append(&key("a")).await.unwrap();
    appender.write(vec![Bytes::from_static(b"here")]).await.unwrap();
    let metadata = || fs::metadata(folder.path().join("root/a")).unwrap();
    appender.reserve(16 << 20).await.unwrap();
    assert_eq!((metadata().len(), appender.position()), (4, 4));
    assert!(metadata().blocks() * 512 >= 16 << 20, "{} blocks", metadata().blocks());
    let error = appender.reserve(1 << 60).await.unwrap_err();
    assert_eq!((metadata().len(), appender.position()), (4, 4), "{error}");
    appender.truncate(4).await.unwrap();
    assert!(metadata().blocks() * 512 < 1 << 20, "{} blocks", metadata().blocks());
}

#[tokio::test]
async fn what_the_page_cache_has_lost_is_read_in_its_place() {
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
        let object = filesystem.open(&key("a")).await.unwrap().unwrap();
        let read = object.stream(5..bytes.len() as u64).try_collect::<Vec<_>>().await.unwrap();
        assert!(read.concat() == bytes[5..], "{lost:?}");
    }
}

#[tokio::test]
async fn what_is_remembered_is_never_what_another_process_has_changed() {
    let (folder, filesystem) = filesystem();
    let path = folder.path().join("root/a");
    let read = async || filesystem.read(&key("a"), 100).await.unwrap();
    // As it will be in an hour: nothing is kept of a file that is as young as these.
    let remember = |content: &'static str| {
        let later = SystemTime::now() + std::time::Duration::from_secs(3600);
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
