//! Checks, without a start, whether the files and addresses that a configuration names can be used.
//!
//! A start stops at the first problem. `portcullis config --check` lists all of them.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
};

use jiff::Timestamp;
use rustix::fs::{Access, access};

use super::{
    StartError, access as rules,
    denied::Need,
    permissions::{self, What},
    provision, storage as images,
    tls::{self, expiry},
    users,
};
use crate::{
    chain::Chain,
    config::Config,
    gate::{
        self, HtpasswdOptions, UserFile,
        issuer::Trust,
        tokens::{deploy::TokenFile, key_file},
    },
    health::Check,
    http::Api,
    server::{
        BindError, CertificateFiles, CertificateSource, ClientCertificates, Listener, Net,
        TlsOptions, acme, authority,
        certificates::{self, Authorities},
    },
    storage,
};

mod tree;

/// The findings, a sentence each, with the place of the key that it is about.
#[derive(Debug, Default)]
pub struct Findings {
    /// Problems that keep the server from starting.
    pub problems: Vec<String>,
    /// Problems with which the server starts, and of which it warns.
    pub warnings: Vec<String>,
    /// Remarks that require no action.
    pub notes: Vec<String>,
}

/// What [`inspect`] looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The files, and the addresses, which are bound for a moment.
    Everything,
    /// The files only: another program may hold the addresses until it is replaced.
    Files,
}

/// Opens the files that the configuration names as this process's user, looks through the tree of
/// images for entries that this user may not use, and binds the addresses, as `scope` says. Creates
/// and changes nothing. This call blocks.
#[must_use]
pub fn inspect(config: &Config, scope: Scope) -> Findings {
    let mut inspection = Inspection { config, found: Findings::default() };
    if let storage::Options::Filesystem(options) = &config.storage.backend {
        inspection.root(&options.rootdirectory);
    }
    if let gate::Options::Htpasswd(options) = &config.auth {
        inspection.users(options);
        inspection.tokens(options);
    }
    if let gate::Options::Token(options) = &config.auth
        && let Err(error) = Trust::read(options)
    {
        inspection.problem("auth.token", &error);
    }
    inspection.access();
    if let TlsOptions::On { source, more, clients, .. } = &config.http.server.tls {
        match source {
            CertificateSource::Files { certificate, key } => {
                let files = CertificateFiles { certificate: certificate.clone(), key: key.clone() };
                inspection.certificate("http.tls", &files);
            }
            CertificateSource::LetsEncrypt(options) => inspection.letsencrypt(options),
            CertificateSource::BuiltIn => {}
        }
        for (index, files) in more.iter().enumerate() {
            inspection.certificate(&format!("http.tls.more[{index}]"), files);
        }
        if let Some(clients) = clients {
            inspection.authorities(clients);
        }
    }
    if scope == Scope::Everything {
        inspection.addresses();
    }
    inspection.others();
    inspection.found
}

struct Inspection<'a> {
    config: &'a Config,
    found: Findings,
}

