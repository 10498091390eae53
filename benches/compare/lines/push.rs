//! Line 4: pushes of large blobs by one client and by several, as docker pushes: POST, then PATCH
//! and PUT, which are timed.
//!
//! Each blob is new. The blobs of a side are removed from the disk after its turn, so that no side
//! pays for writing back those of another.

use std::{path::PathBuf, thread};

use crate::{
    Outcome,
    arguments::Plan,
    line::{Line, Reading, Requirement, Unit, Work},
    sides::Served,
    sides::Side,
    stage::{REPOSITORY, Stage},
    tools::{curl_patch, dd, remove},
};

/// A push of a large blob from `streams` curls at once.
#[derive(Debug)]
pub(super) struct Push {
    streams: usize,
    megabytes: usize,
}

impl Push {
    pub(super) fn new(plan: &Plan, streams: usize) -> Self {
        Self { streams, megabytes: plan.large / 1_000_000 }
    }

    fn write(&self, stage: &Stage, files: &[PathBuf]) -> Outcome<Reading> {
        let copy = |at: usize| stage.path(&format!("written-{at}"));
        let ((), seconds, _) = Stage::timed(None, || {
            together(files.iter().enumerate(), |(at, file)| dd(file, &copy(at)))
        })?;
        (0..files.len()).try_for_each(|at| remove(&copy(at)))?;
        Ok(Reading::of((self.streams * stage.large.size) as f64 / seconds))
    }

    fn push(
        &self,
        stage: &Stage,
        server: &Served,
        files: &[(PathBuf, String)],
    ) -> Outcome<Reading> {
        let uploads = files
            .iter()
            .map(|file| Ok((file, stage.client.begin_upload(server, REPOSITORY)?)))
            .collect::<Outcome<Vec<_>>>()?;
        let ((), seconds, load) = Stage::timed(Some(server), || {
            together(uploads.into_iter(), |((file, digest), location)| {
                let location = curl_patch(&stage.site, file, &location)?;
                stage.client.end_upload(&location, digest)
            })
        })?;
        files.iter().try_for_each(|(_, digest)| Stage::forget_blob(server, digest))?;
        Ok(Reading::under((self.streams * stage.large.size) as f64 / seconds, load))
    }
}

impl Work for Push {
    fn lines(&self) -> Vec<Line> {
        let (number, streams) = match self.streams {
            1 => ("4a", "one stream".to_owned()),
            streams => ("4b", format!("{streams} at once")),
        };
        vec![Line {
            number,
            figure: format!("push {} MB, {streams}", self.megabytes),
            unit: Unit::Throughput,
            bound: "dd fdatasync",
            requirement: Requirement::Any(vec![
                Requirement::Better(2.5, Side::Pair),
                Requirement::Better(0.9, Side::Bound),
            ]),
        }]
    }

    fn measure(&mut self, stage: &Stage, side: Side) -> Outcome<Vec<Reading>> {
        let files = (0..self.streams)
            .map(|at| {
                let path = stage.path(&format!("pushed-{at}"));
                let digest = stage.large.renew(&path)?;
                Ok((path, digest))
            })
            .collect::<Outcome<Vec<_>>>()?;
        let reading = match side {
            Side::Bound => {
                let paths: Vec<_> = files.into_iter().map(|(path, _)| path).collect();
                self.write(stage, &paths)?
            }
            _ => self.push(stage, stage.side(side)?, &files)?,
        };
        Ok(vec![reading])
    }
}

/// Runs all at once, each in a thread, and waits for all.
fn together<T: Send>(
    all: impl Iterator<Item = T>,
    work: impl Fn(T) -> Outcome<()> + Sync,
) -> Outcome<()> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = all.map(|each| scope.spawn(move || work(each))).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))
        })
    })
}
