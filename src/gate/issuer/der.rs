//! Public keys in DER (X.690 §10): the little of it that keys of a JSON Web Key Set need.

use super::algorithm::Kind;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;

/// A sequence of encoded items.
pub(super) fn sequence(items: &[Vec<u8>]) -> Vec<u8> {
    encoded(SEQUENCE, &items.concat())
}

/// A positive number, whose first byte is not zero.
pub(super) fn integer(bytes: &[u8]) -> Vec<u8> {
    match bytes.first() {
        Some(first) if *first >= 0x80 => encoded(INTEGER, &[&[0], bytes].concat()),
        _ => encoded(INTEGER, bytes),
    }
}

/// The `SubjectPublicKeyInfo` of a key (RFC 5280 §4.1.2.7), whose bytes are those of its bit string.
pub(super) fn public_key(kind: Kind, bytes: &[u8]) -> Vec<u8> {
    // RFC 3279 §2.3.1, RFC 5480 §2.1.1, RFC 8410 §3.
    let algorithm: &[u8] = match kind {
        Kind::Rsa => b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00",
        Kind::P256 => {
            b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"
        }
        Kind::P384 => b"\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22",
        Kind::P521 => b"\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23",
        Kind::Ed25519 => b"\x30\x05\x06\x03\x2b\x65\x70",
    };
    sequence(&[algorithm.to_vec(), encoded(BIT_STRING, &[&[0], bytes].concat())])
}

fn encoded(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut out = vec![tag];
    match significant {
        [] => out.push(0),
        [short] if *short < 0x80 => out.push(*short),
        long => {
            // A length of at most eight bytes.
            out.push(0x80 | u8::try_from(long.len()).unwrap_or_default());
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(content);
    out
}
