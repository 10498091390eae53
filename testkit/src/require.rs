//! The requirements of a suite: programs, root, namespaces.

use std::env;
use std::process::{Command, Stdio};

use crate::skip::skip;

/// One requirement of a suite.
#[derive(Debug)]
pub enum Need {
    /// A program on the `PATH`.
    Program(&'static str),
    /// A program on the `PATH` that `tests/install-clients.sh` does not install.
    Toolchain(&'static str),
    /// Root privileges.
    Root,
    /// The right to make network and mount namespaces, which root in a container often lacks.
    Namespaces,
}

/// Whether the machine meets all `needs`; otherwise the skip has been reported.
///
/// # Panics
///
/// With `CI=true` when a [`Need::Program`] is missing.
pub fn met(suite: &str, needs: &[Need]) -> bool {
    let Some(lacking) = needs.iter().find(|need| !need.is_met()) else {
        return true;
    };
    skip(suite, &lacking.reason(), matches!(lacking, Need::Program(_)));
    false
}

impl Need {
    fn is_met(&self) -> bool {
        match self {
            Self::Program(name) | Self::Toolchain(name) => {
                env::var_os("PATH").is_some_and(|path| {
                    env::split_paths(&path).any(|directory| directory.join(name).is_file())
                })
            }
            Self::Root => id_of_user() == "0",
            Self::Namespaces => Command::new("unshare")
                .args(["--net", "--mount", "true"])
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success()),
        }
    }

    fn reason(&self) -> String {
        match self {
            Self::Program(name) | Self::Toolchain(name) => format!("{name} is not installed"),
            Self::Root => "needs root".to_owned(),
            Self::Namespaces => "namespaces cannot be made here".to_owned(),
        }
    }
}

fn id_of_user() -> String {
    let output = Command::new("id").arg("-u").output().expect("id runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
