//! Deletion of a whole repository: its links, its uploads and its folders. The bytes stay for garbage
//! collection, because other repositories may have links to them.
//!
//! Manifests and tags go first and in one step: a crash leaves all of them or none. Behind such a crash
//! only unreferenced links are left, which a repeated deletion removes.

use super::{
    Caller, Error, Occurrence, Registry,
    tree::{TreeKey, repositories},
};
use crate::oci::RepositoryName;

impl Registry {
    /// Deletes a repository, and leaves repositories whose names begin with its own; `false` when it
    /// has no content.
    ///
    /// Its uploads end: a request that writes to one gets [`Error::UploadUnknown`].
    ///
    /// # Errors
    ///
    /// When storage fails. The next call removes the rest.
    pub async fn delete_repository(
        &self,
        caller: &Caller,
        name: &RepositoryName,
    ) -> Result<bool, Error> {
        let registry = self.clone();
        let caller = caller.clone();
        let name = name.clone();
        let work = async move {
            let deleted = registry.remove_repository(&name).await?;
            if deleted {
                registry.0.quotas.removed_from(&name);
                let occurrence = Occurrence::RepositoryDeleted;
                registry.0.events.emit(&caller, &name, occurrence).await;
            }
            Ok(deleted)
        };
        self.tree().detached(work).await
    }

    async fn remove_repository(&self, name: &RepositoryName) -> Result<bool, Error> {
        let alone = self.tree().closing(name).await?;
        let mut existed = false;
        for place in [TreeKey::Manifests(name), TreeKey::Layers(name), TreeKey::Referrers(name)] {
            existed |= alone.discard(&place.key()).await?;
        }
        self.lists().forget(name);
        existed |= self.uploads().end_all(name, &alone).await?;
        alone.prune_up(&repositories().child(name.as_str()), &repositories()).await?;
        alone.open().await?;
        Ok(existed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use futures_util::{StreamExt as _, stream};
    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        oci::{Algorithm, Digest},
        registry::{Body, BodyError, Caller, Chunk, NewUpload, Options, SystemClock, Upload},
        storage::{Storage as _, memory::Memory},
    };

    /// The registries of a server and of a command, over one storage.
    struct Processes {
        memory: Memory,
        server: Registry,
        command: Registry,
    }

    fn processes() -> Processes {
        let memory = Memory::default();
        let registry = || {
            let storage = Arc::new(memory.clone());
            Registry::new(storage, Arc::new(SystemClock), Options::default())
        };
        let server = registry();
        let command = registry();
        Processes { memory, server, command }
    }

    async fn begin(registry: &Registry) -> Upload {
        let name: RepositoryName = "team/app".parse().unwrap();
        let owner = Some(Arc::from("ann"));
        let id = registry.uploads().begin(&name, Algorithm::Sha256, owner.clone()).await.unwrap();
        Upload { name, id, owner }
    }

    fn chunk(bytes: &'static [u8]) -> Chunk {
        let body = stream::iter([Ok(Bytes::from_static(bytes))]).boxed();
        Chunk { body, length: None, range: None, largest: None }
    }

    /// A chunk that the test ends.
    struct SlowChunk {
        chunk: Chunk,
        /// Receives when the registry waits for the rest.
        has_begun: oneshot::Receiver<()>,
        /// Sends the rest.
        end: oneshot::Sender<()>,
    }

    fn slow_chunk(bytes: Vec<u8>) -> SlowChunk {
        let (begun, has_begun) = oneshot::channel();
        let (end, ends) = oneshot::channel();
        let first = stream::iter([Ok::<_, BodyError>(Bytes::from(bytes))]);
        let rest = stream::once(async move {
            begun.send(()).unwrap();
            let _ = ends.await;
            Ok(Bytes::from_static(b"end"))
        });
        let body: Body = first.chain(rest).boxed();
        SlowChunk {
            chunk: Chunk { body, length: None, range: None, largest: None },
            has_begun,
            end,
        }
    }

    async fn is_empty(memory: &Memory) -> bool {
        memory.list(&repositories(), None, 1).await.unwrap().is_empty()
    }

    #[tokio::test]
    async fn uploads_end_with_their_repository_and_leave_the_count() {
        let Processes { memory, server, .. } = processes();
        let waiting = begin(&server).await;
        let writing = begin(&server).await;
        server.uploads().append(&waiting, chunk(b"some")).await.unwrap();
        let SlowChunk { chunk, has_begun, end } = slow_chunk(b"some".to_vec());
        let delete = async {
            has_begun.await.unwrap();
            assert!(server.delete_repository(&Caller::default(), &writing.name).await.unwrap());
        };
        let (appended, ()) = tokio::join!(server.uploads().append(&writing, chunk), delete);
        assert!(
            matches!(appended, Err(Error::UploadUnknown)),
            "the append ends before its client has sent all"
        );
        drop(end);
        assert_eq!(server.uploads().open_count(), 0);
        for upload in [&waiting, &writing] {
            let length = server.uploads().length(upload).await;
            assert!(matches!(length, Err(Error::UploadUnknown)));
        }
        assert!(is_empty(&memory).await);
        assert!(!server.delete_repository(&Caller::default(), &writing.name).await.unwrap());
    }

    /// With few bytes and with many, of which some are written early; in a chunk and in the last one.
    #[tokio::test]
    async fn upload_whose_repository_another_process_deletes_is_unknown_and_leaves_nothing() {
        for length in [10, 5 << 20] {
            for last in [false, true] {
                let Processes { memory, server, command } = processes();
                let upload = begin(&server).await;
                let bytes = vec![7; length];
                let digest = Digest::of(Algorithm::Sha256, &[&bytes[..], &b"end"[..]].concat());
                let SlowChunk { chunk, has_begun, end } = slow_chunk(bytes);
                let delete = async {
                    has_begun.await.unwrap();
                    assert!(
                        command.delete_repository(&Caller::default(), &upload.name).await.unwrap()
                    );
                    end.send(()).unwrap();
                };
                let write = async {
                    match last {
                        true => {
                            server
                                .uploads()
                                .finish(&Caller::default(), &upload, &digest, chunk)
                                .await
                        }
                        false => server.uploads().append(&upload, chunk).await,
                    }
                };
                let (written, ()) = tokio::join!(write, delete);
                assert!(matches!(written, Err(Error::UploadUnknown)), "{written:?}");
                assert!(is_empty(&memory).await, "{length} {last}");
                let again = server.uploads().append(&upload, self::chunk(b"more")).await;
                assert!(matches!(again, Err(Error::UploadUnknown)), "{again:?}");
                assert!(is_empty(&memory).await, "{length} {last}");
                assert_eq!(server.uploads().open_count(), 0);
            }
        }
    }

    #[tokio::test]
    async fn next_deletion_removes_the_rest_after_a_crash() {
        let Processes { memory, server, command } = processes();
        let name: RepositoryName = "team/app".parse().unwrap();
        let digest = Digest::of(Algorithm::Sha256, b"some");
        server
            .uploads()
            .put(
                &Caller::default(),
                NewUpload { name: &name, owner: None },
                &digest,
                chunk(b"some"),
            )
            .await
            .unwrap();
        begin(&server).await;
        // The crash was after the first step.
        memory.discard(&TreeKey::Manifests(&name).key()).await.unwrap();
        assert!(command.delete_repository(&Caller::default(), &name).await.unwrap());
        assert!(is_empty(&memory).await);
    }
}
