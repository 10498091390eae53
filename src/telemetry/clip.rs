//! How much of what a client sends is written down.
//!
//! With HTTP/2 a client names a header of four kilobytes by one byte, and each of its bytes may take
//! several when it is escaped: a log that repeated all of it would grow a thousand times as fast as
//! what is sent. So every field has a limit, which counts what is written. What is longer is cut
//! between two characters, and ends in a mark that has the length it came with: `...[3800]`.

use std::{borrow::Cow, fmt};

/// The most bytes that a line has, whatever a client sends.
pub(super) const LONGEST: usize = 2048;

/// What stands behind a field that was cut: how many bytes it had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(pub(super) usize);

impl Mark {
    /// As long as a mark may be: no field is longer than ten megabytes.
    const MOST: usize = "...[1234567]".len();

    /// How much of a limit is left beside it.
    pub(super) const fn beside(limit: usize) -> usize {
        limit.saturating_sub(Self::MOST)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "...[{}]", self.0)
    }
}

/// A text that takes no more than `limit` bytes in a JSON string, as [`super::format`] writes one.
pub(super) fn text(text: &str, limit: usize) -> Cow<'_, str> {
    match kept(text, limit) {
        None => Cow::Borrowed(text),
        Some(kept) => Cow::Owned(format!("{kept}{}", Mark(text.len()))),
    }
}

/// As [`text`], of what may be no text: what is not stands as U+FFFD.
pub(super) fn bytes(bytes: &[u8], limit: usize) -> String {
    // A few more than there is room for, of which the last may be a part of a character.
    let looked_at = String::from_utf8_lossy(&bytes[..bytes.len().min(limit.saturating_add(4))]);
    match kept(&looked_at, limit) {
        None => looked_at.into_owned(),
        Some(kept) => format!("{kept}{}", Mark(bytes.len())),
    }
}

/// What of a text stands before the mark; `None` if it needs none.
fn kept(text: &str, limit: usize) -> Option<&str> {
    // Most are so short that they need not be looked at.
    if text.len().saturating_mul(WIDEST) <= limit {
        return None;
    }
    let mut width = 0;
    let mut kept = 0;
    for (at, character) in text.char_indices() {
        width += self::width(character);
        if width <= Mark::beside(limit) {
            kept = at + character.len_utf8();
        }
        if width > limit {
            return Some(&text[..kept]);
        }
    }
    None
}

/// How many bytes a text takes in a JSON string.
pub(super) fn shown(text: &str) -> usize {
    text.chars().map(width).sum()
}

/// A byte takes no more than this: a control stands as `\u001f`.
const WIDEST: usize = 6;

/// How many bytes a character takes in a JSON string.
fn width(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..' ' => WIDEST,
        _ if super::format::is_visible(character) => character.len_utf8(),
        _ => WIDEST * character.len_utf16(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As it stands in a line of the log, without the quotes.
    fn in_line(text: &str) -> String {
        let json = super::super::format::visible(serde_json::Value::from(text).to_string());
        json[1..json.len() - 1].to_owned()
    }

    #[test]
    fn what_is_too_long_ends_in_its_length() {
        assert_eq!(text("short", 64), "short");
        assert_eq!(text(&"x".repeat(64), 64), "x".repeat(64));
        assert_eq!(text(&"x".repeat(65), 64), format!("{}...[65]", "x".repeat(52)));
        // A quote takes two bytes, and a character of which nothing is seen takes six.
        assert_eq!(text(&"\"".repeat(33), 64), format!("{}...[33]", "\"".repeat(26)));
        assert_eq!(text(&"\u{202e}".repeat(11), 64), format!("{}...[33]", "\u{202e}".repeat(8)));
        assert_eq!(text("xy", 0), "...[2]");
        assert_eq!(text("", 0), "");
    }

    proptest! {
        #[test]
        fn what_is_kept_is_the_beginning_and_no_longer_than_the_limit(
            given in "(\\PC|\\p{Cc}|[\"\\\\\u{80}-\u{9f}\u{202e}\u{e0041}é漢]){0,80}",
            limit in 12_usize..300,
        ) {
            let clipped = text(&given, limit);
            prop_assert_eq!(shown(&given), in_line(&given).len());
            prop_assert!(shown(&clipped) <= limit, "{}", in_line(&clipped));
            match clipped {
                Cow::Borrowed(whole) => prop_assert_eq!(whole, &given),
                Cow::Owned(clipped) => {
                    let kept = clipped.strip_suffix(&Mark(given.len()).to_string()).unwrap();
                    prop_assert!(given.starts_with(kept));
                    prop_assert!(shown(&given) > limit);
                }
            }
        }
    }
}
