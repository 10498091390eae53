//! docs/ACCESS.md: its set-ups are deployed as they stand there, and each command says what the page
//! shows. With `PORTCULLIS_RENEW=1` the test writes into the page what the commands say.

use std::{fmt::Write as _, fs, path::Path, process::Command, sync::LazyLock};

use regex::Regex;
use tempfile::TempDir;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ACCESS.md");
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

/// The folder that the page's paths name.
const FOLDER: &str = "/etc/portcullis";

/// The user of every password line; the commands compare no password.
const USERS: [&str; 6] = ["ann", "bob", "carol", "deployer", "maria", "root"];

/// The text of the first block of a language.
fn block<'a>(text: &'a str, language: &str) -> Option<&'a str> {
    let (_, behind) = text.split_once(&format!("```{language}\n"))?;
    behind.split_once("```").map(|(block, _)| block)
}

/// A folder with the files of a set-up.
fn deployed(page: &str, yaml: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let auth = folder.path().join("auth");
    fs::create_dir(&auth).unwrap();
    let (_, groups) = page.split_once("<!-- groups -->").unwrap();
    fs::write(auth.join("groups"), block(groups, "").unwrap()).unwrap();
    let hash = "$2y$04$......................................................";
    let lines = USERS.map(|user| format!("{user}:{}\n", &hash[..60]));
    fs::write(auth.join("htpasswd"), lines.concat()).unwrap();
    fs::write(folder.path().join("config.yml"), yaml).unwrap();
    folder
}

/// What a command line prints, with the page's folder, a shortened secret, and its exit code at the end
/// if that is not 0.
fn said(folder: &Path, line: &str) -> String {
    static SECRET: LazyLock<Regex> = LazyLock::new(|| Regex::new("(pcl_...)[0-9A-Za-z]+").unwrap());
    let program = Path::new(env!("CARGO_BIN_EXE_portcullis")).parent().unwrap();
    let mut shell = Command::new("sh");
    shell.current_dir(folder).env_clear().arg("-c").arg(format!("{line} 2>&1"));
    shell.env("PATH", format!("{}:/usr/bin:/bin", program.display()));
    shell.env("REGISTRY_CONFIGURATION_PATH", folder.join("config.yml"));
    let output = shell.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let text = text.replace(folder.to_str().unwrap(), FOLDER);
    let text = SECRET.replace_all(&text, "$1…").into_owned();
    match output.status.code() {
        Some(0) => text,
        code => format!("{text}# exit code {}\n", code.unwrap()),
    }
}

/// The text without what differs from day to day.
fn timeless(text: &str) -> String {
    static VARYING: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("[0-9]{4}-[0-9]{2}-[0-9]{2}|pcl_...").unwrap());
    VARYING.replace_all(text, "…").into_owned()
}

#[test]
fn set_ups_of_the_page_decide_as_it_shows() {
    let page = fs::read_to_string(PAGE).unwrap();
    let mut renewed = page.clone();
    let mut found = 0;
    for set_up in page.split("\n### ").skip(1) {
        let yaml = block(set_up, "yaml").unwrap();
        let shown = block(set_up, "console").unwrap();
        let folder = deployed(&page, yaml);
        let mut told = String::new();
        for line in shown.lines().filter_map(|line| line.strip_prefix("$ ")) {
            write!(told, "$ {line}\n{}", said(folder.path(), line)).unwrap();
        }
        renewed = renewed.replacen(shown, &told, 1);
        found += 1;
    }
    assert!(found >= 12, "{found} set-ups");
    if std::env::var_os("PORTCULLIS_RENEW").is_some() {
        fs::write(PAGE, &renewed).unwrap();
    }
    assert_eq!(timeless(&page), timeless(&renewed));
}

#[test]
fn set_ups_of_the_readme_are_some_of_the_page() {
    let page = fs::read_to_string(PAGE).unwrap();
    let readme = fs::read_to_string(README).unwrap();
    let (_, section) = readme.split_once("\n## Who may do what\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let blocks: Vec<_> = section.split("```yaml\n").skip(1).collect();
    assert_eq!(blocks.len(), 4);
    for text in blocks {
        let (text, _) = text.split_once("```").unwrap();
        assert!(page.contains(&format!("```yaml\n{text}```")), "{text}");
    }
}
