//! Pebble, the authority that Let's Encrypt made for tests, and its server of names, for which every host is at
//! one address.

use std::{
    fs,
    net::{SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::json;
use testkit::process::{Daemon, Outcome};

use crate::server::Server;

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// A running pebble.
pub(super) struct Pebble {
    _pebble: Daemon,
    _names: Daemon,
    addresses: Addresses,
    authority: PathBuf,
}

/// Where pebble listens, and where it finds the server that it issues certificates for.
#[derive(Clone, Copy)]
pub(super) struct Addresses {
    directory: SocketAddr,
    management: SocketAddr,
    names: SocketAddr,
    names_management: SocketAddr,
    pub(super) https: SocketAddr,
    pub(super) http: SocketAddr,
}

impl Addresses {
    pub(super) fn free() -> Self {
        let [directory, management, names, names_management, https, http] =
            std::array::from_fn(|_| Server::free_address());
        Self { directory, management, names, names_management, https, http }
    }
}

impl Pebble {
    /// Starts pebble in a folder. Its certificates are valid for `validity`. Everything else is as pebble does
    /// by default: it rejects one nonce in twenty, and reuses every other authorization. Only the pauses before
    /// it looks at challenges are left out.
    pub(super) fn start(folder: &Path, addresses: Addresses, validity: Duration) -> Self {
        let folder = folder.join("pebble");
        fs::create_dir_all(&folder).expect("a folder can be made");
        let host = addresses.directory.ip().to_string();
        let authority = folder.join("own/ca.crt");
        if !authority.exists() {
            let mut certs = Command::new(BINARY);
            certs.current_dir(&folder).args(["certs", "--new", "--host", &host, "--out", "own"]);
            Outcome::of(&mut certs).succeeds();
        }
        let names = Daemon::start(
            Command::new("pebble-challtestsrv").args([
                "-defaultIPv4",
                &addresses.https.ip().to_string(),
                "-defaultIPv6",
                "",
                "-dns01",
                &addresses.names.to_string(),
                "-management",
                &addresses.names_management.to_string(),
                "-http01",
                "",
                "-https01",
                "",
                "-tlsalpn01",
                "",
            ]),
            &folder.join("names.log"),
            || {
                TcpStream::connect(addresses.names_management).is_ok()
                    && UdpSocket::bind(addresses.names).is_err()
            },
        );
        let config = json!({"pebble": {
            "listenAddress": addresses.directory.to_string(),
            "managementListenAddress": addresses.management.to_string(),
            "certificate": folder.join("own/server.crt"),
            "privateKey": folder.join("own/server.key"),
            "httpPort": addresses.http.port(),
            "tlsPort": addresses.https.port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "certificateValidityPeriod": validity.as_secs(),
        }});
        fs::write(folder.join("config.json"), config.to_string()).expect("a file can be written");
        let pebble = Daemon::start(
            Command::new("pebble")
                .arg("-config")
                .arg(folder.join("config.json"))
                .args(["-dnsserver", &addresses.names.to_string()])
                .env("PEBBLE_VA_NOSLEEP", "1"),
            &folder.join("pebble.log"),
            || {
                TcpStream::connect(addresses.directory).is_ok()
                    && TcpStream::connect(addresses.management).is_ok()
            },
        );
        Self { _pebble: pebble, _names: names, addresses, authority }
    }

    /// The URL of the directory.
    pub(super) fn directory(&self) -> String {
        format!("https://{}/dir", self.addresses.directory)
    }

    /// The file of the authority that has issued the certificate of the directory's server.
    pub(super) fn authority(&self) -> &Path {
        &self.authority
    }

    /// The root above the certificates that this pebble issues.
    pub(super) async fn root(&self) -> reqwest::Certificate {
        let own = fs::read(&self.authority).expect("certs made an authority");
        let own = reqwest::Certificate::from_pem(&own).expect("PEM");
        let client = reqwest::Client::builder().tls_certs_only([own]).no_proxy();
        let client = client.build().expect("a client");
        let url = format!("https://{}/roots/0", self.addresses.management);
        let response = client.get(url).send().await.expect("pebble answers");
        let pem = response.bytes().await.expect("pebble's root");
        reqwest::Certificate::from_pem(&pem).expect("PEM")
    }
}
