//! `portcullis ls`: the repositories or the tags, with the bytes that they hold.

use std::{
    collections::HashSet,
    ffi::OsString,
    fmt::Write as _,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{
    block_on,
    failure::{Failure, tell},
    print::{Output, count},
    storage_configuration,
};
use crate::{
    app::{self, CatalogQuery, DataFolder, Holdings, Inventory, Shown, TagContent},
    humanize::Size,
    oci::{Digest, RepositoryName},
};

const EXAMPLES: &str = "\
Content that several tags share is counted once in the size of a repository, and
in the size of each of the tags. UNTAGGED are the bytes that only manifests
without a tag hold: `portcullis garbage-collect --delete-untagged` frees them.

An argument that ends in .yml or .yaml, or begins with / or ., is a configuration
file.

Examples:
  portcullis ls
  portcullis ls team/app
  portcullis ls team/app /etc/docker/registry/config.yml
  portcullis ls --json | jq 'select(.untaggedBytes > 1000000000)'

Exit codes: 0 done; 1 there is no such repository, or not done; 2 usage.";

/// List the repositories, or the tags of one, with their sizes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Ls {
    /// A repository, whose tags are listed in place of all repositories
    repo: Option<OsString>,
    /// The configuration file of the server; REGISTRY_… variables apply too
    config: Option<OsString>,
    /// Print a JSON object in each line, the last one a summary
    #[arg(long)]
    json: bool,
}

/// How many names are asked for at a time.
const BATCH: usize = 1000;

/// The arguments by their meaning.
#[derive(Debug, Default, PartialEq, Eq)]
struct Target {
    repository: Option<String>,
    config: Option<PathBuf>,
}

impl Target {
    fn of(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Failure> {
        let mut target = Self::default();
        for argument in arguments {
            if target.config.is_none() && (is_file(&argument) || target.repository.is_some()) {
                target.config = Some(argument.into());
            } else if target.repository.is_none() && !is_file(&argument) {
                target.repository = Some(argument.to_string_lossy().into_owned());
            } else {
                return Err(Failure::usage(
                    "expected one repository and one configuration file; see `portcullis ls --help`",
                ));
            }
        }
        Ok(target)
    }
}

/// Whether an argument is a configuration file, not a repository.
pub(super) fn is_file(argument: &OsString) -> bool {
    let path = Path::new(argument);
    let is_yaml = path.extension().is_some_and(|end| end == "yml" || end == "yaml");
    is_yaml
        || argument.as_encoded_bytes().starts_with(b"/")
        || argument.as_encoded_bytes().starts_with(b".")
}

impl Ls {
    /// Runs the command, and prints the list on standard output.
    ///
    /// # Errors
    ///
    /// Code 1 when there is no such repository or storage fails, 2 for invalid arguments.
    pub(super) fn run(self) -> Result<(), Failure> {
        let Target { repository, config } = Target::of(self.repo.into_iter().chain(self.config))?;
        let repository: Option<RepositoryName> =
            repository.map(|name| name.parse()).transpose().map_err(|error| {
                Failure::usage(format!("this is not the name of a repository: {error}"))
            })?;
        let config = storage_configuration(config.as_deref())?;
        // Storage in memory, which has no folder, cannot be opened.
        let folder = DataFolder::of(&config).map(DataFolder::into_path).unwrap_or_default();
        let listing = Listing { folder, json: self.json, output: Output::default() };
        block_on(async {
            let registry = app::open_registry(&config)?;
            match repository {
                Some(name) => listing.tags(&registry, &name).await,
                None => listing.repositories(&registry).await,
            }
        })
    }
}

/// A list in the making.
struct Listing {
    /// The data folder.
    folder: PathBuf,
    json: bool,
    output: Output,
}

impl Listing {
    async fn repositories(self, registry: &app::Registry) -> Result<(), Failure> {
        let mut totals = Totals::default();
        let mut after: Option<RepositoryName> = None;
        'all: loop {
            let last = after.as_ref().map_or("", RepositoryName::as_str);
            let query = CatalogQuery { after: last, term: "", limit: BATCH };
            let page = registry.lists().repositories(query, Shown::All).await?;
            for name in &page.items {
                let held = registry.lists().inventory(name, &mut totals).await?;
                // A repository that has gone meanwhile.
                let Some(held) = held else { continue };
                let is_first = totals.repositories == 0;
                totals.repository(held);
                if self.repository(name, held, is_first).is_break() {
                    break 'all;
                }
            }
            if !page.more {
                break;
            }
            after = page.items.last().cloned();
        }
        self.end(&totals)
    }

    /// Prints a repository, the first one below a header. Long names push the numbers to the right, so that
    /// a line can be printed as soon as it is known.
    fn repository(&self, name: &RepositoryName, held: Holdings, is_first: bool) -> ControlFlow<()> {
        if self.json {
            return self.output.line(format_args!("{}", as_json(name, held)));
        }
        if is_first {
            self.output.line(format_args!(
                "{:<44} {:>8} {:>10} {:>10}",
                "REPOSITORY", "TAGS", "SIZE", "UNTAGGED"
            ))?;
        }
        let Holdings { tags, bytes, untagged, .. } = held;
        self.output.line(format_args!(
            "{:<44} {tags:>8} {:>10} {:>10}",
            name.as_str(),
            Size(bytes),
            Size(untagged)
        ))
    }

