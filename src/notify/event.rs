//! Events, in registry:2's form (`notifications/event.go` of 2.8): the names of the fields, their
//! order, and which are left out when they are empty.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::json;
use crate::oci::{Digest, RepositoryName, Tag};

/// The action that an event reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Content was read.
    Pull,
    /// Content was uploaded.
    Push,
    /// A blob of one repository was mounted in another.
    Mount,
    /// Content was deleted.
    Delete,
}

impl Action {
    /// The action as it stands in an event.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Mount => "mount",
            Self::Delete => "delete",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// The action that an event reports.
    pub action: Action,
    /// The object of the action.
    pub target: Target,
    /// The request that caused it.
    pub request: Request,
    /// The user, where there is one.
    pub actor: Option<Arc<str>>,
}

/// The object of an event: content, a tag or a repository.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    #[serde(skip_serializing_if = "String::is_empty")]
    media_type: String,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    /// The same as `size`, for receivers older than that field.
    #[serde(skip_serializing_if = "is_zero")]
    length: u64,
    repository: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_repository: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    references: Vec<Descriptor>,
}

impl Target {
    /// Content of a repository: its digest, its length in bytes, its type, and where it can be had.
    #[must_use]
    pub fn content(
        repository: &RepositoryName,
        digest: Digest,
        size: u64,
        media_type: &str,
        url: String,
    ) -> Self {
        Self {
            media_type: media_type.to_owned(),
            size,
            digest: Some(digest),
            length: size,
            repository: repository.to_string(),
            url,
            ..Self::default()
        }
    }

    /// The same target, addressed by a tag.
    #[must_use]
    pub fn tagged(mut self, tag: Option<&Tag>) -> Self {
        self.tag = tag.map(ToString::to_string);
        self
    }

    /// The same target, with the references of the manifest.
    #[must_use]
    pub fn referring(mut self, references: Vec<Descriptor>) -> Self {
        self.references = references;
        self
    }

    /// The same target, mounted from another repository.
    #[must_use]
    pub fn mounted_from(mut self, repository: Option<&RepositoryName>) -> Self {
        self.from_repository = repository.map(ToString::to_string);
        self
    }

    /// Content that was deleted from a repository.
    #[must_use]
    pub fn gone(repository: &RepositoryName, digest: Digest) -> Self {
        Self { digest: Some(digest), repository: repository.to_string(), ..Self::default() }
    }

    /// A repository that was deleted.
    #[must_use]
    pub fn repository(name: &RepositoryName) -> Self {
        Self { repository: name.to_string(), ..Self::default() }
    }

    /// A tag that was deleted from a repository.
    #[must_use]
    pub fn untagged(repository: &RepositoryName, tag: &Tag) -> Self {
        Self { tag: Some(tag.to_string()), repository: repository.to_string(), ..Self::default() }
    }
}

/// A reference of a manifest (`distribution.Descriptor`).
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Descriptor {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) media_type: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) size: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) digest: String,
    #[serde(skip_serializing_if = "is_nothing")]
    pub(super) urls: Option<Vec<String>>,
    #[serde(skip_serializing_if = "says_nothing")]
    pub(super) annotations: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Platform>,
}

/// The platform of an image (image-spec, `Platform`).
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Platform {
    architecture: String,
    os: String,
    #[serde(rename = "os.version", skip_serializing_if = "String::is_empty")]
    os_version: String,
    #[serde(rename = "os.features", skip_serializing_if = "is_nothing")]
    os_features: Option<Vec<String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    variant: String,
}

/// The request that made an event.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Request {
    /// Its id, as it stands in the log.
    pub id: String,
    /// The client's address, with a port where that is known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub addr: String,
    /// The `Host` of the request.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Its method.
    pub method: String,
    /// `User-Agent`.
    pub useragent: String,
}

/// The server that an event comes from.
#[derive(Clone, Debug, Serialize)]
pub struct Source {
    /// The machine's name and the port.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub addr: String,
    /// A new one at each start.
    #[serde(rename = "instanceID")]
    pub instance: String,
}

/// An event in the form that endpoints get.
#[derive(Debug, Serialize)]
pub(super) struct Record<'a> {
    id: String,
    timestamp: String,
    action: Action,
    target: Target,
    request: Request,
    actor: Actor,
    source: &'a Source,
}

#[derive(Debug, Serialize)]
struct Actor {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl<'a> Record<'a> {
    /// An event that happens now.
    pub(super) fn new(event: Event, source: &'a Source) -> Self {
        let Event { action, target, request, actor } = event;
        let actor = Actor { name: actor.map(|name| name.to_string()) };
        let id = Uuid::new_v4().to_string();
        let timestamp = Timestamp::now().to_string();
        Self { id, timestamp, action, target, request, actor, source }
    }

