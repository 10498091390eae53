//! Clients as processes that end, and servers as processes that end with the test.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than any client takes, so that a client that hangs fails its test and not the whole run.
const CLIENT_LIMIT: &str = "120";
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// A client that is killed when it takes too long.
pub fn client(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--foreground", "--kill-after=5", CLIENT_LIMIT, program]);
    command
}

/// The output and the exit status of a client.
#[derive(Debug)]
pub struct Outcome {
    command: String,
    output: Output,
}

impl Outcome {
    /// Runs a client that reads nothing.
    pub fn of(command: &mut Command) -> Self {
        Self::with_input(command, "")
    }

    /// Runs a client with `input` on its stdin.
    pub fn with_input(command: &mut Command, input: &str) -> Self {
        Self::with(command, input, drop)
    }

    /// Runs a client with `input` on its stdin, which stays open until the client ends by itself.
    pub fn with_open_input(command: &mut Command, input: &str) -> Self {
        let mut open = None;
        Self::with(command, input, |stdin| open = Some(stdin))
    }

    /// `written` gets the stdin of the client when `input` has been written to it.
    fn with(command: &mut Command, input: &str, written: impl FnOnce(ChildStdin)) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the client starts");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        // A client that refuses before it reads breaks the pipe: its output tells why.
        let _ = stdin.write_all(input.as_bytes());
        written(stdin);
        let output = child.wait_with_output().expect("the client ends");
        Self { command: format!("{command:?}"), output }
    }

    /// The trimmed stdout of a client that must have succeeded.
    pub fn succeeds(&self) -> String {
        assert!(self.output.status.success(), "was to succeed:\n{}", self.report());
        String::from_utf8_lossy(&self.output.stdout).trim().to_owned()
    }

    /// Asserts that the client failed; for clients that answer by their exit code alone.
    pub fn fails(&self) {
        assert!(!self.output.status.success(), "was to fail:\n{}", self.report());
    }

    /// Asserts that the client failed and said `words`, in whatever letter case.
    pub fn fails_saying(&self, words: &str) {
        self.fails();
        let said = self.said().to_lowercase();
        assert!(said.contains(&words.to_lowercase()), "was to say {words:?}:\n{}", self.report());
    }

    /// The stdout and then the stderr of the client.
    pub fn said(&self) -> String {
        let stdout = String::from_utf8_lossy(&self.output.stdout);
        stdout.into_owned() + &String::from_utf8_lossy(&self.output.stderr)
    }

    fn report(&self) -> String {
        format!("$ {}\n{}\n{}", self.command, self.output.status, self.said())
    }
}

/// A server process that is stopped when this is dropped: by SIGTERM first, by SIGKILL after 20
/// seconds.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command` with its output in `log` and waits until `ready` holds.
    pub fn start(command: &mut Command, log: &Path, ready: impl Fn() -> bool) -> Self {
        let output = File::create(log).expect("the log can be written");
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file handle can be copied"))
            .stderr(output)
            .spawn()
            .expect("the server starts");
        let mut daemon = Self { child, log: log.to_owned() };
        let started = Instant::now();
        while !ready() {
            if let Some(status) = daemon.child.try_wait().expect("our own child can be awaited") {
                panic!("the server ended with {status}:\n{}", daemon.log());
            }
            assert!(started.elapsed() < START_LIMIT, "the server hangs:\n{}", daemon.log());
            thread::sleep(POLL);
        }
        daemon
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The stdout and stderr of the process so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // SIGTERM first: dockerd then unmounts and stops its containerd.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let asked = Instant::now();
        while asked.elapsed() < STOP_LIMIT {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(POLL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
