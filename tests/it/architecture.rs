//! The modules and the dependencies between them, as `docs/ARCHITECTURE.md` has them.

mod source;

use std::collections::{BTreeMap, BTreeSet};

use self::source::{Source, document, sources};

/// Names that only the modules beside them may use.
const OWNED: &[(&str, &[&str])] = &[
    ("axum", &["http", "server"]),
    ("axum_server", &["server"]),
    ("hyper", &["http", "server"]),
    ("hyper_util", &["http", "server"]),
    ("http_body_util", &["http", "server"]),
    ("instant_acme", &["server"]),
    ("tower", &["http", "server"]),
    ("bcrypt", &["gate"]),
    ("md5", &["gate"]),
    ("sha_crypt", &["gate"]),
    ("cap_std", &["storage"]),
    ("reqwest", &["health", "notify", "outbound", "server"]),
    ("rustls", &["server", "app"]),
    ("tokio_rustls", &["server"]),
    ("serde_saphyr", &["config"]),
    ("clap", &["cli"]),
    ("prometheus_client", &["telemetry"]),
    ("listenfd", &["server"]),
    ("sd_notify", &["cli"]),
];

/// Constructors of the parts of the server, which only `app` calls. Tests aside.
const CONSTRUCTORS: [&str; 10] = [
    "Api::new(",
    "Debug::new(",
    "Filesystem::open(",
    "Gate::htpasswd(",
    "Gate::issuer(",
    "Gate::open(",
    "Notifier::new(",
    "Redirect::new(",
    "Registry::new(",
    "Server::start(",
];

/// Parts of the registry, and those that the handlers of each file may use.
const PARTS: [&str; 8] =
    ["Blobs", "Gc", "Lists", "Manifests", "Registry", "Retention", "Uploads", "Verification"];
const PARTS_OF_HANDLERS: [(&str, &[&str]); 8] = [
    ("blobs", &["Blobs"]),
    ("catalog", &["Lists"]),
    ("manifests", &["Manifests"]),
    ("referrers", &["Lists"]),
    ("repositories", &["Registry"]),
    ("search", &["Lists"]),
    ("tags", &["Lists"]),
    ("uploads", &["Blobs", "Uploads"]),
];

/// The table of dependencies in the documentation: the modules that each module imports.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text = document("docs/ARCHITECTURE.md");
    let (_, section) = text.split_once("\n## Dependencies between modules\n").unwrap();
    let section = section.split("\n## ").next().unwrap_or_default();
    // Names stand between backticks.
    let names = |cell: &str| -> Vec<String> {
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let mut table = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.trim_matches('|').split('|').collect();
        let [modules, imports] = cells[..] else { panic!("{row}: not two cells") };
        for module in names(modules) {
            let imports = names(imports).into_iter().collect();
            assert!(table.insert(module.clone(), imports).is_none(), "{module} has two rows");
        }
    }
    table.remove("main");
    table
}

#[test]
fn modules_import_what_the_table_lists_and_no_more() {
    let table = table();
    let mut unused = table.clone();
    for source in sources() {
        let Source { file, module, .. } = &source;
        let allowed = table.get(module).unwrap_or_else(|| panic!("{module} has no row"));
        for other in source.imports().into_iter().filter(|other| other != module) {
            assert!(allowed.contains(&other), "{file} imports {other}, which {module} may not");
            unused.get_mut(module).unwrap().remove(&other);
        }
        assert!(source.climbs().is_empty(), "{file} leaves {module}: {:?}", source.climbs());
    }
    unused.retain(|_, imports| !imports.is_empty());
    assert!(unused.is_empty(), "the table lists imports that do not exist: {unused:?}");
}

#[test]
fn foreign_crates_are_named_in_their_module_only() {
    for Source { file, module, code, .. } in sources() {
        for (name, modules) in OWNED.iter().filter(|(_, modules)| !modules.contains(&&*module)) {
            let path = format!("{name}::");
            let is_name = |before: &str| {
                // A module of ours may have the name of a crate; `::name` is the crate.
                let parent = before.strip_suffix("::").unwrap_or(before);
                !parent.ends_with(|c: char| c.is_alphanumeric() || c == '_')
            };
            let uses = code.match_indices(&path).any(|(at, _)| is_name(&code[..at]));
            assert!(!uses, "{file} names {name}, which only {modules:?} may");
        }
    }
}

#[test]
fn parts_are_constructed_by_app_only() {
    let sources = sources();
    for constructor in CONSTRUCTORS {
        let (of_app, of_others): (Vec<_>, Vec<_>) = sources
            .iter()
            .filter(|source| source.product.contains(constructor))
            .map(|source| &*source.file)
            .partition(|file| *file == "app.rs" || file.starts_with("app/"));
        assert_eq!(of_others, [""; 0], "only app may call {constructor})");
        assert_ne!(of_app, [""; 0], "{constructor}) is not called: has it another name now?");
    }
}

#[test]
fn files_begin_with_their_purpose() {
    for Source { file, text, .. } in sources() {
        let is_test = file.ends_with("tests.rs");
        assert!(is_test || text.starts_with("//! "), "{file} has no `//!` at its top");
    }
}

fn file(wanted: &str) -> Source {
    let found = sources().into_iter().find(|source| source.file == wanted);
    found.unwrap_or_else(|| panic!("{wanted} is not there"))
}

/// The fields of a struct, a line each.
fn fields<'a>(source: &'a Source, name: &str) -> Vec<&'a str> {
    let (_, rest) = source.product.split_once(&format!("struct {name} {{\n")).unwrap();
    rest.lines().take_while(|line| *line != "}").map(str::trim).collect()
}

