//! Reports of suites that this machine cannot run.

use std::{env, fs::OpenOptions, io::Write as _};

/// Prints that a suite is skipped, and why, and appends the line to the file that
/// `PORTCULLIS_SKIPPED` names, which `make test` shows at its end.
///
/// # Panics
///
/// With `CI=true` when the missing thing is `installable`, that is, installed by
/// `tests/install-clients.sh`: a green run would claim what was not tested.
#[expect(clippy::print_stdout, reason = "a skip that no person sees is a hole in the test")]
pub fn skip(suite: &str, reason: &str, installable: bool) {
    let line = format!("skipped: {suite}: {reason}");
    let ci = env::var("CI").is_ok_and(|value| value == "true");
    assert!(!(ci && installable), "{line}, and CI=true allows no gaps");
    println!("{line}");
    if let Some(path) = env::var_os("PORTCULLIS_SKIPPED") {
        let written = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        assert!(written.is_ok(), "PORTCULLIS_SKIPPED cannot be written: {written:?}");
    }
}
