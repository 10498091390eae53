//! The work of a client: push, pull, move tags, delete, list.

use reqwest::Method;

use crate::{
    client::{Client, Outcome, Stop},
    content::{Digest, Manifest, REPOSITORIES, TAGS, digest},
    model::{Effect, End, Key},
    tally::Kind,
};

impl Client {
    /// Works until the server is killed. Uploads that the last kill interrupted come first.
    pub(crate) async fn work(mut self) -> Result<(), String> {
        loop {
            let upload = self.stage.to_resume.lock().unwrap().pop();
            let done = match upload {
                Some(upload) => self.resume(upload).await,
                None => self.act().await,
            };
            match done {
                Ok(()) | Err(Stop::Gone) => {}
                Err(Stop::Killed) => return Ok(()),
                Err(Stop::Wrong(why)) => return Err(why),
            }
        }
    }

    async fn act(&mut self) -> Outcome<()> {
        let name = *self.random.pick(&REPOSITORIES);
        let tag = *self.random.pick(&TAGS);
        let images = &self.stage.images;
        // The newest image is drawn most often, so that clients meet at content that does not exist
        // yet.
        let number = match self.random.percent(30) {
            true => images.end - 1,
            false => images.start + self.random.below(images.end - images.start),
        };
        match self.random.below(100) {
            0..34 => {
                let image = self.stage.content.image(number);
                self.push_image(name, &image).await.map(drop)
            }
            34..40 => {
                let index = self.stage.content.index(number);
                for image in &index.children {
                    if !self.push_image(name, image).await? {
                        return Ok(());
                    }
                }
                self.put_manifest(name, &index, &[tag]).await.map(drop)
            }
            40..48 => self.move_tag(name, tag).await,
            48..56 => self.delete_tag(name, tag).await,
            56..61 => {
                let image = self.stage.content.image(number);
                self.delete_manifest(name, &image.digest).await
            }
            61..69 => match self.pull_tag(name, tag).await? {
                Some((digest, _)) => self.delete_manifest(name, &digest).await,
                None => Ok(()),
            },
            69 => self.delete_repository(name).await,
            70..74 => {
                let image = self.stage.content.image(number);
                let blob = self.random.pick(&image.blobs).digest.clone();
                self.delete_blob(name, &blob).await
            }
            74..79 => {
                let image = self.stage.content.image(number);
                self.give_up(name, &image.blobs[0]).await
            }
            79..92 => self.pull(name, tag, number).await,
            _ => self.list(name, number).await,
        }
    }

    /// `false` when a blob was deleted meanwhile, so that the image could not be pushed.
    async fn push_image(&mut self, name: &'static str, image: &Manifest) -> Outcome<bool> {
        for blob in &image.blobs {
            self.push_blob(name, blob).await?;
        }
        let tags = match self.random.below(4) {
            0 => vec![],
            1 => vec![TAGS[0], *self.random.pick(&TAGS[1..])],
            _ => vec![*self.random.pick(&TAGS)],
        };
        self.put_manifest(name, image, &tags).await
    }

    /// Puts a manifest at its digest, or at one tag, or at its digest and several tags. The client
    /// has just seen its blobs in the repository, so the server may refuse it (`false`) only when a
    /// client has begun to delete one of them.
    async fn put_manifest(
        &self,
        name: &'static str,
        manifest: &Manifest,
        tags: &[&str],
    ) -> Outcome<bool> {
        let bytes = (manifest.digest.clone(), manifest.bytes.clone());
        if self.put(name, bytes, manifest.media_type, tags).await? {
            return Ok(true);
        }
        let blobs = manifest.blobs.iter().map(|blob| Key::blob(name, &blob.digest));
        let children = manifest.children.iter().map(|child| Key::manifest(name, &child.digest));
        let model = self.stage.model.lock().unwrap();
        if model.is_graceless() || blobs.chain(children).any(|key| model.is_deleting(&key)) {
            return Ok(false);
        }
        let why = "refused although nothing that it names was deleted";
        Err(Stop::Wrong(format!("{name}: manifest {}: {why}", manifest.digest)))
    }

    /// `false` when the manifest is not complete.
    async fn put(
        &self,
        name: &str,
        (digest, bytes): (Digest, bytes::Bytes),
        media_type: &str,
        tags: &[&str],
    ) -> Outcome<bool> {
        let target = match tags {
            [tag] => format!("/v2/{name}/manifests/{tag}"),
            [] => format!("/v2/{name}/manifests/{digest}"),
            tags => format!("/v2/{name}/manifests/{digest}?tag={}", tags.join("&tag=")),
        };
        let mut effects = vec![(Key::manifest(name, &digest), Effect::Set(digest.clone()))];
        effects.extend(tags.iter().map(|tag| (Key::tag(name, tag), Effect::Set(digest.clone()))));
        let request =
            self.request(Method::PUT, &target).header("content-type", media_type).body(bytes);
        let op = self.stage.begin(effects)?;
        let answer = self.send(Kind::PutManifest, request).await?;
        let unknown = String::from_utf8_lossy(&answer.body).contains("MANIFEST_BLOB_UNKNOWN");
        match answer.status {
            201 => self.stage.end(op, &End::Done).map(|()| true),
            400 | 404 if unknown => self.stage.end(op, &End::Refused).map(|()| false),
            _ => Err(answer.wrong()),
        }
    }

    async fn move_tag(&mut self, name: &str, from: &str) -> Outcome<()> {
        let Some((digest, answer)) = self.pull_tag(name, from).await? else {
            return Ok(());
        };
        let to = *self.random.pick(&TAGS);
        let media_type = answer.header("content-type")?;
        // The server refuses it when one of its blobs was deleted meanwhile.
        self.put(name, (digest, answer.body.clone()), media_type, &[to]).await?;
        Ok(())
    }

