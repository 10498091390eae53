//! PEM as it comes out of people's tools, made into what the parser finds the sections of.
//!
//! The parser wants each boundary in a line of its own. Files lose that when they are joined without
//! a newline between them, when an editor puts a byte order mark in front, and when a text goes
//! through a variable that turns line breaks into spaces. OpenSSL's older names of the section are
//! understood as well.

use std::path::Path;

use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};
use zeroize::Zeroizing;

use super::CertificateError;

const DASHES: &[u8] = b"-----";

/// No label is longer.
const LONGEST_LABEL: usize = 64;

/// The same sections, with each boundary in a line of its own. What stands around them is kept.
pub(super) fn tidy(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut rest = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    // As long as it can become: growing would leave copies of a key behind.
    let boundaries = bytes.windows(DASHES.len()).filter(|window| *window == DASHES).count();
    let mut tidied = Zeroizing::new(Vec::with_capacity(bytes.len() + 2 * boundaries));
    while let Some(start) = find(rest, DASHES) {
        let (before, from) = rest.split_at(start);
        tidied.extend_from_slice(before);
        match boundary(from) {
            Some((kind, label, len)) => {
                tidied.push(b'\n');
                for part in [DASHES, kind, without_prefix(label), DASHES, b"\n"] {
                    tidied.extend_from_slice(part);
                }
                rest = &from[len..];
            }
            None => {
                tidied.push(b'-');
                rest = &from[1..];
            }
        }
    }
    tidied.extend_from_slice(rest);
    tidied
}

/// `BEGIN ` or `END `, the label and the length of the boundary that the text begins with.
fn boundary(text: &[u8]) -> Option<(&'static [u8], &[u8], usize)> {
    let text = text.strip_prefix(DASHES)?;
    let kind = [&b"BEGIN "[..], b"END "].into_iter().find(|kind| text.starts_with(kind))?;
    let label = &text[kind.len()..];
    let end = find(&label[..label.len().min(LONGEST_LABEL + DASHES.len())], DASHES)?;
    let is_label = |b: &u8| b.is_ascii_alphanumeric() || *b == b' ';
    let label = &label[..end];
    label.iter().all(is_label).then_some((kind, label, 2 * DASHES.len() + kind.len() + end))
}

/// The label as RFC 7468 has it.
fn without_prefix(label: &[u8]) -> &[u8] {
    match label {
        b"X509 CERTIFICATE" | b"TRUSTED CERTIFICATE" => b"CERTIFICATE",
        label => label,
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// The certificate without what OpenSSL writes behind a trusted one.
pub(super) fn certificate_alone(der: &[u8]) -> &[u8] {
    match X509Certificate::from_der(der) {
        Ok((rest, _)) => &der[..der.len() - rest.len()],
        Err(_) => der,
    }
}

/// What somebody looks for in a file.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    Certificate,
    Key,
}

/// What a file is that has no section of the kind that is looked for, where that can be told.
pub(super) fn other_form(bytes: &[u8], path: &Path, wanted: Wanted) -> Option<CertificateError> {
    let (what, command) = match (wanted, form(bytes)?) {
        (_, Form::Utf16) => ("encoded in UTF-16", "iconv -f UTF-16 -t UTF-8 FILE > NEW"),
        (Wanted::Certificate, Form::Pkcs12) => {
            ("PKCS#12 (.pfx, .p12)", "openssl pkcs12 -in FILE -nokeys -out NEW")
        }
        (Wanted::Key, Form::Pkcs12) => {
            ("PKCS#12 (.pfx, .p12)", "openssl pkcs12 -in FILE -nocerts -nodes -out NEW")
        }
        (Wanted::Certificate, Form::Pkcs7) => {
            ("PKCS#7 (.p7b)", "openssl pkcs7 -in FILE -print_certs -out NEW")
        }
        (Wanted::Certificate, Form::Der) => ("DER", "openssl x509 -inform der -in FILE -out NEW"),
        (Wanted::Key, Form::Der) => ("DER", "openssl pkey -inform der -in FILE -out NEW"),
        (Wanted::Certificate, Form::Request) => (
            "a request that nobody has signed yet",
            "openssl x509 -req -in FILE -signkey KEY -out NEW",
        ),
        (Wanted::Key, Form::OpenSsh) => ("a key of OpenSSH", "ssh-keygen -p -N '' -m PEM -f FILE"),
        _ => return None,
    };
    let file = path.display().to_string();
    let command = command.replace("FILE", &file).replace("NEW", &format!("{file}.pem"));
    Some(CertificateError::NotPem { path: path.to_owned(), what, command })
}

enum Form {
    Utf16,
    Pkcs12,
    Pkcs7,
    Der,
    Request,
    OpenSsh,
}

fn form(bytes: &[u8]) -> Option<Form> {
    let has = |label: &[u8]| find(bytes, &[DASHES, b"BEGIN ", label, DASHES].concat()).is_some();
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some(Form::Utf16),
        // A sequence whose length takes two bytes, and in PKCS#12 version 3 first (RFC 7292 §4).
        [0x30, 0x82, _, _, 0x02, 0x01, 0x03, ..] => Some(Form::Pkcs12),
        [0x30, 0x77 | 0x81 | 0x82, ..] => Some(Form::Der),
        _ if has(b"PKCS7") => Some(Form::Pkcs7),
        _ if has(b"CERTIFICATE REQUEST") || has(b"NEW CERTIFICATE REQUEST") => Some(Form::Request),
        _ if has(b"OPENSSH PRIVATE KEY") => Some(Form::OpenSsh),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_get_lines_of_their_own_and_the_rest_stays() {
        for (text, tidied) in [
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
            assert_eq!(tidy(text.as_bytes()).as_slice(), tidied.as_bytes(), "{text:?}");
        }
    }
}
