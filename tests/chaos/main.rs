//! The kill loop: the real binary is killed with SIGKILL, over and over, while clients push, move
//! tags, delete and pull in the same few repositories. After each kill the test reads the tree
//! without a server, then asks a new server, and compares both with the acknowledged content.
//!
//! Collections run meanwhile, by the server and from the command line, with grace and without, and
//! are killed too; see `collector`.
//!
//! Before each start a user joins or leaves a group (`rights`).
//!
//! `model` has the states that the responses allow, `tree` reads the disk, `check` compares.
//! `actions` and `upload` are the work of a client, `killer` chooses the moment. The checked rules
//! are those of docs/ARCHITECTURE.md, "Invariants". SIGKILL loses less than a power cut, which is
//! tested elsewhere.
//!
//! `cargo test --test chaos -- --seed N --kills N` repeats a run as far as the machine allows. A
//! failed run keeps its tree and prints the path.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "the figures go to the terminal; a test stops at the first surprise"
)]

mod actions;
mod arguments;
mod check;
mod client;
mod collector;
mod content;
mod killer;
mod model;
mod rights;
mod stage;
mod tally;
mod tree;
mod upload;

use std::{
    fs,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use reqwest::Version;
use testkit::{
    random::Random,
    site::{Build, Site},
};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

use crate::{
    arguments::Arguments,
    client::{Client, Stop},
    collector::{Collecting, age},
    content::Content,
    killer::Trigger,
    model::Model,
    rights::Reader,
    stage::Stage,
    tally::{Tally, add},
    tree::Tree,
    upload::Upload,
};

/// How many clients work at once: half of them speak HTTP/1.1, half HTTP/2.
const CLIENTS: u64 = 6;
/// After this many kills a new tree replaces the old one, so that checks stay short and kills hit
/// the creation of folders again.
const KILLS_OF_A_TREE: u64 = 20;

/// The facts about the build that cargo gives to this suite.
const BUILD: Build =
    Build { binary: env!("CARGO_BIN_EXE_portcullis"), folder: env!("CARGO_TARGET_TMPDIR") };

fn main() -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return ExitCode::SUCCESS,
        Err(usage) => {
            eprintln!("{usage}");
            return ExitCode::from(2);
        }
    };
    println!("chaos: seed {}, {} kills", arguments.seed, arguments.kills);
    let site = Arc::new(Site::new("chaos", BUILD));
    let tally = Arc::new(Tally::default());
    let result = Runtime::new().unwrap().block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).unwrap();
        let mut terminate = signal(SignalKind::terminate()).unwrap();
        // Values dropped on this path stop the server.
        tokio::select! {
            result = run(&arguments, &site, &tally) => result,
            _ = interrupt.recv() => Err("interrupted".to_owned()),
            _ = terminate.recv() => Err("terminated".to_owned()),
        }
    });
    println!("{tally}");
    match result {
        Ok(()) => {
            println!("chaos: seed {}: all as acknowledged", arguments.seed);
            ExitCode::SUCCESS
        }
        Err(why) => {
            // All other owners are gone with the runtime.
            let folder = Arc::into_inner(site).unwrap().keep();
            eprintln!("chaos: seed {}: {why}\nsee {}", arguments.seed, folder.display());
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments, site: &Arc<Site>, tally: &Arc<Tally>) -> Result<(), String> {
    rights::add_reader(site);
    let mut random = Random::new(arguments.seed);
    let mut left = arguments.kills;
    while left > 0 {
        let kills = left.min(KILLS_OF_A_TREE);
        left -= kills;
        let living = Duration::from_secs(arguments.living);
        let mut life = Life::new(site, tally, (random.number(), living));
        for _ in 0..kills {
            life.generation(&mut random).await?;
        }
        life.end().await?;
        println!("{left} kills to go");
    }
    Ok(())
}

/// One tree, from its first server to its last.
struct Life<'a> {
    site: &'a Arc<Site>,
    tally: &'a Arc<Tally>,
    content: Arc<Content>,
    model: Arc<Mutex<Model>>,
    tree: Tree,
    /// Interrupted uploads that no client has resumed yet.
    uploads: Vec<Upload>,
    reader: Reader,
    kills: u64,
    /// How long each server lives at least.
    living: Duration,
}

impl<'a> Life<'a> {
    fn new(site: &'a Arc<Site>, tally: &'a Arc<Tally>, (seed, living): (u64, Duration)) -> Self {
        let _ = fs::remove_dir_all(site.path("data"));
        Self {
            site,
            tally,
            content: Arc::new(Content::new(seed)),
            model: Arc::default(),
            tree: Tree::default(),
            uploads: Vec::new(),
            reader: Reader::default(),
            kills: 0,
            living,
        }
    }

