//! `portcullis usage`: the blobs and bytes that each repository holds.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, hash_map::Entry},
    ffi::OsString,
    fmt::Write as _,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{
    block_on,
    failure::{Failure, tell},
    ls::is_file,
    print::{Output, count},
    storage_configuration,
};
use crate::{
    app::{self, DataFolder, Quota, UsageObserver, Used},
    byte_size::ByteSize,
    humanize::Size,
    oci::{Digest, RepositoryName},
};

const EXAMPLES: &str = "\
The repository that holds the most bytes comes first. A blob counts once in a
repository, and manifests are blobs. ONLY HERE are the bytes that no other
repository holds: a garbage collection frees them after the repository is
deleted. QUOTA is what access.quotas of the configuration allows.

`portcullis ls` shows what tags hold; here every link counts, also those that
the next garbage collection removes.

An argument that ends in .yml or .yaml, or begins with / or ., is a
configuration file.

Examples:
  portcullis usage
  portcullis usage team/app team/web
  portcullis usage /etc/docker/registry/config.yml
  portcullis usage --json | jq 'select(.onlyBytes > 1000000000)'

Exit codes: 0 done; 1 there is no such repository, or not done; 2 usage.";

/// Show the bytes that each repository holds, beside a running server too.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ShowUsage {
    /// Repositories in place of all, and the configuration file of the server; REGISTRY_… variables
    /// apply too
    #[arg(value_name = "REPOSITORY|CONFIG")]
    arguments: Vec<OsString>,
    /// Print a JSON object in each line, the last one a summary
    #[arg(long)]
    json: bool,
}

/// The arguments by their meaning.
#[derive(Debug, Default)]
struct Target {
    repositories: BTreeSet<RepositoryName>,
    config: Option<PathBuf>,
}

impl Target {
    fn of(arguments: Vec<OsString>) -> Result<Self, Failure> {
        let mut target = Self::default();
        for argument in arguments {
            if !is_file(&argument) {
                let name = argument.to_string_lossy().parse().map_err(|error| {
                    Failure::usage(format!("this is not the name of a repository: {error}"))
                })?;
                target.repositories.insert(name);
            } else if target.config.replace(argument.into()).is_some() {
                return Err(Failure::usage(
                    "expected one configuration file; see `portcullis usage --help`",
                ));
            }
        }
        Ok(target)
    }
}

impl ShowUsage {
    /// Runs the command, and prints the usage on standard output.
    ///
    /// # Errors
    ///
    /// Code 1 when there is no such repository or storage fails, 2 for invalid arguments.
    pub(super) fn run(self) -> Result<(), Failure> {
        let Target { repositories, config } = Target::of(self.arguments)?;
        let config = storage_configuration(config.as_deref())?;
        // Storage in memory, which has no folder, cannot be opened.
        let folder = DataFolder::of(&config).map(DataFolder::into_path).unwrap_or_default();
        let counted = block_on(async {
            let registry = app::open_registry(&config)?;
            let mut counted = Counted::default();
            registry.usage().of_all(&mut counted).await?;
            Ok(counted)
        })?;
        let quotas = &config.quotas;
        counted.print(&Printing { repositories, folder: &folder, quotas, json: self.json })
    }
}

/// How the usage is printed.
struct Printing<'a> {
    /// The repositories that are printed; all where there are none.
    repositories: BTreeSet<RepositoryName>,
    /// The data folder.
    folder: &'a Path,
    quotas: &'a [Quota],
    json: bool,
}

impl Printing<'_> {
    /// The quota of a repository; `None` for one without a quota.
    fn quota(&self, row: &Row) -> Option<u64> {
        let name = row.repository.parse().ok()?;
        Quota::least(self.quotas, &name).map(ByteSize::get)
    }
}

/// The usage of a repository.
#[derive(Debug)]
struct Row {
    repository: String,
    used: Used,
    /// The bytes that no other repository holds.
    only: u64,
}

/// The cells of a line.
struct Cells<'a> {
    repository: &'a str,
    blobs: &'a str,
    size: &'a str,
    only: &'a str,
    quota: &'a str,
}

/// The holder of a blob: the number of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    One(u32),
    Several,
}

/// The usage of all repositories. A blob that several of them hold is found by the hash of its digest, of
/// eight bytes, so that a hundred million blobs fit into memory.
#[derive(Debug, Default)]
struct Counted {
    rows: Vec<Row>,
    holders: HashMap<u64, Holder>,
    /// The bytes that no other repository holds so far of the repository that is being counted.
    only: u64,
    /// Each blob once.
    total: Used,
    shared: u64,
}

