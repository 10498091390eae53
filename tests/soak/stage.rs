//! The state that all tasks of a run share.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use testkit::site::Site;

use crate::{changing::Changing, content::Content, rights::Rights, tally::Tally};

/// The passwords of the users and the secret of the deploy token, by their names.
pub(crate) type Users = BTreeMap<&'static str, String>;

/// The state that all tasks of a run share.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) site: Arc<Site>,
    pub(crate) content: Content,
    pub(crate) tally: Tally,
    /// Certificates in DER. `None` stands for one that is being made.
    pub(crate) certificates: Changing<Option<Vec<u8>>>,
    pub(crate) users: Changing<Users>,
    pub(crate) rights: Changing<Rights>,
    /// Set when clients must begin nothing new.
    over: AtomicBool,
    /// Set when the server is told to stop: it may then refuse requests.
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
            rights: Changing::new(Rights::default()),
            over: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
    }

    /// Whether clients have been told to end.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Tells clients to end, or to go on.
    pub(crate) fn set_over(&self, over: bool) {
        self.over.store(over, Ordering::SeqCst);
    }

    /// Whether the server has been told to stop, or is about to be.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Notes that the server is about to be told to stop.
    pub(crate) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }
}
