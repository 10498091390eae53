//! Byte ranges: of downloads (RFC 9110 §14) and of upload chunks (distribution-spec, "Pushing a
//! blob in chunks").

use std::ops::Range;

/// The most ranges of one request that get a response in parts. podman and the other programs on
/// containers/storage request up to 1024 parts of a `zstd:chunked` layer at once.
pub const MAX_RANGES: usize = 1024;

/// The parts of the content that a `Range` header requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requested {
    /// The whole content: the header has no range, or one that the server ignores.
    All,
    /// One part.
    Part(Range<u64>),
    /// Several parts in the order of the request: at least two and at most [`MAX_RANGES`], together
    /// no longer than the content.
    Parts(Vec<Range<u64>>),
    /// No part: the ranges are beyond the content, or one ends before it begins.
    Unsatisfiable,
}

/// Parses a `Range` header for content of `size` bytes. A part is never empty and ends within `size`.
///
/// A header that violates the grammar is ignored, as RFC 9110 §14.2 demands. So are more than
/// [`MAX_RANGES`] ranges, and ranges that add up to more bytes than the content has, because they
/// overlap (§17.15): the whole content is the smaller response. Of several ranges, those without a
/// byte are omitted (§15.3.7). Ranges are neither sorted nor joined, because podman counts the parts
/// and expects the order of its request.
#[must_use]
pub fn requested(header: &str, size: u64) -> Requested {
    let Some((unit, set)) = header.split_once('=') else {
        return Requested::All;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Requested::All;
    }
    // The usual single range needs no list.
    let mut single = None;
    let mut several = Vec::new();
    let mut count = 0;
    let mut total = 0_u64;
    let mut backwards = false;
    // A recipient ignores empty elements of a list (RFC 9110 §5.6.1.2).
    for spec in set.split(',').map(str::trim).filter(|spec| !spec.is_empty()) {
        count += 1;
        if count > MAX_RANGES {
            return Requested::All;
        }
        let part = match part(spec, size) {
            Spec::Malformed => return Requested::All,
            Spec::Backwards => {
                backwards = true;
                continue;
            }
            Spec::Part(part) if part.is_empty() => continue,
            Spec::Part(part) => part,
        };
        total = total.saturating_add(part.end - part.start);
        if single.is_none() && several.is_empty() {
            single = Some(part);
        } else {
            several.extend(single.take());
            several.push(part);
        }
    }
    match single {
        _ if count == 0 => Requested::All,
        // RFC 9110 §14.2 lets a server reject such a range. That is better than sending a whole blob
        // to a client with a defect.
        _ if backwards => Requested::Unsatisfiable,
        Some(part) => Requested::Part(part),
        None if several.is_empty() => Requested::Unsatisfiable,
        None if total > size => Requested::All,
        None => Requested::Parts(several),
    }
}

/// One element of a set of ranges.
enum Spec {
    /// The bytes of the content in the range; empty if the range is beyond the content.
    Part(Range<u64>),
    /// The range ends before it begins.
    Backwards,
    /// The element violates the grammar.
    Malformed,
}

fn part(spec: &str, size: u64) -> Spec {
    let Some((first, last)) = spec.split_once('-') else {
        return Spec::Malformed;
    };
    let first = first.trim();
    let last = last.trim();
    match (first.is_empty(), last.is_empty()) {
        (true, true) => Spec::Malformed,
        (true, false) => match number(last) {
            Some(length) => Spec::Part(size.saturating_sub(length)..size),
            None => Spec::Malformed,
        },
        (false, true) => match number(first) {
            Some(first) => Spec::Part(first..size),
            None => Spec::Malformed,
        },
        (false, false) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => {
                Spec::Part(first..size.min(last.saturating_add(1)))
            }
            (Some(_), Some(_)) => Spec::Backwards,
            _ => Spec::Malformed,
        },
    }
}

/// Parses the `Content-Range` of a chunk: the position of its bytes in the blob.
///
/// Besides the `<first>-<last>` of the specification, clients send the forms of RFC 9110:
/// `bytes <first>-<last>/<size>`, `bytes=<first>-<last>`, with and without the size, which may be
/// `*`. An empty chunk ends one byte before it begins; at the beginning of a blob its range is
/// `0--1`. `None` for any other text.
#[must_use]
pub fn of_chunk(header: &str) -> Option<Range<u64>> {
    let text = header.trim();
    let text = match text.split_at_checked("bytes".len()) {
        Some((unit, rest)) if unit.eq_ignore_ascii_case("bytes") => {
            rest.strip_prefix([' ', '='])?
        }
        _ => text,
    };
    let (text, size) = match text.split_once('/') {
        Some((text, "*")) => (text, None),
        Some((text, size)) => (text, Some(number(size)?)),
        None => (text, None),
    };
    let (first, last) = text.split_once('-')?;
    let first = number(first)?;
    let end = match last {
        "-1" => 0,
        last => number(last)?.saturating_add(1),
    };
    // RFC 9110 §14.4: a range that ends beyond the size is invalid.
    (first <= end && size.is_none_or(|size| end <= size)).then_some(first..end)
}

