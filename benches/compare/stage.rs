//! The sides, with the same content, while lines are measured.

use std::{fs, path::Path};

use tempfile::TempDir;
use tokio::runtime::{Handle, Runtime};

use crate::{
    Outcome,
    arguments::{Arguments, Plan},
    client::Client,
    content::{self, MANIFEST, Payload},
    load::{self, Load, Meter},
    sides::{
        Served, Side, limit, pair,
        portcullis::{self, More},
    },
    site::Site,
};

/// The repository of the pulls.
pub(crate) const REPOSITORY: &str = "bench/app";
/// The tag whose manifest is requested.
pub(crate) const TAG: &str = "latest";

/// The sides and their content. A side that could not start gives the reason at each use.
#[derive(Debug)]
pub(crate) struct Stage {
    // Dropped in this order: servers end before their files go.
    portcullis: Served,
    pair: Result<Served, String>,
    limit: Result<Served, String>,
    pub(crate) client: Client,
    pub(crate) runtime: Handle,
    pub(crate) plan: Plan,
    /// The payload that few clients pull and push.
    pub(crate) large: Payload,
    /// The payload that many clients pull and push.
    pub(crate) middle: Payload,
    pub(crate) site: Site,
    directory: TempDir,
}

impl Stage {
    /// Starts all sides in `directory` and fills them.
    pub(crate) fn set(
        directory: TempDir,
        arguments: &Arguments,
        runtime: &Runtime,
    ) -> Outcome<Self> {
        let plan = arguments.plan.clone();
        let site = Site::make(directory.path(), &arguments.binary)?;
        let root = directory.path().join("static");
        fs::create_dir(&root)?;
        let large = Payload::make(&root.join("large"), plan.large)?;
        let middle = Payload::make(&root.join("middle"), plan.middle)?;
        let client = Client::new(&site, runtime.handle())?;

        let root_of_portcullis = directory.path().join("portcullis");
        let portcullis =
            portcullis::start(&site, "portcullis", &root_of_portcullis, &More::default())?;
        let pair = pair::start(&site, "pair", &directory.path().join("pair"));
        let limit = limit::start(&site, &root);
        let stage = Self {
            portcullis,
            pair: pair.map_err(|error| error.to_string()),
            limit: limit.map_err(|error| error.to_string()),
            client,
            runtime: runtime.handle().clone(),
            plan,
            large,
            middle,
            site,
            directory,
        };
        let manifest = stage.fill(&stage.portcullis)?;
        fs::write(root.join("manifest"), manifest)?;
        if let Ok(pair) = &stage.pair {
            stage.fill(pair)?;
        }
        Ok(stage)
    }

    /// Pushes an image and the two blobs; gives the manifest.
    fn fill(&self, side: &Served) -> Outcome<Vec<u8>> {
        let config = content::image_configuration();
        let layer = self.client.push(side, REPOSITORY, b"a small layer")?;
        self.client.push(side, REPOSITORY, &config)?;
        let manifest = content::manifest(&config, &[layer]);
        let url = side.url(&format!("/v2/{REPOSITORY}/manifests/{TAG}"));
        self.client.put_manifest(&url, MANIFEST, manifest.clone())?;
        for payload in [&self.large, &self.middle] {
            let location = self.client.begin_upload(side, REPOSITORY)?;
            let location = crate::tools::curl_patch(&self.site, &payload.path, &location)?;
            self.client.end_upload(&location, &payload.digest)?;
        }
        Ok(manifest)
    }

    /// A running side, or the reason why it does not run.
    pub(crate) fn side(&self, side: Side) -> Outcome<&Served> {
        match side {
            Side::Portcullis => Ok(&self.portcullis),
            Side::Pair => self.pair.as_ref().map_err(|error| error.clone().into()),
            Side::Bound => self.limit.as_ref().map_err(|error| error.clone().into()),
        }
    }

    /// Another server of Portcullis or the pair over a tree, for lines that need a fresh one.
    pub(crate) fn fresh(&self, side: Side, name: &str, root: &Path) -> Outcome<Served> {
        match side {
            Side::Portcullis => self.fresh_with(name, root, &More::default()),
            Side::Pair => pair::start(&self.site, &unused_name(name)?, root),
            Side::Bound => Err("there is only one limit".into()),
        }
    }

    /// Another server of Portcullis over a tree, with more in its configuration.
    pub(crate) fn fresh_with(&self, name: &str, root: &Path, more: &More) -> Outcome<Served> {
        portcullis::start(&self.site, &unused_name(name)?, root, more)
    }

    /// A path in the directory of the run.
    pub(crate) fn path(&self, relative: &str) -> std::path::PathBuf {
        self.directory.path().join(relative)
    }

    /// Runs `work` and gives its result, its seconds, and the load of both ends.
    pub(crate) fn timed<T>(
        servers: Option<&Served>,
        work: impl FnOnce() -> Outcome<T>,
    ) -> Outcome<(T, f64, Load)> {
        let meter = Meter::start(servers.map_or_else(Vec::new, Served::processes));
        let done = work()?;
        let (seconds, load) = meter.stop();
        Ok((done, seconds, load))
    }

    /// Removes a pushed blob from the disk, so that the disk does not fill and no write-back runs
    /// while other sides are measured. The link to it stays.
    pub(crate) fn forget_blob(side: &Served, digest: &str) -> Outcome<()> {
        let hex = digest.trim_start_matches("sha256:");
        let folder = format!("docker/registry/v2/blobs/sha256/{}/{hex}", &hex[..2]);
        Ok(fs::remove_dir_all(side.root.join(folder))?)
    }

    /// The resident memory of a side's processes.
    pub(crate) fn resident(side: &Served) -> Outcome<f64> {
        load::resident(&side.processes())
    }
}

/// A name for the files of a server that no other server has.
fn unused_name(name: &str) -> Outcome<String> {
    let number = content::random(4)?.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
    Ok(format!("{name}-{number:08x}"))
}
