//! Byte ranges: of downloads (RFC 9110 §14) and of upload chunks (distribution-spec, "Pushing a
//! blob in chunks").

use std::ops::{Range, RangeInclusive};

/// What a `Range` header asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of it: no range, or one that a server is free to ignore.
    All,
    /// A part.
    Part(Range<u64>),
    /// A part of which there is no byte.
    Unsatisfiable,
}

/// Reads a `Range` header for content of `size` bytes. What breaks the grammar is ignored, as RFC
/// 9110 §14.2 demands, and so are several ranges at once, as it allows: nobody asks a registry for
/// them. A part is never empty and ends within `size`.
#[must_use]
pub fn wanted(header: &str, size: u64) -> Wanted {
    let Some((unit, spec)) = header.split_once('=') else {
        return Wanted::All;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::All;
    }
    let Some((first, last)) = spec.trim().split_once('-') else {
        return Wanted::All;
    };
    let (first, last) = (first.trim(), last.trim());
    let range = match (first.is_empty(), last.is_empty()) {
        (true, true) => return Wanted::All,
        (true, false) => match number(last) {
            Some(length) => size.saturating_sub(length)..size,
            None => return Wanted::All,
        },
        (false, true) => match number(first) {
            Some(first) => first..size,
            None => return Wanted::All,
        },
        (false, false) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => first..size.min(last.saturating_add(1)),
            // It names no byte, and RFC 9110 §14.2 lets a server reject it: better than all of a
            // blob for a client that cannot count.
            (Some(_), Some(_)) => return Wanted::Unsatisfiable,
            _ => return Wanted::All,
        },
    };
    if range.is_empty() { Wanted::Unsatisfiable } else { Wanted::Part(range) }
}

/// Reads the `Content-Range` of a chunk: `<first>-<last>`, or the `bytes <first>-<last>/<size>` of
/// RFC 9110 that some clients send. `None` for anything else, and for a range that ends before it
/// begins.
#[must_use]
pub fn of_chunk(header: &str) -> Option<RangeInclusive<u64>> {
    let text = header.trim();
    let text = match text.strip_prefix("bytes ") {
        Some(rest) => rest.split_once('/').map_or(rest, |(range, _)| range),
        None => text,
    };
    let (first, last) = text.split_once('-')?;
    let range = number(first)?..=number(last)?;
    (!range.is_empty()).then_some(range)
}

/// The `Range` that tells what an upload has: the first and the last byte. An empty one has none,
/// and `0-0` is what registry:2 says of it.
pub(super) fn received(length: u64) -> String {
    format!("0-{}", length.saturating_sub(1))
}

/// Digits only: `parse` would take a sign as well. A number too large for any content becomes the
/// largest.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_download_is_cut_as_rfc_9110_says() {
        for (header, expected) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=2-4", Wanted::Part(2..5)),
            ("bytes=2-", Wanted::Part(2..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-30", Wanted::Part(0..10)),
            ("Bytes = 0 - 99", Wanted::Part(0..10)),
            ("bytes=0-99999999999999999999999", Wanted::Part(0..10)),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=99999999999999999999-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=4-2", Wanted::Unsatisfiable),
            ("bytes=0-1,3-4", Wanted::All),
            ("bytes=--1", Wanted::All),
            ("bytes=+1-2", Wanted::All),
            ("lines=1-2", Wanted::All),
            ("bytes=-", Wanted::All),
            ("", Wanted::All),
        ] {
            assert_eq!(wanted(header, 10), expected, "{header}");
        }
        assert_eq!(wanted("bytes=0-", 0), Wanted::Unsatisfiable);
    }

    #[test]
    fn a_chunk_says_where_it_begins_and_ends() {
        assert_eq!(of_chunk("0-9"), Some(0..=9));
        assert_eq!(of_chunk("bytes 5-9/10"), Some(5..=9));
        assert_eq!(of_chunk("bytes 5-9/*"), Some(5..=9));
        for header in ["", "-", "1-", "-1", "2-1", "-1-2", "a-b", "0 - 9", "+0-9", "0-9/10"] {
            assert_eq!(of_chunk(header), None, "{header}");
        }
    }

    proptest! {
        #[test]
        fn a_part_lies_within_the_content(header in "(bytes=)?[0-9,-]{0,24}", size in 0_u64..1000) {
            if let Wanted::Part(range) = wanted(&header, size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }

        #[test]
        fn any_text_is_a_chunks_range_or_none(header in "\\PC{0,40}") {
            if let Some(range) = of_chunk(&header) {
                prop_assert!(range.start() <= range.end());
            }
        }
    }
}
