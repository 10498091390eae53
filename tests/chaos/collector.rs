//! Collections beside the clients: by the server itself, and from the command line, where they are
//! killed as well.

use std::{
    fs,
    io::Read as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, SystemTime},
};

use testkit::{random::Random, site::Site};
use tokio::time;

use crate::{BUILD, stage::Stage, tally::add};

const POLL: Duration = Duration::from_millis(2);
/// The time by which a tree ages between two of its servers: with the default grace, content
/// without a new lease may be collected.
const AGED: Duration = Duration::from_secs(3 * 3600);

/// The collections during the life of one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Collecting {
    /// Whether the grace is zero, so that there are no leases.
    pub(crate) graceless: bool,
    /// Whether unreferenced manifests are deleted.
    pub(crate) untagged: bool,
    /// Whether the server itself collects, over and over.
    pub(crate) within: bool,
    /// How many commands collect at the same time.
    pub(crate) outside: u64,
    /// Whether a referenced blob can be deleted.
    force: bool,
}

impl Collecting {
    pub(crate) fn new(random: &mut Random) -> Self {
        Self {
            graceless: random.percent(40),
            untagged: random.percent(60),
            within: random.percent(50),
            outside: random.below(3),
            force: random.percent(50),
        }
    }

    /// The variables of a server and of a command.
    pub(crate) fn variables(self) -> Vec<(&'static str, &'static str)> {
        let word = |is: bool| if is { "true" } else { "false" };
        vec![
            ("REGISTRY_STORAGE_MAINTENANCE_GARBAGECOLLECTION_ENABLED", word(self.within)),
            ("REGISTRY_STORAGE_MAINTENANCE_GARBAGECOLLECTION_INTERVAL", "1s"),
            (
                "REGISTRY_STORAGE_MAINTENANCE_GARBAGECOLLECTION_GRACE",
                if self.graceless { "0s" } else { "2h" },
            ),
            ("REGISTRY_STORAGE_MAINTENANCE_GARBAGECOLLECTION_DELETEUNTAGGED", word(self.untagged)),
            ("REGISTRY_STORAGE_DELETE_BLOBS", if self.force { "force" } else { "unneeded" }),
        ]
    }

    /// Begins a collection from the command line.
    fn begin(self, site: &Site) -> Child {
        Command::new(BUILD.binary)
            .args(["garbage-collect", "--quiet", "config.yml"])
            .current_dir(site.path(""))
            .envs(self.variables())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Collects from the command line until the server is killed; then the collection is killed
    /// too.
    pub(crate) async fn collect(
        self,
        site: Arc<Site>,
        stage: Arc<Stage>,
        mut random: Random,
    ) -> Result<(), String> {
        while !stage.trigger.pulled() {
            // The first push creates the tree.
            if !site.path("data").is_dir() {
                time::sleep(POLL).await;
                continue;
            }
            let mut child = self.begin(&site);
            let status = loop {
                if let Some(status) = child.try_wait().unwrap() {
                    break Some(status);
                }
                if stage.trigger.pulled() {
                    time::sleep(Duration::from_millis(random.below(8))).await;
                    let _ = child.kill();
                    let _ = child.wait();
                    break None;
                }
                time::sleep(POLL).await;
            };
            match status {
                Some(status) if status.success() => add(&stage.tally.collections, 1),
                Some(status) => {
                    let mut why = String::new();
                    let _ = child.stderr.unwrap().read_to_string(&mut why);
                    return Err(format!("a collection ended with {status}: {why}"));
                }
                None => add(&stage.tally.collections_killed, 1),
            }
        }
        Ok(())
    }
}

/// Makes all files of a tree older.
pub(crate) fn age(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            age(&path);
        } else {
            let file = fs::File::open(&path).unwrap();
            let modified = file.metadata().unwrap().modified().unwrap();
            let earlier = modified.checked_sub(AGED).unwrap_or(SystemTime::UNIX_EPOCH);
            file.set_modified(earlier).unwrap();
        }
    }
}