impl UsageObserver for Counted {
    fn blob(&mut self, digest: &Digest, bytes: u64) {
        let beginning = digest.hex().get(..16).unwrap_or_default();
        let id = u64::from_str_radix(beginning, 16).unwrap_or_default();
        let here = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        match self.holders.entry(id) {
            Entry::Vacant(free) => {
                free.insert(Holder::One(here));
                self.total.blobs += 1;
                self.total.bytes += bytes;
                self.only += bytes;
            }
            Entry::Occupied(mut known) => {
                if let Holder::One(holder) = known.insert(Holder::Several) {
                    self.shared += bytes;
                    let row = usize::try_from(holder).ok().and_then(|at| self.rows.get_mut(at));
                    if let Some(row) = row {
                        row.only = row.only.saturating_sub(bytes);
                    }
                }
            }
        }
    }

    fn repository(&mut self, folder: &str, used: Used) {
        let only = std::mem::take(&mut self.only);
        self.rows.push(Row { repository: folder.to_owned(), used, only });
    }
}

impl Counted {
    fn print(mut self, how: &Printing<'_>) -> Result<(), Failure> {
        if !how.repositories.is_empty() {
            let wanted =
                |row: &Row| how.repositories.iter().any(|name| name.as_str() == row.repository);
            self.rows.retain(wanted);
        }
        self.rows.sort_by(|one, other| {
            let key = |row: &Row| Reverse(row.used.bytes);
            key(one).cmp(&key(other)).then_with(|| one.repository.cmp(&other.repository))
        });
        let output = Output::default();
        let _ = self.lines(how, &output);
        output.end()?;
        for name in &how.repositories {
            if !self.rows.iter().any(|row| row.repository == name.as_str()) {
                return Err(Failure::new(format!(
                    "there is no repository {name}: `portcullis usage` shows all of them"
                )));
            }
        }
        if self.rows.is_empty() {
            tell(&format!("no repositories in {}", how.folder.display()));
        } else if how.repositories.is_empty() {
            tell(&self.summary());
        }
        Ok(())
    }

    fn lines(&self, how: &Printing<'_>, output: &Output) -> ControlFlow<()> {
        // With quotas a line of 80 columns has less room for the name.
        let width = if how.quotas.is_empty() { 44 } else { 36 };
        let line = |cells: Cells<'_>| {
            let Cells { repository, blobs, size, only, quota } = cells;
            let start = format!("{repository:<width$} {blobs:>8} {size:>10} {only:>10}");
            match how.quotas.is_empty() {
                true => output.line(format_args!("{start}")),
                false => output.line(format_args!("{start} {quota:>10}")),
            }
        };
        if !how.json && !self.rows.is_empty() {
            line(Cells {
                repository: "REPOSITORY",
                blobs: "BLOBS",
                size: "SIZE",
                only: "ONLY HERE",
                quota: "QUOTA",
            })?;
        }
        for row in &self.rows {
            let Row { repository, used, only } = row;
            let quota = how.quota(row);
            match how.json {
                true => {
                    let mut object = json!({
                        "repository": repository, "blobs": used.blobs, "bytes": used.bytes,
                        "onlyBytes": only,
                    });
                    if let Some(quota) = quota {
                        object["quotaBytes"] = json!(quota);
                    }
                    output.line(format_args!("{object}"))?;
                }
                false => line(Cells {
                    repository,
                    blobs: &used.blobs.to_string(),
                    size: &Size(used.bytes).to_string(),
                    only: &Size(*only).to_string(),
                    quota: &quota.map_or_else(|| "-".to_owned(), |quota| Size(quota).to_string()),
                })?,
            }
        }
        if how.json && how.repositories.is_empty() {
            output.line(format_args!(
                "{}",
                json!({
                    "repositories": self.rows.len(), "blobs": self.total.blobs,
                    "bytes": self.total.bytes, "sharedBytes": self.shared,
                })
            ))?;
        }
        ControlFlow::Continue(())
    }

    fn summary(&self) -> String {
        let repositories = match self.rows.len() {
            1 => "1 repository".to_owned(),
            many => format!("{many} repositories"),
        };
        let mut text = format!(
            "{repositories}, {}: {}",
            count(self.total.blobs, "blob"),
            Size(self.total.bytes)
        );
        if self.shared > 0 {
            let _ = write!(text, "; several repositories share {}", Size(self.shared));
        }
        text
    }
}
