//! The byte stream below HTTP: a socket, TLS over it, and the wrappers that limit reads and writes.

mod backpressure;
mod closing;
mod control_frames;
mod delegate_write;
mod lingering;
mod preface_timeout;
mod read_ahead;
mod socket_stream;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

pub(super) use self::{
    backpressure::{Backpressure, UnderWay, Unread},
    closing::{Closable, Closing},
    control_frames::ControlFrames,
    lingering::Lingering,
    preface_timeout::PrefaceTimeout,
    read_ahead::ReadAhead,
    socket_stream::SocketStream,
};

/// The stream of a connection: the socket, or TLS over it.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(SocketStream),
    /// Boxed, since a TLS session takes a kilobyte.
    Tls(Box<TlsStream<ReadAhead<SocketStream>>>),
}

delegate_write::delegate_enum!(Transport { Plain, Tls });

/// The HTTP version of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// The stream of a connection with the wrappers of its HTTP version.
#[derive(Debug)]
pub(super) enum HttpStream<S> {
    Http1(Lingering<S>),
    Http2(Backpressure<ControlFrames<Lingering<S>>>),
}

delegate_write::delegate_enum!(HttpStream<S> { Http1, Http2 });
