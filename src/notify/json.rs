//! JSON in the form of Go's `encoding/json`, byte for byte: receivers may rely on it.

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;

/// The indentation of registry:2.
const INDENT: &[u8] = b"   ";

/// JSON on one line, with the characters of markup escaped, as in Go.
pub(super) fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = Vec::with_capacity(1024);
    let mut serializer = serde_json::Serializer::with_formatter(&mut line, Escaping);
    // Writing to memory does not fail, and every key is a text.
    let _ = value.serialize(&mut serializer);
    line
}

struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (before, special) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let Some(character) = special.chars().next() else { break };
            write!(writer, "\\u{:04x}", u32::from(character))?;
            rest = &special[character.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Lays JSON without white space out over lines (Go's `json.Indent` with three spaces).
pub(super) fn indent(json: &[u8]) -> Vec<u8> {
    fn newline(out: &mut Vec<u8>, depth: usize) {
        out.push(b'\n');
        for _ in 0..depth {
            out.extend_from_slice(INDENT);
        }
    }
    let mut out = Vec::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let mut in_text = false;
    let mut escaped = false;
    let mut opened = false;
    for &byte in json {
        if in_text {
            out.push(byte);
            in_text = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        let closes = matches!(byte, b'}' | b']');
        if std::mem::take(&mut opened) && !closes {
            depth += 1;
            newline(&mut out, depth);
        } else if closes && !matches!(out.last(), Some(b'{' | b'[')) {
            depth = depth.saturating_sub(1);
            newline(&mut out, depth);
        }
        out.push(byte);
        match byte {
            b'"' => in_text = true,
            b'{' | b'[' => opened = true,
            b',' => newline(&mut out, depth),
            b':' => out.push(b' '),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn indented(value: &impl Serialize) -> String {
        String::from_utf8(indent(&line(value))).unwrap()
    }

    #[test]
    fn lists_and_objects_are_indented_and_empty_ones_are_not() {
        let value = json!({ "a": [], "b": {}, "c": [1, [2], {}], "d": { "e": null } });
        let expected = "{\n   \"a\": [],\n   \"b\": {},\n   \"c\": [\n      1,\n      [\n         \
                        2\n      ],\n      {}\n   ],\n   \"d\": {\n      \"e\": null\n   }\n}";
        assert_eq!(indented(&value), expected);
    }

    #[test]
    fn strings_keep_their_characters_except_those_that_go_escapes() {
        let value = json!(["{\"a\": [1, 2]}\\", "<&>\u{2028}é", "\\\""]);
        let expected = "[\n   \"{\\\"a\\\": [1, 2]}\\\\\",\n   \
                        \"\\u003c\\u0026\\u003e\\u2028é\",\n   \"\\\\\\\"\"\n]";
        assert_eq!(indented(&value), expected);
    }

    proptest::proptest! {
        #[test]
        fn indented_json_has_the_same_value(texts in proptest::collection::vec(".*", 0..4)) {
            let value = json!({ "texts": texts, "more": [{ "texts": texts }] });
            let read: serde_json::Value = serde_json::from_str(&indented(&value)).unwrap();
            proptest::prop_assert_eq!(read, value);
        }
    }
}
