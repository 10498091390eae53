//! Line 11: a collection with `--dry-run`, over many repositories with one image, while Portcullis
//! serves them; and the latency of requests meanwhile. The pair's registry has to be stopped.

use std::{fs, path::Path, time::Instant};

use crate::{
    Outcome,
    arguments::Plan,
    client::Client,
    content,
    line::{Line, Reading, Requirement, Unit, Work},
    process,
    results::median,
    sides::Side,
    stage::Stage,
    tools::{Requests, read_wrk, start_wrk, wrk},
};

/// The time limit, in seconds.
const MOST: f64 = 3.0;
/// How many times p99 may grow.
const GROWTH: f64 = 2.0;
/// How many clients send requests meanwhile, one after the other: more would fill two cores, and a
/// third process would wait whatever it does.
const CONNECTIONS: usize = 1;
/// The layers of the image: with its configuration, its tag and its manifest 27 files a repository.
const LAYERS: usize = 23;

#[derive(Debug)]
pub(super) struct Collection {
    repositories: usize,
    /// p99 of Portcullis without a collection.
    before: Option<f64>,
}

impl Collection {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { repositories: plan.shared, before: None }
    }
}

impl Work for Collection {
    fn lines(&self) -> Vec<Line> {
        let files = self.repositories * (LAYERS + 4);
        vec![
            Line {
                number: "11a",
                figure: format!("garbage-collect --dry-run, {files} files"),
                unit: Unit::Time,
                bound: "",
                requirement: Requirement::AtMost(MOST),
            },
            Line {
                number: "11b",
                figure: format!("p99 of manifest GETs meanwhile, {CONNECTIONS} connection"),
                unit: Unit::Time,
                bound: "without it",
                requirement: Requirement::NearBound(GROWTH, 0.0),
            },
        ]
    }

    fn measure(&mut self, stage: &Stage, side: Side) -> Outcome<Vec<Reading>> {
        let tree = stage.path("shared");
        if !tree.exists() {
            plant(&tree, self.repositories)?;
        }
        match side {
            Side::Portcullis => self.beside_the_server(stage, &tree),
            Side::Pair => {
                let file = stage.site.path("collected.yml");
                fs::write(&file, configuration(&tree))?;
                let seconds = collect("docker-registry", &file)?;
                Ok(vec![Reading::of(seconds), Reading::NOTHING])
            }
            Side::Bound => {
                let before = self.before.ok_or("Portcullis was not measured")?;
                Ok(vec![Reading::NOTHING, Reading::of(before)])
            }
        }
    }
}

impl Collection {
    fn beside_the_server(&mut self, stage: &Stage, tree: &Path) -> Outcome<Vec<Reading>> {
        let server = stage.fresh(Side::Portcullis, "collected", tree)?;
        let url = server.url("/v2/shared/app-00000/manifests/latest");
        let requests =
            Requests { url: &url, connections: CONNECTIONS, seconds: stage.plan.seconds };
        // bcrypt is not measured here.
        Client::new(&stage.site, &stage.runtime)?.timed_get(&url)?;
        self.before = Some(wrk(requests)?.p99);
        let file = stage.site.path("collected.yml");
        fs::write(&file, configuration(tree))?;
        let program = stage.site.binary.to_str().ok_or("the path of the binary is not text")?;
        let mut load = start_wrk(requests)?;
        let mut seconds = Vec::new();
        // From the first request to the last.
        while !load.has_ended()? {
            seconds.push(collect(program, &file)?);
        }
        let meanwhile = read_wrk(&load.finish(b"")?)?.p99;
        seconds.sort_unstable_by(f64::total_cmp);
        let middle = median(&seconds).unwrap_or(f64::NAN);
        Ok(vec![Reading::of(middle), Reading::of(meanwhile)])
    }
}

/// How long a dry run takes, in seconds. Its output is read and discarded.
fn collect(program: &str, configuration: &str) -> Outcome<f64> {
    let began = Instant::now();
    process::run(program, &["garbage-collect", "--dry-run", configuration], b"")?;
    Ok(began.elapsed().as_secs_f64())
}

fn configuration(tree: &Path) -> String {
    format!("version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n", tree.display())
}

/// Writes registry:2's tree with this many repositories, all with the same image.
fn plant(tree: &Path, repositories: usize) -> Outcome<()> {
    let config = content::image_configuration();
    let layers: Vec<Vec<u8>> = (0..LAYERS).map(|n| format!("layer {n}").into_bytes()).collect();
    let named: Vec<(String, usize)> =
        layers.iter().map(|layer| (content::digest(layer), layer.len())).collect();
    let manifest = content::manifest(&config, &named);
    let base = tree.join("docker/registry/v2");
    for bytes in layers.iter().chain([&config, &manifest]) {
        let digest = content::digest(bytes);
        let hex = digest.trim_start_matches("sha256:");
        let folder = base.join("blobs/sha256").join(&hex[..2]).join(hex);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("data"), bytes)?;
    }
    let link = |folder: &Path, digest: &str| -> Outcome<()> {
        fs::create_dir_all(folder)?;
        Ok(fs::write(folder.join("link"), digest)?)
    };
    let digest = content::digest(&manifest);
    let named: Vec<String> =
        named.into_iter().map(|(digest, _)| digest).chain([content::digest(&config)]).collect();
    for number in 0..repositories {
        let repository = base.join(format!("repositories/shared/app-{number:05}"));
        for layer in &named {
            link(&repository.join("_layers").join(layer.replace(':', "/")), layer)?;
        }
        let manifests = repository.join("_manifests");
        let folder = digest.replace(':', "/");
        link(&manifests.join("revisions").join(&folder), &digest)?;
        link(&manifests.join("tags/latest/current"), &digest)?;
        link(&manifests.join("tags/latest/index").join(&folder), &digest)?;
    }
    Ok(())
}
