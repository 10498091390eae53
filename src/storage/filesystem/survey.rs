//! Looking at everything, once: no sorting, and nothing is remembered.

use std::{io, path::Path};

use super::{disk::Disk, present};
use crate::storage::{Look, Seen};

/// What is in a folder, and how the object looks that is asked for in each.
pub(super) fn look(disk: &dyn Disk, look: &Look) -> io::Result<Vec<Seen>> {
    if !look.folder.is_safe() {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    let folder = Path::new(look.folder.as_str());
    let Some(entries) = present(disk.read_dir(folder))? else { return Ok(Vec::new()) };
    let mut seen = Vec::new();
    for entry in entries {
        let entry = entry?;
        // What others put there under names that are not UTF-8 is left out.
        let Ok(name) = entry.name.into_string() else { continue };
        let mut found = Seen { name, is_prefix: entry.is_dir, object: None };
        if let Some(object) = look.object {
            let path = folder.join(&found.name).join(object);
            let Some(file) = present(disk.stat(&path))?.filter(|file| file.is_file()) else {
                continue;
            };
            found.object = Some((file.len(), file.modified()));
        }
        seen.push(found);
    }
    Ok(seen)
}
