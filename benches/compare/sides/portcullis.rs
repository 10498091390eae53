//! Portcullis, with a configuration that registry:2 could read.

use std::{fs, path::Path, process::Command};

use super::Served;
use crate::{
    Outcome,
    process::Daemon,
    site::{Site, free_address},
};

/// Starts it over the tree in `root`; `name` names its files. Everything else has its default, the
/// access log too.
pub(crate) fn start(site: &Site, name: &str, root: &Path) -> Outcome<Served> {
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
auth:
  htpasswd:
    realm: Comparison
    path: {users}
catalog:
  maxentries: 1000
",
        root = root.display(),
        certificate = site.path("certs/server.crt"),
        key = site.path("certs/server.key"),
        users = site.path("htpasswd"),
    );
    let file = site.path(&format!("{name}.yml"));
    fs::write(&file, configuration)?;
    let mut command = Command::new(&site.binary);
    command.args(["serve", &file]);
    let log = site.path(&format!("{name}.log"));
    let daemon = Daemon::start(&command, log.as_ref(), &address)?;
    Ok(Served { address, root: root.to_owned(), daemons: vec![daemon] })
}
