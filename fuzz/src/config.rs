//! The configuration: the YAML file, and the variables over it.

use std::{error::Error as _, path::Path};

use portcullis::{
    config::{Config, Error, Settings},
    gate,
    server::TlsOptions,
};

use crate::{assert_printable, text};

/// Part of a secret, which no message may contain.
const SECRET: &str = "xyzzy-42";

/// Text around the secret; some of it is not YAML.
const AROUND: &[(&str, &str)] = &[
    ("", ""),
    ("'", ""),
    ("\"", ""),
    ("\"\\q", "\""),
    ("[", ""),
    ("{", ": 1}"),
    ("*", ""),
    ("&", ""),
    ("!", " a"),
    ("@", ""),
    ("%", ""),
    ("a: b: ", ""),
    ("- ", ""),
    ("a:\n\t", ""),
    ("--- a\n--- ", ""),
];

/// Lines that begin with `REGISTRY_` are variables, the others are the file, which is absent when
/// no line remains: an accepted file means the same in every encoding, unsafe values get a warning,
/// and no message shows a secret or a terminal control sequence.
pub fn configuration(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let is_variable = |line: &&str| line.starts_with("REGISTRY_") && line.contains('=');
    let (variables, lines): (Vec<&str>, Vec<&str>) = text.split('\n').partition(is_variable);
    let variables: Vec<_> = variables
        .iter()
        .filter_map(|line| line.trim_end_matches('\r').split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let file = lines.join("\n");
    let file = Some(file).filter(|file| !file.trim().is_empty());

    let loaded = load(file.as_deref(), &variables);
    assert_messages(&loaded);
    if !text.contains(SECRET) {
        let (before, after) = AROUND[data.len() % AROUND.len()];
        let mut variables = variables.clone();
        variables.retain(|(name, _)| name != "REGISTRY_HTTP_SECRET");
        variables.push(("REGISTRY_HTTP_SECRET".to_owned(), format!("{before}{SECRET}{after}")));
        assert_secret(&load(file.as_deref(), &variables));
    }
    let Ok(config) = loaded else { return };
    assert_eq!(shown(&config), shown(&load(file.as_deref(), &variables).expect("as before")));
    assert_warned(&config);
    if let Some(file) = file {
        // The printed configuration is a file with the same meaning, unless a value is hidden in
        // it.
        let settings = config.settings.to_string();
        if !settings.contains("***") {
            let again = load(Some(&settings), &[]);
            let again = again.unwrap_or_else(|why| panic!("{settings}: {why}"));
            assert_eq!(options(&again), options(&config), "{settings}");
        }
        for same in saved_otherwise(&file) {
            let again = load(Some(&same), &variables);
            let again = again.unwrap_or_else(|why| panic!("{same:?}: {why}"));
            assert_eq!(options(&again), options(&config), "{same:?}");
        }
    }
}

fn load(file: Option<&str>, variables: &[(String, String)]) -> Result<Config, Error> {
    match file {
        Some(text) => Config::from_text(Path::new("config.yml"), text, variables.iter().cloned()),
        None => Config::load(None, variables.iter().cloned()),
    }
}

/// The same file from other editors: with a byte order mark, with Windows' line ends, below a
/// comment of multi-byte characters.
fn saved_otherwise(file: &str) -> Vec<String> {
    let mut all = Vec::new();
    if !file.starts_with('\u{feff}') {
        all.push(format!("\u{feff}{file}"));
        all.push(format!("# für 登録\n{file}"));
    }
    if !file.contains('\r') {
        all.push(file.replace('\n', "\r\n"));
    }
    all
}

/// Every text that an operator may read.
fn messages(loaded: &Result<Config, Error>) -> Vec<String> {
    match loaded {
        Ok(config) => {
            let settings = config.settings.to_string();
            let lines = settings.lines().map(str::to_owned);
            config.warnings.iter().chain(&config.notes).cloned().chain(lines).collect()
        }
        Err(error) => {
            let mut all: Vec<_> = error.problems().iter().map(Error::to_string).collect();
            let mut cause = error.source();
            while let Some(error) = cause {
                all.push(error.to_string());
                cause = error.source();
            }
            all
        }
    }
}

fn assert_messages(loaded: &Result<Config, Error>) {
    messages(loaded).iter().for_each(|message| assert_printable(message));
}

fn assert_secret(loaded: &Result<Config, Error>) {
    for message in messages(loaded) {
        assert!(!message.contains(SECRET), "tells the secret: {message}");
    }
    if let Ok(config) = loaded {
        assert!(!shown(config).contains(SECRET), "keeps the secret");
    }
}

fn assert_warned(config: &Config) {
    let warned = |key: &str| config.warnings.iter().any(|warning| warning.starts_with(key));
    if matches!(config.auth, gate::Options::None) {
        assert!(warned("auth.none "), "{:?}", config.warnings);
    }
    if matches!(config.http.server.tls, TlsOptions::Off) {
        assert!(warned("http.tls "), "{:?}", config.warnings);
    }
}

fn shown(config: &Config) -> String {
    format!("{config:?}")
}

/// The result, without line numbers.
fn options(config: &Config) -> String {
    let (warnings, notes, settings) = (Vec::new(), Vec::new(), Settings::default());
    shown(&Config { warnings, notes, settings, ..config.clone() })
}
