//! `portcullis serve`: the registry, until a signal ends it.

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Write as _},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use super::{VERSION, failure::Failure, setting_options::SettingOptions, sources::configuration};
use crate::{
    app::{App, CERTIFICATES, Change, DataFolder, FirstPassword, FirstUser, Provisioned},
    config::{Config, Override, Settings},
    server::{Address, Listener, TlsOptions, machine},
    telemetry::{self, Log},
};

/// Serve a registry over HTTPS, behind passwords.
///
/// Without CONFIG it listens on 0.0.0.0:5000, with certificates in certs/, users in auth/htpasswd
/// and data in data/, all below the working directory. It creates what is missing: a local
/// certificate authority, a certificate, a user `admin` with a random password. A terminal shows
/// the password once; where standard output goes elsewhere, it is in auth/admin.password.
///
/// A socket that systemd passes (`LISTEN_FDS`) is served in place of http.addr. systemd is notified
/// (`NOTIFY_SOCKET`) when clients can connect, and of the end.
///
/// SIGTERM and SIGINT end it when the running requests have finished. SIGHUP makes it read the
/// configuration again, and log which keys need a restart. Certificates and users are also read
/// again when their files change.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Serve {
    /// A configuration file of registry:2 (YAML). Each key can be set by a REGISTRY_… variable too.
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingOptions,
}

/// Threads for blocking work on the disk: enough to keep a disk busy, and few enough to be cheap.
const BLOCKING_THREADS: usize = 64;

/// Threads that accept connections and run background jobs. The server has its own threads for
/// connections.
const THREADS: usize = 2;

/// How long blocking work may go on after the drain, such as a system call on a disk that hangs.
const LAST_WORK: Duration = Duration::from_secs(2);

/// The key that this command applies itself, for the log is its own.
const LOG_LEVEL: &str = "log.level";

const EXAMPLE: &str = "\
Example:
  portcullis serve
  portcullis serve --addr :8443 --host registry.example.com --data /srv/images
  REGISTRY_LOG_LEVEL=debug portcullis serve /etc/docker/registry/config.yml";

impl Serve {
    pub(super) fn run(self) -> Result<(), Failure> {
        let options = self.settings.overrides();
        let config = configuration(self.config.as_deref(), &options)?;
        // Dropped last, so that the messages of the stop are written, too.
        let log = telemetry::init(&config.log)?;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        for note in &config.notes {
            tracing::info!("{note}");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(THREADS)
            .max_blocking_threads(BLOCKING_THREADS)
            .build()?;
        let mut settings =
            Watched { file: self.config, options, began: config.settings.clone(), log };
        let result = runtime.block_on(serve(&config, &mut settings));
        // Before the log is dropped, so that its messages are written, too.
        runtime.shutdown_timeout(LAST_WORK);
        result
    }
}

/// The configuration in force, with its file and the log.
struct Watched {
    file: Option<PathBuf>,
    options: Vec<Override>,
    /// The settings at the start, with the keys that were reloaded since.
    began: Settings,
    log: Log,
}

impl Watched {
    /// Reads the configuration again, and applies the keys that need no restart.
    async fn read_again(&mut self, app: &App) {
        let config = match configuration(self.file.as_deref(), &self.options) {
            Ok(config) => config,
            Err(error) => {
                for problem in error.problems() {
                    let error = Failure::from(problem);
                    tracing::error!(
                        %error,
                        "cannot use the new configuration; the old one stays in force"
                    );
                }
                app.reload().await;
                return;
            }
        };
        self.log.set_level(config.log.level);
        let reloaded = app.apply(&config).await;
        let change = |key: &str| match key {
            LOG_LEVEL => Change::Applied,
            _ => reloaded.change(key),
        };
        for key in self.began.changed(&config.settings) {
            match change(&key) {
                Change::Applied => tracing::info!(%key, "applied from the configuration"),
                Change::Unusable => {
                    tracing::warn!(%key, "changed but not applied; see the error above");
                }
                Change::NeedsRestart => {
                    tracing::warn!(%key, "changed; takes effect after a restart");
                }
            }
        }
        self.began.adopt(&config.settings, |key| change(key) == Change::Applied);
    }
}

async fn serve(config: &Config, settings: &mut Watched) -> Result<(), Failure> {
    // Before anything is started: an early signal must not kill the process half-way.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;

    // Standard output that is no terminal is kept by a journal or by `docker logs`.
    let password = match std::io::stdout().is_terminal() {
        true => FirstPassword::Shown,
        false => FirstPassword::Kept,
    };
    let data = DataFolder::of(config);
    let (app, provisioned) = App::start_on(Listener::inherited()?, config, password)?;
    tracing::info!(
        addr = %app.addr(),
        tls = !matches!(config.http.server.tls, TlsOptions::Off),
        version = VERSION,
        "listening"
    );
    if provisioned.is_news() {
        let text = next_steps(config, app.addr(), &provisioned);
        // A reader that has closed standard output wants no more of it.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }
    notify(NotifyState::Ready);
    if let Some(data) = data {
        data.report(&app).await;
    }
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                tracing::info!("SIGHUP: reading configuration, certificates and users again");
                settings.read_again(&app).await;
            }
        }
    }
    notify(NotifyState::Stopping);
    tracing::info!("stopping: no new connections; requests in flight may finish");
    app.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// Notifies systemd, if it has set `NOTIFY_SOCKET`.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot notify systemd (NOTIFY_SOCKET)");
    }
}

