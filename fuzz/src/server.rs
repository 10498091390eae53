//! Targets of `server`.

use portcullis::server::proxy_header::parse;

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
