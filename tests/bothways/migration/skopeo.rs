//! A real client, which has logged in once and does not know which program serves.

use std::process::Command;

use testkit::{
    process::{Outcome, client},
    require::{self, Need},
    site::{PASSWORD, USER},
};

use super::machine::Machine;

/// skopeo with credentials and trust of its own, in the machine's folder.
pub(super) struct Skopeo;

impl Skopeo {
    /// Logs in; `None` without skopeo.
    pub(super) fn log_in(machine: &Machine) -> Option<Self> {
        require::met("bothways: migration with skopeo", &[Need::Program("skopeo")]).then(|| {
            let mut login = Self::command(machine, &["login"]);
            login.arg("--cert-dir").arg(machine.path("trust"));
            login.args(["--username", USER, "--password-stdin", &machine.name()]);
            Outcome::with_input(&mut login, PASSWORD).succeeds();
            Self
        })
    }

    /// Pulls an image and pushes it under another name, byte for byte.
    pub(super) fn copy(&self, machine: &Machine, from: &str, to: &str) {
        let name = machine.name();
        let (from, to) = (format!("docker://{name}/{from}"), format!("docker://{name}/{to}"));
        let mut copy = Self::command(machine, &["copy", "--preserve-digests", "--all"]);
        copy.arg("--src-cert-dir").arg(machine.path("trust"));
        copy.arg("--dest-cert-dir").arg(machine.path("trust"));
        Outcome::of(copy.args([from, to])).succeeds();
    }

    fn command(machine: &Machine, arguments: &[&str]) -> Command {
        let mut command = client("skopeo");
        let [first, rest @ ..] = arguments else { panic!("no command") };
        command.arg(first).arg(if *first == "login" { "--authfile" } else { "--src-authfile" });
        command.arg(machine.path("auth.json"));
        if *first != "login" {
            command.arg("--dest-authfile").arg(machine.path("auth.json"));
        }
        command.args(rest);
        command
    }
}
