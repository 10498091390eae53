//! Compares Portcullis with nginx and registry:2, and with the limits of the machine, in one run.
//!
//! `make bench` and `make bench-quick` run this. Three sides listen on loopback with the same
//! certificate, the same user and the same content: Portcullis, Debian's nginx in front of Debian's
//! docker-registry, and the limits (nginx with static files and no password, `dd`). They take
//! turns, and medians are compared.
//!
//! To add a line, implement `line::Work` in `lines/` and name it in `lines::all`. The report names
//! the lines that cannot be measured. Every exit ends the servers and removes the files.
//!
//! Built without optimisation on purpose: the servers and wrk, h2load, curl and skopeo do the work,
//! and the measured binary must be the one that `cargo build --release` makes.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table goes to the terminal")]

mod arguments;
mod client;
mod content;
mod document;
mod line;
mod lines;
mod load;
mod process;
mod results;
mod sides;
mod site;
mod stage;
mod table;
mod tools;

use std::{error::Error, fs, path::PathBuf, process::ExitCode};

use tokio::{runtime::Runtime, signal::unix, time};

use crate::{arguments::Arguments, line::Work, results::Measured, sides::Side, stage::Stage};

/// Errors are sentences, which end up in the table.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    match compare() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare() -> Outcome<()> {
    let arguments = Arguments::read()?;
    process::raise_file_limit()?;
    let runtime = Runtime::new()?;
    // On the measured disk, not in a temporary file system that may be memory.
    let directory =
        tempfile::Builder::new().prefix("compare-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    leave_on_signals(&runtime, directory.path().to_owned(), &arguments)?;

    eprintln!("preparing {}", directory.path().display());
    let stage = Stage::set(directory, &arguments, &runtime)?;
    let mut results = Vec::new();
    for mut work in lines::all(&arguments.plan) {
        if work.lines().iter().any(|line| arguments.wants(line.number)) {
            results.extend(measure(work.as_mut(), &stage));
        }
    }
    let document = document::write(&stage, &results);
    println!("{document}");
    if arguments.write {
        fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/BENCHMARKS.md"), document)?;
    }
    Ok(())
}

/// Gives each side its turn, round by round. A side that fails gets no further turn.
fn measure(work: &mut dyn Work, stage: &Stage) -> Vec<Measured> {
    let mut results: Vec<_> = work.lines().into_iter().map(Measured::of).collect();
    let mut failed: Vec<Side> = Vec::new();
    for round in 1..=work.rounds(stage.plan.rounds) {
        for side in work.sides() {
            if failed.contains(side) {
                continue;
            }
            eprintln!("line {}, round {round}, {side:?}", results[0].line.number);
            match work.measure(stage, *side) {
                Ok(readings) => {
                    results
                        .iter_mut()
                        .zip(readings)
                        .for_each(|(it, reading)| it.add(*side, reading));
                }
                Err(error) => {
                    eprintln!("  {error}");
                    failed.push(*side);
                    let failure = (*side, error.to_string());
                    results.iter_mut().for_each(|it| it.failures.push(failure.clone()));
                }
            }
        }
    }
    results
}

/// Ends servers and removes files after a signal or the time limit of the run.
fn leave_on_signals(runtime: &Runtime, directory: PathBuf, arguments: &Arguments) -> Outcome<()> {
    let _context = runtime.enter();
    let mut interrupt = unix::signal(unix::SignalKind::interrupt())?;
    let mut terminate = unix::signal(unix::SignalKind::terminate())?;
    let limit = arguments.plan.limit;
    runtime.spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => eprintln!("interrupted"),
            _ = terminate.recv() => eprintln!("terminated"),
            () = time::sleep(limit) => eprintln!("given up after {limit:?}"),
        }
        process::end_all();
        let _ = fs::remove_dir_all(directory);
        std::process::exit(1);
    });
    Ok(())
}
