//! Compares the table of `docs/MIGRATING.md` with the keys of the schema that have no effect.

use std::fmt::Write as _;

use super::*;
use schema::{Harmless, Support};

const GUIDE: &str = include_str!("../../../docs/MIGRATING.md");
const HEAD: &str = "| key | | why, in the words of the program |\n|---|---|---|\n";

/// A message of the program, and the keys that have it.
struct Row {
    word: &'static str,
    sentence: &'static str,
    keys: Vec<String>,
}

/// The rows of the schema, in its order, without the keys below a key that has no effect.
fn rows(section: &str, kind: &'static Kind, rows: &mut Vec<Row>) {
    let mut add = |key: String, word, sentence| {
        let row = rows.iter_mut().find(|row| row.word == word && row.sentence == sentence);
        match row {
            Some(row) => row.keys.push(key),
            None => rows.push(Row { word, sentence, keys: vec![key] }),
        }
    };
    let mut below = Vec::new();
    for key in kind.keys() {
        let path = schema::join(section, key.name);
        if let Some((value, sentence)) = key.refuses {
            add(format!("{path}: {value}"), "refused", sentence);
        }
        match key.support {
            Support::Refused(sentence) => {
                if let Some(Harmless { condition, reason, .. }) = &key.harmless {
                    add(format!("{path} {condition}"), "needless", reason);
                }
                add(path, "refused", sentence);
            }
            Support::Needless(sentence) => add(path, "needless", sentence),
            Support::Missed(sentence) => add(path, "warned", sentence),
            Support::Works | Support::Old => below.push((path, &key.kind)),
        }
    }
    for (path, kind) in below {
        self::rows(&path, kind, rows);
    }
}

/// The key in the form of the page. The condition behind it is text.
fn quoted(key: &str) -> String {
    match key.split_once(": ") {
        None => match key.split_once(' ') {
            Some((key, condition)) => format!("`{key}` {condition}"),
            None => format!("`{key}`"),
        },
        Some(_) => format!("`{key}`"),
    }
}

#[test]
fn guide_lists_the_keys_without_effect() {
    let mut expected = Vec::new();
    rows("", &schema::ROOT, &mut expected);
    let mut table = String::new();
    for Row { word, sentence, keys } in &expected {
        let keys: Vec<_> = keys.iter().map(|key| quoted(key)).collect();
        writeln!(table, "| {} | {word} | {sentence} |", keys.join(", ")).unwrap();
    }
    let (_, found) = GUIDE.split_once(HEAD).unwrap();
    let (found, _) = found.split_once("\n\n").unwrap();
    assert_eq!(found, table.trim_end(), "this is what docs/MIGRATING.md should have:\n{table}");
}
