//! What a suite needs of the machine, and what happens when it is not there.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, Stdio};

/// One thing that a suite cannot do without.
pub(crate) enum Need {
    /// A program on the `PATH`.
    Program(&'static str),
    /// To be root.
    Root,
    /// The right to make network and mount namespaces, which root in a container often lacks.
    Namespaces,
}

/// Whether everything in `needs` is there; where it is not, the skip has been reported.
///
/// With `CI=true` a missing program is a failure, because a green run there would claim what was
/// never tried. `PORTCULLIS_SKIPPED` names a file that collects the skips for whoever started us.
pub(crate) fn met(suite: &str, needs: &[Need]) -> bool {
    let Some(lacking) = needs.iter().find(|need| !need.is_met()) else {
        return true;
    };
    let line = format!("skipped: {suite}: {}", lacking.reason());
    let ci = env::var("CI").is_ok_and(|value| value == "true");
    assert!(!(ci && matches!(lacking, Need::Program(_))), "{line}, and CI=true allows no gaps");
    report(&line);
    false
}

impl Need {
    fn is_met(&self) -> bool {
        match self {
            Self::Program(name) => env::var_os("PATH").is_some_and(|path| {
                env::split_paths(&path).any(|directory| directory.join(name).is_file())
            }),
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
            Self::Program(name) => format!("{name} is not installed"),
            Self::Root => "needs root".to_owned(),
            Self::Namespaces => "namespaces cannot be made here".to_owned(),
        }
    }
}

fn id_of_user() -> String {
    let output = Command::new("id").arg("-u").output().expect("id runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[expect(clippy::print_stdout, reason = "a skip that nobody sees is a hole in the test")]
fn report(line: &str) {
    println!("{line}");
    if let Some(path) = env::var_os("PORTCULLIS_SKIPPED") {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .expect("PORTCULLIS_SKIPPED can be written");
        file.write_all(format!("{line}\n").as_bytes()).expect("PORTCULLIS_SKIPPED can be written");
    }
}
