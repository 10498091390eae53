//! A tree, and the means to serve it with either program.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use reqwest::Version;
use testkit::{
    registry2::{self, Registry2},
    require::{self, Need},
    server::Server,
    site::{Build, Site, USER},
};

use crate::api::Api;

/// What cargo tells this suite about its build.
pub(crate) const BUILD: Build =
    Build { binary: env!("CARGO_BIN_EXE_portcullis"), folder: env!("CARGO_TARGET_TMPDIR") };

/// The port of docker-registry: an offset from the port of Portcullis.
const PORTS: u16 = 1000;
/// The port of Portcullis' metrics, likewise.
const DEBUG_PORTS: u16 = 2000;

/// Whether docker-registry is installed; otherwise the skip has been reported.
pub(crate) fn registry2_is_there(suite: &str) -> bool {
    registry2::program().is_some() || require::met(suite, &[Need::Program("docker-registry")])
}

/// Whether it is a registry:3, which differs in some points.
pub(crate) fn is_registry_3() -> bool {
    let version = Command::new(registry2::program().unwrap()).arg("--version").output().unwrap();
    String::from_utf8(version.stdout).unwrap().contains("/v3 ")
}

/// A tree that is served by one program after the other.
pub(crate) struct Place {
    site: Site,
}

/// The result of `portcullis verify`.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) code: Option<i32>,
    /// The findings, one a line.
    pub(crate) findings: String,
}

impl Place {
    pub(crate) fn new(what: &str) -> Self {
        let site = Site::new(what, BUILD);
        fs::create_dir(site.path("data")).unwrap();
        fs::create_dir(site.path("registry2")).unwrap();
        Self { site }
    }

    /// The root of the storage.
    pub(crate) fn root(&self) -> PathBuf {
        self.site.path("data")
    }

    /// Something in the tree.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.root().join("docker/registry/v2").join(path)
    }

    /// Writes a file into the tree.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Every file in the tree.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(&self.root(), &mut files);
        files
    }

    fn beside(&self, ports: u16) -> SocketAddr {
        SocketAddr::new(self.site.address.ip(), self.site.address.port() + ports)
    }

    fn registry2_config(&self) -> String {
        format!(
            "version: 0.1\n\
             log: {{accesslog: {{disabled: true}}, level: warn}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '{}', secret: no secret}}\n",
            self.root().display(),
            self.beside(PORTS),
        )
    }

    /// Lets docker-registry serve the tree as long as the returned value lives.
    pub(crate) fn registry2(&self) -> (Registry2, Api) {
        let registry = Registry2::start(&self.site.path("registry2"), &self.registry2_config());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let base = format!("http://{}", registry.address);
        (registry, Api::new(http, base, USER))
    }

    /// Runs docker-registry's collector, which must succeed, and gives its output.
    pub(crate) fn collect(&self, arguments: &[&str]) -> String {
        let (success, said) = self.try_to_collect(arguments);
        assert!(success, "{arguments:?}: {said}");
        said
    }

    /// As [`collect`](Self::collect), and tells whether it succeeded.
    pub(crate) fn try_to_collect(&self, arguments: &[&str]) -> (bool, String) {
        let folder = self.site.path("registry2");
        fs::write(folder.join("config.yml"), self.registry2_config()).unwrap();
        let output = Command::new(registry2::program().unwrap())
            .arg("garbage-collect")
            .args(arguments)
            .arg("config.yml")
            .current_dir(folder)
            .env_clear()
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    /// Runs the collector of Portcullis, without grace, and gives its output.
    pub(crate) fn collect_here(&self, arguments: &[&str]) -> String {
        // Content as young as the resolution of the clock stays.
        std::thread::sleep(std::time::Duration::from_millis(50));
        let output = Command::new(BUILD.binary)
            .current_dir(self.site.path("registry2"))
            .env_clear()
            .env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", self.root())
            .env("REGISTRY_STORAGE_MAINTENANCE_GARBAGECOLLECTION_GRACE", "0s")
            .arg("garbage-collect")
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Lets Portcullis serve the tree as long as the returned value lives.
    pub(crate) fn portcullis(&self) -> (Server, Api) {
        let metrics = self.beside(DEBUG_PORTS).to_string();
        let variables = [
            ("REGISTRY_HTTP_DEBUG_ADDR", metrics.as_str()),
            ("REGISTRY_HTTP_DEBUG_PROMETHEUS_ENABLED", "true"),
        ];
        let server = self.site.start(&self.root(), &variables);
        let http = self.site.client(Version::HTTP_11).build().unwrap();
        (server, Api::new(http, self.site.base(), USER))
    }

    /// The value of a metric of Portcullis.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let url = format!("http://{}/metrics", self.beside(DEBUG_PORTS));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let text = http.get(url).send().await.unwrap().text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}: {text}")).parse().unwrap()
    }

    /// The log of Portcullis so far.
    pub(crate) fn log(&self) -> String {
        self.site.log()
    }

    /// Verifies the tree.
    pub(crate) fn verify(&self, arguments: &[&str]) -> Verdict {
        let output = Command::new(BUILD.binary)
            .current_dir(self.site.path("registry2"))
            .env_clear()
            .env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", self.root())
            .arg("verify")
            .args(arguments)
            .output()
            .unwrap();
        let findings = String::from_utf8(output.stdout).unwrap();
        Verdict { code: output.status.code(), findings }
    }

    /// Verifies that the tree has neither problems nor notes.
    pub(crate) fn verify_whole(&self) {
        let verdict = self.verify(&[]);
        assert_eq!((verdict.code, verdict.findings.as_str()), (Some(0), ""));
    }
}

fn collect(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.insert(path.clone(), fs::read(path).unwrap());
        }
    }
}
