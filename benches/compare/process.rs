//! Server processes that end with this one, and clients that end in time.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::Outcome;

/// Longer than any client takes, so that a client that hangs fails its line and not the whole run.
const CLIENT_LIMIT: &str = "600";
const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(10);
const FILES: u64 = 8192;

/// The servers that run now, for [`end_all`].
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// A server process.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts a server with its output in `log` and waits until it accepts connections at
    /// `address`. The kernel sends it SIGTERM if this process dies.
    pub(crate) fn start(command: &Command, log: &Path, address: &str) -> Outcome<Self> {
        let program = installed(&command.get_program().to_string_lossy())?;
        let output = File::create(log)?;
        let mut wrapped = Command::new("setpriv");
        wrapped.args(["--pdeathsig", "TERM"]).arg(&program).args(command.get_args());
        let child = wrapped
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C in the terminal reaches this process only, which ends the servers in order.
            .process_group(0)
            .spawn()?;
        running().push(child.id());
        let mut daemon = Self { child };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = daemon.child.try_wait()? {
                let said = fs::read_to_string(log).unwrap_or_default();
                return Err(format!("{} ended with {status}: {said}", program.display()).into());
            }
            if started.elapsed() > START_LIMIT {
                return Err(format!("{} does not accept connections", program.display()).into());
            }
            thread::sleep(Duration::from_micros(200));
        }
        Ok(daemon)
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let id = self.child.id();
        // SIGTERM first: nginx then ends its workers.
        signal("TERM", id);
        let asked = Instant::now();
        while asked.elapsed() < STOP_LIMIT && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        running().retain(|running| *running != id);
    }
}

/// Ends all servers without their owners, for exits that do not unwind.
pub(crate) fn end_all() {
    let running = running().clone();
    running.iter().for_each(|id| signal("TERM", *id));
    thread::sleep(Duration::from_secs(1));
    running.iter().for_each(|id| signal("KILL", *id));
}

fn running() -> std::sync::MutexGuard<'static, Vec<u32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn signal(name: &str, id: u32) {
    let _ = Command::new("kill").args(["-s", name, &id.to_string()]).stderr(Stdio::null()).status();
}

/// Runs a client to its end and gives its stdout; `input` is its stdin.
pub(crate) fn run(program: &str, arguments: &[&str], input: &[u8]) -> Outcome<String> {
    start(program, arguments)?.finish(input)
}

/// Starts a client that is killed when it takes too long.
pub(crate) fn start(program: &str, arguments: &[&str]) -> Outcome<Running> {
    let program = installed(program)?;
    let child = Command::new("timeout")
        .args(["--foreground", "--kill-after=5", CLIENT_LIMIT])
        .arg(&program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    Ok(Running { program, child })
}

/// A client at work.
#[derive(Debug)]
pub(crate) struct Running {
    program: PathBuf,
    child: Child,
}

impl Running {
    /// Whether the client has ended.
    pub(crate) fn has_ended(&mut self) -> Outcome<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits for the end and gives the stdout of a client that succeeded.
    pub(crate) fn finish(mut self, input: &[u8]) -> Outcome<String> {
        if let Some(mut stdin) = self.child.stdin.take() {
            // A client that refuses before it reads breaks the pipe: its output tells why.
            let _ = stdin.write_all(input);
        }
        let output = self.child.wait_with_output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().last().unwrap_or_default().to_owned();
            return Err(format!("{}: {}: {last}", self.program.display(), output.status).into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The path of a program; the error names the program.
pub(crate) fn installed(program: &str) -> Outcome<PathBuf> {
    if program.contains('/') {
        return Ok(program.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        // Debian installs servers in folders that are on root's PATH only.
        .chain(["/usr/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| format!("{program} is not installed").into())
}

/// Raises the limit of descriptors of this process and its children, for the connections of line 9.
pub(crate) fn raise_file_limit() -> Outcome<()> {
    let mut limits = String::new();
    File::open("/proc/self/limits")?.read_to_string(&mut limits)?;
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().next())
        .map_or(u64::MAX, |soft| soft.parse().unwrap_or(u64::MAX));
    if soft < FILES {
        let (own, files) = (std::process::id().to_string(), format!("--nofile={FILES}:"));
        run("prlimit", &["--pid", &own, &files], b"")?;
    }
    Ok(())
}
