//! Pushes of blobs and images, in all the ways of real clients.

use reqwest::{Body, Method, header};
use testkit::{
    blob::{Blob, IMAGE, body, closing, digest},
    random::Random,
};

use crate::{
    client::{Client, Outcome},
    content::Image,
};

/// The repository that has every layer during the whole run.
pub(crate) const SHARED: &str = "soak/shared";

impl Client {
    /// Pushes a blob that other repositories may have as well.
    pub(crate) async fn push_blob(
        &self,
        random: &mut Random,
        name: &str,
        blob: &Blob,
    ) -> Outcome<()> {
        match random.below(10) {
            0..3 => self.push_in_one(random, name, blob).await,
            3..5 => {
                let location = self.start(name).await?;
                self.finish(&location, blob, body(random, blob.bytes.clone())).await
            }
            _ => self.push_in_chunks(random, name, blob).await,
        }
    }

    /// Mounts a layer from the repository that has all of them.
    pub(crate) async fn mount(&self, name: &str, layer: &Blob) -> Outcome<()> {
        let target = format!("/v2/{name}/blobs/uploads/?mount={}&from={SHARED}", layer.digest);
        let answer = self.send("POST mount", self.request(Method::POST, &target)).await?;
        answer.expect(201).map(drop)
    }

    /// Puts an image, whose blobs exist, at a tag or at its digest.
    pub(crate) async fn put(&self, name: &str, image: &Image, at: &str) -> Outcome<()> {
        let target = format!("/v2/{name}/manifests/{at}");
        let request = self
            .request(Method::PUT, &target)
            .header(header::CONTENT_TYPE, IMAGE)
            .body(image.bytes.clone());
        let answer = self.send("PUT manifest", request).await?.expect(201)?;
        if answer.header("docker-content-digest")? == image.digest.as_str() {
            return Ok(());
        }
        Err(answer.wrong("of another digest"))
    }

    async fn push_in_one(&self, random: &mut Random, name: &str, blob: &Blob) -> Outcome<()> {
        let target = format!("/v2/{name}/blobs/uploads/?digest={}", blob.digest);
        let request = self.request(Method::POST, &target).body(body(random, blob.bytes.clone()));
        self.send("POST blob", request).await?.expect(201).map(drop)
    }

    async fn push_in_chunks(&self, random: &mut Random, name: &str, blob: &Blob) -> Outcome<()> {
        let (mut location, whole) = (self.start(name).await?, blob.bytes.len());
        let mut first = 0;
        for _ in 0..random.below(4) {
            let left = whole - first;
            if left > 64 {
                let end = first + 32 + below(random, left - 48);
                location = self.patch(random, &location, blob, first..end).await?;
                first = end;
            }
        }
        if random.percent(50) && first < whole {
            location = self.patch(random, &location, blob, first..whole).await?;
            first = whole;
        }
        let rest = blob.bytes.slice(first..);
        let rest = if rest.is_empty() { Body::default() } else { body(random, rest) };
        self.finish(&location, blob, rest).await
    }

    /// Begins an upload, and gives its URL.
    pub(crate) async fn start(&self, name: &str) -> Outcome<String> {
        let target = format!("/v2/{name}/blobs/uploads/");
        let answer = self.send("POST upload", self.request(Method::POST, &target)).await?;
        self.location(&answer.expect(202)?)
    }

    async fn patch(
        &self,
        random: &mut Random,
        location: &str,
        blob: &Blob,
        range: std::ops::Range<usize>,
    ) -> Outcome<String> {
        let last = range.end - 1;
        let request = self
            .request(Method::PATCH, location)
            .header(header::CONTENT_RANGE, format!("{}-{last}", range.start))
            .body(body(random, blob.bytes.slice(range)));
        let answer = self.send("PATCH upload", request).await?.expect(202)?;
        if answer.header("range")? != format!("0-{last}") {
            return Err(answer.wrong("with another range"));
        }
        self.location(&answer)
    }

    async fn finish(&self, location: &str, blob: &Blob, rest: Body) -> Outcome<()> {
        let target = closing(location, blob.digest.as_str());
        let request = self.request(Method::PUT, &target).body(rest);
        self.send("PUT upload", request).await?.expect(201).map(drop)
    }

    /// Begins an upload and cancels it.
    pub(crate) async fn cancel(&self, random: &mut Random, name: &str, blob: &Blob) -> Outcome<()> {
        let location = self.start(name).await?;
        let location = self.patch(random, &location, blob, 0..blob.bytes.len() / 2).await?;
        let status = self.send("GET upload", self.request(Method::GET, &location)).await?;
        status.expect(204)?;
        let gone = self.send("DELETE upload", self.request(Method::DELETE, &location)).await?;
        gone.expect(204)?;
        let unknown = self.send("GET upload", self.request(Method::GET, &location)).await?;
        unknown.expect(404).map(drop)
    }

    /// Ends an upload with the digest of other content.
    pub(crate) async fn end_badly(&self, name: &str, blob: &Blob) -> Outcome<()> {
        let location = self.start(name).await?;
        let other = Blob { digest: digest(b"something else"), bytes: blob.bytes.clone() };
        let request = self.request(Method::PUT, &closing(&location, other.digest.as_str()));
        let answer = self.send("PUT upload", request.body(other.bytes)).await?;
        answer.expect(400).map(drop)
    }
}

/// A length below `end`.
pub(crate) fn below(random: &mut Random, end: usize) -> usize {
    usize::try_from(random.below(end as u64)).unwrap()
}
