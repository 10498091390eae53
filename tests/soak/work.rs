//! The work of a client, in a repository that no other client uses, so that it knows every expected
//! response.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use reqwest::{Method, Version, header};
use serde_json::{Value, json};
use testkit::{
    blob::{Blob, Digest, digest},
    random::Random,
};

use crate::{
    client::{Answer, Client, Outcome, Stop},
    content::Image,
    push::{SHARED, below},
    stage::Stage,
};

const TAGS: [&str; 4] = ["edge", "latest", "v1", "v2"];
/// After this many actions a client begins anew: with new connections, and half of the times with
/// an empty repository of another name.
const ACTIONS_OF_A_CLIENT: u64 = 40;
/// The number of names that a client has for its repository.
const NAMES: u64 = 8;

/// A client and the content of its repository.
#[derive(Debug)]
pub(crate) struct Worker {
    client: Client,
    random: Random,
    number: u64,
    name: String,
    blobs: BTreeSet<Digest>,
    images: BTreeMap<Digest, Image>,
    tags: BTreeMap<&'static str, Digest>,
}

impl Worker {
    pub(crate) fn new(stage: &Arc<Stage>, number: u64, random: Random) -> Self {
        let version = if number.is_multiple_of(2) { Version::HTTP_2 } else { Version::HTTP_11 };
        Self {
            client: Client::new(stage, version),
            random,
            number,
            name: format!("soak/{number}/0"),
            blobs: BTreeSet::new(),
            images: BTreeMap::new(),
            tags: BTreeMap::new(),
        }
    }

    /// Works until the clients end, and leaves an empty repository.
    pub(crate) async fn work(mut self) -> Outcome<()> {
        let stage = Arc::clone(&self.client.stage);
        let worked = async {
            self.client.meet().await?;
            for action in 1.. {
                if stage.is_over() {
                    return self.empty().await;
                }
                if action % ACTIONS_OF_A_CLIENT == 0 {
                    self.begin_anew().await?;
                }
                self.act().await?;
            }
            Ok(())
        };
        match worked.await {
            Err(Stop::Ended) => Ok(()),
            worked => worked,
        }
    }

    async fn begin_anew(&mut self) -> Outcome<()> {
        if self.random.percent(50) {
            self.empty().await?;
            self.name = format!("soak/{}/{}", self.number, self.random.below(NAMES));
        }
        self.client = Client::new(&self.client.stage, self.client.version);
        self.client.meet().await.map(drop)
    }

    async fn act(&mut self) -> Outcome<()> {
        let stage = Arc::clone(&self.client.stage);
        let layer = self.random.pick(&stage.content.layers);
        let tag = *self.random.pick(&TAGS);
        match self.random.below(100) {
            0..30 => self.push(tag).await,
            30..50 => self.pull(tag).await,
            50..65 => self.pull_shared().await,
            65..72 => self.list().await,
            72..78 => self.move_tag(tag).await,
            78..82 => self.delete_tag(tag).await,
            82..86 => match self.tags.get(tag).cloned() {
                Some(digest) => self.delete_manifest(&digest).await,
                None => Ok(()),
            },
            86..89 => self.delete_blob().await,
            89..92 => self.client.cancel(&mut self.random, &self.name, layer).await,
            92..94 => self.client.end_badly(&self.name, layer).await,
            _ => self.ask_for_what_is_not_there().await,
        }
    }

    async fn push(&mut self, tag: &'static str) -> Outcome<()> {
        let image = self.client.stage.content.image(&mut self.random);
        for blob in &image.blobs {
            self.push_blob(blob).await?;
        }
        let at_digest = self.random.percent(10);
        let at = if at_digest { image.digest.as_str() } else { tag };
        self.client.put(&self.name, &image, at).await?;
        if !at_digest {
            self.tags.insert(tag, image.digest.clone());
        }
        self.images.insert(image.digest.clone(), image);
        Ok(())
    }

