//! Listeners: a TCP socket, a Unix socket, or a socket that systemd passes to the process.

use std::{
    fmt,
    fs::{self, File},
    io,
    net::{self, SocketAddr, TcpListener},
    os::{
        fd::AsFd,
        unix::{
            self,
            fs::{FileTypeExt as _, MetadataExt as _},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use listenfd::ListenFd;
use rustix::{
    fs::Access,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt},
};
use tokio::net::{TcpStream, UnixStream};

use super::{Net, Options, transport::SocketStream};

/// The address of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address of this machine and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket from the root, if it has one.
    Unix(Option<PathBuf>),
}

impl Address {
    /// The address of a TCP listener; `None` for a Unix socket.
    #[must_use]
    pub const fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) => Some(*addr),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Self::Unix(None) => f.write_str("unix"),
        }
    }
}

/// A socket that listens. Clients can connect, and wait in its backlog until a server accepts them.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: Socket,
    pub(super) addr: Address,
    /// The file of a Unix socket, removed after the socket has been closed.
    pub(super) file: Option<SocketFile>,
}

impl Listener {
    /// Listens on `http.addr`.
    ///
    /// # Errors
    ///
    /// Those of [`tcp`](Self::tcp) and [`unix`](Self::unix).
    pub fn open(options: &Options) -> Result<Self, BindError> {
        match options.net {
            Net::Tcp => Self::tcp("http.addr", &options.addr),
            Net::Unix => Self::unix("http.addr", &options.addr),
        }
    }

    /// Listens on `host:port`, the value of the configuration's `key`. Without a host, listens on all
    /// addresses of both families, as Go does.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound.
    pub fn tcp(key: &'static str, addr: &str) -> Result<Self, BindError> {
        bind(addr).and_then(Self::of_tcp).map_err(|source| BindError::of_tcp(key, addr, source))
    }

    /// Binds `host:port` to check that a server can. The address is in use until the returned socket
    /// is dropped. Needs no runtime.
    ///
    /// # Errors
    ///
    /// Those of [`tcp`](Self::tcp).
    pub fn probe_tcp(key: &'static str, addr: &str) -> Result<TcpListener, BindError> {
        bind(addr).map_err(|source| BindError::of_tcp(key, addr, source))
    }

    /// Checks that a server can bind a Unix socket at this path. Creates and removes nothing. Does not
    /// connect to an existing socket, so another process may listen on it.
    ///
    /// # Errors
    ///
    /// When the path is another kind of file, when the folder is missing or not writable, and when the
    /// path is too long.
    pub fn probe_unix(key: &'static str, path: &str) -> Result<(), BindError> {
        let probed = (|| {
            let path = Path::new(path);
            SocketAddrUnix::new(path)?;
            match fs::symlink_metadata(path) {
                Ok(found) if found.file_type().is_socket() => {}
                Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            let folder = folder_of(path);
            fs::metadata(folder)?;
            rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK)?;
            Ok(())
        })();
        probed.map_err(|source| BindError::of_unix(key, path, source))
    }

    /// Listens on a Unix socket at this path. Replaces a socket that a crash has left there; the server
    /// removes the file when it stops. A client needs write access to the file, which the folder and
    /// the umask of the process decide.
    ///
    /// # Errors
    ///
    /// When the path is another kind of file, or a socket on which a process listens; when the folder
    /// is missing or not writable.
    pub fn unix(key: &'static str, path: &str) -> Result<Self, BindError> {
        let bound = bind_file(Path::new(path))
            .and_then(|(socket, file)| Ok(Self { file: Some(file), ..Self::of_unix(socket)? }));
        bound.map_err(|source| BindError::of_unix(key, path, source))
    }

