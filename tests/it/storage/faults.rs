//! Each call of storage to the operating system fails, in turn, in each possible way: the client
//! gets a clean error and sees the old state or the new one, no file is left over, and the same
//! request works once the fault is gone.

use std::{
    path::Path,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use portcullis::oci::ErrorCode;
use rustix::io::Errno;

use crate::support::{
    Answer, Answered as _, TestServer,
    content::{OCI_MANIFEST, closing, descriptor, noise, trifle},
    digest,
    watched::{Call, Verdict, Watch, Watched},
};

/// Makes a disk fail.
#[derive(Debug, Default)]
struct Fault {
    plan: Mutex<Option<Plan>>,
    calls: AtomicUsize,
    struck: AtomicBool,
}

/// When and how a disk fails.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// At this call, counted from 0 since the plan was made.
    at: usize,
    /// And at all later calls.
    for_good: bool,
    verdict: Verdict,
}

impl Fault {
    fn arm(&self, plan: Plan) {
        self.calls.store(0, Ordering::SeqCst);
        self.struck.store(false, Ordering::SeqCst);
        *self.plan.lock().unwrap() = Some(plan);
    }

    /// Ends the fault, and returns whether it struck.
    fn disarm(&self) -> bool {
        *self.plan.lock().unwrap() = None;
        self.struck.load(Ordering::SeqCst)
    }
}

impl Watch for Arc<Fault> {
    fn before(&self, call: Call<'_>) -> Verdict {
        // A read from the page cache may always be refused, and is repeated on the disk.
        if matches!(call, Call::Read { wait: false }) {
            return Verdict::Fail(Errno::AGAIN);
        }
        let Some(plan) = *self.plan.lock().unwrap() else { return Verdict::Go };
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        let strikes = number == plan.at || (plan.for_good && number > plan.at);
        if !strikes {
            return Verdict::Go;
        }
        self.struck.store(true, Ordering::SeqCst);
        plan.verdict
    }
}

/// A request of each kind that reaches storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Catalog,
    CancelUpload,
    DeleteBlob,
    DeleteManifest,
    DeleteRepository,
    DeleteTag,
    FinishUpload,
    GetBlob,
    GetManifest,
    HeadBlob,
    HeadManifest,
    Mount,
    OpenUpload,
    Patch,
    PatchMuch,
    PutBlob,
    PutManifest,
    Referrers,
    Tags,
    UploadStatus,
}

const KINDS: [Kind; 20] = [
    Kind::Catalog,
    Kind::CancelUpload,
    Kind::DeleteBlob,
    Kind::DeleteManifest,
    Kind::DeleteRepository,
    Kind::DeleteTag,
    Kind::FinishUpload,
    Kind::GetBlob,
    Kind::GetManifest,
    Kind::HeadBlob,
    Kind::HeadManifest,
    Kind::Mount,
    Kind::OpenUpload,
    Kind::Patch,
    Kind::PatchMuch,
    Kind::PutBlob,
    Kind::PutManifest,
    Kind::Referrers,
    Kind::Tags,
    Kind::UploadStatus,
];

/// A repository that no other attempt has used, with the content that the request needs.
struct Prepared {
    name: String,
    manifest: String,
    layer: Vec<u8>,
    upload: String,
}

const CONFIG: &[u8] = b"{}";

/// So many bytes that the server saves the state of the hasher.
static MUCH: LazyLock<Vec<u8>> = LazyLock::new(|| noise(1, (4 << 20) + 1));