impl Inspection<'_> {
    /// A sentence about a key, with the place of its value in the form of other messages about the
    /// configuration.
    fn about(&self, key: &str, what: &str) -> String {
        format!("{}: {what}", self.config.settings.place(key))
    }

    fn problem(&mut self, key: &str, error: &dyn std::error::Error) {
        let finding = self.about(key, &Chain(error).to_string());
        self.found.problems.push(finding);
    }

    fn warn(&mut self, key: &str, what: &str) {
        let finding = self.about(key, what);
        self.found.warnings.push(finding);
    }

    fn root(&mut self, root: &Path) {
        const KEY: &str = "storage.filesystem.rootdirectory";
        // A start creates the folders that are missing.
        let there = root.ancestors().find(|path| path.as_os_str().is_empty() || path.exists());
        let there =
            there.filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let usable = fs::read_dir(there)
            .and_then(|_| Ok(access(there, Access::WRITE_OK | Access::EXEC_OK)?));
        let absolute = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        if let Err(source) = usable {
            let error = images::unusable(root, root, Need::Write, source);
            self.problem(KEY, &error);
        } else if root.is_dir()
            && let Some(problem) = tree::problem(&absolute)
        {
            let finding = self.about(KEY, &problem);
            self.found.problems.push(finding);
        }
    }

    fn letsencrypt(&mut self, options: &acme::Options) {
        if let Err(error) = acme::Folder::examine(&options.cachefile) {
            self.problem("http.tls.letsencrypt.cachefile", &error);
        }
        if let Err(error) = options.examine() {
            self.problem("http.tls.letsencrypt", &error);
        }
    }

    fn users(&mut self, options: &HtpasswdOptions) {
        const KEY: &str = "auth.htpasswd.path";
        let path = &options.path;
        // An error is that of the read below.
        if matches!(users::exists(path), Ok(false)) {
            match provision::could_make(path, provision::is_named(self.config)) {
                Ok(()) => {
                    let path = path.display();
                    let finding =
                        format!("there is no file {path}: a start makes it, with one user");
                    self.warn(KEY, &finding);
                }
                Err(error) => self.problem(KEY, &error),
            }
            return;
        }
        self.permissions(KEY, path, What::Passwords);
        match UserFile::open(options) {
            Ok((_, users)) => {
                let mut problems = Vec::new();
                users::problems(&users, path, |_, what| problems.push(what.to_owned()));
                for what in problems {
                    self.warn(KEY, &format!("{}: {what}", path.display()));
                }
            }
            Err(source) => {
                self.problem(KEY, &StartError::users(path, source));
            }
        }
        self.session_keys(&options.sessions.keyfile);
    }

    /// Without a usable key file a server starts, and signs with a key of its own.
    fn session_keys(&mut self, path: &Path) {
        const KEY: &str = "auth.htpasswd.sessions.keyfile";
        match key_file::check(path) {
            Ok(()) => self.permissions(KEY, path, What::SessionKeys),
            Err(error) => self.warn(KEY, &format!("cannot use {}: {error}", path.display())),
        }
    }

    /// The group file, the groups that rules name, and the users of groups.
    fn access(&mut self) {
        let Some(options) = &self.config.access else { return };
        match rules::open_groups(options) {
            Ok((_, groups)) => {
                let unknown = rules::unknown_groups(options, &groups, &self.config.settings);
                self.found.problems.extend(unknown);
                self.found.notes.extend(rules::strangers(self.config, &groups));
            }
            Err(error) => self.problem("access.groupfile", &error),
        }
    }

    fn tokens(&mut self, options: &HtpasswdOptions) {
        const KEY: &str = "auth.htpasswd.tokens.file";
        let path = options.token_file();
        self.permissions(KEY, &path, What::Tokens);
        let users = UserFile::open(options).map(|(_, users)| users).unwrap_or_default();
        match TokenFile::open(&path) {
            Ok((_, tokens)) => {
                let is_user = |name: &str| users.find(name).is_some();
                for finding in tokens.findings(is_user, options.tokens.maxlifetime) {
                    self.warn(KEY, &format!("{}: {finding}", path.display()));
                }
            }
            Err(source) => self.problem(KEY, &StartError::tokens(&path, source)),
        }
    }

    fn permissions(&mut self, key: &str, path: &Path, what: What) {
        if let Ok(Some(warning)) = permissions::warning(path, what) {
            self.warn(key, &warning);
        }
    }

    /// Looks at the files of a certificate, which a section of the configuration names.
    fn certificate(&mut self, section: &str, files: &CertificateFiles) {
        let CertificateFiles { certificate, key } = files;
        let names = ["certificate", "key"].map(|name| format!("{section}.{name}"));
        let [of_certificate, of_key] = &names;
        self.permissions(of_key, key, What::Key);
        let mut source = certificates::Source::new(certificate.clone(), key.clone());
        let pair = match source.load() {
            Ok(pair) => pair,
            Err(error) => {
                let name = tls::key_of(&error, section, files);
                let name = name.as_ref().unwrap_or(of_certificate);
                self.problem(name, &StartError::from(error));
                // The key may have a problem of its own.
                if name == of_certificate
                    && let Err(error) = certificates::load_key(key)
                {
                    let is_told = error.path() == Some(certificate);
                    if !is_told {
                        self.problem(of_key, &StartError::from(error));
                    }
                }
                return;
            }
        };
        if let Some(remark) = source.remark() {
            let finding = self.about(of_certificate, &remark);
            self.found.notes.push(finding);
        }
        if let Some(leaf) = pair.cert.first()
            && let Ok(leaf) = certificates::describe(leaf)
            && let Some(warning) =
                expiry::warning(&leaf, Timestamp::now(), expiry::Renewal::Files, certificate)
        {
            self.warn(of_certificate, &warning);
        }
    }

    fn authorities(&mut self, clients: &ClientCertificates) {
        // Each file by itself: the first that cannot be used would hide the others.
        for path in &clients.authorities {
            let one = ClientCertificates { authorities: vec![path.clone()], ..clients.clone() };
            if let Err(error) = Authorities::new(Some(one)).load() {
                self.problem("http.tls.clientcas", &StartError::client_authorities(error));
            }
        }
    }

    fn addresses(&mut self) {
        let server = &self.config.http.server;
        let debug = &self.config.http.api.debug.addr;
        let mut taken: Vec<(&'static str, SocketAddr, TcpListener)> = Vec::new();
        let tcp = [
            ("http.addr", &*server.addr, server.net == Net::Tcp),
            ("http.redirectaddr", &*server.redirectaddr, !server.redirectaddr.is_empty()),
            ("http.debug.addr", &**debug, !debug.is_empty()),
        ];
        for (key, addr, _) in tcp.into_iter().filter(|(_, _, is_used)| *is_used) {
            match Listener::probe_tcp(key, addr) {
                Ok(socket) => {
                    if let Ok(at) = socket.local_addr() {
                        taken.push((key, at, socket));
                    }
                }
                Err(error) => self.unbound(key, addr, &error, &taken),
            }
        }
        if server.net == Net::Unix
            && let Err(error) = Listener::probe_unix("http.addr", &server.addr)
        {
            self.problem("http.addr", &error);
        }
    }

    /// Reports an address that cannot be listened on. A process that listens there already may be the
    /// registry with this configuration, unless the configuration names the address twice.
    fn unbound(
        &mut self,
        key: &'static str,
        addr: &str,
        error: &BindError,
        taken: &[(&'static str, SocketAddr, TcpListener)],
    ) {
        let port = addr.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
        let ours = taken.iter().find(|(_, at, _)| Some(at.port()) == port);
        match ours {
            _ if !error.is_in_use() => self.problem(key, error),
            Some((other, ..)) => {
                let finding =
                    self.about(key, &format!("{addr} is taken by {other}: choose another"));
                self.found.problems.push(finding);
            }
            None => self.warn(
                key,
                &format!(
                    "{addr} is in use: a start needs it free, unless it is this registry that \
                     listens there"
                ),
            ),
        }
    }

    fn others(&mut self) {
        let problems = Api::problems(&self.config.http.api);
        let endpoints = self.config.notifications.problems();
        let checks = self.config.health.http.iter().filter_map(|check| Check::http(check).err());
        // These messages name their keys.
        let messages = problems.iter().map(ToString::to_string);
        let messages = messages.chain(endpoints.iter().map(ToString::to_string));
        let messages: Vec<_> = messages.chain(checks.map(|error| error.to_string())).collect();
        self.found.problems.extend(messages);
        if tls::is_built_in(&self.config.http.server) {
            self.built_in();
        }
    }

    fn built_in(&mut self) {
        let hosts = provision::required_hosts(&self.config.http.api);
        if let Err(error) = authority::examine(&super::certificates_folder(), &hosts) {
            self.problem("http.tls", &StartError::from(error));
        }
    }
}
