//! The dependencies between modules, as in the table of `docs/ARCHITECTURE.md`.

use std::{fs, path::Path};

/// The modules of ours that each module may import. A module that is not listed may import none.
const DEPENDENCIES: &[(&str, &[&str])] = &[
    (
        "app",
        &[
            "chain",
            "config",
            "gate",
            "health",
            "http",
            "jobs",
            "notify",
            "registry",
            "server",
            "storage",
            "telemetry",
        ],
    ),
    ("chain", &[]),
    ("cli", &["app", "chain", "config", "gate", "humanize", "oci", "server", "telemetry"]),
    ("config", &["gate", "health", "http", "notify", "registry", "server", "storage", "telemetry"]),
    ("gate", &["network", "oci", "stamp"]),
    ("health", &["chain"]),
    ("http", &["chain", "gate", "health", "oci", "registry", "storage", "telemetry"]),
    ("humanize", &[]),
    ("jobs", &[]),
    ("network", &[]),
    ("notify", &["oci"]),
    ("oci", &[]),
    ("registry", &["humanize", "oci", "storage"]),
    ("server", &["network", "stamp"]),
    ("stamp", &[]),
    ("storage", &["stamp", "telemetry"]),
    ("telemetry", &[]),
];

/// Crates that only the modules beside them may name.
const OWNED: &[(&str, &[&str])] = &[
    ("axum::", &["http", "server"]),
    ("hyper::", &["http", "server"]),
    ("tower::", &["http", "server"]),
    ("bcrypt::", &["gate"]),
    ("md5::", &["gate"]),
    ("sha_crypt::", &["gate"]),
    ("reqwest::", &["health", "notify"]),
    ("rustls::", &["server", "app"]),
    ("serde_saphyr", &["config"]),
    ("clap::", &["cli"]),
    ("prometheus_client::", &["telemetry"]),
    ("listenfd::", &["server"]),
    ("sd_notify::", &["cli"]),
];

#[test]
fn imports_run_one_way() {
    for (file, module, text) in sources() {
        let allowed =
            DEPENDENCIES.iter().find(|(name, _)| *name == module).map_or(&[][..], |(_, to)| to);
        for other in imported(&text) {
            assert!(
                other == module || allowed.contains(&other.as_str()),
                "{file} imports {other}, which {module} may not"
            );
        }
    }
}

#[test]
fn foreign_crates_are_named_in_their_module_only() {
    for (file, module, text) in sources() {
        for (name, modules) in OWNED {
            let uses = code(&text).any(|line| line.contains(name));
            assert!(!uses || modules.contains(&module.as_str()), "{file} names {name}");
        }
    }
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    for (file, _, text) in sources() {
        let test = file.ends_with("tests.rs");
        assert!(test || text.starts_with("//! "), "{file} has no `//!` at its top");
    }
}

#[test]
fn handlers_are_reached_by_permitted_only() {
    let file = |wanted: &str| {
        let found = sources().into_iter().find(|(file, _, _)| file == wanted);
        found.unwrap_or_else(|| panic!("{wanted} is not there")).2
    };
    // The compiler keeps a struct with a private field to its module, and each has such a field.
    let makers = [("authenticate", "Authenticated"), ("authorise", "Permitted")];
    for (layer, made) in makers {
        let text = file(&format!("http/middleware/{layer}.rs"));
        let (_, fields) = text.split_once(&format!("struct {made} {{")).expect("the type is there");
        let (fields, _) = fields.split_once("\n}").expect("it has an end");
        let is_private = |line: &str| line.trim_start().starts_with("_seal: ()");
        assert!(fields.lines().any(is_private), "{layer}.rs: any module can make a {made}");
        let derives = text.contains("Default)]") || text.contains(&format!("Default for {made}"));
        assert!(!derives, "{layer}.rs: {made} comes from nothing");
        let functions = code(&text).filter(|line| line.contains("fn ") && line.contains("pub"));
        let makes = |line: &&str| line.contains(&format!("-> {made}"));
        assert_eq!(functions.filter(makes).count(), 0, "{layer}.rs: a function hands out a {made}");
    }
    // Others can make the handlers, and call them by a service that takes one.
    let handlers = file("http/handlers.rs");
    assert!(code(&file("http.rs")).any(|line| line == "mod handlers;"), "handlers are public");
    let seen: Vec<_> =
        code(&handlers).filter(|line| line.contains("pub") && line.contains("fn ")).collect();
    let seen: Vec<_> = seen.into_iter().map(str::trim_start).collect();
    let expected = ["pub(super) fn new(", "pub(super) fn service("];
    assert_eq!(seen, expected, "there is another way to a handler");
    let (_, service) = handlers.split_once("pub(super) fn service(").expect("it is there");
    let (signature, _) = service.split_once("use<>").expect("it has a signature");
    assert!(signature.contains("Service<\n    Permitted,"), "{signature}");
    let modules = code(&handlers).filter(|line| line.contains("mod "));
    for line in modules {
        assert!(line.starts_with("mod "), "{line}: others can see its handlers");
    }
    for (file, _, text) in sources() {
        if file.starts_with("http/handlers/") {
            for line in code(&text).filter(|line| line.trim_start().starts_with("pub")) {
                assert!(line.trim_start().starts_with("pub(super) "), "{file}: {line}");
            }
        }
    }
}

/// The modules that a file imports: `crate::module` wherever it stands, and the names in
/// `use crate::{…}`.
fn imported(text: &str) -> Vec<String> {
    let code: String = code(text).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => found.extend(top_level_names(list)),
            None => found.push(first_word(rest)),
        }
    }
    found
}

/// `a::{b, c}, d::e}` gives `a` and `d`.
fn top_level_names(list: &str) -> Vec<String> {
    let (mut depth, mut names, mut start) = (0, Vec::new(), true);
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            c if start && c.is_alphanumeric() => {
                names.push(first_word(&list[at..]));
                start = false;
            }
            _ => {}
        }
    }
    names
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The lines that are not comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// Each source file with its module and its text.
fn sources() -> Vec<(String, String, String)> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<(String, String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
                continue;
            }
            let file = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let module = file.split(['/', '.']).next().unwrap().to_owned();
            if !matches!(module.as_str(), "main" | "lib") {
                found.push((file, module, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    assert!(found.len() > 20, "the sources are not where they should be");
    found
}
