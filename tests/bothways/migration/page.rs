//! The files and commands of docs/MIGRATING.md.

use std::fs;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/MIGRATING.md");
const COMPOSE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/compose.yaml");

/// A command line.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) command: String,
    /// Its exit code.
    pub(super) code: i32,
}

/// The text of the block that is marked with `walkthrough: <name>`, which must exist once.
pub(super) fn block(name: &str) -> String {
    let page = fs::read_to_string(PAGE).unwrap();
    let mark = format!(" walkthrough: {name}\n");
    let parts: Vec<_> = page.split(&mark).collect();
    let [_, behind] = parts[..] else { panic!("{name} is not there once") };
    let (text, _) = behind.split_once("\n```").unwrap();
    format!("{text}\n")
}

/// The commands of a block. A comment after one may say `exit code 1`.
pub(super) fn lines(name: &str) -> Vec<Line> {
    let text = block(name);
    let lines = text.lines().map(|line| {
        let (command, comment) = line.split_once('#').unwrap_or((line, ""));
        let code = comment.split_once("exit code ").map_or("0", |(_, code)| &code[..1]);
        Line { command: command.trim().to_owned(), code: code.parse().unwrap() }
    });
    lines.collect()
}

/// A file before and after a change, from a block that shows the whole file as a diff.
pub(super) fn change(name: &str) -> (String, String) {
    let (mut before, mut after) = (String::new(), String::new());
    for line in block(name).lines() {
        let (sign, rest) = line.split_at(1);
        assert!([" ", "-", "+"].contains(&sign), "{name}: {line}");
        if sign != "+" {
            before += &format!("{rest}\n");
        }
        if sign != "-" {
            after += &format!("{rest}\n");
        }
    }
    (before, after)
}

/// The command of the systemd unit.
pub(super) fn service() -> String {
    let text = block("unit");
    let starts: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("ExecStart=")).collect();
    // The first line removes the unit's own command.
    let ["", command] = starts[..] else { panic!("{starts:?}") };
    command.to_owned()
}

/// The variables of the pair in containers, and those of contrib/compose.yaml with the line that
/// the page says to uncomment.
pub(super) fn environments() -> [Vec<(String, String)>; 2] {
    let ours = fs::read_to_string(COMPOSE).unwrap();
    let before = variables(&block("compose"));
    let mut after = variables(&ours.replace("# REGISTRY_", "REGISTRY_"));
    let own: Vec<_> = after.iter().map(|(name, _)| name.clone()).collect();
    assert!(own.len() > variables(&ours).len(), "nothing can be uncommented");
    after.extend(before.iter().filter(|(name, _)| !own.contains(name)).cloned());
    [before, after]
}

/// Lines of `NAME: value`, the value perhaps in quotes.
fn variables(yaml: &str) -> Vec<(String, String)> {
    let lines = yaml.lines().filter_map(|line| line.trim().split_once(": "));
    lines
        .filter(|(name, _)| name.starts_with("REGISTRY_"))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
        .collect()
}

/// The folders of this machine that the containers of the pair have, and those of ours.
pub(super) fn volumes() -> [Vec<String>; 2] {
    let ours = fs::read_to_string(COMPOSE).unwrap();
    [block("compose"), ours].map(|yaml| {
        let lines = yaml.lines().filter_map(|line| line.trim().strip_prefix("- ./"));
        lines.map(|line| line.split(':').next().unwrap().to_owned()).collect()
    })
}