impl Kind {
    /// Puts the content that the request needs into a repository.
    async fn prepare(self, server: &TestServer, name: &str) -> Prepared {
        let layer = match self {
            Self::PatchMuch => MUCH.clone(),
            _ => name.as_bytes().to_vec(),
        };
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", CONFIG),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
            "subject": descriptor(OCI_MANIFEST, "some subject"),
        })
        .to_string();
        let mut prepared =
            Prepared { name: name.to_owned(), manifest, layer, upload: String::new() };
        match self {
            Self::PutBlob | Self::OpenUpload => {}
            Self::CancelUpload | Self::FinishUpload | Self::UploadStatus => {
                prepared.upload = server.open_upload(name).await;
                let half = prepared.layer[..2].to_vec();
                server.patch(&prepared.upload, None, half).await.expect(202);
            }
            Self::Patch | Self::PatchMuch => prepared.upload = server.open_upload(name).await,
            Self::Mount => {
                server.push_blob(&format!("{name}/from"), prepared.layer.clone()).await;
            }
            Self::DeleteBlob => {
                server.push_blob(name, prepared.layer.clone()).await;
                trifle(server, name, "beside").await;
            }
            _ => {
                server.push_blob(name, CONFIG).await;
                server.push_blob(name, prepared.layer.clone()).await;
                if self != Self::PutManifest {
                    prepared.put_manifest(server).await.expect(201);
                }
                if self == Self::DeleteRepository {
                    prepared.upload = server.open_upload(name).await;
                }
            }
        }
        prepared
    }

    async fn send(self, server: &TestServer, prepared: &Prepared) -> Answer {
        let Prepared { name, manifest, layer, upload } = prepared;
        let (blob, revision) = (digest(layer), digest(manifest));
        let plain = |method: &str, target: String| server.request(method, &target);
        let request = match self {
            // A page of the catalog makes the same calls for each repository.
            Self::Catalog => plain("GET", "/v2/_catalog?n=2".to_owned()),
            Self::CancelUpload => plain("DELETE", upload.clone()),
            Self::DeleteBlob => plain("DELETE", format!("/v2/{name}/blobs/{blob}")),
            Self::DeleteManifest => plain("DELETE", format!("/v2/{name}/manifests/{revision}")),
            Self::DeleteRepository => plain("DELETE", format!("/v2/{name}/")),
            Self::DeleteTag => plain("DELETE", format!("/v2/{name}/manifests/latest")),
            Self::FinishUpload => plain("PUT", closing(upload, &blob)).body(layer[2..].to_vec()),
            Self::GetBlob => plain("GET", format!("/v2/{name}/blobs/{blob}")),
            Self::GetManifest => plain("GET", format!("/v2/{name}/manifests/latest")),
            Self::HeadBlob => plain("HEAD", format!("/v2/{name}/blobs/{blob}")),
            Self::HeadManifest => plain("HEAD", format!("/v2/{name}/manifests/latest")),
            Self::Mount => {
                let from = format!("/v2/{name}/blobs/uploads/?mount={blob}&from={name}/from");
                plain("POST", from)
            }
            Self::OpenUpload => plain("POST", format!("/v2/{name}/blobs/uploads/")),
            Self::Patch | Self::PatchMuch => plain("PATCH", upload.clone()).body(layer.clone()),
            Self::PutBlob => plain("POST", format!("/v2/{name}/blobs/uploads/?digest={blob}"))
                .body(layer.clone()),
            Self::PutManifest => return prepared.put_manifest(server).await,
            Self::Referrers => {
                plain("GET", format!("/v2/{name}/referrers/{}", digest("some subject")))
            }
            Self::Tags => plain("GET", format!("/v2/{name}/tags/list")),
            Self::UploadStatus => plain("GET", upload.clone()),
        };
        request.answer().await
    }

    const fn good(self) -> u16 {
        match self {
            Self::FinishUpload | Self::Mount | Self::PutBlob | Self::PutManifest => 201,
            Self::DeleteBlob
            | Self::DeleteManifest
            | Self::DeleteRepository
            | Self::DeleteTag
            | Self::OpenUpload
            | Self::Patch
            | Self::PatchMuch => 202,
            Self::CancelUpload | Self::UploadStatus => 204,
            _ => 200,
        }
    }

    /// Whether the state that the request needs is gone when the request took effect despite the
    /// fault.
    const fn ends_something(self) -> bool {
        matches!(
            self,
            Self::CancelUpload
                | Self::DeleteBlob
                | Self::DeleteManifest
                | Self::DeleteRepository
                | Self::DeleteTag
                | Self::FinishUpload
                | Self::Patch
                | Self::PatchMuch
        )
    }

    /// Checks the effect of a successful request.
    async fn has_done(self, server: &TestServer, prepared: &Prepared, answer: &Answer) {
        let Prepared { name, manifest, layer, upload } = prepared;
        let blob = format!("/v2/{name}/blobs/{}", digest(layer));
        match self {
            Self::FinishUpload | Self::Mount | Self::PutBlob => {
                assert!(server.get(&blob).await.expect(200).body == layer.as_slice());
            }
            Self::PutManifest => {
                let answer = server.get(&format!("/v2/{name}/manifests/latest")).await.expect(200);
                assert!(answer.body == manifest.as_bytes());
            }
            Self::DeleteBlob => drop(server.get(&blob).await.expect(404)),
            Self::DeleteManifest | Self::DeleteTag => {
                server.get(&format!("/v2/{name}/manifests/latest")).await.expect(404);
            }
            Self::DeleteRepository => {
                server.get(&format!("/v2/{name}/tags/list")).await.expect(404);
                server.get(upload).await.expect(404);
            }
            Self::Patch | Self::PatchMuch => {
                let range = format!("0-{}", layer.len() - 1);
                assert_eq!(server.get(upload).await.expect(204).header("range"), range);
            }
            Self::CancelUpload => drop(server.get(upload).await.expect(404)),
            Self::GetBlob => assert!(answer.body == layer.as_slice()),
            Self::GetManifest => assert!(answer.body == manifest.as_bytes()),
            Self::Tags => assert_eq!(answer.json()["tags"], serde_json::json!(["latest"])),
            Self::Referrers => {
                assert_eq!(answer.json()["manifests"][0]["digest"], digest(manifest));
            }
            Self::Catalog
            | Self::HeadBlob
            | Self::HeadManifest
            | Self::OpenUpload
            | Self::UploadStatus => {}
        }
    }
}

