//! What `make dist` makes, installed and used: the image with docker and skopeo, the Debian package in
//! a copy of this system, checksums and SBOM.
//!
//! `PORTCULLIS_DIST` is a folder made by `packaging/dist.sh`; `make clients` makes it from the build of
//! the tests.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use testkit::process::Outcome;
use testkit::skip::skip;

pub(crate) mod image;
mod manifests;
mod package;

#[test]
fn checksums_are_those_of_the_files_and_name_each_of_them() {
    let Some(folder) = dist("checksums") else { return };
    Outcome::of(
        Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&folder),
    )
    .succeeds();
    let sums = fs::read_to_string(folder.join("SHA256SUMS")).expect("checksums");
    for name in ["-x86_64-linux.tar.gz", "_amd64.deb", "-image.tar", ".cdx.json"] {
        assert!(sums.lines().any(|line| line.ends_with(name)), "{name} is not in:\n{sums}");
    }
}

#[test]
fn packages_of_one_binary_are_the_same_byte_for_byte() {
    let Some(folder) = dist("reproduction") else { return };
    let package = || {
        let to = tempfile::TempDir::new().expect("a temporary directory");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/dist.sh");
        let mut dist = Command::new(script);
        dist.arg(folder.join("image/rootfs/bin/portcullis")).arg(to.path());
        Outcome::of(dist.env("DIST_COMPRESSION", "1")).succeeds();
        fs::read_to_string(to.path().join("SHA256SUMS")).expect("checksums")
    };

    assert_eq!(package(), package());
}

#[test]
fn bill_of_materials_names_the_linked_crates_with_licences_and_no_test_tool() {
    let Some(folder) = dist("bill of materials") else { return };
    let bill = fs::read(the_file(&folder, ".cdx.json")).expect("a bill of materials");
    let bill: Value = serde_json::from_slice(&bill).expect("JSON");
    let components = bill["components"].as_array().expect("components");
    let named = |name: &str| components.iter().find(|component| component["name"] == name);

    let provider = named("aws-lc-rs").expect("the crypto provider is linked");
    assert!(provider["hashes"][0]["content"].is_string(), "{provider}");
    assert!(named("glibc").is_some() && named("ca-certificates").is_some());
    for other in ["criterion", "proptest", "testkit", "cc"] {
        assert!(named(other).is_none(), "{other} is not in the binary");
    }
    for component in components.iter().filter(|component| component["purl"].is_string()) {
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
    }
}

#[test]
fn dockerfile_of_the_sources_makes_the_image_of_the_binary() {
    let end_of = |path: &str| -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let text = fs::read_to_string(path).expect("a Dockerfile");
        let stage = text.split_once("FROM scratch\n").expect("a stage of the image").1;
        let is_setting = |line: &&str| !line.starts_with("#") && !line.contains("rootfs");
        stage.lines().filter(is_setting).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(end_of("contrib/Dockerfile"), end_of("packaging/image/Dockerfile"));
}

/// The folder with the artefacts; `None`, and a report, if the tests run without it.
pub(crate) fn dist(suite: &str) -> Option<PathBuf> {
    let folder = env::var_os("PORTCULLIS_DIST").map(PathBuf::from);
    if folder.is_none() {
        skip(
            suite,
            "PORTCULLIS_DIST names no folder of packaging/dist.sh: use `make clients`",
            true,
        );
    }
    folder
}

/// The one file in `folder` with that end of its name.
pub(crate) fn the_file(folder: &Path, end: &str) -> PathBuf {
    let files = fs::read_dir(folder).expect("the artefacts are there");
    let mut paths = files.map(|entry| entry.expect("a file").path());
    paths
        .find(|path| path.to_str().is_some_and(|path| path.ends_with(end)))
        .unwrap_or_else(|| panic!("no file *{end} in {}", folder.display()))
}