    async fn delete_tag(&self, name: &str, tag: &str) -> Outcome<()> {
        let effects = vec![(Key::tag(name, tag), Effect::Clear)];
        let target = format!("/v2/{name}/manifests/{tag}");
        self.delete(Kind::DeleteTag, &target, effects).await
    }

    /// Deletes a manifest, and with it every tag that names it.
    async fn delete_manifest(&self, name: &str, digest: &Digest) -> Outcome<()> {
        let mut effects = vec![(Key::manifest(name, digest), Effect::Clear)];
        let tags = TAGS.iter().map(|tag| (Key::tag(name, tag), Effect::ClearIf(digest.clone())));
        effects.extend(tags);
        let target = format!("/v2/{name}/manifests/{digest}");
        self.delete(Kind::DeleteManifest, &target, effects).await
    }

    async fn delete_blob(&self, name: &str, digest: &Digest) -> Outcome<()> {
        let effects = vec![(Key::blob(name, digest), Effect::Clear)];
        self.delete(Kind::DeleteBlob, &format!("/v2/{name}/blobs/{digest}"), effects).await
    }

    async fn delete_repository(&self, name: &str) -> Outcome<()> {
        let op = self.stage.begin_wipe(name)?;
        let request = self.request(Method::DELETE, &format!("/v2/{name}/"));
        let answer = self.send(Kind::DeleteRepository, request).await?;
        match answer.status {
            202 => self.stage.end(op, &End::Done),
            404 => self.stage.end(op, &End::Nothing),
            _ => Err(answer.wrong()),
        }
    }

    async fn delete(&self, kind: Kind, target: &str, effects: Vec<(Key, Effect)>) -> Outcome<()> {
        let op = self.stage.begin(effects)?;
        let answer = self.send(kind, self.request(Method::DELETE, target)).await?;
        match answer.status {
            202 => self.stage.end(op, &End::Done),
            404 => self.stage.end(op, &End::Absent),
            // A manifest references the blob.
            409 if matches!(kind, Kind::DeleteBlob) => self.stage.end(op, &End::Refused),
            _ => Err(answer.wrong()),
        }
    }

    async fn pull(&self, name: &str, tag: &str, number: u64) -> Outcome<()> {
        self.pull_tag(name, tag).await?;
        let image = self.stage.content.image(number);
        let key = Key::manifest(name, &image.digest);
        self.look(Method::GET, &format!("/v2/{name}/manifests/{}", image.digest), key).await?;
        for blob in &image.blobs {
            let target = format!("/v2/{name}/blobs/{}", blob.digest);
            self.look(Method::GET, &target, Key::blob(name, &blob.digest)).await?;
        }
        Ok(())
    }

    pub(crate) async fn has_blob(&self, name: &str, digest: &Digest) -> Outcome<bool> {
        let target = format!("/v2/{name}/blobs/{digest}");
        self.look(Method::HEAD, &target, Key::blob(name, digest)).await
    }

    /// Sends HEAD for a blob or a manifest by its digest.
    async fn look(&self, method: Method, target: &str, key: Key) -> Outcome<bool> {
        let read = method == Method::GET;
        let effect = if read { Effect::Look } else { Effect::Promise };
        let op = self.stage.begin(vec![(key, effect)])?;
        let answer = self.send(Kind::Read, self.request(method, target)).await?;
        let seen = match answer.status {
            200 => Some(Digest::new(answer.header("docker-content-digest")?)),
            404 => None,
            _ => return Err(answer.wrong()),
        };
        if let Some(seen) = seen.as_ref().filter(|_| read)
            && digest(&answer.body) != *seen
        {
            return Err(Stop::Wrong(format!("{target}: the bytes are not {seen}")));
        }
        let found = seen.is_some();
        self.stage.end(op, &End::Saw(seen)).map(|()| found)
    }

    /// Reads the manifest that a tag names.
    async fn pull_tag(
        &self,
        name: &str,
        tag: &str,
    ) -> Outcome<Option<(Digest, crate::client::Answer)>> {
        let op = self.stage.begin(vec![(Key::tag(name, tag), Effect::Look)])?;
        let target = format!("/v2/{name}/manifests/{tag}");
        let answer = self.send(Kind::Read, self.request(Method::GET, &target)).await?;
        match answer.status {
            200 => {
                let seen = digest(&answer.body);
                if answer.header("docker-content-digest")? != seen.as_str() {
                    return Err(answer.wrong());
                }
                self.stage.end(op, &End::Saw(Some(seen.clone())))?;
                Ok(Some((seen, answer)))
            }
            // The server read the tag, then its manifest was deleted, then the server looked for
            // the manifest. Meanwhile the tag may have been moved, so this does not prove its
            // absence.
            404 => self.stage.end(op, &End::Nothing).map(|()| None),
            _ => Err(answer.wrong()),
        }
    }

    async fn list(&self, name: &str, number: u64) -> Outcome<()> {
        let subject = self.stage.content.image(number).digest;
        for target in [
            format!("/v2/{name}/tags/list"),
            "/v2/_catalog".to_owned(),
            format!("/v2/{name}/referrers/{subject}"),
        ] {
            let answer = self.send(Kind::List, self.request(Method::GET, &target)).await?;
            let shows_temporary = String::from_utf8_lossy(&answer.body).contains(".tmp");
            if !matches!(answer.status, 200 | 404) || shows_temporary {
                return Err(answer.wrong());
            }
        }
        Ok(())
    }
}
