//! A segment file: lines with checksums.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use super::Position;
use crate::{
    notify::queue::Line,
    oci::{Algorithm, Digest},
};

/// The length of the checksum at the beginning of a line. A space follows.
pub(super) const SUM: usize = 16;

/// A line of a segment.
#[derive(Debug)]
pub(super) struct StoredLine {
    pub(super) line: Line,
    /// The offset of the next line.
    pub(super) end: u64,
}

/// The lines of a segment from an offset on.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) lines: VecDeque<StoredLine>,
    /// The length of the segment.
    pub(super) end: u64,
}

/// Reads the lines of a segment from a position on, and skips malformed ones. A missing segment has no
/// lines.
pub(super) fn read(folder: &Path, from: Position) -> io::Result<Lines> {
    let mut file = match File::open(path(folder, from.segment)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lines::default()),
        opened => opened?,
    };
    file.seek(SeekFrom::Start(from.offset))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let mut lines = VecDeque::new();
    let mut end = from.offset;
    let mut damaged = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        end += line.len() as u64;
        match event(line) {
            Some(event) => lines.push_back(StoredLine { line: event.into(), end }),
            None => damaged += line.len(),
        }
    }
    if damaged > 0 {
        tracing::warn!(
            folder = %folder.display(),
            segment = from.segment,
            bytes = damaged,
            "skipped a malformed part of a queue; a crash may have truncated it"
        );
    }
    Ok(Lines { lines, end })
}

/// Encodes lines as a segment has them.
pub(super) fn encode(lines: &[Line]) -> Vec<u8> {
    let mut text = Vec::new();
    for line in lines {
        text.extend_from_slice(sum(line).as_bytes());
        text.push(b' ');
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text
}

/// The event in a line; `None` when the checksum does not match.
fn event(line: &[u8]) -> Option<&[u8]> {
    let (written, rest) = line.split_at_checked(SUM)?;
    let event = rest.strip_prefix(b" ")?.strip_suffix(b"\n")?;
    (written == sum(event).as_bytes()).then_some(event)
}

fn sum(event: &[u8]) -> String {
    let digest = Digest::of(Algorithm::Sha256, event);
    digest.hex()[..SUM].to_owned()
}

/// The file of a segment.
pub(super) fn path(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:020}.events"))
}

/// The segments of a folder, in order.
pub(super) fn list(folder: &Path) -> io::Result<Vec<u64>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".events"));
        segments.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    segments.sort_unstable();
    Ok(segments)
}
