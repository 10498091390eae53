//! Line 8: lists of a tree with many repositories and many tags.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    arguments::Plan,
    client::Client,
    content,
    line::{Line, Reading, Requirement, Unit, Work},
    results::median,
    sides::Side,
    stage::Stage,
};

const PAGE: f64 = 0.002;
const WHOLE: f64 = 0.020;
const START: f64 = 0.200;
/// How often a list is requested; fewer times of the pair, which walks its tree each time.
pub(super) const TIMES: usize = 50;
const TIMES_OF_PAIR: usize = 3;
/// How old the tree is when it is first listed.
pub(super) const SETTLED: Duration = Duration::from_secs(4);

/// Pages and whole lists, each after a first request, on one connection; and the start over such a
/// tree.
#[derive(Debug)]
pub(super) struct Lists {
    names: usize,
}

impl Lists {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { names: plan.names }
    }

    fn paths(&self) -> [String; 5] {
        let middle = self.names / 2;
        [
            "/v2/_catalog?n=100".to_owned(),
            format!("/v2/_catalog?n=100&last=many/app-{middle:05}"),
            "/v2/many/app-00000/tags/list?n=100".to_owned(),
            format!("/v2/many/app-00000/tags/list?n=100&last=v{middle:05}"),
            "/v2/many/app-00000/tags/list".to_owned(),
        ]
    }
}

impl Work for Lists {
    fn lines(&self) -> Vec<Line> {
        let names = self.names;
        let line = |number, figure, most| Line {
            number,
            figure,
            unit: Unit::Time,
            bound: "",
            requirement: Requirement::AtMost(most),
        };
        vec![
            line("8a", format!("catalog of {names}, first page of 100"), PAGE),
            line("8b", format!("catalog of {names}, middle page"), PAGE),
            line("8c", format!("{names} tags, first page of 100"), PAGE),
            line("8d", format!("{names} tags, middle page"), PAGE),
            line("8e", format!("{names} tags, whole list"), WHOLE),
            line("8f", format!("start to answering, {names} repositories"), START),
        ]
    }

    fn sides(&self) -> &'static [Side] {
        &[Side::Portcullis, Side::Pair]
    }

    fn rounds(&self, _: usize) -> usize {
        1
    }

    fn measure(&mut self, stage: &Stage, side: Side) -> Outcome<Vec<Reading>> {
        // One tree for both: they only read it.
        let tree = stage.path("many");
        if !tree.exists() {
            plant(&tree, self.names)?;
            // A folder with the current time may change once more unseen, so no side caches it yet;
            // this tree stands for an old one.
            thread::sleep(SETTLED);
        }
        let client = Client::new(&stage.site, &stage.runtime)?;
        let started = Instant::now();
        let server = stage.fresh(side, "lists", &tree)?;
        client.anonymous_status(&server.url("/v2/"))?;
        let start = started.elapsed().as_secs_f64();

        let times = if side == Side::Pair { TIMES_OF_PAIR } else { TIMES };
        let mut readings = Vec::new();
        for path in self.paths() {
            let url = server.url(&path);
            client.timed_get(&url)?;
            let mut seconds =
                (0..times).map(|_| client.timed_get(&url)).collect::<Outcome<Vec<_>>>()?;
            seconds.sort_unstable_by(f64::total_cmp);
            readings.push(Reading::of(median(&seconds).unwrap_or(f64::NAN)));
        }
        readings.push(Reading::of(start));
        Ok(readings)
    }
}

/// Writes registry:2's tree with `names` repositories of one tag, and `names` tags in the first of
/// them; all name one manifest.
pub(super) fn plant(tree: &Path, names: usize) -> Outcome<()> {
    let config = content::image_configuration();
    let manifest = content::manifest(&config, &[]);
    let base = tree.join("docker/registry/v2");
    for bytes in [&config, &manifest] {
        let digest = content::digest(bytes);
        let hex = digest.trim_start_matches("sha256:");
        let folder = base.join("blobs/sha256").join(&hex[..2]).join(hex);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("data"), bytes)?;
    }
    let link = content::digest(&manifest);
    let folder = link.replace(':', "/");
    let write = |folder: &Path| -> Outcome<()> {
        fs::create_dir_all(folder)?;
        Ok(fs::write(folder.join("link"), &link)?)
    };
    let tag = |repository: &Path, tag: &str| -> Outcome<()> {
        let tag = repository.join("_manifests/tags").join(tag);
        write(&tag.join("current"))?;
        write(&tag.join("index").join(&folder))
    };
    for number in 0..names {
        let repository = base.join(format!("repositories/many/app-{number:05}"));
        write(&repository.join("_manifests/revisions").join(&folder))?;
        write(&repository.join("_layers").join(content::digest(&config).replace(':', "/")))?;
        tag(&repository, "latest")?;
    }
    let first = base.join("repositories/many/app-00000");
    (0..names).try_for_each(|number| tag(&first, &format!("v{number:05}")))
}
