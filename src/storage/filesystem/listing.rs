//! What is in a folder, in order.
//!
//! To list a page of a large folder, all of it has to be read and sorted. So a list is kept for as
//! long as the folder looks the same, and a page is cut from it: an entry that comes or goes
//! changes the folder's times. As with files, what is younger than two seconds is not kept.

use std::{
    collections::BinaryHeap,
    io,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use moka::sync::Cache;

use super::{
    disk::{DirEntry, Disk},
    present,
};
use crate::{
    stamp::Stamp,
    storage::{Entry, Key},
};

/// A folder of more entries is read anew for each page, in memory that depends on the page.
const MAX_ENTRIES: usize = 50_000;

/// How many entries are kept together: about 8 MiB of them.
const MAX_KEPT: u64 = 100_000;

/// After this long without use the system may have forgotten the folder, and looking at it would
/// wait for the disk.
const LATELY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Listings(Cache<Key, Arc<Listing>>);

/// All of a folder.
#[derive(Debug)]
pub(super) struct Listing {
    stamp: Stamp,
    entries: Vec<Entry>,
}

/// What was read for a page.
pub(super) enum Listed {
    /// All of the folder.
    All(Listing),
    /// The page only.
    Page(Vec<Entry>),
}

impl Listings {
    pub(super) fn new() -> Self {
        let weight = |_: &Key, listing: &Arc<Listing>| {
            u32::try_from(listing.entries.len() + 1).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder().weigher(weight).max_capacity(MAX_KEPT).time_to_idle(LATELY);
        Self(cache.build())
    }

    /// A page of the folder at `path`, when it is known and still as it was.
    pub(super) fn page(
        &self,
        key: &Key,
        path: &Path,
        after: Option<&str>,
        limit: usize,
    ) -> Option<Vec<Entry>> {
        let listing = self.0.get(key)?;
        (Stamp::of(path) == listing.stamp).then(|| listing.page(after, limit))
    }

    pub(super) fn keep(&self, key: &Key, listing: Listing, now: SystemTime) {
        if listing.stamp.is_old(now) {
            self.0.insert(key.clone(), Arc::new(listing));
        }
    }
}

impl Listing {
    pub(super) fn page(&self, after: Option<&str>, limit: usize) -> Vec<Entry> {
        let start = match after {
            Some(after) => self.entries.partition_point(|entry| entry.name.as_str() <= after),
            None => 0,
        };
        self.entries[start..].iter().take(limit).cloned().collect()
    }
}

/// Reads a folder; `None` when it does not exist.
pub(super) fn read(
    disk: &dyn Disk,
    path: &Path,
    after: Option<&str>,
    limit: usize,
) -> io::Result<Option<Listed>> {
    // Looked at before it is read: a change in between is then noticed next time.
    let Some(looked) = present(disk.stat(path))? else { return Ok(None) };
    let Some(found) = present(disk.read_dir(path))? else { return Ok(None) };
    let stamp = looked.stamp();
    let mut entries = Vec::new();
    for found in found {
        if entries.len() == MAX_ENTRIES {
            return least(disk, path, after, limit).map(Listed::Page).map(Some);
        }
        entries.extend(entry(found?));
    }
    entries.sort_unstable();
    Ok(Some(Listed::All(Listing { stamp, entries })))
}

/// Reads the folders in a folder that hold a file at `object`, and counts the files beside them.
///
/// All of them are given to be kept only when none was passed over: the times of the folder tell
/// of an entry that comes or goes, not of what comes or goes within it. One that holds the file
/// loses it when it is deleted altogether, which the times tell; one that does not may gain it.
pub(super) fn read_holders(
    disk: &dyn Disk,
    path: &Path,
    object: &str,
    after: Option<&str>,
    limit: usize,
) -> io::Result<Option<(Listed, usize)>> {
    let mut files = 0;
    let mut holds = |entry: &Entry| -> io::Result<bool> {
        let held = present(disk.stat(&path.join(&entry.name).join(object)))?;
        let holds = held.is_some_and(|found| found.is_file());
        let wanted = after.is_none_or(|after| entry.name.as_str() > after);
        files += usize::from(wanted && !holds && !entry.is_prefix);
        Ok(holds)
    };
    let listed = match read(disk, path, after, limit)? {
        None => return Ok(None),
        Some(Listed::All(mut all)) => {
            let count = all.entries.len();
            let mut held = Vec::with_capacity(count);
            for entry in all.entries {
                if holds(&entry)? {
                    held.push(entry);
                }
            }
            let complete = held.len() == count;
            all.entries = held;
            match complete {
                true => Listed::All(all),
                false => Listed::Page(all.page(after, limit)),
            }
        }
        Some(Listed::Page(mut page)) => {
            // A folder too large to be kept: page after page, until enough hold the file.
            let mut held = Vec::new();
            while let Some(last) = page.last().map(|entry| entry.name.clone()) {
                for entry in page {
                    if held.len() < limit && holds(&entry)? {
                        held.push(entry);
                    }
                }
                if held.len() >= limit {
                    break;
                }
                page = least(disk, path, Some(&last), limit)?;
            }
            Listed::Page(held)
        }
    };
    Ok(Some((listed, files)))
}

/// The least entries behind `after`. The greatest of those kept is on top and makes room for
/// lesser ones.
fn least(
    disk: &dyn Disk,
    path: &Path,
    after: Option<&str>,
    limit: usize,
) -> io::Result<Vec<Entry>> {
    let mut least = BinaryHeap::new();
    for found in disk.read_dir(path)? {
        let Some(entry) = entry(found?) else { continue };
        if after.is_some_and(|after| entry.name.as_str() <= after) {
            continue;
        }
        least.push(entry);
        if least.len() > limit {
            least.pop();
        }
    }
    Ok(least.into_sorted_vec())
}

/// What others put there under names that are not UTF-8 is left out.
fn entry(found: DirEntry) -> Option<Entry> {
    let name = found.name.into_string().ok()?;
    Some(Entry { name, is_prefix: found.is_dir })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{super::disk::Os, *};

    fn all(folder: &Path) -> Listing {
        let disk = Os::new(folder.to_owned());
        let Some(Listed::All(all)) = read(&disk, Path::new("."), None, 1).unwrap() else {
            panic!()
        };
        all
    }

    #[test]
    fn page_of_a_large_folder_is_that_of_a_small_one() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..300 {
            fs::write(folder.path().join(format!("{n:03}")), "").unwrap();
        }
        let all = all(folder.path());
        let disk = Os::new(folder.path().to_owned());
        for (after, limit) in [(None, 7), (Some("099"), 500), (Some("0995"), 2), (Some("zz"), 3)] {
            let page = all.page(after, limit);
            assert_eq!(page, least(&disk, Path::new("."), after, limit).unwrap());
            assert!(page.iter().all(|entry| Some(entry.name.as_str()) > after));
        }
    }

    #[test]
    fn cached_listing_is_never_one_that_another_process_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let listings = Listings::new();
        let key = Key::new("a".to_owned());
        // As it will be in an hour: nothing is kept of a folder that is as young as this.
        let later = SystemTime::now() + Duration::from_secs(3600);
        let page = || listings.page(&key, folder.path(), None, 9).map(|page| page.len());
        for n in 0..3 {
            listings.keep(&key, all(folder.path()), later);
            assert_eq!(page(), Some(n));
            fs::write(folder.path().join(n.to_string()), "").unwrap();
            assert_eq!(page(), None, "an entry came");
        }
        listings.keep(&key, all(folder.path()), later);
        fs::remove_file(folder.path().join("1")).unwrap();
        assert_eq!(page(), None, "an entry went");
    }
}
