//! The drain: SIGTERM while requests are under way and clients work.
//!
//! The server has begun the requests of this file for certain: the first bytes of the pulls have
//! arrived, and some bytes of the pushes are in the tree. The requests pause until the server has
//! closed its listener, and then continue.

use std::{
    fs, io,
    net::TcpStream,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::stream;
use reqwest::{Body, Method, Response, Version};
use testkit::{
    blob::{Blob, closing, noise},
    random::Random,
    server::Server,
    site::Site,
};
use tokio::{
    sync::watch::{self, Receiver},
    task::JoinSet,
    time,
};

use crate::{
    changes::signal,
    client::{Client, Outcome, Stop},
    push::SHARED,
    stage::Stage,
};

/// A hang guard, and half of the drain timeout in the site's configuration: a server that takes
/// longer has waited without need.
const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// More than the socket buffers between two processes hold.
const SIZE: u64 = 32 << 20;
/// How much of an upload is sent before the server is told to stop.
const BEFORE: usize = 4 << 20;
/// The number of pulls and of pushes for each version of HTTP.
const UNDER_WAY: u64 = 2;

/// Stops the server while all this is under way; it has to end by itself, with success.
pub(crate) async fn drain(stage: &Arc<Stage>, mut server: Server) -> Outcome<()> {
    let site = &*stage.site;
    let large = Blob::new(noise(&mut Random::new(1), SIZE));
    Client::new(stage, Version::HTTP_2).push_blob(&mut Random::new(1), SHARED, &large).await?;
    let (gate, opens) = watch::channel(());
    let (mut under_way, mut pushed) = (JoinSet::new(), Vec::new());
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let puller = Client::new(stage, version);
        for number in 0..UNDER_WAY {
            let (response, first) = begin_pull(&puller, &large).await?;
            under_way.spawn(pull(response, first, large.clone(), opens.clone()));
            let blob = Blob::new(noise(&mut Random::new(2 + pushed.len() as u64), SIZE));
            let client = Client::new(stage, version);
            let name = format!("soak/drain/{number}");
            let location = client.start(&name).await?;
            let data = upload_of(site, &name, &location);
            pushed.push(blob.clone());
            under_way.spawn(push(client, location, blob, opens.clone()));
            until("an upload is in the tree", || fs::metadata(&data).is_ok_and(|d| d.len() > 0))
                .await?;
        }
    }

    stage.set_stopping();
    signal(server.child.id(), "TERM");
    until("the log says so", || site.log().contains("stopping")).await?;
    until("no client can connect", || TcpStream::connect(site.address).is_err()).await?;
    if let Some(status) = server.child.try_wait().unwrap() {
        return Err(Stop::Wrong(format!("ended with {status} before its requests have")));
    }
    gate.send_replace(());
    while let Some(ended) = under_way.join_next().await {
        ended.map_err(|panicked| Stop::Wrong(panicked.to_string()))??;
    }
    until("the server has ended", || server.child.try_wait().unwrap().is_some()).await?;
    let status = server.child.wait().unwrap();
    if !status.success() || !site.log().contains("stopped") {
        return Err(Stop::Wrong(format!("ended with {status}")));
    }
    match pushed.iter().find(|blob| fs::read(data_of(site, blob)).ok() != Some(blob.bytes.to_vec()))
    {
        Some(blob) => Err(Stop::Wrong(format!("{} was pushed and is not there", blob.digest))),
        None => Ok(()),
    }
}

/// Waits for an event that must happen.
async fn until(what: &str, mut comes: impl FnMut() -> bool) -> Outcome<()> {
    let started = Instant::now();
    while !comes() {
        if started.elapsed() > LIMIT {
            return Err(Stop::Wrong(format!("the drain hangs before {what}")));
        }
        time::sleep(POLL).await;
    }
    Ok(())
}

/// Requests a blob and reads its beginning.
async fn begin_pull(client: &Client, blob: &Blob) -> Outcome<(Response, Bytes)> {
    let target = format!("/v2/{SHARED}/blobs/{}", blob.digest);
    let begun = async {
        let mut response = client.request(Method::GET, &target).send().await?.error_for_status()?;
        let first = response.chunk().await?.unwrap_or_default();
        Ok::<_, reqwest::Error>((response, first))
    };
    begun.await.map_err(|error| Stop::Wrong(format!("{target}: {error:?}")))
}

/// Reads the rest once the barrier is open.
async fn pull(
    mut response: Response,
    first: Bytes,
    blob: Blob,
    mut opens: Receiver<()>,
) -> Outcome<()> {
    let wrong = |why: &str| Stop::Wrong(format!("a pull under way at the stop: {why}"));
    opens.changed().await.map_err(|_| wrong("given up"))?;
    let mut body = first.to_vec();
    while let Some(piece) =
        response.chunk().await.map_err(|error| wrong(&format!("cut off: {error:?}")))?
    {
        body.extend_from_slice(&piece);
    }
    if body == blob.bytes { Ok(()) } else { Err(wrong("other bytes")) }
}

/// Ends an upload with all of its bytes, most of them once the barrier is open.
async fn push(
    client: Client,
    location: String,
    blob: Blob,
    mut opens: Receiver<()>,
) -> Outcome<()> {
    let (before, after) = (blob.bytes.slice(..BEFORE), blob.bytes.slice(BEFORE..));
    let rest = stream::once(async move {
        opens.changed().await.map_err(io::Error::other)?;
        Ok::<_, io::Error>(after)
    });
    let body = stream::StreamExt::chain(stream::iter([Ok(before)]), rest);
    let request = client.request(Method::PUT, &closing(&location, blob.digest.as_str()));
    let request = request.body(Body::wrap_stream(body));
    match client.send("PUT upload, at the stop", request).await {
        Err(Stop::Ended) => Err(Stop::Wrong("a push under way at the stop was cut off".to_owned())),
        answer => answer?.expect(201).map(drop),
    }
}

/// The path of an upload's bytes in the tree.
fn upload_of(site: &Site, name: &str, location: &str) -> PathBuf {
    let path = location.split('?').next().unwrap_or_default();
    let id = path.rsplit('/').next().unwrap_or_default();
    site.path(&format!("data/docker/registry/v2/repositories/{name}/_uploads/{id}/data"))
}

/// The path of a blob's bytes in the tree.
fn data_of(site: &Site, blob: &Blob) -> PathBuf {
    let hex = blob.digest.as_str().trim_start_matches("sha256:");
    site.path(&format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
}
