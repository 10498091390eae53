//! A connected TCP or Unix socket.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use rustix::net::{RecvFlags, recv};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};

/// A connected socket, registered with the runtime that serves it.
#[derive(Debug)]
pub(in crate::server) enum SocketStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl SocketStream {
    /// The address that the client has connected to; `None` for a Unix socket.
    pub(in crate::server) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Waits for the first byte and leaves it in the socket. `None` at the end of the stream.
    pub(in crate::server) async fn first_byte(&self) -> io::Result<Option<u8>> {
        let mut first = [0];
        Ok((self.peek(&mut first).await? == 1).then_some(first[0]))
    }

    /// Waits for bytes, and copies them without taking them from the socket. Returns how many, 0 at the end
    /// of the stream.
    pub(in crate::server) async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.peek(bytes).await,
            Self::Unix(stream) => {
                let peek = || {
                    let (_, read) = recv(stream, &mut *bytes, RecvFlags::PEEK)?;
                    Ok(read)
                };
                stream.async_io(Interest::READABLE, peek).await
            }
        }
    }
}

super::delegate_write::delegate_enum!(SocketStream { Tcp, Unix });
