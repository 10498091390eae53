//! `portcullis rm`: deletes a tag, a manifest or a repository.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;

use super::{
    block_on,
    failure::{Failure, tell},
    garbage_collect::AFTER,
    print::Output,
    storage_configuration,
};
use crate::{
    app::{self, Action, Caller, Event, EventSink, Events, KeptUntagged, Occurrence, Untagged},
    humanize::{Size, Span},
    oci::{Digest, Named, Reference, Tag},
};

const EXAMPLES: &str = "\
A tag is deleted alone, and its manifest stays; a manifest is deleted with its tags; a \
repository with all its content and open uploads, but without the repositories below it. There is \
no prompt and no default tag: without a tag the whole repository is deleted.

It works while the registry serves, also where storage.delete.enabled is false or the registry is \
read-only: write access to the storage is enough. No events are sent. The next garbage collection \
frees the bytes.

Examples:
  portcullis rm team/app:1.0      in the storage of `portcullis serve`
  portcullis rm team/app@sha256:e3b0… /etc/docker/registry/config.yml
  portcullis rm team/app

Exit codes: 0 deleted; 1 not found, or not done; 2 usage.";

/// Delete a tag, a manifest with its tags, or a repository, beside a running server too.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Rm {
    /// A repository, or one of its tags or manifests, as the registry knows it: without its host
    #[arg(value_name = "REPO[:TAG|@DIGEST]")]
    what: Named,
    /// The configuration file of the server; REGISTRY_… variables apply too
    config: Option<PathBuf>,
}

/// How many existing tags the message about a missing one names.
const NAMED: usize = 5;

impl Rm {
    /// Runs the command, and prints what it deleted on standard output.
    ///
    /// # Errors
    ///
    /// Code 1 when there is nothing of that name, and when the deletion failed.
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = storage_configuration(self.config.as_deref())?;
        block_on(async {
            let printer = Arc::new(Printer::default());
            let events = Events::to(Arc::clone(&printer) as Arc<dyn EventSink>);
            let registry = app::open_registry_with(&config, events)?;
            let untagged = config.storage.maintenance.garbagecollection.untagged();
            Removal { registry, what: self.what, printer, untagged }.run().await
        })
    }
}

/// The deletion of one tag, manifest or repository.
struct Removal {
    registry: app::Registry,
    what: Named,
    printer: Arc<Printer>,
    /// The untagged manifests that garbage collection takes.
    untagged: Untagged,
}

impl Removal {
    async fn run(self) -> Result<(), Failure> {
        let (deleted, left) = match &self.what.reference {
            None => (self.repository().await?, None),
            Some(Reference::Tag(tag)) => self.tag(tag).await?,
            Some(Reference::Digest(digest)) => (self.manifest(digest).await?, None),
        };
        self.printer.0.end()?;
        if !deleted {
            return Err(self.nothing().await?);
        }
        match left {
            Some(left) => self.tell_untagged(&left).await,
            None => {
                tell("the next garbage collection frees unreferenced bytes");
                Ok(())
            }
        }
    }

    /// Says what becomes of the manifest that a deleted tag named, and what untagged manifests hold.
    async fn tell_untagged(&self, left: &Named) -> Result<(), Failure> {
        let KeptUntagged { manifests, bytes, .. } =
            self.registry.gc().untagged_in(&left.name).await?;
        let fate = match self.untagged {
            _ if manifests == 0 => {
                format!("the manifest stays as {left}: a tag, or a manifest with a tag, needs it")
            }
            Untagged::Go => {
                format!("the next garbage collection takes {left}, which has no tag any more")
            }
            Untagged::GoAfter(period) => format!(
                "the manifest stays as {left} until it has been neither tagged nor pulled for {}, or until \
                 `portcullis garbage-collect --delete-untagged`",
                Span(period),
            ),
            Untagged::Stay => format!(
                "the manifest stays as {left}: {AFTER}: 720h takes untagged manifests that are not pulled \
                 for 30 days, `portcullis garbage-collect --delete-untagged` all of them at once"
            ),
        };
        tell(&fate);
        if manifests > 0 {
            tell(&format!(
                "untagged manifests of {}: {manifests}, which hold at most {}",
                left.name,
                Size(bytes),
            ));
        }
        Ok(())
    }

    async fn repository(&self) -> Result<bool, Failure> {
        Ok(self.registry.delete_repository(&Caller::default(), &self.what.name).await?)
    }

    /// Whether the tag was there, and the manifest that it named.
    async fn tag(&self, tag: &Tag) -> Result<(bool, Option<Named>), Failure> {
        let Named { name, .. } = &self.what;
        let left = self.registry.manifests().get(name, &Reference::Tag(tag.clone())).await?;
        let deleted = self.registry.manifests().delete_tag(&Caller::default(), name, tag).await?;
        let left = left.map(|manifest| Reference::Digest(manifest.digest));
        Ok((deleted, left.map(|left| Named { name: name.clone(), reference: Some(left) })))
    }

    async fn manifest(&self, digest: &Digest) -> Result<bool, Failure> {
        let Named { name, .. } = &self.what;
        Ok(self.registry.manifests().delete(&Caller::default(), name, digest).await?)
    }

    /// The failure when there is nothing to delete, with what there is instead.
    async fn nothing(&self) -> Result<Failure, Failure> {
        let Named { name, reference } = &self.what;
        let what = match reference {
            None => "repository",
            Some(Reference::Tag(_)) => "tag",
            Some(Reference::Digest(_)) => "manifest",
        };
        let without_host = self.what.host().zip(self.what.without_host());
        let hint = match (self.registry.lists().tags(name, None, NAMED).await?, without_host) {
            (None, Some((host, rest))) => {
                format!("if {host} is the registry's host, leave it out: {rest}")
            }
            (None, None) => "`portcullis config` shows which storage this is".to_owned(),
            (Some(page), _) if page.items.is_empty() => format!("{name} has no tags"),
            (Some(page), _) => {
                let tags: Vec<&str> = page.items.iter().map(Tag::as_str).collect();
                let more = if page.more { " and more" } else { "" };
                format!("{name} has the tags {}{more}", tags.join(", "))
            }
        };
        Ok(Failure::new(format!("there is no {what} {}; {hint}", self.what)))
    }
}

/// Prints what is deleted, as it happens.
#[derive(Debug, Default)]
struct Printer(Output);

#[async_trait]
impl EventSink for Printer {
    fn wants(&self, action: Action) -> bool {
        action == Action::Delete
    }

    async fn emit(&self, event: Event) {
        let Event { repository: name, occurrence, .. } = event;
        let (what, reference) = match occurrence {
            Occurrence::RepositoryDeleted => ("repository", None),
            Occurrence::TagDeleted(tag) => ("tag", Some(Reference::Tag(tag))),
            Occurrence::ManifestDeleted(digest) => ("manifest", Some(Reference::Digest(digest))),
            _ => return,
        };
        let named = Named { name, reference };
        // The deletion goes on when standard output takes no more; `end` gives the error.
        let _ = self.0.line(format_args!("deleted {what} {named}"));
    }
}
