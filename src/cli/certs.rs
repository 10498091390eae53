//! `portcullis certs`: the certificates of the local authority.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use jiff::{Timestamp, tz::TimeZone};

use super::{failure::Failure, sources::configuration};
use crate::{
    app::CERTIFICATES,
    config::Config,
    server::{
        CertificateSource, TlsOptions,
        authority::{
            CA_CERTIFICATE, CA_KEY, DEFAULT_DAYS, Hosts, Outcome, Renew, SERVER_CERTIFICATE, renew,
        },
        certificates::{Description, describe, load_chain},
        machine,
    },
};

const EXAMPLES: &str = "\
The first run creates a certificate authority (ca.crt, ca.key), with --new or after a question on the \
terminal; later runs keep it, so that clients go on trusting it. Each run creates a new server \
certificate (server.crt, server.key). It is for localhost, for this machine's name and addresses, \
for the names given here and for those of the certificate it replaces. Delete server.crt to begin \
anew with the names.

The authority is for the names of its first run, their parent domains, this machine's name, \
its addresses, loopback and private ones; clients refuse its certificates for other names. --new-authority \
creates one for more names, and keeps the old files beside the new ones. ca.key may be kept elsewhere: the server needs \
it only to renew its certificate.

Examples:
  portcullis certs --host registry.example.com --host 192.0.2.10
  portcullis certs --new --host registry.example.com
  portcullis certs show

Exit codes: 0 done; 1 not done; 2 usage.";

const SHOW: &str = "\
Examples:
  portcullis certs show
  portcullis certs show /etc/docker/registry/config.yml";

/// Create or renew the server's certificate, signed by a local authority.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(super) struct Certs {
    #[command(subcommand)]
    command: Option<Command>,
    /// A name or an IP address by which clients reach the registry; may be repeated
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// The validity of the certificate, in days
    #[arg(
        long,
        value_name = "N",
        default_value_t = DEFAULT_DAYS,
        value_parser = clap::value_parser!(u16).range(1..=3650),
    )]
    days: u16,
    /// The directory of the certificates
    #[arg(long, value_name = "DIR", default_value = "certs")]
    out: PathBuf,
    /// Create an authority where the directory has none, without a question
    #[arg(long)]
    new: bool,
    /// Create a new authority too, which clients have to trust in place of the old one
    #[arg(long)]
    new_authority: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the content of the certificates
    #[command(after_help = SHOW)]
    Show {
        /// The configuration file of the server, whose certificates are shown in place of those in DIR
        #[arg(conflicts_with = "out")]
        config: Option<PathBuf>,
        /// The directory of the certificates
        #[arg(long, value_name = "DIR", default_value = "certs")]
        out: PathBuf,
    },
}

impl Certs {
    /// Runs the command, and prints the certificates that it created or found.
    ///
    /// # Errors
    ///
    /// Code 1 when the directory has no authority and the user has not asked for one, when a name cannot stand in a certificate, when the authority is incomplete or
    /// expired, when it did not issue the existing server certificate, or when files cannot
    /// be read or written.
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match self.command {
            Some(Command::Show { config: Some(file), .. }) => {
                show(&mut out, &configured(&configuration(Some(&file), &[])?)?, Timestamp::now())
            }
            Some(Command::Show { config: None, out: directory }) => {
                let directory = std::path::absolute(directory)?;
                let files = built_in(&directory);
                if !files.iter().any(|(_, path)| path.exists()) {
                    return Err(Failure::new(format!(
                        "there are no certificates in {}: `portcullis certs --new` creates them, or name \
                         another directory with --out",
                        directory.display()
                    )));
                }
                show(&mut out, &files, Timestamp::now())
            }
            None => {
                let directory = std::path::absolute(self.out)?;
                let what = if self.new_authority { Renew::Authority } else { Renew::Certificate };
                let addresses: Vec<_> =
                    machine::addresses().iter().map(ToString::to_string).collect();
                let hosts = Hosts { required: self.hosts, optional: addresses };
                let is_new = !has_authority(&directory);
                if is_new && !self.new && !self.new_authority {
                    hosts.check()?;
                    confirm(&directory)?;
                }
                let outcome = renew(&directory, &hosts, self.days, what)?;
                let leaf = read(&directory.join(SERVER_CERTIFICATE))?;
                report(&mut out, &directory, &outcome, &leaf)?;
                // The first host that was given, as a bare name; else one that other machines can use.
                let host = match (hosts.required.first(), hosts.optional.first()) {
                    (None, Some(address)) => address,
                    _ => leaf.names.first().map_or("localhost", String::as_str),
                };
                trust(&mut out, &directory, host)
            }
        }
    }
}

/// Whether the directory has an authority, or a certificate that stands for one kept elsewhere.
fn has_authority(directory: &Path) -> bool {
    [CA_CERTIFICATE, CA_KEY, SERVER_CERTIFICATE].iter().any(|file| directory.join(file).exists())
}

/// Asks on the terminal whether an authority may be created. In another directory than the server's, it
/// would be one more, which no client trusts.
fn confirm(directory: &Path) -> Result<(), Failure> {
    let directory = directory.display();
    let refused = || {
        Failure::new(format!(
            "there is no certificate authority in {directory}: `portcullis certs --new` creates one, which \
             clients have to trust; where the server has one already, name its directory with --out"
        ))
    };
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(refused());
    }
    let mut terminal = io::stderr().lock();
    write!(
        terminal,
        "There is no certificate authority in {directory}.\n\
         If the server has one already, answer no, and name its directory with --out.\n\
         Create a new one, which clients have to trust? [y/N] "
    )?;
    terminal.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(refused()),
    }
}

