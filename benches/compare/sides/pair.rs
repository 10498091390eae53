//! The pair: nginx with TLS and `auth_basic` in front of registry:2, as in registry:2's
//! documentation ("Authenticate proxy with nginx"), with the settings that favour it: keep-alive
//! connections to the registry, and bodies without buffering.

use std::{fs, path::Path, process::Command};

use super::{Served, limit};
use crate::{
    Outcome,
    process::Daemon,
    site::{Site, free_address},
};

/// Starts both over the tree in `root`; `name` names their files.
pub(crate) fn start(site: &Site, name: &str, root: &Path) -> Outcome<Served> {
    let behind = free_address()?;
    let configuration = format!(
        "\
version: 0.1
storage:
  filesystem:
    rootdirectory: {root}
  delete:
    enabled: true
http:
  addr: {behind}
  secret: for-the-comparison
",
        root = root.display(),
    );
    let file = site.path(&format!("{name}-registry.yml"));
    fs::write(&file, configuration)?;
    let mut command = Command::new("docker-registry");
    command.args(["serve", &file]);
    let log = site.path(&format!("{name}-registry.log"));
    let registry = Daemon::start(&command, log.as_ref(), &behind)?;
    let (address, nginx) = limit::nginx(site, &format!("{name}-nginx"), &server(site, &behind))?;
    Ok(Served { address, root: root.to_owned(), daemons: vec![nginx, registry] })
}

fn server(site: &Site, behind: &str) -> (String, String) {
    let http = format!(
        "\
  access_log {log};
  upstream registry {{
    server {behind};
    keepalive 64;
    keepalive_requests 1000000;
  }}
  map $upstream_http_docker_distribution_api_version $docker_distribution_api_version {{
    '' 'registry/2.0';
  }}
",
        log = site.path("access.log"),
    );
    let location = format!(
        "\
    location /v2/ {{
      auth_basic \"Comparison\";
      auth_basic_user_file {users};
      add_header Docker-Distribution-Api-Version $docker_distribution_api_version always;
      proxy_pass http://registry;
      proxy_http_version 1.1;
      proxy_request_buffering off;
      proxy_set_header Connection \"\";
      proxy_set_header Host $http_host;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_read_timeout 900;
    }}
",
        users = site.path("htpasswd"),
    );
    (http, location)
}
