//! The soak: the real binary under pushes and pulls at full rate, while every second the test
//! changes the certificate, the users, the deploy token, the access rules or the groups. Every request must get the expected
//! response; memory and descriptors stay flat; and at the end the server is stopped under load, and
//! must finish every request that it has begun.
//!
//! `work` is the work of a client, each in a repository of its own, so that it knows every
//! response; `push` is how it pushes; `strangers` try wrong passwords; `rights` has the access rules. `changes` makes the changes,
//! and `changing` knows which states a response may follow meanwhile. `watch` measures the process,
//! `drain` stops it. Only hang guards go by the clock.
//!
//! `cargo test --test soak -- --seconds N`. A failed run keeps its folder and prints the path.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "the figures go to the terminal; a test stops at the first surprise"
)]

mod arguments;
mod changes;
mod changing;
mod client;
mod content;
mod drain;
mod push;
mod rights;
mod stage;
mod strangers;
mod tally;
mod watch;
mod work;

use std::{fs, process::ExitCode, sync::Arc};

use testkit::{
    random::Random,
    server::Server,
    site::{Build, Site},
};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time,
};

use crate::{
    arguments::Arguments,
    changes::{Changes, GROUPS, certificate_of, first_users},
    client::{Outcome, Stop},
    rights::Rights,
    stage::Stage,
    watch::{Sample, Series, idle_again},
    work::Worker,
};

/// How many clients work at once: half of them speak HTTP/1.1, half HTTP/2.
const WORKERS: u64 = 8;
/// The warning that the log may have: a half-written file.
const MAY_BE_SAID: &str = "cannot use the new certificate; the old one stays in force";

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
    println!("soak: seed {}, {} s", arguments.seed, arguments.length.as_secs());
    let site = Arc::new(Site::new("soak", BUILD));
    let runtime = Runtime::new().unwrap();
    let result = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).unwrap();
        let mut terminate = signal(SignalKind::terminate()).unwrap();
        // Values dropped on this path stop the server.
        tokio::select! {
            result = run(&arguments, &site) => result,
            _ = interrupt.recv() => Err("interrupted".to_owned()),
            _ = terminate.recv() => Err("terminated".to_owned()),
        }
    });
    // The tasks end with it, and drop what they hold.
    drop(runtime);
    match result {
        Ok(()) => {
            println!("soak: nothing failed that must not, nothing has grown, nothing was cut off");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("soak: {why}");
            if let Some(site) = Arc::into_inner(site) {
                eprintln!("see {}", site.keep().display());
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments, site: &Arc<Site>) -> Result<(), String> {
    let users = first_users(site);
    let rights = Rights::default();
    fs::write(site.path(GROUPS), rights.groups()).unwrap();
    let server = site.start_with(&site.path("data"), &[], &rights.section());
    let before = Sample::of(&server);
    let certificate = certificate_of(site);
    let stage = Arc::new(Stage::new(Arc::clone(site), arguments.seed, certificate, users));
    let mut random = Random::new(arguments.seed);
    work::make_shared(&stage, &mut random).await.map_err(why)?;
    rights::make_repositories(&stage, &mut random).await.map_err(why)?;

    let series = Series::default();
    let mut clients = workers(&stage, &mut random);
    clients.spawn(strangers::try_to_get_in(Arc::clone(&stage), Random::new(random.number())));
    clients.spawn(rights::read(Arc::clone(&stage)));
    clients.spawn(Changes::new(&stage, server.child.id()).make());
    let worked = soak(arguments, &stage, &server, &series, clients).await;
    println!("{}\n{series}", stage.tally);
    worked?;
    let after = idle_again(&server, before).await?;
    println!("before the first client: {before}; after the last: {after}");
    series.flat()?;

    stage.set_over(false);
    let mut clients = workers(&stage, &mut random);
    drain::drain(&stage, server).await.map_err(why)?;
    stage.set_over(true);
    while let Some(ended) = clients.join_next().await {
        ended.map_err(|panicked| panicked.to_string())?.map_err(why)?;
    }
    said(&stage)
}

/// Lets the clients work for the requested time.
async fn soak(
    arguments: &Arguments,
    stage: &Stage,
    server: &Server,
    series: &Series,
    mut clients: JoinSet<Outcome<()>>,
) -> Result<(), String> {
    let work = async {
        let mut length = std::pin::pin!(time::sleep(arguments.length));
        loop {
            tokio::select! {
                () = &mut length, if !stage.is_over() => stage.set_over(true),
                ended = clients.join_next() => match ended {
                    Some(ended) => ended.map_err(|panicked| panicked.to_string())?.map_err(why)?,
                    None => return Ok(()),
                },
            }
        }
    };
    tokio::select! {
        worked = work => worked,
        () = series.watch(server) => Ok(()),
    }
}

fn workers(stage: &Arc<Stage>, random: &mut Random) -> JoinSet<Outcome<()>> {
    let worker = |number| Worker::new(stage, number, Random::new(random.number())).work();
    (0..WORKERS).map(worker).collect()
}

/// Checks that the log has the required lines and no forbidden one.
fn said(stage: &Stage) -> Result<(), String> {
    let log = stage.site.log();
    let (told, taken) = (stage.tally.changes("SIGHUP"), log.matches("SIGHUP").count() as u64);
    if told != taken {
        return Err(format!("{told} times it was told to look, and has looked {taken} times"));
    }
    let bad = |line: &&str| {
        (line.contains("level=error") && !line.contains(MAY_BE_SAID)) || line.contains("panicked")
    };
    log.lines().find(bad).map_or(Ok(()), |line| Err(format!("the log has: {line}")))
}

fn why(stop: Stop) -> String {
    match stop {
        Stop::Ended => "a connection broke although the server was not stopped".to_owned(),
        Stop::Wrong(why) => why,
    }
}