    pub(super) const fn action(&self) -> Action {
        self.action
    }

    pub(super) fn media_type(&self) -> &str {
        &self.target.media_type
    }

    /// The event in one line, without its end.
    pub(super) fn line(&self) -> Vec<u8> {
        json::line(self)
    }
}

/// The body of the request that brings an event to an endpoint: an envelope with this one event.
pub(super) fn envelope(line: &[u8]) -> Vec<u8> {
    let envelope = [br#"{"events":["#, line, b"]}"].concat();
    json::indent(&envelope)
}

const fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_nothing(list: &Option<Vec<String>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

fn says_nothing(annotations: &Option<BTreeMap<String, String>>) -> bool {
    annotations.as_ref().is_none_or(BTreeMap::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The output of registry:2 for the same event, by its `json.MarshalIndent(envelope, "", "
    /// ")`.
    const GOLDEN: &str = r#"{
   "events": [
      {
         "id": "320678d8-ca14-430f-8bb6-4ca139cd83f7",
         "timestamp": "2016-03-09T14:44:26.402973972Z",
         "action": "pull",
         "target": {
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "size": 708,
            "digest": "sha256:fea8895f450959fa676bcc1df0611ea93823a735a01205fd8622846041d0c7cf",
            "length": 708,
            "repository": "hello-world",
            "url": "http://192.168.100.227:5000/v2/hello-world/manifests/sha256:fea8895f450959fa676bcc1df0611ea93823a735a01205fd8622846041d0c7cf",
            "tag": "latest"
         },
         "request": {
            "id": "6df24a34-0959-4923-81ca-14f09767db19",
            "addr": "192.168.64.11:42961",
            "host": "192.168.100.227:5000",
            "method": "GET",
            "useragent": "curl/7.38.0 \u003cb\u003e\u0026"
         },
         "actor": {},
         "source": {
            "addr": "xtal.local:5000",
            "instanceID": "a53db899-3b4b-4a62-a067-8dd013beaca4"
         }
      }
   ]
}"#;

    #[test]
    fn event_is_written_as_registry_2_writes_it() {
        let digest: Digest =
            "sha256:fea8895f450959fa676bcc1df0611ea93823a735a01205fd8622846041d0c7cf"
                .parse()
                .unwrap();
        let name: RepositoryName = "hello-world".parse().unwrap();
        let media_type = "application/vnd.docker.distribution.manifest.v2+json";
        let url = format!("http://192.168.100.227:5000/v2/hello-world/manifests/{digest}");
        let source = Source {
            addr: "xtal.local:5000".to_owned(),
            instance: "a53db899-3b4b-4a62-a067-8dd013beaca4".to_owned(),
        };
        let record = Record {
            id: "320678d8-ca14-430f-8bb6-4ca139cd83f7".to_owned(),
            timestamp: "2016-03-09T14:44:26.402973972Z".to_owned(),
            action: Action::Pull,
            target: Target::content(&name, digest, 708, media_type, url)
                .tagged(Some(&"latest".parse().unwrap())),
            request: Request {
                id: "6df24a34-0959-4923-81ca-14f09767db19".to_owned(),
                addr: "192.168.64.11:42961".to_owned(),
                host: "192.168.100.227:5000".to_owned(),
                method: "GET".to_owned(),
                useragent: "curl/7.38.0 <b>&".to_owned(),
            },
            actor: Actor { name: None },
            source: &source,
        };
        assert_eq!(String::from_utf8(envelope(&record.line())).unwrap(), GOLDEN);
    }

    #[test]
    fn deleted_content_is_named_without_a_descriptor() {
        let name: RepositoryName = "a/b".parse().unwrap();
        let digest = Digest::of(crate::oci::Algorithm::Sha256, b"");
        let gone = serde_json::to_value(Target::gone(&name, digest.clone())).unwrap();
        assert_eq!(gone, serde_json::json!({ "digest": digest, "repository": "a/b" }));
        let tag: Tag = "v1".parse().unwrap();
        let untagged = serde_json::to_value(Target::untagged(&name, &tag)).unwrap();
        assert_eq!(untagged, serde_json::json!({ "tag": "v1", "repository": "a/b" }));
        let emptied = serde_json::to_value(Target::repository(&name)).unwrap();
        assert_eq!(emptied, serde_json::json!({ "repository": "a/b" }));
    }
}
