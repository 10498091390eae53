//! What everybody in a run shares.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use testkit::site::Site;

use crate::{changing::Changing, content::Content, tally::Tally};

/// The passwords of the users, by their names.
pub(crate) type Users = BTreeMap<&'static str, String>;

/// What everybody in a run shares.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) site: Arc<Site>,
    pub(crate) content: Content,
    pub(crate) tally: Tally,
    /// Certificates in DER. `None` is one that is being made.
    pub(crate) certificates: Changing<Option<Vec<u8>>>,
    pub(crate) users: Changing<Users>,
    /// No client begins anything new.
    over: AtomicBool,
    /// The server has been told to stop: it need not take any more requests.
    stopping: AtomicBool,
}

impl Stage {
    pub(crate) fn new(site: Arc<Site>, seed: u64, certificate: Vec<u8>, users: Users) -> Self {
        Self {
            site,
            content: Content::new(seed),
            tally: Tally::new(),
            certificates: Changing::new(Some(certificate)),
            users: Changing::new(users),
            over: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
    }

    /// Whether clients have been told to come to an end.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Tells clients to come to an end, or that there is more to do.
    pub(crate) fn set_over(&self, over: bool) {
        self.over.store(over, Ordering::SeqCst);
    }

    /// Whether the server has been told to stop, or is about to be.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// The server is about to be told to stop.
    pub(crate) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }
}
