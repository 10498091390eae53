//! The machine that the page describes, in a folder: the files of nginx and of the registry, and
//! the running programs.

use std::{
    collections::BTreeMap,
    env, fs,
    net::{SocketAddr, TcpStream},
    os::unix::fs::symlink,
    path::PathBuf,
    process::Command,
};

use reqwest::Version;

use testkit::{
    process::Daemon,
    registry2,
    site::{PASSWORD, Site},
};

use super::page;
use crate::{api::Api, place::BUILD};

/// The ports of plain HTTP, and of docker-registry behind nginx: offsets from the port of HTTPS.
const PLAIN_PORTS: u16 = 3000;
const BEHIND_PORTS: u16 = 4000;

const NGINX_CONFIG: &str = "etc/nginx/conf.d/registry.conf";
const CONFIG: &str = "etc/docker/registry/config.yml";

/// The users of nginx's password file: one with Apache's bcrypt, the others with hashes that only
/// `legacyformats` accepts.
pub(super) const USERS: [&str; 4] = ["ann", "bob", "carol", "dave"];

/// The configuration in registry:2's image.
const OF_THE_IMAGE: &str = "\
version: 0.1
log:
  fields:
    service: registry
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: /var/lib/registry
http:
  addr: :5000
  headers:
    X-Content-Type-Options: [nosniff]
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
";

/// How the programs are set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setup {
    /// By files of the page.
    Files,
    /// By the variables that the files of compose have for them.
    Containers,
    /// By the same files as registry:2, behind nginx as registry:2.
    BehindNginx,
}

/// The machine. When it is dropped, its programs stop.
pub(super) struct Machine {
    running: BTreeMap<String, Daemon>,
    setup: Setup,
    /// Of each program.
    variables: BTreeMap<&'static str, Vec<(String, String)>>,
    site: Site,
}

impl Machine {
    /// With the files of the pair, and no program running.
    pub(super) fn new(setup: Setup) -> Self {
        let site = Site::new("migration", BUILD);
        for folder in [
            "etc/nginx/conf.d",
            "etc/nginx/ssl",
            "etc/nginx/auth",
            "etc/docker/registry",
            "bin",
            "trust",
        ] {
            fs::create_dir_all(site.path(folder)).unwrap();
        }
        fs::create_dir_all(site.path("var/lib/registry")).unwrap();
        symlink(BUILD.binary, site.path("bin/portcullis")).unwrap();
        for (from, to) in [("server.crt", "fullchain.pem"), ("server.key", "privkey.pem")] {
            let to = site.path("etc/nginx/ssl").join(to);
            fs::copy(site.path("certs").join(from), to).unwrap();
        }
        // The trust of clients: without the authority's key beside it.
        fs::copy(site.path("certs/ca.crt"), site.path("trust/ca.crt")).unwrap();
        fs::write(site.path("etc/nginx/auth/htpasswd"), password_file()).unwrap();
        let (running, variables) = (BTreeMap::new(), BTreeMap::new());
        let mut machine = Self { running, setup, variables, site };
        machine.write(NGINX_CONFIG, &page::block("pair"));
        machine.write(CONFIG, &page::change("config").0);
        match setup {
            Setup::Files => {}
            Setup::Containers => machine.contain(),
            Setup::BehindNginx => {
                let lines = page::block("behind");
                let pairs = lines.lines().map(|line| machine.here(line));
                let pair = |line: String| {
                    line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
                };
                let variables = pairs.map(|line| pair(line).unwrap()).collect();
                machine.variables.insert("portcullis", variables);
            }
        }
        machine
    }

