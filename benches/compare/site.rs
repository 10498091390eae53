//! The parts that all sides share: certificate, user, directory.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::{Outcome, process};

/// The one user.
pub(crate) const USER: &str = "ann";
/// Her password.
pub(crate) const PASSWORD: &str = "correct horse battery";
/// The name of the site that passes through; its certificate is that of all sides.
pub(crate) const PASSED: &str = "site.example";
/// The bcrypt cost of her password. `htpasswd -B` in most instructions for registry:2 uses 5; the
/// measurements that led to this project used 10.
pub(crate) const COST: u32 = 10;

/// The directory of a run, with the certificate and the user of all sides.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) directory: PathBuf,
    pub(crate) binary: PathBuf,
    /// The line of the password file, without the user.
    pub(crate) hash: String,
}

impl Site {
    /// Makes certificate and user.
    pub(crate) fn make(directory: &Path, binary: &Path) -> Outcome<Self> {
        let version = bcrypt::Version::TwoY;
        let hash = bcrypt::hash_with_result(PASSWORD, COST)?.format_for_version(version);
        let site = Self { directory: directory.to_owned(), binary: binary.to_owned(), hash };
        fs::write(site.path("htpasswd"), format!("{USER}:{}\n", site.hash))?;
        let program = binary.to_str().ok_or("the path of the binary is not text")?;
        let certificates = site.path("certs");
        process::run(
            program,
            &["certs", "--new", "--host", "127.0.0.1", "--host", PASSED, "--out", &certificates],
            b"",
        )?;
        fs::create_dir(site.path("trust"))?;
        fs::copy(site.path("certs/ca.crt"), site.path("trust/ca.crt"))?;
        Ok(site)
    }

    /// A path in the directory of the run.
    pub(crate) fn path(&self, relative: &str) -> String {
        self.directory.join(relative).display().to_string()
    }

    /// The `Authorization` header of the user, as tools take headers.
    pub(crate) fn authorization() -> String {
        Self::authorization_of(USER, PASSWORD)
    }

    /// The `Authorization` header of a user with a password.
    pub(crate) fn authorization_of(user: &str, password: &str) -> String {
        let credentials = BASE64_STANDARD.encode(format!("{user}:{password}"));
        format!("Authorization: Basic {credentials}")
    }
}

/// A free address on loopback.
pub(crate) fn free_address() -> Outcome<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
