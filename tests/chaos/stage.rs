//! The state that the clients of one generation share, from a start of the server to its end.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
};

use crate::{
    client::{Outcome, Stop},
    content::Content,
    killer::Trigger,
    model::{Effect, End, Key, Model, Op},
    tally::Tally,
    upload::Upload,
};

/// The state that the clients of one generation share.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) base: String,
    /// The numbers of the images that they push.
    pub(crate) images: Range<u64>,
    pub(crate) content: Arc<Content>,
    pub(crate) model: Arc<Mutex<Model>>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) trigger: Trigger,
    /// The uploads that the last kill has interrupted, to be resumed.
    pub(crate) to_resume: Mutex<Vec<Upload>>,
    /// The uploads that the next kill interrupts.
    pub(crate) interrupted: Mutex<Vec<Upload>>,
}

impl Stage {
    /// Tells the model of a request that is about to be sent. A client sends none to a dead server,
    /// so that the model does not count it as under way.
    pub(crate) fn begin(&self, effects: Vec<(Key, Effect)>) -> Outcome<Op> {
        if self.trigger.pulled() {
            return Err(Stop::Killed);
        }
        Ok(self.model.lock().unwrap().begin(effects))
    }

    /// Tells the model that a repository is about to be deleted.
    pub(crate) fn begin_wipe(&self, repository: &str) -> Outcome<Op> {
        if self.trigger.pulled() {
            return Err(Stop::Killed);
        }
        Ok(self.model.lock().unwrap().begin_wipe(repository))
    }

    /// Tells the model of a response.
    pub(crate) fn end(&self, op: Op, end: &End) -> Outcome<()> {
        self.model.lock().unwrap().end(op, end).map_err(Stop::Wrong)
    }
}