    /// Texts of the page, and their replacements here. In order: a longer text comes before one
    /// that it contains.
    fn stand_ins(&self) -> [(&'static str, String); 12] {
        let (secure, plain) = (self.site.address, self.beside(PLAIN_PORTS));
        let root = self.site.path("").display().to_string();
        let root = root.trim_end_matches('/');
        [
            ("/usr/local/bin/portcullis", format!("{root}/bin/portcullis")),
            ("/etc/", format!("{root}/etc/")),
            ("/var/lib/registry", format!("{root}/var/lib/registry")),
            ("listen 443 ssl", format!("listen {secure} ssl")),
            ("listen 80", format!("listen {plain}")),
            ("redirectaddr: :80", format!("redirectaddr: {plain}")),
            ("addr: :443", format!("addr: {secure}")),
            ("127.0.0.1:5000", self.beside(BEHIND_PORTS).to_string()),
            ("server_name registry.example.com", format!("server_name {}", secure.ip())),
            // The port of HTTPS is not 443.
            ("https://$host", format!("https://$host:{}", secure.port())),
            ("://registry.example.com", "://HOST".to_owned()),
            // curl would prompt for the password.
            ("--user ann", format!("--user 'ann:{PASSWORD}'")),
        ]
    }

    /// The text of the page, changed so that it concerns this machine only.
    pub(super) fn here(&self, text: &str) -> String {
        let mut here = text.to_owned();
        for (there, stand_in) in self.stand_ins() {
            here = here.replace(there, &stand_in);
        }
        here =
            here.replace("https://HOST", &self.base()).replace("http://HOST", &self.plain_base());
        let rest = here.replace(&self.site.path("").display().to_string(), "");
        for outside in ["/etc/", "/var/", "/usr/", "example.com", ":443", ":80;", ":80\n"] {
            assert!(!rest.contains(outside), "{outside} of the page has no stand-in: {rest}");
        }
        here
    }

    /// Every replaced text occurs in the page.
    pub(super) fn check_stand_ins(&self) {
        let blocks =
            ["pair", "before", "unit", "keep", "config", "swap", "after", "back", "behind"];
        let page = blocks.map(page::block).concat();
        for (there, _) in self.stand_ins() {
            assert!(page.contains(there), "{there} is not in the page any more");
        }
    }

    /// The same for a value in a file of compose.
    fn contained(&self, value: &str) -> String {
        let path = |name| self.site.path(name).display().to_string();
        value
            .replace("/certs/", &path("etc/nginx/ssl/"))
            .replace("/auth/", &path("etc/nginx/auth/"))
            .replace("/var/lib/registry", &path("var/lib/registry"))
            .replace("https://registry.example.com", &self.base())
            .replace(":5080", &self.beside(PLAIN_PORTS).to_string())
    }

    fn beside(&self, ports: u16) -> SocketAddr {
        SocketAddr::new(self.site.address.ip(), self.site.address.port() + ports)
    }

    /// The beginning of the URLs of requests.
    pub(super) fn base(&self) -> String {
        self.site.base()
    }

    /// The same without TLS.
    pub(super) fn plain_base(&self) -> String {
        format!("http://{}", self.beside(PLAIN_PORTS))
    }

    /// The host and port in the names of images.
    pub(super) fn name(&self) -> String {
        self.site.address.to_string()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.site.path(name)
    }

    /// A client that trusts the machine's authority, whichever program serves.
    pub(super) fn http(&self) -> reqwest::Client {
        self.site.client(Version::HTTP_11).build().unwrap()
    }

    /// The same with the credentials of a user.
    pub(super) fn api(&self, user: &'static str) -> Api {
        Api::new(self.http(), self.base(), user)
    }

    /// Writes a file of the page.
    pub(super) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), self.here(text)).unwrap();
    }

    /// Applies the page's change to `config.yml`.
    pub(super) fn change_config(&self) {
        self.write(CONFIG, &page::change("config").1);
    }

    /// Removes the two lines with `auth_basic` from nginx's file.
    pub(super) fn ask_no_password_in_nginx(&self) {
        let text = page::block("pair");
        let (gone, kept): (Vec<_>, Vec<_>) =
            text.lines().partition(|line| line.contains("auth_basic"));
        assert_eq!(gone.len(), 2, "{gone:?}");
        self.write(NGINX_CONFIG, &kept.join("\n"));
    }

    /// Gives both programs the variables of the compose files. They bind the ports that compose
    /// publishes.
    fn contain(&mut self) {
        let config = OF_THE_IMAGE.replace("/var/lib/registry", "/nowhere");
        fs::write(self.path("image.yml"), config).unwrap();
        let units = ["docker-registry", "portcullis"];
        let addresses = [self.beside(BEHIND_PORTS), self.site.address];
        for ((unit, address), variables) in
            units.into_iter().zip(addresses).zip(page::environments())
        {
            let mut variables: Vec<_> =
                variables.into_iter().map(|(name, value)| (name, self.contained(&value))).collect();
            variables.push(("REGISTRY_HTTP_ADDR".to_owned(), address.to_string()));
            self.variables.insert(unit, variables);
        }
    }

    /// Runs the commands of a block of the page, and gives the output of each line.
    pub(super) fn enter(&mut self, block: &str) -> Vec<String> {
        page::lines(block).iter().map(|line| self.line(line)).collect()
    }

    fn line(&mut self, page::Line { command, code }: &page::Line) -> String {
        let words: Vec<_> = command.split(' ').collect();
        match words[..] {
            ["systemctl", "enable", "--now", ref units @ ..] => {
                units.iter().for_each(|unit| self.start(unit));
                String::new()
            }
            ["systemctl", "disable", "--now", ref units @ ..] => {
                units.iter().for_each(|unit| self.stop(unit));
                String::new()
            }
            _ => {
                let mut shell = self.program("sh");
                let output = shell.arg("-c").arg(self.here(command)).output().unwrap();
                assert_eq!(output.status.code(), Some(*code), "{command}: {output:?}");
                String::from_utf8(output.stdout).unwrap()
            }
        }
    }

    /// A program that sees this machine and nothing of the real one's environment.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        let path = env::var("PATH").unwrap();
        command
            .current_dir(self.path(""))
            .env_clear()
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("CURL_CA_BUNDLE", self.path("trust/ca.crt"));
        command
    }

    pub(super) fn start(&mut self, unit: &str) {
        let variables = self.variables.get(unit);
        let (mut command, address) = match unit {
            "nginx" => (self.nginx(), self.site.address),
            "docker-registry" => {
                let program = registry2::program().unwrap();
                let mut command = self.program(&program.display().to_string());
                let is_contained = self.setup == Setup::Containers;
                let file = if is_contained { "image.yml" } else { CONFIG };
                command.arg("serve").arg(self.path(file));
                (command, self.beside(BEHIND_PORTS))
            }
            "portcullis" => {
                let service = self.here(&page::service());
                let mut words = service.split(' ');
                let mut command = self.program(words.next().unwrap());
                // The image has no file.
                let is_contained = self.setup == Setup::Containers;
                command.args(words.take(if is_contained { 1 } else { usize::MAX }));
                let is_behind = self.setup == Setup::BehindNginx;
                (command, self.beside(if is_behind { BEHIND_PORTS } else { 0 }))
            }
            _ => panic!("there is no unit {unit}"),
        };
        if let Some(variables) = variables {
            command.envs(variables.iter().map(|(name, value)| (name, value)));
        }
        let log = self.path(&format!("{unit}.log"));
        let daemon = Daemon::start(&mut command, &log, || TcpStream::connect(address).is_ok());
        assert!(self.running.insert(unit.to_owned(), daemon).is_none(), "{unit} runs already");
    }

    pub(super) fn stop(&mut self, unit: &str) {
        assert!(self.running.remove(unit).is_some(), "{unit} does not run");
    }

    /// The output of a program since its last start.
    pub(super) fn log(&self, unit: &str) -> String {
        fs::read_to_string(self.path(&format!("{unit}.log"))).unwrap()
    }

    /// nginx with the file of the page included as in Debian's configuration, and in one process.
    fn nginx(&self) -> Command {
        let at = self.path("");
        let at = at.display();
        let frame = format!(
            "daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/nginx-error.log;\n\
             events {{}}\n\
             http {{\n\
             access_log off;\n\
             client_body_temp_path {at}/1; proxy_temp_path {at}/2; fastcgi_temp_path {at}/3;\n\
             uwsgi_temp_path {at}/4; scgi_temp_path {at}/5;\n\
             include {at}/etc/nginx/conf.d/*.conf;\n\
             }}\n"
        );
        fs::write(self.path("nginx.conf"), frame).unwrap();
        let mut command = self.program("nginx");
        command.arg("-p").arg(self.path("")).arg("-c").arg(self.path("nginx.conf"));
        command.arg("-e").arg(self.path("nginx-error.log"));
        command
    }
}

/// nginx's password file, made with the usual tools.
fn password_file() -> String {
    let print = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let [bcrypt, apr1, openssl_apr1, sha512] = USERS;
    [
        // The cost of bcrypt is not tested here.
        print("htpasswd", &["-Bbn", "-C", "4", bcrypt, PASSWORD]),
        print("htpasswd", &["-mbn", apr1, PASSWORD]),
        format!("{openssl_apr1}:{}", print("openssl", &["passwd", "-apr1", PASSWORD])),
        format!("{sha512}:{}", print("openssl", &["passwd", "-6", PASSWORD])),
    ]
    .concat()
}