impl Prepared {
    async fn put_manifest(&self, server: &TestServer) -> Answer {
        let target = format!("/v2/{}/manifests/latest", self.name);
        let request = server.request("PUT", &target).header("content-type", OCI_MANIFEST);
        request.body(self.manifest.clone()).answer().await
    }

    /// Checks that visible content is whole: each object exists with its bytes, or not at all.
    async fn is_whole(&self, server: &TestServer) {
        let Self { name, manifest, layer, .. } = self;
        let blob = server.get(&format!("/v2/{name}/blobs/{}", digest(layer))).await;
        match blob.status.as_u16() {
            200 => assert!(blob.body == layer.as_slice()),
            status => assert_eq!(status, 404),
        }
        for reference in ["latest".to_owned(), digest(manifest)] {
            let found = server.get(&format!("/v2/{name}/manifests/{reference}")).await;
            match found.status.as_u16() {
                200 => assert!(found.body == manifest.as_bytes()),
                status => assert_eq!(status, 404),
            }
        }
        let tags = server.get(&format!("/v2/{name}/tags/list")).await;
        if tags.status == 200 && tags.json()["tags"] == serde_json::json!(["latest"]) {
            server.get(&format!("/v2/{name}/manifests/latest")).await.expect(200);
        }
    }
}

/// The number of descriptors of this process for files of a folder.
fn descriptors(folder: &Path) -> usize {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let links = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    links.filter(|link| link.starts_with(folder)).count()
}