    async fn push_blob(&mut self, blob: &Blob) -> Outcome<()> {
        let there = self.blobs.contains(&blob.digest);
        let target = format!("/v2/{}/blobs/{}", self.name, blob.digest);
        let answer = self.send("HEAD blob", Method::HEAD, &target).await?;
        let answer = answer.expect(if there { 200 } else { 404 })?;
        if there && answer.header("content-length")? != blob.bytes.len().to_string() {
            return Err(answer.wrong("of another length"));
        }
        if there && self.random.percent(70) {
            return Ok(());
        }
        let is_layer = self.client.stage.content.layers.iter().any(|l| l.digest == blob.digest);
        if is_layer && self.random.percent(25) {
            self.client.mount(&self.name, blob).await?;
        } else {
            self.client.push_blob(&mut self.random, &self.name, blob).await?;
        }
        self.blobs.insert(blob.digest.clone());
        Ok(())
    }

    async fn pull(&mut self, tag: &str) -> Outcome<()> {
        let image = self.tags.get(tag).map(|digest| self.images[digest].clone());
        let name = self.name.clone();
        self.pull_image(&name, tag, image).await
    }

    async fn pull_shared(&mut self) -> Outcome<()> {
        let number = self.random.below(SHARED_IMAGES);
        let image = self.client.stage.content.numbered(number);
        self.pull_image(SHARED, &format!("v{number}"), Some(image)).await
    }

    /// Checks that a tag leads to this image.
    async fn pull_image(&mut self, name: &str, tag: &str, image: Option<Image>) -> Outcome<()> {
        let target = format!("/v2/{name}/manifests/{tag}");
        let answer = self.send("GET manifest", Method::GET, &target).await?;
        let Some(image) = image else { return answer.expect(404).map(drop) };
        let answer = answer.expect(200)?;
        if answer.body != image.bytes {
            return Err(answer.wrong(&format!("and not with {}", image.digest)));
        }
        for blob in &image.blobs {
            self.pull_blob(&format!("/v2/{name}/blobs/{}", blob.digest), blob).await?;
        }
        Ok(())
    }

    async fn pull_blob(&mut self, target: &str, blob: &Blob) -> Outcome<()> {
        if self.random.percent(85) {
            let answer = self.send("GET blob", Method::GET, target).await?;
            return same(&answer.expect(200)?, &blob.bytes);
        }
        let first = below(&mut self.random, blob.bytes.len());
        let last = first + below(&mut self.random, blob.bytes.len() - first);
        let request = self.client.request(Method::GET, target);
        let request = request.header(header::RANGE, format!("bytes={first}-{last}"));
        let answer = self.client.send("GET range", request).await?.expect(206)?;
        same(&answer, &blob.bytes[first..=last])
    }

    async fn list(&self) -> Outcome<()> {
        let name = &self.name;
        let answer = self.send("GET tags", Method::GET, &format!("/v2/{name}/tags/list")).await?;
        let tags: Vec<&str> = self.tags.keys().copied().collect();
        let nothing = tags.is_empty() && answer.status == 404;
        if !nothing && (answer.status != 200 || answer.json()["tags"] != json!(tags)) {
            return Err(answer.wrong(&format!("not {tags:?}")));
        }
        let answer = self.send("GET catalog", Method::GET, "/v2/_catalog").await?.expect(200)?;
        let listed = answer.json()["repositories"].as_array().cloned().unwrap_or_default();
        let lists = |name: &str| listed.iter().filter_map(Value::as_str).any(|n| n == name);
        if !lists(SHARED) || lists(name) == self.images.is_empty() {
            return Err(answer.wrong(&format!("{name} has {} images", self.images.len())));
        }
        let image = self.client.stage.content.numbered(0).digest;
        let target = format!("/v2/{name}/referrers/{image}");
        let answer = self.send("GET referrers", Method::GET, &target).await?.expect(200)?;
        if answer.json()["manifests"] == json!([]) { Ok(()) } else { Err(answer.wrong("not none")) }
    }

    async fn move_tag(&mut self, to: &'static str) -> Outcome<()> {
        let images: Vec<&Image> = self.images.values().collect();
        if images.is_empty() {
            return Ok(());
        }
        let image = *self.random.pick(&images);
        self.client.put(&self.name, image, to).await?;
        self.tags.insert(to, image.digest.clone());
        Ok(())
    }