/// The signatures of a file's functions that others can call.
fn public_functions(source: &Source) -> Vec<&str> {
    let of_line = |(at, _)| {
        let rest = &source.product[at + 1..];
        let line = rest.lines().next().unwrap_or_default().trim_start();
        let is_function = line.starts_with("pub") && Source::words(line).any(|word| word == "fn");
        let signature = rest.split(" {\n").next().unwrap_or_default();
        is_function.then_some(signature.trim_start())
    };
    source.product.match_indices('\n').filter_map(of_line).collect()
}

/// The compiler keeps a struct with a private field to its module. In that module, one line makes a
/// value, and no function or trait hands it out but to the next layer.
#[test]
fn proofs_are_made_in_one_place_each() {
    for (path, proof, private) in [
        ("gate/permit.rs", "Permit", "caller: Caller,"),
        ("http/middleware/authenticate.rs", "Authenticated", "_seal: (),"),
        ("http/middleware/authorise.rs", "Permitted", "_seal: (),"),
    ] {
        let source = file(path);
        assert!(fields(&source, proof).contains(&private), "{path}: any module can make a {proof}");
        let literal = format!("{proof} {{");
        let made = source.product.match_indices(&literal).filter(|(at, _)| {
            let before = source.product[..*at].trim_end();
            let word = Source::words(before).last();
            !before.ends_with("impl")
                && !before.ends_with("->")
                && !matches!(word, Some("struct" | "let" | "for"))
        });
        assert_eq!(made.count(), 1, "{path}: a {proof} is made in several places");
        for signature in public_functions(&source) {
            let (_, output) = signature.split_once("->").unwrap_or_default();
            let is_choke_point = proof == "Permit" && signature.starts_with("pub(super) fn grant(");
            let hands_out = Source::words(output).any(|word| word == proof);
            assert!(!hands_out || is_choke_point, "{path}: {signature} hands out a {proof}");
        }
        let derives =
            source.product.split(&format!("struct {proof} {{")).next().unwrap_or_default();
        let derives = derives.lines().rev().nth(1).unwrap_or_default();
        assert_eq!(derives, "#[derive(Debug)]", "{path}: {proof} can come from elsewhere");
        let mut blocks = source.product.split("\nimpl").skip(1);
        let makes = blocks.find(|block| {
            let (head, body) = block.split_once('{').unwrap_or_default();
            let body = body.split("\n}").next().unwrap_or_default();
            let head: Vec<_> = Source::words(head).collect();
            let is_trait = head.contains(&"for");
            head.last() == Some(&proof)
                && (is_trait || Source::words(body).any(|word| word == "Self"))
        });
        assert_eq!(makes, None, "{path}: an `impl` may make a {proof}");
        let modules = source.product.lines().filter(|line| Source::words(line).any(|w| w == "mod"));
        assert_eq!(modules.count(), 0, "{path}: its modules may make a {proof}");
    }
    let gate = file("gate.rs");
    let granted: Vec<_> = gate.product.match_indices("permit::grant(").collect();
    assert_eq!(granted.len(), 1, "the gate grants permits in several places");
    for source in sources().into_iter().filter(|source| source.file.starts_with("gate/")) {
        let mut words = Source::words(&source.product);
        let names_permits = words.any(|word| word == "Permit" || word == "permit");
        assert!(
            source.file == "gate/permit.rs" || !names_permits,
            "{}: may make a Permit",
            source.file
        );
    }
}

#[test]
fn handlers_are_reached_by_permitted_only() {
    let http = file("http.rs");
    assert!(http.code.lines().any(|line| line == "mod handlers;"), "handlers are public");
    let handlers = file("http/handlers.rs");
    let functions = public_functions(&handlers);
    let [new, service] = functions[..] else { panic!("another way to a handler: {functions:#?}") };
    assert!(new.starts_with("pub(super) fn new(") && new.ends_with("-> Self"), "{new}");
    assert!(service.starts_with("pub(super) fn service("), "{service}");
    assert!(service.contains("Service<\n    Permitted,"), "{service}");
    let mut lines = handlers.product.lines();
    assert!(
        !lines.any(|line| line.contains("pub") && line.contains(" use ")),
        "a handler is re-exported"
    );
    let public = fields(&handlers, "Handlers").into_iter().filter(|field| field.starts_with("pub"));
    assert_eq!(public.count(), 0, "others can see the handlers of a subject");
    for line in handlers.code.lines().filter(|line| line.ends_with(';') && line.contains("mod ")) {
        assert!(line.starts_with("mod "), "{line}: others can see its handlers");
    }
    for source in sources().iter().filter(|source| source.file.starts_with("http/handlers/")) {
        for line in source.code.lines().map(str::trim_start).filter(|line| line.starts_with("pub"))
        {
            assert!(line.starts_with("pub(super) "), "{}: {line}", source.file);
        }
    }
}

#[test]
fn handlers_use_their_part_of_the_registry_only() {
    let mut files = 0;
    for source in sources() {
        let Some(name) = source.file.strip_prefix("http/handlers/") else { continue };
        files += 1;
        let name = name.trim_end_matches(".rs");
        let allowed = PARTS_OF_HANDLERS.iter().find(|(file, _)| *file == name);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{name} is not listed"));
        let used: BTreeSet<_> =
            Source::words(&source.product).filter(|word| PARTS.contains(word)).collect();
        assert_eq!(used, allowed.iter().copied().collect(), "{name}: parts of the registry");
    }
    assert_eq!(files, PARTS_OF_HANDLERS.len());
}