/// Waits until a server has closed its files: an interrupted request ends a little later.
async fn has_closed_its_files(server: &TestServer) {
    for _ in 0..1000 {
        if descriptors(&server.folder().join("data")) == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("files stay open");
}

/// Fails each call of each kind of request and returns how many faults struck.
async fn try_all(verdict: Verdict, status: u16, code: ErrorCode, for_good: bool) -> usize {
    let fault = Arc::new(Fault::default());
    let server = TestServer::over(|root| Arc::new(Watched::new(root, Arc::clone(&fault))));
    let mut struck = 0;
    for kind in KINDS {
        for at in 0.. {
            let name = format!("{kind:?}-{at}").to_lowercase();
            let prepared = kind.prepare(&server, &name).await;
            fault.arm(Plan { at, for_good, verdict });
            let answer = kind.send(&server, &prepared).await;
            if !fault.disarm() {
                assert!(at > 0, "{kind:?} does nothing in storage");
                break;
            }
            struck += 1;
            let context = format!("{kind:?}, call {at}, {verdict:?}: {answer:?}");
            let mut ended = false;
            if answer.status == kind.good() {
                kind.has_done(&server, &prepared, &answer).await;
                ended = kind.ends_something();
            } else if matches!(kind, Kind::HeadBlob | Kind::HeadManifest) {
                assert_eq!(answer.status, status, "{context}");
            } else {
                assert_eq!(answer.status, status, "{context}");
                let answer = answer.expect_error(status, code);
                let id = &answer.json()["errors"][0]["detail"]["request"];
                assert_eq!(id, answer.header("x-request-id"), "{context}");
                assert!(!answer.text().contains("/_"), "{context}");
            }
            prepared.is_whole(&server).await;
            if !ended {
                again(kind, &server, &prepared, &context).await;
            }
        }
    }
    if for_good {
        remove_leftovers(&server.folder().join("data"));
    }
    has_closed_its_files(&server).await;
    struck
}

/// Sends the request once more, without a fault. It succeeds; or it finds that it has already taken
/// effect, or that the upload is over, and then the client's next request succeeds.
async fn again(kind: Kind, server: &TestServer, prepared: &Prepared, context: &str) {
    let answer = kind.send(server, prepared).await;
    if answer.status == kind.good() {
        return;
    }
    assert!(kind.ends_something(), "{context}, and again: {answer:?}");
    // The chunk is stored already, as the client would have learned by asking.
    let there_already = matches!(kind, Kind::FinishUpload | Kind::Patch | Kind::PatchMuch)
        && matches!(answer.status.as_u16(), 400 | 416);
    assert!(answer.status == 404 || there_already, "{context}, and again: {answer:?}");
    server.push_blob(&prepared.name, prepared.layer.clone()).await;
    server.push_blob(&prepared.name, CONFIG).await;
    prepared.put_manifest(server).await.expect(201);
}

/// On a disk on which every call fails, no file can be removed either.
fn remove_leftovers(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            remove_leftovers(&path);
        } else if path.extension().is_some_and(|extension| extension == "tmp") {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[tokio::test]
async fn no_space_at_any_call_is_507() {
    let fault = Verdict::Fail(Errno::NOSPC);
    let struck = try_all(fault, 507, ErrorCode::Unknown, false).await;
    println!("ENOSPC: {struck} faults");
}

#[tokio::test]
async fn too_many_files_at_any_call_is_503() {
    let fault = Verdict::Fail(Errno::MFILE);
    let struck = try_all(fault, 503, ErrorCode::Unavailable, false).await;
    println!("EMFILE: {struck} faults");
}

#[tokio::test]
async fn input_output_error_at_any_call_is_500() {
    let fault = Verdict::Fail(Errno::IO);
    let struck = try_all(fault, 500, ErrorCode::Unknown, false).await;
    println!("EIO: {struck} faults");
}

#[tokio::test]
async fn no_permission_at_any_call_is_500() {
    let fault = Verdict::Fail(Errno::ACCESS);
    let struck = try_all(fault, 500, ErrorCode::Unknown, false).await;
    println!("EACCES: {struck} faults");
}

#[tokio::test]
async fn disk_that_fails_from_any_call_on_is_500() {
    let fault = Verdict::Fail(Errno::IO);
    let struck = try_all(fault, 500, ErrorCode::Unknown, true).await;
    println!("EIO from a call on: {struck} faults");
}

#[tokio::test]
async fn disk_that_stays_full_from_any_call_on_is_507() {
    let fault = Verdict::Fail(Errno::NOSPC);
    let struck = try_all(fault, 507, ErrorCode::Unknown, true).await;
    println!("ENOSPC from a call on: {struck} faults");
}

#[tokio::test]
async fn short_writes_are_continued() {
    let struck = try_all(Verdict::Short, 500, ErrorCode::Unknown, true).await;
    println!("short writes: {struck} faults");
}

/// A blob of several pieces: a truncated response must not pass for the whole.
#[tokio::test]
async fn disk_that_fails_within_a_blob_ends_the_response_early() {
    let fault = Arc::new(Fault::default());
    let server = TestServer::over(|root| Arc::new(Watched::new(root, Arc::clone(&fault))));
    let blob = noise(2, 3 << 20);
    let digest = server.push_blob("a", blob.clone()).await;
    let (target, mut broken) = (format!("/v2/a/blobs/{digest}"), 0);
    for at in 0.. {
        fault.arm(Plan { at, for_good: false, verdict: Verdict::Fail(Errno::IO) });
        // Over HTTP/2 the end of a stream may overtake its head.
        let (status, whole) = match server.request("GET", &target).send().await {
            Ok(response) => {
                let status = response.status().as_u16();
                (status, response.bytes().await.is_ok())
            }
            Err(_) => (200, false),
        };
        if !fault.disarm() {
            break;
        }
        assert!(status == 500 || !whole, "call {at}");
        broken += usize::from(status == 200);
        assert!(server.get(&target).await.expect(200).body == blob);
    }
    assert!(broken > 3);
}

/// A disk that hangs until it is released.
#[derive(Debug, Default)]
struct Still(Arc<(Mutex<bool>, std::sync::Condvar)>);

impl Watch for Still {
    fn before(&self, _: Call<'_>) -> Verdict {
        let (stands, goes) = &*self.0;
        drop(goes.wait_while(stands.lock().unwrap(), |stands| *stands).unwrap());
        Verdict::Go
    }
}

#[tokio::test]
async fn stalled_disk_delays_only_requests_that_need_it() {
    let still = Still::default();
    let gate = Arc::clone(&still.0);
    let server = TestServer::over(|root| Arc::new(Watched::new(root, still)));
    *gate.0.lock().unwrap() = true;
    let bytes = b"late";
    let push = server.push_blob("a", &bytes[..]);
    let others = async {
        for _ in 0..50 {
            server.get("/v2/").await.expect(200);
            server.anonymous("GET", "/v2/").answer().await.expect(401);
        }
        *gate.0.lock().unwrap() = false;
        gate.1.notify_all();
    };
    let (pushed, ()) = tokio::join!(push, others);
    assert!(server.get(&format!("/v2/a/blobs/{pushed}")).await.expect(200).body == bytes[..]);
}
