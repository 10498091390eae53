//! A queue in a folder: segments of lines, and a cursor that says which line is at the front.
//!
//! ```text
//! 00000000000000000007.events     <16 hexadecimal digits> <event as JSON>
//!                                 …
//! 00000000000000000008.events
//! cursor                          <segment> <offset>
//! lock
//! ```
//!
//! The digits are the beginning of the SHA-256 of the event. A malformed line was truncated by a
//! crash or a full disk, and is skipped. No line is ever written behind it: each start, and each
//! failed write, begins a new segment. A segment is deleted when the endpoint has accepted the last
//! of its lines. The cursor moves after that acceptance, so after a crash in between the line is
//! sent again.

use std::{
    collections::VecDeque,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Line, OpenError};
use crate::oci::{Algorithm, Digest};

/// A segment of so many bytes gets no more lines. As much is read at a time.
const SEGMENT: u64 = 1024 * 1024;

/// The checksum in front of a line, and the space behind it.
const SUM: usize = 16;

/// The longest file name.
const LONGEST: usize = 255;

/// The characters that stand for themselves in the name of a folder.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// The folder of an endpoint's queue: its name, percent-encoded.
pub(super) fn folder_name(endpoint: &str) -> Result<String, OpenError> {
    let name = utf8_percent_encode(endpoint, PLAIN).to_string();
    if name.len() > LONGEST { Err(OpenError::Name(endpoint.to_owned())) } else { Ok(name) }
}

/// The queue.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    _lock: File,
    cursor: File,
    /// Where the line at the front begins.
    head: Position,
    /// The segment that was begun last, and where it ends.
    tail: Position,
    /// The last segment, if it can get more lines.
    open: Option<Arc<File>>,
    /// Lines from the front on, each with the place behind it.
    ahead: VecDeque<(Line, u64)>,
    /// The segments written since the last sync.
    unsynced: Vec<Arc<File>>,
    /// Whether a segment was begun since then.
    begun: bool,
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    segment: u64,
    offset: u64,
}

/// Files that were written and are not durable.
#[derive(Debug)]
pub(super) struct Written {
    files: Vec<Arc<File>>,
    folder: Option<PathBuf>,
}