    /// Starts a server, runs the clients, kills it, checks its tree.
    async fn generation(&mut self, random: &mut Random) -> Result<(), String> {
        let collecting = Collecting::new(random);
        age(&self.site.path("data"));
        let member = random.percent(50);
        rights::set_member(self.site, member);
        let data = self.site.path("data");
        let server = self.site.start_with(&data, &collecting.variables(), rights::SECTION);
        self.reader.check(self.site, member).await?;
        let stage = self.stage();
        let mut living = self.living;
        if collecting.within {
            // The collection begins a second after the start and may remove earlier content, which
            // therefore is not checked here.
            living += Duration::from_millis(random.below(1500));
            self.model.lock().unwrap().collects(collecting);
        } else {
            let keys = self.model.lock().unwrap().keys();
            // All of a small tree, part of a large one: the end of the tree's life checks all.
            let some = 100 * 300 / (keys.len() as u64).max(300);
            let keys = keys.into_iter().filter(|_| random.percent(some)).collect();
            let inspector = self.client(&stage, 0, random);
            inspector.inspect(&self.tree, keys).await.map_err(why)?;
            if collecting.outside > 0 {
                self.model.lock().unwrap().collects(collecting);
            }
        }
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            clients.spawn(self.client(&stage, number, random).work());
        }
        for _ in 0..collecting.outside {
            let (site, stage) = (Arc::clone(self.site), Arc::clone(&stage));
            let random = Random::new(random.number());
            clients.spawn(collecting.collect(site, stage, random));
        }
        stage.trigger.kill(server, random, (self.tally, living)).await?;
        while let Some(ended) = clients.join_next().await {
            ended.map_err(|panicked| panicked.to_string())??;
        }
        self.look(&stage)
    }

    /// Resumes every upload, without a kill, and checks everything.
    async fn end(mut self) -> Result<(), String> {
        let never = [("REGISTRY_STORAGE_MAINTENANCE_GARBAGECOLLECTION_ENABLED", "false")];
        let server = self.site.start(&self.site.path("data"), &never);
        let stage = self.stage();
        let mut random = Random::new(0);
        let mut client = self.client(&stage, 1, &mut random);
        let keys = self.model.lock().unwrap().keys();
        client.inspect(&self.tree, keys).await.map_err(why)?;
        let uploads = std::mem::take(&mut *stage.to_resume.lock().unwrap());
        for upload in uploads {
            match client.resume(upload).await {
                Ok(()) | Err(Stop::Gone) => {}
                Err(stop) => return Err(why(stop)),
            }
        }
        server.kill()?;
        self.look(&stage)?;
        add(&self.tally.leftovers, self.tree.leftovers);
        Ok(())
    }

    fn stage(&mut self) -> Arc<Stage> {
        Arc::new(Stage {
            base: self.site.base(),
            images: Content::images(self.kills),
            content: Arc::clone(&self.content),
            model: Arc::clone(&self.model),
            tally: Arc::clone(self.tally),
            trigger: Trigger::default(),
            to_resume: Mutex::new(std::mem::take(&mut self.uploads)),
            interrupted: Mutex::default(),
        })
    }

    fn client(&self, stage: &Arc<Stage>, number: u64, random: &mut Random) -> Client {
        let version = if number.is_multiple_of(2) { Version::HTTP_2 } else { Version::HTTP_11 };
        let http = self.site.client(version).build().unwrap();
        Client::new(Arc::clone(stage), http, version, Random::new(random.number()))
    }

    /// Reads the tree of a dead server and compares it with the model.
    fn look(&mut self, stage: &Stage) -> Result<(), String> {
        self.kills += 1;
        self.tree = Tree::read(&self.site.path("data"))?;
        add(&self.tally.files, self.tree.files);
        let mut model = self.model.lock().unwrap();
        add(&self.tally.cut, model.cut());
        let interrupted = std::mem::take(&mut *stage.interrupted.lock().unwrap());
        add(&self.tally.interrupted, interrupted.len());
        self.uploads = interrupted;
        self.uploads.append(&mut stage.to_resume.lock().unwrap());
        self.uploads.iter_mut().for_each(|upload| upload.doubt(&model));
        check::tree(&self.tree, &mut model)?;
        Ok(())
    }
}

fn why(stop: Stop) -> String {
    match stop {
        Stop::Killed => "the test has not killed it".to_owned(),
        Stop::Gone => "no client has deleted it".to_owned(),
        Stop::Wrong(why) => why,
    }
}