/// The `Range` of the bytes that an upload has: the first and the last one. An empty upload gets
/// `0-0`, as in registry:2.
pub(super) fn received(length: u64) -> String {
    format!("0-{}", length.saturating_sub(1))
}

/// Parses a number of digits only: `parse` alone accepts a sign. A number that is too large for any
/// content becomes the largest.
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
    fn download_is_cut_as_rfc_9110_says() {
        for (header, expected) in [
            ("bytes=0-0", Requested::Part(0..1)),
            ("bytes=2-4", Requested::Part(2..5)),
            ("bytes=2-", Requested::Part(2..10)),
            ("bytes=-3", Requested::Part(7..10)),
            ("bytes=-30", Requested::Part(0..10)),
            ("Bytes = 0 - 99", Requested::Part(0..10)),
            ("bytes=0-99999999999999999999999", Requested::Part(0..10)),
            ("bytes=10-", Requested::Unsatisfiable),
            ("bytes=99999999999999999999-", Requested::Unsatisfiable),
            ("bytes=-0", Requested::Unsatisfiable),
            ("bytes=4-2", Requested::Unsatisfiable),
            ("bytes=0-3,", Requested::Part(0..4)),
            ("bytes=, ,0-3\t,", Requested::Part(0..4)),
            ("bytes=,", Requested::All),
            ("bytes=--1", Requested::All),
            ("bytes=+1-2", Requested::All),
            ("lines=1-2", Requested::All),
            ("bytes=-", Requested::All),
            ("", Requested::All),
        ] {
            assert_eq!(requested(header, 10), expected, "{header}");
        }
        assert_eq!(requested("bytes=0-", 0), Requested::Unsatisfiable);
    }

    #[test]
    fn several_ranges_are_parts_in_their_order_unless_the_whole_is_less() {
        for (header, expected) in [
            ("bytes=0-1,3-4", Requested::Parts(vec![0..2, 3..5])),
            ("bytes=5-6, 0-0 ,-2", Requested::Parts(vec![5..7, 0..1, 8..10])),
            ("bytes=0-4,2-6", Requested::Parts(vec![0..5, 2..7])),
            ("bytes=0-4,5-9", Requested::Parts(vec![0..5, 5..10])),
            ("bytes=0-4,4-9", Requested::All),
            ("bytes=0-,0-", Requested::All),
            ("bytes=0-1,10-", Requested::Part(0..2)),
            ("bytes=10-,-0,1-2", Requested::Part(1..3)),
            ("bytes=10-,99-100", Requested::Unsatisfiable),
            ("bytes=0-1,4-2", Requested::Unsatisfiable),
            ("bytes=0-1,x", Requested::All),
            ("bytes=0-1,x,4-2", Requested::All),
            ("bytes=4-2,x", Requested::All),
            ("bytes=0-1 3-4", Requested::All),
        ] {
            assert_eq!(requested(header, 10), expected, "{header}");
        }
    }

    #[test]
    fn podmans_1024_ranges_get_1024_parts() {
        let header = |count: u64| {
            let ranges: Vec<String> = (0..count).map(|n| format!("{}-{}", n * 4, n * 4)).collect();
            format!("bytes={}", ranges.join(","))
        };
        let Requested::Parts(parts) = requested(&header(1024), 1 << 20) else { panic!() };
        assert_eq!((parts.len(), parts.last()), (1024, Some(&(4092..4093))));
        assert_eq!(requested(&header(1025), 1 << 20), Requested::All);
    }

    #[test]
    fn chunk_says_where_it_begins_and_ends() {
        for header in [
            "5-9",
            "5-9/10",
            "5-9/*",
            "bytes 5-9/10",
            "bytes 5-9/*",
            "bytes 5-9",
            "bytes=5-9",
            "Bytes=5-9/99",
        ] {
            assert_eq!(of_chunk(header), Some(5..10), "{header}");
        }
        for (header, at) in [("0--1", 0), ("bytes 0--1/*", 0), ("5-4", 5), ("bytes=5-4/5", 5)] {
            assert_eq!(of_chunk(header), Some(at..at), "{header}");
        }
        for header in [
            "",
            "-",
            "1-",
            "-1",
            "2-0",
            "-1-2",
            "1--1",
            "0--2",
            "a-b",
            "0 - 9",
            "+0-9",
            "0-9/9",
            "0-9/",
            "0-9/x",
            "lines 0-9/10",
            "bytes",
            "bytes0-9",
            "bytes  0-9",
            "0-9/*/*",
        ] {
            assert_eq!(of_chunk(header), None, "{header}");
        }
    }

    proptest! {
        #[test]
        fn part_lies_within_the_content(header in "(bytes=)?[0-9,-]{0,24}", size in 0_u64..1000) {
            let parts = match requested(&header, size) {
                Requested::Part(part) => vec![part],
                Requested::Parts(parts) => parts,
                Requested::All | Requested::Unsatisfiable => Vec::new(),
            };
            prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= size));
            prop_assert!(parts.iter().map(|part| part.end - part.start).sum::<u64>() <= size);
        }

        #[test]
        fn any_text_is_a_chunks_range_or_none(header in "\\PC{0,40}") {
            if let Some(range) = of_chunk(&header) {
                prop_assert!(range.start <= range.end);
            }
        }
    }
}
