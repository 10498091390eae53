//! The table of differences in docs/MIGRATING.md.

use std::fs;

const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/MIGRATING.md");
const SECTION: &str = "## What answers differently";

/// A row: the first and the last of its columns.
pub(crate) struct Row {
    pub(crate) title: String,
    pub(crate) reason: String,
}

/// The rows of the table, without its head.
pub(crate) fn rows() -> Vec<Row> {
    let text = fs::read_to_string(GUIDE).unwrap();
    let (_, section) = text.split_once(SECTION).unwrap();
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [title, _, _, reason] = cells[..] else { panic!("not four columns: {line}") };
        Row { title: title.to_owned(), reason: reason.to_owned() }
    })
    .collect()
}
