//! Checks of `http.tls.letsencrypt`: hosts that can get a certificate, and what the challenges need.

use std::net::IpAddr;

use super::{Config, Error, checked::Checked};
use crate::{
    http::authority::{is_authority, split_port},
    server::{
        CertificateSource, TlsOptions,
        acme::{ChallengeChoice, Options},
    },
};

/// The most hosts. An order for each takes some seconds, one after the other.
const MOST_HOSTS: usize = 100;

const SECTION: [&str; 3] = ["http", "tls", "letsencrypt"];

/// Fills in the host of `http.host` where the section names no hosts, and writes all in lower case, as they name
/// files.
pub(super) fn complete(config: &mut Config) {
    let host = config.http.api.host.clone();
    let TlsOptions::On { source: CertificateSource::LetsEncrypt(options), .. } =
        &mut config.http.server.tls
    else {
        return;
    };
    if options.hosts.is_empty()
        && let Some(host) = host
    {
        let authority = host.split_once("://").map_or(&*host, |(_, authority)| authority);
        let (host, _) = split_port(authority.trim_end_matches('/'));
        options.hosts.extend((!host.is_empty()).then(|| host.to_owned()));
    }
    for host in &mut options.hosts {
        *host = host.trim_end_matches('.').to_ascii_lowercase();
    }
}

impl Checked {
    /// The error in the section, if it obtains certificates.
    pub(super) fn letsencrypt_error(&self, config: &Config) -> Option<Error> {
        let TlsOptions::On { source: CertificateSource::LetsEncrypt(options), .. } =
            &config.http.server.tls
        else {
            return None;
        };
        let (key, message) = problem(options, &config.http.server.redirectaddr)?;
        let path = SECTION.into_iter().chain(key).map(str::to_owned).collect::<Vec<_>>();
        let (found, at) = self.nearest(&path);
        // A key that is missing, or that another one has filled in, is named all the same.
        let message = match path.join(".") {
            wanted if wanted != found => format!("{wanted} {message}"),
            _ => message,
        };
        Some(Error::Value { at, key: found, message })
    }

    /// A warning about a section that obtains no certificates, for want of a folder.
    pub(super) fn letsencrypt_warning(&self, config: &Config) -> Option<String> {
        let section = self.json.pointer("/http/tls/letsencrypt")?;
        let says = |key: &str| {
            section.get(key).is_some_and(|value| {
                value.as_str().is_none_or(|text| !text.is_empty())
                    && value.as_array().is_none_or(|items| !items.is_empty())
                    && value.as_object().is_none_or(|keys| !keys.is_empty())
            })
        };
        let is_meant = ["email", "hosts", "caroot", "eab", "profile"].into_iter().any(says);
        let obtains = matches!(
            &config.http.server.tls,
            TlsOptions::On { source: CertificateSource::LetsEncrypt(_), .. }
        );
        (is_meant && !obtains).then(|| {
            self.about(
                &SECTION,
                "has no effect without `cachefile`, the folder that keeps the certificates: add it, such as \
                 cachefile: /var/lib/portcullis/acme, or remove the section",
            )
        })
    }
}

/// What is wrong, with the key below the section that it is about.
fn problem(options: &Options, redirectaddr: &str) -> Option<(Option<&'static str>, String)> {
    let hosts = Some("hosts");
    if options.hosts.is_empty() {
        let message = "is empty, and so is http.host: write the names that clients use, such as \
                       [registry.example.com]";
        return Some((hosts, message.to_owned()));
    }
    if options.hosts.len() > MOST_HOSTS {
        return Some((hosts, format!("has more than {MOST_HOSTS} names")));
    }
    if let Some(host) = options.hosts.iter().find(|host| host.starts_with("*.")) {
        let message = format!(
            "`{host}` is a wildcard, for which authorities want proof in the DNS: write each name, such as \
             [registry.example.com]"
        );
        return Some((hosts, message));
    }
    let is_name = |host: &&String| {
        is_authority(host)
            && !host.contains([':', '_'])
            && !host.starts_with(['.', '-'])
            && host.parse::<IpAddr>().is_err()
    };
    if let Some(host) = options.hosts.iter().find(|host| !is_name(host)) {
        let message = format!(
            "`{host}` is no host name: write names without a port, such as [registry.example.com]"
        );
        return Some((hosts, message));
    }
    if options.challenge == ChallengeChoice::Http01 && redirectaddr.is_empty() {
        let message =
            "http-01 is answered on the listener of plain HTTP: set http.redirectaddr, such as :80";
        return Some((Some("challenge"), message.to_owned()));
    }
    None
}
