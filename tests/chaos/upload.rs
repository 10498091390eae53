//! Uploads of blobs: in chunks, in one request, by a mount; and resumed after a kill.

use std::sync::Arc;

use reqwest::{Method, header};
use testkit::blob::{body, closing};

use crate::{
    client::{Answer, Client, Outcome, Stop},
    content::{Blob, Digest, REPOSITORIES},
    model::{Effect, End, Key, Model},
    tally::{Kind, add},
};

/// An upload session as its client knows it.
#[derive(Debug)]
pub(crate) struct Upload {
    repository: &'static str,
    location: String,
    blob: Blob,
    /// The number of bytes that the server has acknowledged.
    acknowledged: usize,
    /// The number of bytes that it may have.
    sent: usize,
    /// Whether a request that ends the session was sent.
    ending: bool,
    /// Whether its repository was deleted while no client was working on it.
    doubtful: bool,
}

impl Upload {
    /// Notes the repositories that were deleted before a kill.
    pub(crate) fn doubt(&mut self, model: &Model) {
        self.doubtful |= model.may_have_lost_uploads(self.repository);
    }
}

impl Client {
    /// Makes a repository have a blob, in one of the ways of real clients.
    pub(crate) async fn push_blob(&mut self, name: &'static str, blob: &Blob) -> Outcome<()> {
        if !self.random.percent(25) && self.has_blob(name, &blob.digest).await? {
            return Ok(());
        }
        match self.random.below(10) {
            0..2 => match self.mount(name, &blob.digest).await? {
                true => Ok(()),
                false => self.push_in_chunks(name, blob).await,
            },
            2..5 => self.push_in_one(name, blob).await,
            _ => self.push_in_chunks(name, blob).await,
        }
    }

    /// Begins an upload and leaves it, or ends it without a blob.
    pub(crate) async fn give_up(&mut self, name: &'static str, blob: &Blob) -> Outcome<()> {
        let cancel = self.random.percent(50);
        let mut upload = self.start(name, blob).await?;
        let part = blob.bytes.len() / 2;
        let mut given_up = self.patch(&mut upload, part).await;
        if given_up.is_ok() && cancel {
            upload.ending = true;
            given_up = self.cancel(name, &upload.location).await;
        }
        if !cancel || matches!(given_up, Err(Stop::Killed)) {
            self.stage.interrupted.lock().unwrap().push(upload);
        }
        given_up
    }

    /// Resumes an upload that a kill has interrupted.
    pub(crate) async fn resume(&mut self, mut upload: Upload) -> Outcome<()> {
        let tally = Arc::clone(&self.stage.tally);
        let request = self.request(Method::GET, &upload.location);
        let answer = match self.send(Kind::Status, request).await {
            Ok(answer) => answer,
            Err(stop) => return self.leave(upload, stop),
        };
        match answer.status {
            204 => {}
            404 if upload.doubtful || self.lost(upload.repository, &answer) => {
                return Err(Stop::Gone);
            }
            // It has become a blob, or was being cancelled.
            404 if upload.ending => {
                add(&tally.gone, 1);
                return Ok(());
            }
            _ => return Err(answer.wrong()),
        }
        let there = received(&answer)?;
        // An acknowledged chunk is in the file: a kill loses only memory.
        let least = if upload.ending { 0 } else { upload.acknowledged };
        if !(least..=upload.sent).contains(&there) {
            let why = format!("{there} bytes are there, {least} to {} were sent", upload.sent);
            return Err(Stop::Wrong(format!("{}: {why}", upload.location)));
        }
        add(&tally.resumed, 1);
        add(&tally.resumed_inside, usize::from(there > 0));
        (upload.acknowledged, upload.sent) = (there, there);
        (upload.ending, upload.doubtful) = (false, false);
        self.go_on(upload).await
    }

    async fn push_in_chunks(&mut self, name: &'static str, blob: &Blob) -> Outcome<()> {
        let upload = self.start(name, blob).await?;
        self.go_on(upload).await
    }

    async fn start(&self, repository: &'static str, blob: &Blob) -> Outcome<Upload> {
        let request = self.request(Method::POST, &format!("/v2/{repository}/blobs/uploads/"));
        let answer = self.send(Kind::StartUpload, request).await?;
        if answer.status != 202 {
            return Err(answer.wrong());
        }
        let location = self.location(&answer)?;
        let blob = blob.clone();
        Ok(Upload {
            repository,
            location,
            blob,
            acknowledged: 0,
            sent: 0,
            ending: false,
            doubtful: false,
        })
    }

    /// Sends the rest of a blob and ends the upload.
    async fn go_on(&mut self, mut upload: Upload) -> Outcome<()> {
        match self.send_rest(&mut upload).await {
            Ok(()) => Ok(()),
            Err(stop) => self.leave(upload, stop),
        }
    }

    /// Leaves an upload to the clients after the kill.
    fn leave(&self, upload: Upload, stop: Stop) -> Outcome<()> {
        if matches!(stop, Stop::Killed) {
            self.stage.interrupted.lock().unwrap().push(upload);
        }
        Err(stop)
    }