impl Written {
    pub(super) fn sync(&self) -> io::Result<()> {
        for file in &self.files {
            file.sync_data()?;
        }
        match &self.folder {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

impl Files {
    /// Opens the queue in a folder, which is created if it is missing. Returns the number of
    /// waiting lines and their total length, too.
    pub(super) fn open(folder: &Path) -> io::Result<(Self, u64, u64)> {
        make(folder)?;
        let options = {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            options
        };
        let lock = options.open(folder.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("another process sends these events"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut cursor = options.open(folder.join("cursor"))?;
        let mut head = match Position::read(&mut cursor)? {
            Some(head) => head,
            None => {
                cursor.set_len(0)?;
                Position::default()
            }
        };
        let segments = segments(folder)?;
        for taken in segments.iter().filter(|segment| **segment < head.segment) {
            fs::remove_file(path(folder, *taken))?;
        }
        let waiting: Vec<u64> =
            segments.into_iter().filter(|segment| *segment >= head.segment).collect();
        let mut tail =
            Position { segment: waiting.last().copied().unwrap_or(head.segment), offset: 0 };
        if waiting.first() != Some(&head.segment) {
            // The cursor's segment is gone: the front is the beginning of the next one.
            head = match waiting.first() {
                Some(first) => Position { segment: *first, offset: 0 },
                None => Position { segment: tail.segment.saturating_add(1), offset: 0 },
            };
        }
        let mut events = 0;
        let mut bytes = 0;
        for segment in waiting {
            let from = if segment == head.segment { head.offset } else { 0 };
            let (lines, end) = read(folder, Position { segment, offset: from })?;
            events += lines.len() as u64;
            bytes += lines.iter().map(|(line, _)| line.len() as u64).sum::<u64>();
            tail.offset = end;
        }
        let files = Self {
            folder: folder.to_owned(),
            _lock: lock,
            cursor,
            head,
            tail,
            open: None,
            ahead: VecDeque::new(),
            unsynced: Vec::new(),
            begun: true,
        };
        Ok((files, events, bytes))
    }

    /// Appends lines: all of them, or none that a reader accepts.
    pub(super) fn append(&mut self, lines: &[Line]) -> io::Result<()> {
        let mut text = Vec::new();
        for line in lines {
            text.extend_from_slice(sum(line).as_bytes());
            text.push(b' ');
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        if text.is_empty() {
            return Ok(());
        }
        let file = match &self.open {
            Some(file) if self.tail.offset < SEGMENT => Arc::clone(file),
            _ => self.begin()?,
        };
        if let Err(error) = file.write_all_at(&text, self.tail.offset) {
            // A partial write is truncated; where that fails, readers skip it.
            let _ = file.set_len(self.tail.offset);
            self.open = None;
            return Err(error);
        }
        self.tail.offset += text.len() as u64;
        if !self.unsynced.iter().any(|unsynced| Arc::ptr_eq(unsynced, &file)) {
            self.unsynced.push(file);
        }
        Ok(())
    }

    /// Begins a new segment.
    fn begin(&mut self) -> io::Result<Arc<File>> {
        let segment = self.tail.segment.saturating_add(1);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path(&self.folder, segment))?;
        let file = Arc::new(file);
        self.tail = Position { segment, offset: 0 };
        self.open = Some(Arc::clone(&file));
        self.begun = true;
        Ok(file)
    }

    /// The line at the front; `None` when none waits.
    pub(super) fn front(&mut self) -> io::Result<Option<Line>> {
        while self.ahead.is_empty() {
            if self.head == self.tail || self.head.segment > self.tail.segment {
                return Ok(None);
            }
            let (lines, _) = read(&self.folder, self.head)?;
            self.ahead = lines.into();
            if self.ahead.is_empty() {
                if self.head.segment == self.tail.segment {
                    return Ok(None);
                }
                self.leave()?;
            }
        }
        Ok(self.ahead.front().map(|(line, _)| Arc::clone(line)))
    }

    /// Removes the line that [`front`](Self::front) returned. Returns whether the cursor could be
    /// written.
    pub(super) fn take(&mut self) -> (Option<Line>, io::Result<()>) {
        let Some((line, end)) = self.ahead.pop_front() else { return (None, Ok(())) };
        self.head.offset = end;
        (Some(line), self.head.write(&self.cursor))
    }

    /// Moves the front from a segment without waiting lines to the next.
    fn leave(&mut self) -> io::Result<()> {
        let left = path(&self.folder, self.head.segment);
        self.head = Position { segment: self.head.segment.saturating_add(1), offset: 0 };
        self.head.write(&self.cursor)?;
        match fs::remove_file(left) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The files to sync, which count as synced from now on.
    pub(super) fn unsynced(&mut self) -> io::Result<Option<Written>> {
        let files = std::mem::take(&mut self.unsynced);
        let begun = std::mem::take(&mut self.begun);
        if files.is_empty() && !begun {
            return Ok(None);
        }
        Ok(Some(Written { files, folder: begun.then(|| self.folder.clone()) }))
    }
}

impl Position {
    /// Reads the cursor; `None` when it is malformed. Then all lines are sent again.
    fn read(cursor: &mut File) -> io::Result<Option<Self>> {
        let mut text = Vec::new();
        cursor.take(64).read_to_end(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        let read = || {
            let (segment, offset) = text.strip_suffix('\n')?.split_once(' ')?;
            Some(Self { segment: segment.parse().ok()?, offset: offset.parse().ok()? })
        };
        Ok(read())
    }

    /// Writes the cursor, in a fixed length, so that one write replaces it.
    fn write(self, cursor: &File) -> io::Result<()> {
        cursor.write_all_at(format!("{:020} {:020}\n", self.segment, self.offset).as_bytes(), 0)
    }
}

/// Creates a folder that only this user can read, durably, if it is missing.
fn make(folder: &Path) -> io::Result<()> {
    if folder.exists() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // The name of the folder, and that of its parent, which may be new, too.
    for parent in folder.ancestors().skip(1).take(2) {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// The lines of a segment from a place on, each with the place behind it, and the end of the
/// segment. A missing segment has no lines.
fn read(folder: &Path, from: Position) -> io::Result<(Vec<(Line, u64)>, u64)> {
    let mut file = match File::open(path(folder, from.segment)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        opened => opened?,
    };
    file.seek(SeekFrom::Start(from.offset))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let mut lines = Vec::new();
    let mut at = from.offset;
    let mut damaged = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        at += line.len() as u64;
        match event(line) {
            Some(event) => lines.push((event.into(), at)),
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
    Ok((lines, at))
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

fn path(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:020}.events"))
}

/// The segments of a folder, in order.
fn segments(folder: &Path) -> io::Result<Vec<u64>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".events"));
        segments.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    segments.sort_unstable();
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn lines(lines: &[&str]) -> Vec<Line> {
        lines.iter().map(|line| line.as_bytes().into()).collect()
    }

    fn open(folder: &TempDir) -> (Files, u64) {
        let (files, events, _) = Files::open(folder.path()).unwrap();
        (files, events)
    }

    /// Takes everything that waits.
    fn drain(files: &mut Files) -> Vec<String> {
        let mut taken = Vec::new();
        while let Some(line) = files.front().unwrap() {
            taken.push(String::from_utf8(line.to_vec()).unwrap());
            files.take().1.unwrap();
        }
        taken
    }

    fn segment_files(folder: &TempDir) -> Vec<PathBuf> {
        segments(folder.path()).unwrap().into_iter().map(|s| path(folder.path(), s)).collect()
    }

    #[test]
    fn what_is_added_comes_out_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let (mut files, events) = open(&folder);
        assert_eq!((events, files.front().unwrap()), (0, None));
        files.append(&lines(&["a", "b"])).unwrap();
        assert_eq!(drain(&mut files), ["a", "b"]);
        files.append(&lines(&["c"])).unwrap();
        assert_eq!(drain(&mut files), ["c"]);
        assert_eq!(files.front().unwrap(), None);
    }

    #[test]
    fn what_was_not_taken_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (mut files, _) = open(&folder);
        files.append(&lines(&["a", "b", "c"])).unwrap();
        assert_eq!(&*files.front().unwrap().unwrap(), b"a");
        files.take().1.unwrap();
        // Seen and not taken.
        assert_eq!(&*files.front().unwrap().unwrap(), b"b");
        drop(files);
        let (mut files, events) = open(&folder);
        assert_eq!(events, 2);
        files.append(&lines(&["d"])).unwrap();
        assert_eq!(drain(&mut files), ["b", "c", "d"]);
        drop(files);
        let (mut files, events) = open(&folder);
        assert_eq!((events, drain(&mut files).len()), (0, 0));
        files.append(&lines(&["e"])).unwrap();
        assert_eq!(drain(&mut files), ["e"]);
    }

    #[test]
    fn a_line_that_a_crash_cut_off_is_passed_over_wherever_it_was_cut() {
        let whole = {
            let folder = tempfile::tempdir().unwrap();
            let (mut files, _) = open(&folder);
            files.append(&lines(&["a", "bcd"])).unwrap();
            fs::read(&segment_files(&folder)[0]).unwrap()
        };
        let first = SUM + 3;
        for length in first..=whole.len() {
            for zeros in [0, 5] {
                let folder = tempfile::tempdir().unwrap();
                let mut torn = whole[..length].to_vec();
                torn.extend(std::iter::repeat_n(0, zeros));
                fs::write(path(folder.path(), 3), torn).unwrap();
                let (mut files, events) = open(&folder);
                let expected: &[&str] =
                    if length == whole.len() { &["a", "bcd", "e"] } else { &["a", "e"] };
                assert_eq!(events as usize, expected.len() - 1);
                files.append(&lines(&["e"])).unwrap();
                assert_eq!(drain(&mut files), expected, "{length} bytes, {zeros} zeros");
            }
        }
    }

    #[test]
    fn damage_between_lines_costs_only_what_was_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let (mut files, _) = open(&folder);
        files.append(&lines(&["a", "b", "c"])).unwrap();
        drop(files);
        let file = &segment_files(&folder)[0];
        let mut bytes = fs::read(file).unwrap();
        // In the second line.
        bytes[SUM + 3 + 4] ^= 1;
        fs::write(file, bytes).unwrap();
        let (mut files, events) = open(&folder);
        assert_eq!((events, drain(&mut files)), (2, vec!["a".to_owned(), "c".to_owned()]));
    }

    #[test]
    fn segments_that_were_taken_are_deleted_and_none_grows_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let (mut files, _) = open(&folder);
        let long = "x".repeat(300 * 1024);
        for number in 0..20 {
            files.append(&lines(&[&format!("{number:02}{long}")])).unwrap();
        }
        assert_eq!(segment_files(&folder).len(), 5);
        for number in 0..20 {
            assert_eq!(files.front().unwrap().unwrap()[..2], *format!("{number:02}").as_bytes());
            files.take().1.unwrap();
            if number % 7 == 0 {
                // The lock goes with the file.
                drop(files);
                files = open(&folder).0;
            }
        }
        assert_eq!(files.front().unwrap(), None);
        assert!(segment_files(&folder).len() <= 1);
        files.append(&lines(&["after"])).unwrap();
        assert_eq!(drain(&mut files), ["after"]);
    }

    #[test]
    fn a_cursor_that_is_ahead_of_what_a_power_cut_left_hides_nothing_new() {
        let folder = tempfile::tempdir().unwrap();
        let (mut files, _) = open(&folder);
        files.append(&lines(&["a", "b"])).unwrap();
        assert_eq!(drain(&mut files).len(), 2);
        drop(files);
        // The cursor was written back, the lines were not.
        for left in [Some(0), None] {
            let file = segment_files(&folder).pop().unwrap();
            match left {
                Some(length) => {
                    File::options().write(true).open(file).unwrap().set_len(length).unwrap()
                }
                None => fs::remove_file(file).unwrap(),
            }
            let (mut files, events) = open(&folder);
            assert_eq!(events, 0);
            files.append(&lines(&["c"])).unwrap();
            assert_eq!(drain(&mut files), ["c"], "{left:?}");
        }
    }

    #[test]
    fn without_a_cursor_everything_that_is_there_is_sent_again() {
        let folder = tempfile::tempdir().unwrap();
        let (mut files, _) = open(&folder);
        files.append(&lines(&["a", "b"])).unwrap();
        files.front().unwrap();
        files.take().1.unwrap();
        drop(files);
        fs::write(folder.path().join("cursor"), "\0\0\0").unwrap();
        assert_eq!(drain(&mut open(&folder).0), ["a", "b"]);
    }

    #[test]
    fn two_processes_cannot_have_the_same_queue() {
        let folder = tempfile::tempdir().unwrap();
        let (_files, _) = open(&folder);
        let error = Files::open(folder.path()).unwrap_err();
        assert_eq!(error.to_string(), "another process sends these events");
    }

    #[test]
    fn any_name_is_a_folder_of_its_own() {
        let mut names = std::collections::BTreeSet::new();
        for name in ["a", "A", "a/b", "..", ".", "a b", "a%20b", "é", "-_"] {
            let folder = folder_name(name).unwrap();
            assert!(!folder.contains(['/', '.']), "{folder}");
            assert!(names.insert(folder), "{name}");
        }
        assert!(folder_name(&"é".repeat(43)).is_err());
    }
}
