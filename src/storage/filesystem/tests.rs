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
