//! The two servers: one configuration except for the address, one password file, one certificate.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::Path,
    process::{self, Command},
};

use tempfile::TempDir;
use testkit::{registry2::Registry2, server::Server};

use crate::{
    exchange::{Answer, exchange},
    normal::{self, Normal},
    step::{PASSWORD, Step, USER},
};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// Both servers, and the parts of their responses that later requests need.
pub(crate) struct Sides {
    theirs: Side,
    ours: Side,
    _registry2: Registry2,
    _portcullis: Server,
    folder: TempDir,
}

/// The parts in which the servers differ.
struct Side {
    address: SocketAddr,
    /// The `Location` of responses, without the origin.
    kept: BTreeMap<&'static str, String>,
}

impl Sides {
    /// Starts both on empty trees, on addresses of their own: 127.0.0.0/8 has one for every process
    /// id.
    pub(crate) fn start() -> Self {
        let [_, high, middle, low] = process::id().to_be_bytes();
        let ip = Ipv4Addr::new(127, 192 + high % 63, middle, low);
        let address = |port| SocketAddr::V4(SocketAddrV4::new(ip, port));
        let (theirs, ours) = (address(5000), address(5001));
        // In memory, where syncs cost nothing, if possible.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        run(folder.path(), &["certs", "--new", "--host", &ip.to_string(), "--out", "certs"]);
        fs::write(folder.path().join("htpasswd"), users(folder.path())).unwrap();
        let place = |name| {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let registry2 = Registry2::start(&place("registry2"), &configuration(theirs));
        let portcullis = portcullis(&place("portcullis"), ours);
        let side = |address| Side { address, kept: BTreeMap::new() };
        Self {
            theirs: side(registry2.address),
            ours: side(ours),
            _registry2: registry2,
            _portcullis: portcullis,
            folder,
        }
    }

    /// Sends a step to both, and gives the responses of registry:2 and of Portcullis.
    pub(crate) async fn answers(&mut self, step: &Step) -> (Normal, Normal) {
        let ca = self.folder.path().join("certs/ca.crt");
        tokio::join!(self.theirs.answer(step, &ca), self.ours.answer(step, &ca))
    }
}

impl Side {
    async fn answer(&mut self, step: &Step, ca: &Path) -> Normal {
        let answer = exchange(self.address, ca, step, &self.target(step)).await;
        let normal = normal::of(&answer, self.address, &self.kept);
        if let Some(name) = step.keep {
            self.kept.insert(name, self.location(step, &answer));
        }
        normal
    }

    /// The target of a step with the kept values filled in.
    fn target(&self, step: &Step) -> String {
        let mut target = step.target.clone();
        for (name, location) in &self.kept {
            target = target.replace(&format!("{{{name}}}"), location);
            if let Some(id) = normal::upload_id(location) {
                target = target.replace(&format!("{{{name}.id}}"), id);
            }
        }
        assert!(!target.contains('{'), "{}: nothing is kept for {target}", step.name);
        match &step.query {
            Some(query) if target.contains('?') => format!("{target}&{query}"),
            Some(query) => format!("{target}?{query}"),
            None => target,
        }
    }

    fn location(&self, step: &Step, answer: &Answer) -> String {
        let location = answer.header("location");
        let origin = format!("https://{}", self.address);
        let path = location.map(|location| location.strip_prefix(&origin).unwrap_or(location));
        path.unwrap_or_else(|| panic!("{}: no Location: {answer:?}", step.name)).to_owned()
    }
}

/// Starts our server in `folder`, with its log in `portcullis.log`.
fn portcullis(folder: &Path, address: SocketAddr) -> Server {
    fs::write(folder.join("config.yml"), configuration(address)).unwrap();
    let mut command = Command::new(BINARY);
    command.args(["serve", "config.yml"]).current_dir(folder).env_clear();
    Server::start(&mut command, address, &folder.join("portcullis.log"))
}

/// Runs our binary to its end, and gives its output.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> String {
    let output =
        Command::new(BINARY).args(arguments).current_dir(folder).env_clear().output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A password file with everything that such files contain: comments, empty lines, hashes of other
/// kinds, a duplicate user. The cost of bcrypt is not tested here.
fn users(folder: &Path) -> String {
    let line = |user, password| run(folder, &["htpasswd", "-Bbn", "-C", "4", user, password]);
    [
        "# users of the registry\n\n",
        "old:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n",
        &line(USER, "an older password").replace("$2y$", "$2a$"),
        "\n",
        &line(USER, PASSWORD),
        &line("bob", "pass:word with a colon"),
        &line("tab", "pass\tword"),
        // "grüße" in Latin-1.
        "latin:$2y$04$Y6o4VTlKDMadJo9ngTchneW1qzHkWXAXiv09JYCSEH64AGonFuthq\n",
    ]
    .concat()
}

/// The `config.yml` of either server. Each has folders of its own and shares the rest.
fn configuration(address: SocketAddr) -> String {
    format!(
        "\
version: 0.1
log:
  level: info
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: data
  delete:
    enabled: true
auth:
  htpasswd:
    realm: A \"quoted\" realm
    path: ../htpasswd
http:
  addr: {address}
  secret: for both
  headers:
    X-Content-Type-Options: [nosniff]
    X-Of-The-File: [one, two]
  tls:
    certificate: ../certs/server.crt
    key: ../certs/server.key
"
    )
}