    fn end(self, totals: &Totals) -> Result<(), Failure> {
        let Totals { repositories, tags, bytes, shared, untagged, .. } = *totals;
        if self.json {
            let summary = json!({
                "repositories": repositories, "tags": tags, "bytes": bytes,
                "sharedBytes": shared, "untaggedBytes": untagged,
            });
            let _ = self.output.line(format_args!("{summary}"));
        }
        self.output.end()?;
        if repositories == 0 {
            tell(&format!("no repositories in {}", self.folder.display()));
            return Ok(());
        }
        let mut text = format!(
            "{}, {}: {}",
            match repositories {
                1 => "1 repository".to_owned(),
                many => format!("{many} repositories"),
            },
            count(tags, "tag"),
            Size(bytes)
        );
        if shared > 0 {
            let _ = write!(text, "; several repositories share {}", Size(shared));
        }
        if untagged > 0 {
            let _ = write!(text, "; only untagged manifests hold {}", Size(untagged));
        }
        tell(&text);
        Ok(())
    }

    async fn tags(self, registry: &app::Registry, name: &RepositoryName) -> Result<(), Failure> {
        let Self { json, output, .. } = &self;
        let mut tags = Tags { name, json: *json, output, is_headed: false, is_over: false };
        let Some(held) = registry.lists().inventory(name, &mut tags).await? else {
            output.end()?;
            return Err(Failure::new(format!(
                "there is no repository {name}: `portcullis ls` lists all of them"
            )));
        };
        if *json {
            let _ = output.line(format_args!("{}", as_json(name, held)));
        }
        self.output.end()?;
        let mut text = format!("{}: {}", count(held.tags, "tag"), Size(held.bytes));
        if held.shared > 0 {
            let _ = write!(text, ", of which several tags share {}", Size(held.shared));
        }
        if held.untagged_manifests > 0 {
            let _ = write!(
                text,
                "; {} more only in {}, which `portcullis garbage-collect --delete-untagged` deletes",
                Size(held.untagged),
                count(held.untagged_manifests, "untagged manifest")
            );
        }
        tell(&text);
        Ok(())
    }
}

fn as_json(name: &RepositoryName, held: Holdings) -> serde_json::Value {
    let Holdings { tags, bytes, shared, untagged_manifests, untagged } = held;
    json!({
        "repository": name.as_str(), "tags": tags, "bytes": bytes, "sharedBytes": shared,
        "untaggedManifests": untagged_manifests, "untaggedBytes": untagged,
    })
}

/// Prints the tags of a repository.
struct Tags<'a> {
    name: &'a RepositoryName,
    json: bool,
    output: &'a Output,
    /// Whether the header was printed, which the first tag does.
    is_headed: bool,
    is_over: bool,
}

impl Tags<'_> {
    fn row(&mut self, tag: &str, digest: &Digest, bytes: u64) -> ControlFlow<()> {
        if !std::mem::replace(&mut self.is_headed, true) {
            self.output.line(format_args!("{:<44} {:>10} DIGEST", "TAG", "SIZE"))?;
        }
        self.output.line(format_args!(
            "{tag:<44} {:>10} {}:{:.12}",
            Size(bytes),
            digest.algorithm().as_str(),
            digest.hex()
        ))
    }
}

impl Inventory for Tags<'_> {
    fn tag(&mut self, TagContent { tag, digest, bytes }: TagContent) {
        let printed = match self.json {
            true => self.output.line(format_args!(
                "{}",
                json!({
                    "repository": self.name.as_str(), "tag": tag.as_str(),
                    "digest": digest.to_string(), "bytes": bytes,
                })
            )),
            false => self.row(tag.as_str(), &digest, bytes),
        };
        self.is_over = printed.is_break();
    }

    fn object(&mut self, _: &Digest, _: u64) {}

    fn is_over(&self) -> bool {
        self.is_over
    }
}

/// What all repositories hold. An object that several of them have is counted once: by the hash of its
/// digest, of eight bytes, so that a hundred million objects fit into memory.
#[derive(Debug, Default)]
struct Totals {
    repositories: u64,
    tags: u64,
    bytes: u64,
    shared: u64,
    untagged: u64,
    seen: HashSet<u64>,
    several: HashSet<u64>,
}

impl Totals {
    fn repository(&mut self, held: Holdings) {
        self.repositories += 1;
        self.tags += held.tags;
        self.untagged += held.untagged;
    }
}

impl Inventory for Totals {
    fn tag(&mut self, _: TagContent) {}

    fn object(&mut self, digest: &Digest, bytes: u64) {
        let beginning = digest.hex().get(..16).unwrap_or_default();
        let id = u64::from_str_radix(beginning, 16).unwrap_or_default();
        if self.seen.insert(id) {
            self.bytes += bytes;
        } else if self.several.insert(id) {
            self.shared += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_a_repository_and_a_file() {
        let read = |words: &[&str]| {
            let target = Target::of(words.iter().map(OsString::from)).ok()?;
            let config = target.config.map(|path| path.to_str().unwrap().to_owned());
            Some((target.repository.unwrap_or_default(), config.unwrap_or_default()))
        };
        let expected =
            |repository: &str, config: &str| Some((repository.to_owned(), config.to_owned()));
        assert_eq!(read(&[]), expected("", ""));
        assert_eq!(read(&["team/app"]), expected("team/app", ""));
        assert_eq!(read(&["config.yml"]), expected("", "config.yml"));
        assert_eq!(read(&["/etc/config"]), expected("", "/etc/config"));
        assert_eq!(read(&["app", "config"]), expected("app", "config"));
        assert_eq!(read(&["c.yml", "app"]), expected("app", "c.yml"));
        assert_eq!(read(&["a.yml", "b.yml"]), None);
    }
}
