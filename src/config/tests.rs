//! Tests of the configuration: a file and variables in, options out.

use std::{fs, path::PathBuf, time::Duration};

use super::{Config, Error, ForStorage, schema, schema::Kind};
use crate::{
    gate, http, notify,
    server::{CertificateSource, TlsOptions, TlsVersion},
    storage, telemetry,
};

mod access;
mod contract;
mod environment;
mod example;
mod guide;
mod options;
mod refusals;
mod settings;
mod tls;
mod values;

/// Loads a file `config.yml` with this text.
fn load_with(yaml: &str, variables: &[(&str, &str)]) -> Result<Config, Error> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yml");
    fs::write(&file, yaml).unwrap();
    Config::load(Some(&file), owned(variables))
}

/// As a command about stored images reads the file.
fn load_for_storage(yaml: &str) -> Result<ForStorage, Error> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yml");
    fs::write(&file, yaml).unwrap();
    Config::load_for_storage(Some(&file), owned(&[]))
}

fn load(yaml: &str) -> Result<Config, Error> {
    load_with(&format!("version: 0.1\n{yaml}"), &[])
}

/// The error of a file, without the name of its directory.
fn refusal(yaml: &str) -> String {
    shorten(&load(yaml).unwrap_err())
}

fn shorten(error: &Error) -> String {
    let message = error.to_string();
    match message.find("config.yml") {
        Some(start) if message.starts_with('/') => message[start..].to_owned(),
        _ => message,
    }
}

fn load_environment(variables: &[(&str, &str)]) -> Result<Config, Error> {
    Config::load(None, owned(variables))
}

fn owned(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn root(config: &Config) -> PathBuf {
    match &config.storage.backend {
        storage::Options::Filesystem(options) => options.rootdirectory.clone(),
        storage::Options::Memory => panic!("kept in memory"),
    }
}

fn htpasswd(config: &Config) -> &gate::HtpasswdOptions {
    match &config.auth {
        gate::Options::Htpasswd(options) => options,
        gate::Options::None | gate::Options::Token(_) => panic!("no passwords"),
    }
}

fn certificate(config: &Config) -> &CertificateSource {
    match &config.http.server.tls {
        TlsOptions::On { source, .. } => source,
        TlsOptions::Off => panic!("TLS is off"),
    }
}

fn warns(config: &Config, what: &str) -> bool {
    config.warnings.iter().any(|warning| warning.contains(what))
}