/// The message after a first start: the addresses, the user, the data, the certificate authority.
fn next_steps(config: &Config, addr: &Address, provisioned: &Provisioned) -> String {
    let names = Names::of(config, addr);
    let here = &names.here;
    let scheme = match config.http.server.tls {
        TlsOptions::Off => "http",
        TlsOptions::On { .. } => "https",
    };
    let mut text = format!("\nThe registry is at {scheme}://{here}\n");
    if let Elsewhere::At(elsewhere) = &names.elsewhere
        && elsewhere != here
    {
        let _ = writeln!(text, "  from other machines  {scheme}://{elsewhere}");
    }
    text.push('\n');
    let user = match &provisioned.user {
        Some(FirstUser { name: user, password, file, kept }) => {
            let file = file.display();
            let _ = match kept {
                None => write!(
                    text,
                    "  user      {user}\n  password  {}\n\n\
                     The password is shown only once.",
                    password.reveal()
                ),
                Some(kept) => write!(
                    text,
                    "  user      {user}\n  password  in {}\n\n\
                     Remove that file when you have read it.",
                    kept.display()
                ),
            };
            let _ = write!(text, " This sets another:\n\n  portcullis htpasswd {file} {user}\n\n");
            user
        }
        None => "USER",
    };
    let _ = write!(text, "Log in:\n\n  docker login {here} -u {user}\n\n");
    if provisioned.certificates.is_some() {
        text.push_str(&trust(&names));
    }
    text
}

/// How clients are made to trust the local authority.
fn trust(names: &Names) -> String {
    let ca = Path::new(CERTIFICATES).join("ca.crt");
    let ca = std::path::absolute(&ca).unwrap_or(ca);
    let ca = ca.display();
    let host = match &names.elsewhere {
        Elsewhere::At(host) => host,
        Elsewhere::Nowhere => &names.here,
        Elsewhere::Unknown { .. } => "HOST:PORT",
    };
    let mut text = format!("Other machines must trust the local authority, {ca}:\n\n");
    if let Some(container) = machine::container() {
        let _ = write!(text, "  docker cp {container}:{ca} .\n\n");
    }
    let _ = write!(
        text,
        "  docker            copy it to /etc/docker/certs.d/{host}/ca.crt\n\
         \x20 podman, skopeo    copy it to /etc/containers/certs.d/{host}/ca.crt\n\
         \x20 containerd        copy it to /etc/containerd/certs.d/{host}/ca.crt\n\
         \x20                   and name it in hosts.toml beside it:\n\
         \x20                     [host.\"https://{host}\"]\n\
         \x20                     ca = \"/etc/containerd/certs.d/{host}/ca.crt\"\n\
         \x20 curl              curl --cacert ca.crt https://{host}/v2/\n\
         \x20 oras              --ca-file ca.crt\n\n"
    );
    let certs = match &names.elsewhere {
        Elsewhere::Unknown { container } => {
            text.push_str(
                "HOST:PORT is a name of the machine that runs this container, and its published\n\
                 port. This puts HOST into the certificate:\n\n",
            );
            format!("docker exec {container} portcullis certs --host HOST")
        }
        Elsewhere::At(_) | Elsewhere::Nowhere => {
            text.push_str("This puts another name of this machine into the certificate:\n\n");
            "portcullis certs --host NAME".to_owned()
        }
    };
    let _ = write!(
        text,
        "  {certs}\n\n\
         docker trusts 127.0.0.1 and localhost without all this. To localhost:PORT oras\n\
         speaks plain HTTP: use 127.0.0.1:PORT, or --plain-http=false.\n\n"
    );
    text
}

/// The names of the registry, each with a port.
struct Names {
    /// For clients on this machine.
    here: String,
    /// For clients on other machines.
    elsewhere: Elsewhere,
}

/// How clients on other machines reach the registry.
enum Elsewhere {
    At(String),
    /// Not at all: it listens on a loopback address, or a Unix socket.
    Nowhere,
    /// The machine that runs this container knows.
    Unknown {
        container: String,
    },
}

impl Names {
    fn of(config: &Config, addr: &Address) -> Self {
        if let Some(host) = &config.http.api.host {
            let host = host.split_once("://").map_or(host.as_str(), |(_, rest)| rest);
            let host = host.trim_end_matches('/').to_owned();
            return Self { here: host.clone(), elsewhere: Elsewhere::At(host) };
        }
        let Some(addr) = addr.tcp() else {
            return Self { here: addr.to_string(), elsewhere: Elsewhere::Nowhere };
        };
        let here = match addr.ip().is_unspecified() {
            true => format!("localhost:{}", addr.port()),
            false => addr.to_string(),
        };
        let elsewhere = if let Some(container) = machine::container() {
            Elsewhere::Unknown { container }
        } else if addr.ip().is_loopback() {
            Elsewhere::Nowhere
        } else if addr.ip().is_unspecified() {
            // `[::]` serves both families.
            let usable = |address: &IpAddr| addr.is_ipv6() || address.is_ipv4();
            match machine::addresses().into_iter().find(usable) {
                Some(ip) => Elsewhere::At(SocketAddr::new(ip, addr.port()).to_string()),
                None => Elsewhere::Nowhere,
            }
        } else {
            Elsewhere::At(addr.to_string())
        };
        Self { here, elsewhere }
    }
}