fn report(
    out: &mut impl io::Write,
    directory: &Path,
    outcome: &Outcome,
    leaf: &Description,
) -> Result<(), Failure> {
    let authority = directory.join(CA_CERTIFICATE);
    let done = if outcome.created_authority { "created" } else { "kept" };
    writeln!(out, "Authority {}: {done}", authority.display())?;
    let path = directory.join(SERVER_CERTIFICATE);
    writeln!(out, "Server certificate {}: created", path.display())?;
    writeln!(out, "  for {}", leaf.names.join(", "))?;
    writeln!(out, "  until {}", day(leaf.not_after))?;
    Ok(())
}

/// Where each client looks for the certificates of authorities.
fn trust(out: &mut impl io::Write, directory: &Path, host: &str) -> Result<(), Failure> {
    let ca = directory.join(CA_CERTIFICATE);
    let ca = ca.display();
    // As in a URL.
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    writeln!(
        out,
        "
Clients have to trust {ca} (never give ca.key away). For {host}:5000:
  docker           copy it to /etc/docker/certs.d/{host}:5000/ca.crt
  podman, skopeo   copy it to /etc/containers/certs.d/{host}:5000/ca.crt
  containerd       copy it to /etc/containerd/certs.d/{host}:5000/ca.crt, and in hosts.toml beside it:
                     server = \"https://{host}:5000\"
                     [host.\"https://{host}:5000\"]
                       ca = \"/etc/containerd/certs.d/{host}:5000/ca.crt\"
  curl             curl --cacert {ca} https://{host}:5000/v2/"
    )?;
    if let Some(container) = machine::container() {
        writeln!(
            out,
            "\nThis is a container. Outside of it, `docker cp {container}:{ca} .` fetches ca.crt."
        )?;
    }
    Ok(())
}

/// The certificates of the local authority, each with its title. Either may be missing: the authority may be
/// kept elsewhere, the certificate come from another one.
fn built_in(directory: &Path) -> Vec<(String, PathBuf)> {
    let files = [("Authority", CA_CERTIFICATE), ("Server certificate", SERVER_CERTIFICATE)];
    files.map(|(title, file)| (title.to_owned(), directory.join(file))).to_vec()
}

/// The certificates that a configuration names, each with its key.
fn configured(config: &Config) -> Result<Vec<(String, PathBuf)>, Failure> {
    let TlsOptions::On { source, more, .. } = &config.http.server.tls else {
        return Err(Failure::new("http.tls is off: the server has no certificate"));
    };
    let mut files = match source {
        CertificateSource::BuiltIn => built_in(&std::path::absolute(CERTIFICATES)?),
        CertificateSource::Files { certificate, .. } => {
            vec![("http.tls.certificate".to_owned(), certificate.clone())]
        }
        CertificateSource::LetsEncrypt(options) => {
            let of = |host: &String| {
                (format!("http.tls.letsencrypt, {host}"), options.cachefile.join(host))
            };
            options.hosts.iter().map(of).collect()
        }
    };
    files.extend(more.iter().enumerate().map(|(index, files)| {
        (format!("http.tls.more[{index}].certificate"), files.certificate.clone())
    }));
    Ok(files)
}

fn show(
    out: &mut impl io::Write,
    files: &[(String, PathBuf)],
    now: Timestamp,
) -> Result<(), Failure> {
    for (title, path) in files {
        if !path.exists() {
            writeln!(out, "{title}: there is no {}", path.display())?;
            continue;
        }
        let certificate = read(path)?;
        writeln!(out, "{title}: {}", path.display())?;
        writeln!(out, "  subject      {}", certificate.subject)?;
        writeln!(out, "  issuer       {}", certificate.issuer)?;
        if !certificate.names.is_empty() {
            writeln!(out, "  names        {}", certificate.names.join(", "))?;
        }
        writeln!(out, "  valid from   {}", day(certificate.not_before))?;
        writeln!(
            out,
            "  valid until  {} ({})",
            day(certificate.not_after),
            left(certificate.not_after, now)
        )?;
        writeln!(out, "  SHA-256      {}", certificate.fingerprint)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Description, Failure> {
    let chain = load_chain(path)?;
    // A loaded chain is not empty.
    describe(&chain[0]).map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}

fn day(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M UTC").to_string()
}

fn left(end: Timestamp, now: Timestamp) -> String {
    match end.as_second() - now.as_second() {
        seconds if seconds <= 0 => "expired".to_owned(),
        seconds => match seconds / 86_400 {
            1 => "1 day left".to_owned(),
            days => format!("{days} days left"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_left_are_whole_days() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        for (end, expected) in [
            ("2026-11-21T12:00:00Z", "expired"),
            ("2026-11-22T11:59:59Z", "0 days left"),
            ("2026-11-22T12:00:00Z", "1 day left"),
            ("2026-12-21T12:00:00Z", "30 days left"),
        ] {
            assert_eq!(left(end.parse().unwrap(), now), expected);
        }
        assert_eq!(day(now), "2026-11-21 12:00 UTC");
    }
}
