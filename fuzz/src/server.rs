//! Targets of `server`.

use portcullis::server::{
    client_hello::{Invalid, Reader},
    proxy_header::parse,
};

/// The PROXY header of a connection: bytes are one header or none, and the rest of the connection never
/// changes which client a header names.
pub fn proxy_header(data: &[u8]) {
    if parse(data).is_err() {
        return;
    }
    assert!(data.starts_with(b"PROXY") || data.starts_with(b"\r\n\r\n\0\r\nQUIT\n"), "{data:?}");
    let longer = [data, b"\x16\x03\x01"].concat();
    assert!(parse(&longer).is_err(), "{data:?}");
    assert!(parse(&data[..data.len() - 1]).is_err(), "{data:?}");
}

/// The first message of TLS: the name that it asks for does not depend on the pieces in which it arrives,
/// and can be a name in the log.
pub fn client_hello(data: &[u8]) {
    let whole = name(std::iter::once(data));
    if let Ok(Some(name)) = &whole {
        crate::assert_printable(name);
    }
    // Behind an error, and behind the message, the pieces do not reach a reader.
    if let Ok(Some(_)) = whole {
        let in_bytes = name(data.chunks(1));
        assert_eq!(in_bytes.ok(), whole.ok());
    }
}

/// The name that a client asks for; the empty text for one that asks for none, `None` while the message is
/// not whole.
fn name<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Option<String>, Invalid> {
    let mut reader = Reader::default();
    for piece in pieces {
        if let Some(accepted) = reader.push(piece)? {
            let name = accepted.client_hello().server_name().unwrap_or_default().to_owned();
            return Ok(Some(name));
        }
    }
    Ok(None)
}
