//! A server process.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A hang guard: longer than any working step.
const START_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// A running server. The caller decides how it ends; when this is dropped, it is killed.
#[derive(Debug)]
pub struct Server {
    /// The process.
    pub child: Child,
}

impl Server {
    /// Runs `command` and waits until it accepts connections at `address`. Its output is appended to
    /// the file `log`.
    ///
    /// # Panics
    ///
    /// When the process ends before it accepts connections, or does not accept any for a minute.
    pub fn start(command: &mut Command, address: SocketAddr, log: &Path) -> Self {
        let output = File::options().create(true).append(true).open(log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let mut server = Self { child };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            let said = || fs::read_to_string(log).unwrap();
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("{command:?} ended with {status}: {}", said());
            }
            assert!(started.elapsed() < START_LIMIT, "{command:?} does not start: {}", said());
            thread::sleep(POLL);
        }
        server
    }

    /// Sends SIGKILL and waits until the process is gone, and its sockets with it.
    ///
    /// # Errors
    ///
    /// When the process had ended by itself.
    pub fn kill(mut self) -> Result<(), String> {
        if let Some(status) = self.child.try_wait().unwrap() {
            return Err(format!("the server ended by itself with {status}"));
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
