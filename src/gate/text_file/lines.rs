//! A text file as lines, for editing: what an edit does not name stays byte for byte as it was.

use std::fmt;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// A text file that is being edited.
///
/// Lines that no call names keep their bytes and their endings.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TextLines {
    bom: bool,
    // Each with its line ending; only the last may lack one.
    lines: Vec<Vec<u8>>,
}

/// A file is in UTF-16, in which nothing that is written in ASCII can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the file is encoded in {0}, as PowerShell's `>` writes it: save it as UTF-8, as \
     `iconv -f {0} -t UTF-8` does"
)]
pub struct Utf16(&'static str);

/// The file without the byte order mark that some editors write.
pub(in crate::gate) fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BOM).unwrap_or(bytes)
}

/// The encoding of a file in UTF-16: one that begins with the byte order mark, or with a visible
/// ASCII character or a line end in UTF-16.
pub(in crate::gate) fn utf16(bytes: &[u8]) -> Option<Utf16> {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some(Utf16("UTF-16")),
        [b'\r' | b'\n' | b'!'..=b'~', 0, ..] => Some(Utf16("UTF-16LE")),
        [0, b'\r' | b'\n' | b'!'..=b'~', ..] => Some(Utf16("UTF-16BE")),
        _ => None,
    }
}

impl TextLines {
    /// Reads a whole file. Any content is accepted.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self {
            bom: bytes.starts_with(BOM),
            lines: without_bom(bytes)
                .split_inclusive(|&b| b == b'\n')
                .map(<[u8]>::to_vec)
                .collect(),
        }
    }

    /// The whole file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // A line that has moved to the front and begins with a byte order mark would lose it, and
        // might so become a line that counts.
        let marked = self.bom || self.lines.first().is_some_and(|l| l.starts_with(BOM));
        let mut bytes = if marked { BOM.to_vec() } else { Vec::new() };
        bytes.extend(self.lines.iter().flatten());
        bytes
    }

    /// The lines, each with its ending, but for the last one, which may lack it.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        self.lines.iter().map(Vec::as_slice)
    }

    /// Adds a line at the end, with the ending that the file's last line has.
    pub fn push(&mut self, line: &str) {
        let ending = self.lines.last().map_or(&b"\n"[..], |last| ending_of(last));
        // Without a line ending, the new line would be appended to the last one.
        if let Some(last) = self.lines.last_mut()
            && ending_of(last).is_empty()
        {
            last.push(b'\n');
        }
        let mut line = line.as_bytes().to_vec();
        line.extend_from_slice(if ending.is_empty() { b"\n" } else { ending });
        self.lines.push(line);
    }

    /// Replaces each line for which `change` has other text, and keeps its ending.
    pub fn replace(&mut self, mut change: impl FnMut(&[u8]) -> Option<String>) {
        for line in &mut self.lines {
            if let Some(changed) = change(line) {
                let ending = ending_of(line);
                *line = changed.into_bytes();
                line.extend_from_slice(ending);
            }
        }
    }

    /// Removes the lines for which `keep` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8]) -> bool) {
        self.lines.retain(|line| keep(line));
    }
}

impl fmt::Debug for TextLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A line may be a password.
        f.debug_struct("TextLines").field("count", &self.lines.len()).finish_non_exhaustive()
    }
}

fn ending_of(line: &[u8]) -> &'static [u8] {
    if line.ends_with(b"\r\n") {
        b"\r\n"
    } else if line.ends_with(b"\n") {
        b"\n"
    } else {
        b""
    }
}
