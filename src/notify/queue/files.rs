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
//! The digits are the beginning of the SHA-256 of the event. A crash or a full disk truncates a line;
//! readers skip a malformed line. The queue never writes a line behind one: each start, and each failed
//! write, begins a new segment. It deletes a segment after the endpoint has accepted the last of its
//! lines. The cursor moves after that acceptance, so after a crash in between the line is sent again.

use std::{
    collections::VecDeque,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use self::segment::{Lines, StoredLine};
use super::{Line, OpenError};

mod segment;
#[cfg(test)]
mod tests;

/// The length from which on a segment gets no more lines.
const SEGMENT: u64 = 1024 * 1024;

/// The longest file name.
const LONGEST: usize = 255;

/// The characters that are not percent-encoded in the name of a folder.
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
    /// The beginning of the line at the front.
    head: Position,
    /// The end of the last segment.
    tail: Position,
    /// The last segment, if it can get more lines.
    open: Option<Arc<File>>,
    /// The lines read ahead, from the front on.
    ahead: VecDeque<StoredLine>,
    /// The segments written since the last sync.
    unsynced: Vec<Arc<File>>,
    /// Whether a segment was begun since the last sync.
    begun: bool,
}

/// An opened queue, and the waiting lines in it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) files: Files,
    /// The number of waiting lines.
    pub(super) events: u64,
    /// Their total length.
    pub(super) bytes: u64,
}

/// The line that was removed from the front of the queue.
#[derive(Debug)]
pub(super) struct Taken {
    /// `None` if no line waits.
    pub(super) line: Option<Line>,
    /// Whether the cursor could be written.
    pub(super) written: io::Result<()>,
}

/// A position in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    segment: u64,
    offset: u64,
}

/// Files that are written and not durable yet.
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
    /// Opens the queue in a folder. Creates the folder if it is missing.
    pub(super) fn open(folder: &Path) -> io::Result<Opened> {
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
        let segments = segment::list(folder)?;
        for taken in segments.iter().filter(|segment| **segment < head.segment) {
            fs::remove_file(segment::path(folder, *taken))?;
        }
        let waiting: Vec<u64> =
            segments.into_iter().filter(|segment| *segment >= head.segment).collect();
        let mut tail =
            Position { segment: waiting.last().copied().unwrap_or(head.segment), offset: 0 };
        if waiting.first() != Some(&head.segment) {
            // The cursor's segment does not exist: the front is the beginning of the next one.
            head = match waiting.first() {
                Some(first) => Position { segment: *first, offset: 0 },
                None => Position { segment: tail.segment.saturating_add(1), offset: 0 },
            };
        }
        let mut events = 0;
        let mut bytes = 0;
        for segment in waiting {
            let from = if segment == head.segment { head.offset } else { 0 };
            let Lines { lines, end } = segment::read(folder, Position { segment, offset: from })?;
            events += lines.len() as u64;
            bytes += lines.iter().map(|stored| stored.line.len() as u64).sum::<u64>();
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
        Ok(Opened { files, events, bytes })
    }

    /// Appends lines: all of them, or none that a reader accepts.
    pub(super) fn append(&mut self, lines: &[Line]) -> io::Result<()> {
        let text = segment::encode(lines);
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
            .open(segment::path(&self.folder, segment))?;
        let file = Arc::new(file);
        self.tail = Position { segment, offset: 0 };
        self.open = Some(Arc::clone(&file));
        self.begun = true;
        Ok(file)
    }

    /// The line at the front; `None` if no line waits.
    pub(super) fn front(&mut self) -> io::Result<Option<Line>> {
        while self.ahead.is_empty() {
            if self.head == self.tail || self.head.segment > self.tail.segment {
                return Ok(None);
            }
            self.ahead = segment::read(&self.folder, self.head)?.lines;
            if self.ahead.is_empty() {
                if self.head.segment == self.tail.segment {
                    return Ok(None);
                }
                self.leave()?;
            }
        }
        Ok(self.ahead.front().map(|stored| Arc::clone(&stored.line)))
    }

    /// Removes the line that [`front`](Self::front) has returned.
    pub(super) fn take(&mut self) -> Taken {
        let Some(StoredLine { line, end }) = self.ahead.pop_front() else {
            return Taken { line: None, written: Ok(()) };
        };
        self.head.offset = end;
        Taken { line: Some(line), written: self.head.write(&self.cursor) }
    }

    /// Moves the front from a segment without waiting lines to the next.
    fn leave(&mut self) -> io::Result<()> {
        let left = segment::path(&self.folder, self.head.segment);
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

/// Creates a folder durably if it is missing. Only this user can read it.
fn make(folder: &Path) -> io::Result<()> {
    if folder.exists() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // The folder's entry in its parent, and the parent's, which may be new too.
    for parent in folder.ancestors().skip(1).take(2) {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}
