//! What happens when a suite cannot do its work on this machine.

use std::{env, fs::OpenOptions, io::Write as _};

/// Says that a suite is left out, and why.
///
/// `PORTCULLIS_SKIPPED` names a file that collects the skips for whoever started us. With `CI=true`
/// something missing that `tests/install-clients.sh` installs is a failure, because a green run
/// there would claim what was never tried.
#[expect(clippy::print_stdout, reason = "a skip that nobody sees is a hole in the test")]
pub(crate) fn skip(suite: &str, reason: &str, installable: bool) {
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
