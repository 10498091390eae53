//! Limits for the text of clients in the logs.
//!
//! With HTTP/2 a client repeats a header of four kilobytes with one byte (HPACK), and an escaped byte
//! takes several: a log that wrote the whole header would grow a thousand times as fast as the client
//! sends. So every field has a limit, which counts bytes as written. A longer text is truncated
//! between two characters, and ends in a mark with its original length: `...[3800]`.

use std::{borrow::Cow, fmt};

/// The most bytes of a line, whatever a client sends.
pub(super) const MAX_LINE: usize = 2048;

/// The mark at the end of a truncated field: the number of bytes of the whole field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(pub(super) usize);

impl Mark {
    /// The most bytes of a mark: no field has ten megabytes.
    const MAX: usize = "...[1234567]".len();

    /// The bytes that a limit leaves for the text beside a mark.
    pub(super) const fn room_beside(limit: usize) -> usize {
        limit.saturating_sub(Self::MAX)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "...[{}]", self.0)
    }
}

/// Truncates a text to `limit` bytes in a JSON string, as [`super::format`] writes one.
pub(super) fn text(text: &str, limit: usize) -> Cow<'_, str> {
    match kept(text, limit) {
        None => Cow::Borrowed(text),
        Some(kept) => Cow::Owned(format!("{kept}{}", Mark(text.len()))),
    }
}

/// As [`text`], for bytes that may not be UTF-8: malformed ones become U+FFFD.
pub(super) fn bytes(bytes: &[u8], limit: usize) -> String {
    // Four bytes more than the limit, since the last ones may be a part of a character.
    let beginning = String::from_utf8_lossy(&bytes[..bytes.len().min(limit.saturating_add(4))]);
    match kept(&beginning, limit) {
        None => beginning.into_owned(),
        Some(kept) => format!("{kept}{}", Mark(bytes.len())),
    }
}

/// The beginning of a text before the mark; `None` for a text within the limit.
fn kept(text: &str, limit: usize) -> Option<&str> {
    // Most texts are so short that their characters need no count.
    if text.len().saturating_mul(MAX_WIDTH) <= limit {
        return None;
    }
    let mut width = 0;
    let mut kept = 0;
    for (at, character) in text.char_indices() {
        width += self::width(character);
        if width <= Mark::room_beside(limit) {
            kept = at + character.len_utf8();
        }
        if width > limit {
            return Some(&text[..kept]);
        }
    }
    None
}

/// The number of bytes of a text in a JSON string.
pub(super) fn text_width(text: &str) -> usize {
    text.chars().map(width).sum()
}

/// The most bytes that one byte takes: a control character becomes `\u001f`.
const MAX_WIDTH: usize = 6;

/// The number of bytes of a character in a JSON string.
fn width(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..' ' => MAX_WIDTH,
        _ if super::format::is_visible(character) => character.len_utf8(),
        _ => MAX_WIDTH * character.len_utf16(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The text as a line of the log has it, without the quotes.
    fn in_line(text: &str) -> String {
        let json = super::super::format::visible(serde_json::Value::from(text).to_string());
        json[1..json.len() - 1].to_owned()
    }

    #[test]
    fn truncated_text_ends_in_its_length() {
        assert_eq!(text("short", 64), "short");
        assert_eq!(text(&"x".repeat(64), 64), "x".repeat(64));
        assert_eq!(text(&"x".repeat(65), 64), format!("{}...[65]", "x".repeat(52)));
        // A quote takes two bytes, and an invisible character takes six.
        assert_eq!(text(&"\"".repeat(33), 64), format!("{}...[33]", "\"".repeat(26)));
        assert_eq!(text(&"\u{202e}".repeat(11), 64), format!("{}...[33]", "\u{202e}".repeat(8)));
        assert_eq!(text("xy", 0), "...[2]");
        assert_eq!(text("", 0), "");
    }

    proptest! {
        #[test]
        fn truncated_text_is_a_beginning_within_the_limit(
            given in "(\\PC|\\p{Cc}|[\"\\\\\u{80}-\u{9f}\u{202e}\u{e0041}é漢]){0,80}",
            limit in 12_usize..300,
        ) {
            let clipped = text(&given, limit);
            prop_assert_eq!(text_width(&given), in_line(&given).len());
            prop_assert!(text_width(&clipped) <= limit, "{}", in_line(&clipped));
            match clipped {
                Cow::Borrowed(whole) => prop_assert_eq!(whole, &given),
                Cow::Owned(clipped) => {
                    let kept = clipped.strip_suffix(&Mark(given.len()).to_string()).unwrap();
                    prop_assert!(given.starts_with(kept));
                    prop_assert!(text_width(&given) > limit);
                }
            }
        }
    }
}
