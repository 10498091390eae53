//! The source files of the library, as text.

use std::{fs, path::Path};

/// Where the tests of a file begin, which stand at its end.
const TESTS: &str = "#[cfg(test)]\nmod tests {";

/// A source file.
#[derive(Debug)]
pub struct Source {
    /// The path below `src`.
    pub file: String,
    /// The module at the root that the file belongs to.
    pub module: String,
    /// The lines that are not comments, tests of the file included.
    pub code: String,
    /// [`code`](Self::code) without tests: nothing, where the whole file is a test.
    pub product: String,
    /// The text as it is.
    pub text: String,
}

impl Source {
    /// The root modules that the file imports: `crate::module` wherever it occurs, and the names in
    /// `use crate::{…}`.
    pub fn imports(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (at, _) in self.code.match_indices("crate::") {
            let rest = &self.code[at + "crate::".len()..];
            match rest.strip_prefix('{') {
                Some(list) => found.extend(top_level_names(list)),
                None => found.push(first_word(rest)),
            }
        }
        found
    }

    /// The lines with a path of `super` that leads out of the root module, of which
    /// [`imports`](Self::imports) knows nothing.
    pub fn climbs(&self) -> Vec<&str> {
        // `gate.rs` is one `super` below the root, `gate/queue.rs` two; the tests at the end of a
        // file are a module within it, one more.
        let depth = self.file.matches('/').count() + 1;
        let (own, tests) = self.code.split_once(TESTS).unwrap_or((&self.code, ""));
        [(own, depth), (tests, depth + 1)]
            .into_iter()
            .flat_map(|(code, depth)| {
                let out = "super::".repeat(depth);
                code.lines().filter(move |line| line.contains(&out))
            })
            .collect()
    }

    /// The words of a piece of code.
    pub fn words(code: &str) -> impl Iterator<Item = &str> {
        code.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
    }
}

/// All source files but `main.rs` and `lib.rs`.
pub fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    let texts: Vec<_> = files
        .iter()
        .map(|path| (path.strip_prefix(&root).unwrap(), fs::read_to_string(path).unwrap()))
        .map(|(file, text)| (file.to_str().unwrap().to_owned(), text))
        .collect();
    assert!(texts.len() > 20, "the sources are not where they should be");
    let tests: Vec<_> =
        texts.iter().flat_map(|(file, text)| modules_of_tests(file, text)).collect();
    let of_library = texts.into_iter().filter(|(file, _)| !matches!(&**file, "main.rs" | "lib.rs"));
    let source = |(file, text): (String, String)| {
        let code = code(&text);
        let is_test = tests.iter().any(|test| file.starts_with(test));
        Source {
            module: file.split(['/', '.']).next().unwrap().to_owned(),
            product: if is_test { String::new() } else { without_tests(&code) },
            code,
            file,
            text,
        }
    };
    of_library.map(source).collect()
}

/// A file of the repository.
pub fn document(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn walk(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}

/// The lines that are not comments.
fn code(text: &str) -> String {
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    text.lines().filter(is_code).collect::<Vec<_>>().join("\n")
}

/// The code before the tests of a file.
fn without_tests(code: &str) -> String {
    code.split(TESTS).next().unwrap_or_default().to_owned()
}

/// The beginnings of the paths of modules that a file declares for tests only.
fn modules_of_tests(file: &str, text: &str) -> Vec<String> {
    let folder = file.trim_end_matches(".rs");
    let declared = text.split("#[cfg(test)]\n").skip(1);
    let names =
        declared.filter_map(|rest| rest.lines().next()?.split_once("mod ")?.1.strip_suffix(';'));
    names.flat_map(|name| [format!("{folder}/{name}.rs"), format!("{folder}/{name}/")]).collect()
}

/// `a::{b, c}, d::e}` gives `a` and `d`.
fn top_level_names(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0;
    let mut is_start = true;
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_start = true,
            c if is_start && c.is_alphanumeric() => {
                names.push(first_word(&list[at..]));
                is_start = false;
            }
            _ => {}
        }
    }
    names
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}
