//! Portcullis, with a configuration that registry:2 could read.

use std::{fs, path::Path, process::Command};

use super::Served;
use crate::{
    Outcome,
    process::Daemon,
    site::{Site, free_address},
};

/// What the configuration has beside what every server of the comparison has, as lines of YAML.
#[derive(Clone, Debug, Default)]
pub(crate) struct More {
    /// Lines of `http.tls`.
    pub(crate) tls: String,
    /// Lines of `auth.htpasswd`.
    pub(crate) htpasswd: String,
    /// Whole sections.
    pub(crate) sections: String,
}

/// Starts it over the tree in `root`; `name` names its files. Everything else has its default, the
/// access log too.
pub(crate) fn start(site: &Site, name: &str, root: &Path, more: &More) -> Outcome<Served> {
    let address = free_address()?;
    let configuration = format!(
        "\
version: 0.1
storage:
  filesystem:
    rootdirectory: {root}
  delete:
    enabled: true
http:
  addr: {address}
  # So that one machine can be the clients of many addresses.
  trustedproxies: [127.0.0.0/8]
  tls:
    certificate: {certificate}
    key: {key}
{tls}auth:
  htpasswd:
    realm: Comparison
    path: {users}
{htpasswd}catalog:
  maxentries: 1000
{sections}",
        root = root.display(),
        certificate = site.path("certs/server.crt"),
        key = site.path("certs/server.key"),
        users = site.path("htpasswd"),
        tls = more.tls,
        htpasswd = more.htpasswd,
        sections = more.sections,
    );
    let file = site.path(&format!("{name}.yml"));
    fs::write(&file, configuration)?;
    let mut command = Command::new(&site.binary);
    command.args(["serve", &file]);
    let log = site.path(&format!("{name}.log"));
    let daemon = Daemon::start(&command, log.as_ref(), &address)?;
    Ok(Served { address, root: root.to_owned(), daemons: vec![daemon] })
}