    /// The socket that systemd passes to this process (`LISTEN_FDS`, `sd_listen_fds(3)`), and the
    /// first of several. `None` if systemd passes none.
    ///
    /// # Errors
    ///
    /// When the descriptor is not a socket that listens.
    pub fn inherited() -> Result<Option<Self>, InheritError> {
        let mut passed = ListenFd::from_env();
        if passed.len() > 1 {
            tracing::warn!(passed = passed.len(), "only the first of the sockets passed is used");
        }
        let listener = match passed.take_tcp_listener(0) {
            Ok(Some(socket)) => must_listen(&socket).and_then(|()| Self::of_tcp(socket)),
            Ok(None) => return Ok(None),
            Err(_) => match passed.take_unix_listener(0) {
                Ok(Some(socket)) => must_listen(&socket).and_then(|()| Self::of_unix(socket)),
                Ok(None) => return Ok(None),
                Err(error) => Err(error),
            },
        };
        listener.map(Some).map_err(InheritError)
    }

    /// Where it is; with port 0 in the configuration, with the port that was chosen.
    #[must_use]
    pub const fn addr(&self) -> &Address {
        &self.addr
    }

    fn of_tcp(socket: TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let addr = Address::Tcp(socket.local_addr()?);
        let socket = Socket::Tcp(tokio::net::TcpListener::from_std(socket)?);
        Ok(Self { socket, addr, file: None })
    }

    fn of_unix(socket: UnixListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let path = socket.local_addr()?.as_pathname().map(std::path::absolute).transpose()?;
        let addr = Address::Unix(path);
        let socket = Socket::Unix(tokio::net::UnixListener::from_std(socket)?);
        Ok(Self { socket, addr, file: None })
    }
}

/// A socket that listens, registered with the runtime that accepts.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Socket {
    pub(super) async fn accept(&self) -> io::Result<AcceptedSocket> {
        match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                // A socket for both families gives IPv4 addresses as IPv4-mapped ones.
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                Ok(AcceptedSocket::Tcp(stream.into_std()?, peer))
            }
            Self::Unix(socket) => Ok(AcceptedSocket::Unix(socket.accept().await?.0.into_std()?)),
        }
    }
}

/// An accepted socket that is not registered with a runtime yet.
#[derive(Debug)]
pub(super) enum AcceptedSocket {
    Tcp(net::TcpStream, SocketAddr),
    Unix(unix::net::UnixStream),
}

impl AcceptedSocket {
    /// The client's address; `None` for a client on a Unix socket.
    pub(super) const fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(_, peer) => Some(*peer),
            Self::Unix(_) => None,
        }
    }

    /// Registers the socket with the runtime of the calling task.
    pub(super) fn register(self) -> io::Result<SocketStream> {
        Ok(match self {
            Self::Tcp(stream, _) => SocketStream::Tcp(TcpStream::from_std(stream)?),
            Self::Unix(stream) => SocketStream::Unix(UnixStream::from_std(stream)?),
        })
    }
}

fn bind(addr: &str) -> io::Result<TcpListener> {
    match addr.strip_prefix(':') {
        Some(port) => TcpListener::bind(format!("[::]:{port}"))
            .or_else(|_| TcpListener::bind(format!("0.0.0.0:{port}"))),
        None => TcpListener::bind(addr),
    }
}

