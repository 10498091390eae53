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
    /// The right to mount an overlay, whose lower layer is a folder of this system.
    Overlays,
}

/// Mounts an overlay in a mount namespace of its own.
const OVERLAY: &str = "mount -t tmpfs none /mnt && mkdir /mnt/changes /mnt/work /mnt/root && \
     mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/changes,workdir=/mnt/work /mnt/root && \
     mount -t overlay overlay -o lowerdir=/var,upperdir=/mnt/changes,workdir=/mnt/work /var";

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
            Self::Namespaces => unshares(&["--net", "--mount", "true"]),
            Self::Overlays => unshares(&["--mount", "sh", "-c", OVERLAY]),
        }
    }

    fn reason(&self) -> String {
        match self {
            Self::Program(name) | Self::Toolchain(name) => format!("{name} is not installed"),
            Self::Root => "needs root".to_owned(),
            Self::Namespaces => "namespaces cannot be made here".to_owned(),
            Self::Overlays => "overlays cannot be mounted here".to_owned(),
        }
    }
}

/// Whether unshare succeeds with these arguments.
fn unshares(arguments: &[&str]) -> bool {
    let mut unshare = Command::new("unshare");
    let status = unshare.args(arguments).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn id_of_user() -> String {
    let output = Command::new("id").arg("-u").output().expect("id runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
