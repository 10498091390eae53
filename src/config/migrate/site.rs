//! The site of nginx that stands before a registry:2: what its directives mean in our configuration.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use super::{
    Change,
    nginx::{self, Directive, SyntaxError},
};

mod directives;

/// nginx resolves relative paths against the folder of `nginx.conf`.
const CONFIGURATION: &str = "/etc/nginx";

/// How deep files include each other at most, and how many are read.
const DEEPEST_INCLUDE: usize = 4;
const MOST_INCLUDES: usize = 64;

/// What the site of a registry does that a registry can do itself.
#[derive(Debug, Default)]
pub struct Site {
    /// Values for our keys.
    pub(super) settings: Vec<Setting>,
    /// Headers of all responses, with the reason of each.
    pub(super) headers: Vec<Header>,
    /// Whether the site encrypts.
    pub(super) has_tls: bool,
    /// What is not taken over, or not needed.
    pub(super) changes: Vec<Change>,
}

/// A value for a key.
#[derive(Debug)]
pub(super) struct Setting {
    /// The key with its sections.
    pub(super) key: &'static str,
    pub(super) value: Value,
    /// The directive, with its place.
    pub(super) why: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Texts(Vec<String>),
}

/// A header of all responses.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) why: String,
}

/// Why a site cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// A file of nginx cannot be read.
    #[error("cannot read nginx's file {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not of nginx's syntax.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// No `server` passes requests on.
    #[error(
        "{}: no `server` block has a `proxy_pass`: name the file with the site of the registry, as \
         /etc/nginx/conf.d/registry.conf",
        file.display()
    )]
    NoProxy {
        /// The file.
        file: PathBuf,
    },
    /// Several `server` blocks pass requests on.
    #[error(
        "{}: several `server` blocks pass requests on ({servers}): copy that of the registry, and the \
         one that redirects to it, into a file of their own, and name that",
        file.display()
    )]
    Several {
        /// The file.
        file: PathBuf,
        /// Their places.
        servers: String,
    },
}

impl Site {
    /// Reads the site in this file. Follows `include` of one file where that is relative and beside
    /// the site, or beside its folder, as in `/etc/nginx/sites-enabled/`; other files that it
    /// includes are named among the changes.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or is not of nginx's syntax, and when the site is not that of one
    /// server that passes requests on.
    pub fn read(file: &Path) -> Result<Self, SiteError> {
        let text = read(file)?;
        let mut reader = Reader { left: MOST_INCLUDES, folder: folder_of(file) };
        let directives = reader.include(nginx::parse(file, &text)?, 0)?;
        Self::of(file, &directives)
    }

    /// The password file that the site names, if it names one.
    #[must_use]
    pub fn password_file(&self) -> Option<&Path> {
        let setting = self.settings.iter().find(|setting| setting.key == "auth.htpasswd.path")?;
        match &setting.value {
            Value::Text(path) => Some(Path::new(path)),
            Value::Texts(_) => None,
        }
    }

    fn of(file: &Path, directives: &[Directive]) -> Result<Self, SiteError> {
        let mut servers = Vec::new();
        collect_servers(directives, &mut servers);
        let passing: Vec<_> = servers.iter().filter(|server| passes(server)).collect();
        let encrypting: Vec<_> = passing.iter().filter(|server| has_tls(server)).collect();
        let server = match (passing.as_slice(), encrypting.as_slice()) {
            ([], _) => return Err(SiteError::NoProxy { file: file.to_owned() }),
            ([server], _) => **server,
            // The same registry without TLS beside it.
            (_, [server]) => ***server,
            (several, _) => {
                let servers: Vec<_> = several.iter().map(|server| server.at.to_string()).collect();
                let servers = servers.join(", ");
                return Err(SiteError::Several { file: file.to_owned(), servers });
            }
        };
        let mut site = Self { has_tls: has_tls(server), ..Self::default() };
        site.outer(directives);
        site.server(server);
        for other in servers.iter().filter(|other| !std::ptr::eq(**other, server)) {
            site.other(other);
        }
        Ok(site)
    }
}

struct Reader {
    /// How many files may still be included.
    left: usize,
    folder: PathBuf,
}

impl Reader {
    /// Replaces each `include` of a file that is there by its directives.
    fn include(
        &mut self,
        directives: Vec<Directive>,
        depth: usize,
    ) -> Result<Vec<Directive>, SiteError> {
        let mut read = Vec::with_capacity(directives.len());
        for mut directive in directives {
            if let Some(file) = self.included(&directive, depth) {
                self.left -= 1;
                read.extend(self.include(nginx::parse(&file, &self::read(&file)?)?, depth + 1)?);
                continue;
            }
            if let Some(block) = directive.block.take() {
                directive.block = Some(self.include(block, depth)?);
            }
            read.push(directive);
        }
        Ok(read)
    }

    /// The file that a directive includes, where it is followed.
    fn included(&self, directive: &Directive, depth: usize) -> Option<PathBuf> {
        let [name] = directive.arguments.as_slice() else { return None };
        let name = Path::new(name);
        let is_plain = name.components().all(|part| matches!(part, Component::Normal(_)));
        if directive.name != "include" || !is_plain || depth == DEEPEST_INCLUDE || self.left == 0 {
            return None;
        }
        let folders = [Some(&*self.folder), self.folder.parent()];
        folders.into_iter().flatten().map(|folder| folder.join(name)).find(|file| file.is_file())
    }
}

fn read(file: &Path) -> Result<String, SiteError> {
    let failed = |source| SiteError::Read { file: file.to_owned(), source };
    let bytes = fs::read(file).map_err(failed)?;
    String::from_utf8(bytes).map_err(|error| failed(io::Error::other(error.utf8_error())))
}

fn folder_of(file: &Path) -> PathBuf {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    file.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

/// A path as nginx understands it.
fn absolute(path: &str) -> String {
    Path::new(CONFIGURATION).join(path).to_string_lossy().into_owned()
}

/// All `server` blocks, below `http` too.
fn collect_servers<'a>(directives: &'a [Directive], servers: &mut Vec<&'a Directive>) {
    for directive in directives {
        match &directive.block {
            Some(_) if directive.name == "server" => servers.push(directive),
            Some(block) if directive.name == "http" => collect_servers(block, servers),
            _ => {}
        }
    }
}

fn inside(directive: &Directive) -> &[Directive] {
    directive.block.as_deref().unwrap_or_default()
}

fn named<'a>(directives: &'a [Directive], name: &'a str) -> impl Iterator<Item = &'a Directive> {
    directives.iter().filter(move |directive| directive.name == name)
}

/// Whether a block passes requests on, itself or in a block.
fn passes(block: &Directive) -> bool {
    inside(block).iter().any(|directive| directive.name == "proxy_pass" || passes(directive))
}

/// Whether a server encrypts.
fn has_tls(server: &Directive) -> bool {
    let flag = |listen: &Directive| listen.arguments.iter().skip(1).any(|flag| flag == "ssl");
    named(inside(server), "listen").any(flag)
        || named(inside(server), "ssl").any(|ssl| ssl.arguments == ["on"])
}

#[cfg(test)]
mod tests;