fn bind_file(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    // Of two processes that start at once, neither may take the other's socket for one that a crash
    // has left. The lock ends with this function. Some file systems have no locks.
    let folder = File::open(folder_of(path))?;
    match folder.lock() {
        Err(error) if error.kind() != io::ErrorKind::Unsupported => return Err(error),
        _ => {}
    }
    let socket = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_left_behind(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }?;
    let file = SocketFile { path: std::path::absolute(path)?, id: id(path)? };
    Ok((socket, file))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Removes a socket on which no process listens.
fn remove_left_behind(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // Nonblocking, since the backlog of a process that listens may be full.
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&probe, &SocketAddrUnix::new(path)?) {
        Err(rustix::io::Errno::CONNREFUSED) => fs::remove_file(path),
        // Any other error, too, shows that a process listens.
        Ok(()) | Err(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// Refuses a socket that does not listen: with `Accept=yes` systemd passes a connection.
fn must_listen(socket: &impl AsFd) -> io::Result<()> {
    if sockopt::socket_acceptconn(socket)? {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket does not listen"))
}

/// The file of a Unix socket. The drop removes the file, by a system call that may block.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another process may have replaced the file meanwhile.
        if id(&self.path).is_ok_and(|id| id == self.id)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket file");
        }
    }
}

/// The identity of a file: its device and its inode.
fn id(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The address of a listener cannot be bound. The message names the address, the key of the
/// configuration and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr}: {hint} {key}")]
pub struct BindError {
    addr: String,
    hint: &'static str,
    key: &'static str,
    source: io::Error,
}

impl BindError {
    fn of_tcp(key: &'static str, addr: &str, source: io::Error) -> Self {
        let hint = match source.kind() {
            io::ErrorKind::AddrInUse => "another program does; stop it, or choose another",
            io::ErrorKind::PermissionDenied => "ports below 1024 are for root; choose another",
            io::ErrorKind::AddrNotAvailable => "it is not an address of this machine; correct",
            _ => "write <host>:<port> in",
        };
        Self { addr: addr.to_owned(), hint, key, source }
    }

    fn of_unix(key: &'static str, path: &str, source: io::Error) -> Self {
        let hint = match source.kind() {
            io::ErrorKind::AddrInUse => "another program does; stop it, or choose another",
            io::ErrorKind::AlreadyExists => {
                "a file is there that is no socket; remove it, or choose another"
            }
            io::ErrorKind::NotFound => "there is no such folder; make it, or choose another",
            io::ErrorKind::PermissionDenied => {
                "this user may not write to the folder; allow it, or choose another"
            }
            _ => "write the path of a socket, of at most 107 bytes, in",
        };
        let addr = std::path::absolute(path)
            .map_or_else(|_| path.to_owned(), |path| path.display().to_string());
        Self { addr, hint, key, source }
    }

    /// Whether the address is in use.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

/// The descriptor that systemd has passed to the process is not a socket that listens.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on the socket that was passed to this process (LISTEN_FDS); in a systemd unit, \
     use ListenStream= with Accept=no"
)]
pub struct InheritError(#[source] io::Error);

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path) -> String {
        Listener::unix("http.addr", path.to_str().unwrap()).unwrap_err().to_string()
    }

    #[tokio::test]
    async fn socket_is_replaced_only_if_no_process_listens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a crash leaves it");
        let listener = Listener::unix("http.addr", path.to_str().unwrap()).unwrap();
        assert_eq!(*listener.addr(), Address::Unix(Some(path.clone())));
        assert!(refused(&path).contains("another program does"), "{}", refused(&path));
        drop(listener);
        assert!(!path.exists());

        fs::write(&path, "precious").unwrap();
        assert!(refused(&path).contains("no socket"), "{}", refused(&path));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let nowhere = folder.path().join("no/socket");
        assert!(refused(&nowhere).contains("no such folder"), "{}", refused(&nowhere));
        let long = folder.path().join("x".repeat(200));
        assert!(refused(&long).contains("107 bytes"), "{}", refused(&long));
    }

    #[tokio::test]
    async fn socket_with_a_full_backlog_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let full = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        rustix::net::bind(&full, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&full, 0).unwrap();
        let _first = unix::net::UnixStream::connect(&path).unwrap();
        assert!(refused(&path).contains("another program does"), "{}", refused(&path));
        assert!(path.exists());
    }

    #[tokio::test]
    async fn file_that_has_replaced_the_socket_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = Listener::unix("http.addr", path.to_str().unwrap()).unwrap();
        fs::rename(&path, folder.path().join("moved")).unwrap();
        fs::write(&path, "precious").unwrap();
        drop(listener);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