    async fn delete_tag(&mut self, tag: &str) -> Outcome<()> {
        let there = self.tags.remove(tag).is_some();
        self.delete("DELETE tag", &format!("/v2/{}/manifests/{tag}", self.name), there).await
    }

    /// Deletes a manifest, and with it every tag that leads to it.
    async fn delete_manifest(&mut self, digest: &Digest) -> Outcome<()> {
        self.images.remove(digest);
        self.tags.retain(|_, led| led != digest);
        self.delete("DELETE manifest", &format!("/v2/{}/manifests/{digest}", self.name), true).await
    }

    /// Deletes a blob that no image references.
    async fn delete_blob(&mut self) -> Outcome<()> {
        let named: BTreeSet<&Digest> =
            self.images.values().flat_map(|image| &image.blobs).map(|blob| &blob.digest).collect();
        let Some(digest) = self.blobs.iter().find(|digest| !named.contains(digest)).cloned() else {
            return Ok(());
        };
        self.blobs.remove(&digest);
        self.delete("DELETE blob", &format!("/v2/{}/blobs/{digest}", self.name), true).await
    }

    /// Deletes everything.
    async fn empty(&mut self) -> Outcome<()> {
        for digest in self.images.keys().cloned().collect::<Vec<_>>() {
            self.delete_manifest(&digest).await?;
        }
        while !self.blobs.is_empty() {
            self.delete_blob().await?;
        }
        self.list().await
    }

    /// Deletes an object, and requests it again.
    async fn delete(&self, kind: &'static str, target: &str, there: bool) -> Outcome<()> {
        let answer = self.send(kind, Method::DELETE, target).await?;
        answer.expect(if there { 202 } else { 404 })?;
        self.send("HEAD deleted", Method::HEAD, target).await?.expect(404).map(drop)
    }

    async fn ask_for_what_is_not_there(&self) -> Outcome<()> {
        let (name, nothing) = (&self.name, digest(self.name.as_bytes()));
        for target in [
            format!("/v2/{name}/manifests/never"),
            format!("/v2/{name}/manifests/{nothing}"),
            format!("/v2/{name}/blobs/{nothing}"),
            format!("/v2/{name}/blobs/uploads/00000000-0000-4000-8000-000000000000"),
            "/v2/soak/nowhere/tags/list".to_owned(),
        ] {
            self.send("GET unknown", Method::GET, &target).await?.expect(404)?;
        }
        let image = self.client.stage.content.incomplete();
        let request = self.client.request(Method::PUT, &format!("/v2/{name}/manifests/never"));
        let request = request.header(header::CONTENT_TYPE, testkit::blob::IMAGE).body(image.bytes);
        let answer = self.client.send("PUT incomplete", request).await?;
        if matches!(answer.status, 400 | 404) { Ok(()) } else { Err(answer.wrong("not refused")) }
    }

    async fn send(&self, kind: &'static str, method: Method, target: &str) -> Outcome<Answer> {
        self.client.send(kind, self.client.request(method, target)).await
    }
}

/// The number of images in the shared repository, each with its number as a tag.
const SHARED_IMAGES: u64 = 8;

/// Makes the shared repository.
pub(crate) async fn make_shared(stage: &Arc<Stage>, random: &mut Random) -> Outcome<()> {
    let client = Client::new(stage, Version::HTTP_2);
    for layer in &stage.content.layers {
        client.push_blob(random, SHARED, layer).await?;
    }
    for number in 0..SHARED_IMAGES {
        let image = stage.content.numbered(number);
        client.push_blob(random, SHARED, &image.blobs[0]).await?;
        client.put(SHARED, &image, &format!("v{number}")).await?;
    }
    Ok(())
}

fn same(answer: &Answer, bytes: &[u8]) -> Outcome<()> {
    if answer.body == bytes { Ok(()) } else { Err(answer.wrong("with other bytes")) }
}
