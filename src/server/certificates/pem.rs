//! Normalises PEM (RFC 7468) for the parser, and recognises files of other formats.
//!
//! The parser requires each boundary on a line of its own. A file violates this after a concatenation
//! without a newline, after an editor has added a byte order mark, and after a shell variable has
//! turned line breaks into spaces. OpenSSL's older labels are accepted too.

use std::path::Path;

use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};
use zeroize::Zeroizing;

use super::CertificateError;

const DASHES: &[u8] = b"-----";

/// The longest label that is recognised.
const LONGEST_LABEL: usize = 64;

/// Puts each boundary on a line of its own, and keeps the text around the sections.
pub(super) fn normalise(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut rest = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    // The capacity is the longest result: an allocation that grows would leave a copy of a key in
    // freed memory.
    let boundaries = bytes.windows(DASHES.len()).filter(|window| *window == DASHES).count();
    let mut normal = Zeroizing::new(Vec::with_capacity(bytes.len() + 2 * boundaries));
    while let Some(start) = find(rest, DASHES) {
        let (before, from) = rest.split_at(start);
        normal.extend_from_slice(before);
        match boundary(from) {
            Some(Boundary { kind, label, len }) => {
                normal.push(b'\n');
                for part in [DASHES, kind, without_prefix(label), DASHES, b"\n"] {
                    normal.extend_from_slice(part);
                }
                rest = &from[len..];
            }
            None => {
                normal.push(b'-');
                rest = &from[1..];
            }
        }
    }
    normal.extend_from_slice(rest);
    normal
}

/// A boundary of a section, such as `-----BEGIN CERTIFICATE-----`.
struct Boundary<'a> {
    /// `BEGIN ` or `END `.
    kind: &'static [u8],
    label: &'a [u8],
    /// The length of the boundary.
    len: usize,
}

/// Parses the boundary at the beginning of the text.
fn boundary(text: &[u8]) -> Option<Boundary<'_>> {
    let text = text.strip_prefix(DASHES)?;
    let kind = [&b"BEGIN "[..], b"END "].into_iter().find(|kind| text.starts_with(kind))?;
    let label = &text[kind.len()..];
    let end = find(&label[..label.len().min(LONGEST_LABEL + DASHES.len())], DASHES)?;
    let is_label = |b: &u8| b.is_ascii_alphanumeric() || *b == b' ';
    let label = &label[..end];
    let len = 2 * DASHES.len() + kind.len() + end;
    label.iter().all(is_label).then_some(Boundary { kind, label, len })
}

/// The label of RFC 7468 for a label of OpenSSL.
fn without_prefix(label: &[u8]) -> &[u8] {
    match label {
        b"X509 CERTIFICATE" | b"TRUSTED CERTIFICATE" => b"CERTIFICATE",
        label => label,
    }
}

fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|window| window == needle)
}

/// The certificate of a `TRUSTED CERTIFICATE` section, without the trust settings that OpenSSL appends.
pub(super) fn certificate_alone(der: &[u8]) -> &[u8] {
    match X509Certificate::from_der(der) {
        Ok((rest, _)) => &der[..der.len() - rest.len()],
        Err(_) => der,
    }
}

/// The kind of section that the caller looks for.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    Certificate,
    Key,
}

/// The error that names the format of a file without a section of the wanted kind; `None` where the
/// format is unknown.
pub(super) fn other_format(bytes: &[u8], path: &Path, wanted: Wanted) -> Option<CertificateError> {
    let (what, command) = match (wanted, format_of(bytes)?) {
        (_, Format::Utf16) => ("encoded in UTF-16", "iconv -f UTF-16 -t UTF-8 FILE > NEW"),
        (Wanted::Certificate, Format::Pkcs12) => {
            ("PKCS#12 (.pfx, .p12)", "openssl pkcs12 -in FILE -nokeys -out NEW")
        }
        (Wanted::Key, Format::Pkcs12) => {
            ("PKCS#12 (.pfx, .p12)", "openssl pkcs12 -in FILE -nocerts -nodes -out NEW")
        }
        (Wanted::Certificate, Format::Pkcs7) => {
            ("PKCS#7 (.p7b)", "openssl pkcs7 -in FILE -print_certs -out NEW")
        }
        (Wanted::Certificate, Format::Der) => ("DER", "openssl x509 -inform der -in FILE -out NEW"),
        (Wanted::Key, Format::Der) => ("DER", "openssl pkey -inform der -in FILE -out NEW"),
        (Wanted::Certificate, Format::Request) => {
            ("a certificate signing request", "openssl x509 -req -in FILE -signkey KEY -out NEW")
        }
        (Wanted::Key, Format::OpenSsh) => ("an OpenSSH key", "ssh-keygen -p -N '' -m PEM -f FILE"),
        _ => return None,
    };
    let file = path.display().to_string();
    let command = command.replace("FILE", &file).replace("NEW", &format!("{file}.pem"));
    Some(CertificateError::NotPem { path: path.to_owned(), what, command })
}

enum Format {
    Utf16,
    Pkcs12,
    Pkcs7,
    Der,
    Request,
    OpenSsh,
}

fn format_of(bytes: &[u8]) -> Option<Format> {
    let has = |label: &[u8]| find(bytes, &[DASHES, b"BEGIN ", label, DASHES].concat()).is_some();
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some(Format::Utf16),
        // A DER sequence whose length takes two bytes. PKCS#12 begins with version 3 (RFC 7292 §4).
        [0x30, 0x82, _, _, 0x02, 0x01, 0x03, ..] => Some(Format::Pkcs12),
        [0x30, 0x77 | 0x81 | 0x82, ..] => Some(Format::Der),
        _ if has(b"PKCS7") => Some(Format::Pkcs7),
        _ if has(b"CERTIFICATE REQUEST") || has(b"NEW CERTIFICATE REQUEST") => {
            Some(Format::Request)
        }
        _ if has(b"OPENSSH PRIVATE KEY") => Some(Format::OpenSsh),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_are_put_on_lines_of_their_own_and_the_rest_stays() {
        for (text, normal) in [
            (
                "\u{feff}-----BEGIN A-----\nAA==\n-----END A-----\n",
                "\n-----BEGIN A-----\n\nAA==\n\n-----END A-----\n\n",
            ),
            ("-----END A----------BEGIN A-----", "\n-----END A-----\n\n-----BEGIN A-----\n"),
            (
                "a -----BEGIN A----- AA== -----END A-----",
                "a \n-----BEGIN A-----\n AA== \n-----END A-----\n",
            ),
            ("-----BEGIN TRUSTED CERTIFICATE-----", "\n-----BEGIN CERTIFICATE-----\n"),
            ("------- a -----BEGIN-----", "------- a -----BEGIN-----"),
            ("-----BEGIN A", "-----BEGIN A"),
            ("", ""),
        ] {
            assert_eq!(normalise(text.as_bytes()).as_slice(), normal.as_bytes(), "{text:?}");
        }
    }
}
