//! The limit: nginx with the same bytes as static files, over TLS, without a password or a log.

use std::{fs, path::Path, process::Command};

use super::Served;
use crate::{
    Outcome,
    process::Daemon,
    site::{Site, free_address},
};

/// Starts nginx over the files in `root`.
pub(crate) fn start(site: &Site, root: &Path) -> Outcome<Served> {
    let http = "  access_log off;\n".to_owned();
    let location = format!("    root {};\n", root.display());
    let (address, nginx) = nginx(site, "limit", &(http, location))?;
    Ok(Served { address, root: root.to_owned(), daemons: vec![nginx] })
}

/// Starts an nginx with TLS and HTTP/2, with these lines for `http` and for its one `server`; gives
/// its address too.
pub(super) fn nginx(
    site: &Site,
    name: &str,
    (http, server): &(String, String),
) -> Outcome<(String, Daemon)> {
    let address = free_address()?;
    let scratch = site.path(name);
    fs::create_dir(&scratch)?;
    // Its workers must reach a directory of our own user.
    let user = if process_is_root() { "user root;\n" } else { "" };
    let configuration = format!(
        "\
daemon off;
{user}worker_processes auto;
worker_rlimit_nofile 8192;
pid {scratch}/pid;
error_log {scratch}/error.log;
events {{ worker_connections 4096; }}
http {{
  client_body_temp_path {scratch}/body;
  proxy_temp_path {scratch}/proxy;
  fastcgi_temp_path {scratch}/fastcgi;
  uwsgi_temp_path {scratch}/uwsgi;
  scgi_temp_path {scratch}/scgi;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 100000000;
  client_max_body_size 0;
{http}  server {{
    listen {address} ssl http2;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:SSL:10m;
{server}  }}
}}
",
        certificate = site.path("certs/server.crt"),
        key = site.path("certs/server.key"),
    );
    let file = site.path(&format!("{name}.conf"));
    fs::write(&file, configuration)?;
    let mut command = Command::new("nginx");
    command.args(["-e", &format!("{scratch}/error.log"), "-c", &file]);
    let log = site.path(&format!("{name}.log"));
    let daemon = Daemon::start(&command, log.as_ref(), &address)?;
    Ok((address, daemon))
}

fn process_is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