    async fn send_rest(&mut self, upload: &mut Upload) -> Outcome<()> {
        let whole = upload.blob.bytes.len();
        let chunks = self.random.below(3);
        for _ in 0..chunks {
            let left = whole - upload.acknowledged;
            // A last piece is left for the request that ends the upload.
            if left > 64 {
                let chunk = 32 + self.random.below(left as u64 - 48);
                self.patch(upload, usize::try_from(chunk).unwrap()).await?;
            }
        }
        if self.random.percent(50) && upload.acknowledged < whole {
            self.patch(upload, whole - upload.acknowledged).await?;
        }
        self.finish(upload).await
    }

    async fn patch(&mut self, upload: &mut Upload, length: usize) -> Outcome<()> {
        let (first, end) = (upload.acknowledged, upload.acknowledged + length);
        upload.sent = end;
        let body = body(&mut self.random, upload.blob.bytes.slice(first..end));
        let request = self
            .request(Method::PATCH, &upload.location)
            .header(header::CONTENT_RANGE, format!("{first}-{}", end - 1))
            .body(body);
        let answer = self.send(Kind::Patch, request).await?;
        if self.lost(upload.repository, &answer) {
            return Err(Stop::Gone);
        }
        if answer.status != 202 || received(&answer)? != end {
            return Err(answer.wrong());
        }
        upload.acknowledged = end;
        upload.location = self.location(&answer)?;
        Ok(())
    }

    async fn finish(&mut self, upload: &mut Upload) -> Outcome<()> {
        let Upload { repository, location, blob, acknowledged, .. } = &*upload;
        let target = closing(location, blob.digest.as_str());
        let rest = blob.bytes.slice(*acknowledged..);
        let set = (Key::blob(repository, &blob.digest), Effect::Set(blob.digest.clone()));
        upload.sent = upload.blob.bytes.len();
        upload.ending = true;
        let request = self.request(Method::PUT, &target);
        let request =
            if rest.is_empty() { request } else { request.body(body(&mut self.random, rest)) };
        self.put_in(Kind::Finish, request, set).await
    }

    async fn push_in_one(&mut self, name: &str, blob: &Blob) -> Outcome<()> {
        let target = format!("/v2/{name}/blobs/uploads/?digest={}", blob.digest);
        let body = body(&mut self.random, blob.bytes.clone());
        let request = self.request(Method::POST, &target).body(body);
        let set = (Key::blob(name, &blob.digest), Effect::Set(blob.digest.clone()));
        self.put_in(Kind::Monolithic, request, set).await
    }

    async fn put_in(
        &self,
        kind: Kind,
        request: reqwest::RequestBuilder,
        set: (Key, Effect),
    ) -> Outcome<()> {
        let repository = set.0.repository.clone();
        let op = self.stage.begin(vec![set])?;
        let answer = self.send(kind, request).await?;
        if self.lost(&repository, &answer) {
            self.stage.end(op, &End::Refused)?;
            return Err(Stop::Gone);
        }
        if answer.status != 201 {
            return Err(answer.wrong());
        }
        self.stage.end(op, &End::Done)
    }

    /// Mounts a blob; `false` when the source repository does not have it.
    async fn mount(&mut self, name: &str, digest: &Digest) -> Outcome<bool> {
        let from = self.random.pick(&REPOSITORIES);
        let mut target = format!("/v2/{name}/blobs/uploads/?mount={digest}");
        if self.random.percent(80) {
            target += &format!("&from={from}");
        }
        let op = self.stage.begin(vec![(Key::blob(name, digest), Effect::Set(digest.clone()))])?;
        let answer = self.send(Kind::Mount, self.request(Method::POST, &target)).await?;
        match answer.status {
            201 => self.stage.end(op, &End::Done).map(|()| true),
            202 => {
                self.stage.end(op, &End::Refused)?;
                self.cancel(name, &self.location(&answer)?).await.map(|()| false)
            }
            _ => Err(answer.wrong()),
        }
    }

    async fn cancel(&self, name: &str, location: &str) -> Outcome<()> {
        let answer = self.send(Kind::Cancel, self.request(Method::DELETE, location)).await?;
        if self.lost(name, &answer) {
            return Ok(());
        }
        if answer.status == 204 { Ok(()) } else { Err(answer.wrong()) }
    }

    /// Whether an upload was deleted with its repository.
    fn lost(&self, repository: &str, answer: &Answer) -> bool {
        answer.status == 404
            && self.stage.model.lock().unwrap().may_have_lost_uploads(repository)
            && String::from_utf8_lossy(&answer.body).contains("BLOB_UPLOAD_UNKNOWN")
    }

    fn location(&self, answer: &Answer) -> Outcome<String> {
        let location = answer.header("location")?;
        match location.strip_prefix('/') {
            Some(path) => Ok(format!("{}/{path}", self.stage.base)),
            None => Ok(location.to_owned()),
        }
    }
}

/// The number of bytes of an upload. `0-0` means zero, since no upload here has one byte.
fn received(answer: &Answer) -> Outcome<usize> {
    match answer.header("range")?.strip_prefix("0-").and_then(|last| last.parse().ok()) {
        Some(0) => Ok(0),
        Some(last) => Ok(usize::wrapping_add(last, 1)),
        None => Err(answer.wrong()),
    }
}
