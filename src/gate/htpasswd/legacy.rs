//! The other hashes that nginx and Apache verify, for operators who keep an existing password file.
//!
//! Such hashes are verified and never created: all of them are fast, so that a reader of the file
//! finds the passwords quickly. Guessing over the network is limited by the gate, in the same way
//! for all formats.

use std::fmt;

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA1_OUTPUT_LEN},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use md5::{Digest as _, Md5};
use sha_crypt::Params;

use super::{Format, HashError};

/// The most rounds of a SHA-2 crypt that are accepted: about a second of a core for each login. The
/// format allows 999,999,999, which would take many minutes.
pub const MAX_ROUNDS: u32 = 1_000_000;

/// The longest password that Apache's `htpasswd` accepts. The work of a check grows with the length,
/// which unauthenticated clients choose.
const MAX_PASSWORD_BYTES: usize = 255;

/// The rounds of a SHA-2 crypt that does not state them, and the fewest that one may state.
const DEFAULT_ROUNDS: u32 = 5000;
const MIN_ROUNDS: u32 = 1000;

const APR1_ROUNDS: u32 = 1000;

/// The digits of crypt(3), which are not those of RFC 4648.
const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The order in which each function encodes the bytes of its digest.
const MD5_ORDER: [u8; 16] = [12, 6, 0, 13, 7, 1, 14, 8, 2, 15, 9, 3, 5, 10, 4, 11];
const SHA256_ORDER: [u8; 32] = [
    20, 10, 0, 11, 1, 21, 2, 22, 12, 23, 13, 3, 14, 4, 24, 5, 25, 15, 26, 16, 6, 17, 7, 27, 8, 28,
    18, 29, 19, 9, 30, 31,
];
const SHA512_ORDER: [u8; 64] = [
    42, 21, 0, 1, 43, 22, 23, 2, 44, 45, 24, 3, 4, 46, 25, 26, 5, 47, 48, 27, 6, 7, 49, 28, 29, 8,
    50, 51, 30, 9, 10, 52, 31, 32, 11, 53, 54, 33, 12, 13, 55, 34, 35, 14, 56, 57, 36, 15, 16, 58,
    37, 38, 17, 59, 60, 39, 18, 19, 61, 40, 41, 20, 62, 63,
];

type Bytes = Box<[u8]>;

/// The hash of a password by Apache's MD5, by SHA-1 with or without a salt, or by SHA-2 crypt; known
/// to be well-formed and within [`MAX_ROUNDS`]. `Debug` shows the format and never the hash.
#[derive(Clone, PartialEq, Eq)]
pub struct LegacyHash {
    text: Box<str>,
    format: Format,
    algorithm: Algorithm,
    /// The expected output: for SHA-1 the digest, for the others its encoding in characters.
    expected: Bytes,
}

#[derive(Clone, PartialEq, Eq)]
enum Algorithm {
    Apr1 { salt: Bytes },
    Sha1 { salt: Bytes },
    Sha256Crypt { salt: Bytes, rounds: u32 },
    Sha512Crypt { salt: Bytes, rounds: u32 },
}

impl LegacyHash {
    /// Parses a text that begins like this format.
    pub(super) fn parse(text: &str, format: Format) -> Result<Self, HashError> {
        let damaged = HashError::Malformed;
        let (algorithm, expected) = match format {
            Format::Apr1 => {
                let (salt, hash) = fields(text, "$apr1$", 8, MD5_ORDER.len()).ok_or(damaged)?;
                (Algorithm::Apr1 { salt }, hash)
            }
            Format::Sha1 => {
                let (hash, salt) = sha1_fields(text, "{SHA}").ok_or(damaged)?;
                // `{SHA}` has no salt: more bytes mean a damaged hash.
                if !salt.is_empty() {
                    return Err(damaged);
                }
                (Algorithm::Sha1 { salt }, hash)
            }
            Format::SaltedSha1 => {
                let (hash, salt) = sha1_fields(text, "{SSHA}").ok_or(damaged)?;
                (Algorithm::Sha1 { salt }, hash)
            }
            Format::Sha256Crypt => {
                let (rest, rounds) = rounds(text.strip_prefix("$5$").ok_or(damaged)?)?;
                let (salt, hash) = fields(rest, "", 16, SHA256_ORDER.len()).ok_or(damaged)?;
                (Algorithm::Sha256Crypt { salt, rounds }, hash)
            }
            Format::Sha512Crypt => {
                let (rest, rounds) = rounds(text.strip_prefix("$6$").ok_or(damaged)?)?;
                let (salt, hash) = fields(rest, "", 16, SHA512_ORDER.len()).ok_or(damaged)?;
                (Algorithm::Sha512Crypt { salt, rounds }, hash)
            }
            Format::Md5Crypt
            | Format::Argon2
            | Format::Yescrypt
            | Format::DesCrypt
            | Format::Unknown => return Err(HashError::Format(format)),
        };
        Ok(Self { text: text.into(), format, algorithm, expected })
    }

    /// A dummy hash: no password has it, and verifying it costs as much as verifying this one.
    pub(super) fn dummy(&self) -> Self {
        // No encoded character is zero, and no input with an all-zero SHA-1 digest is known.
        let expected = vec![0; self.expected.len()].into();
        Self { text: "".into(), expected, ..self.clone() }
    }

    /// Whether this is the hash of the password. `false` for a password of more than 255 bytes.
    ///
    /// Costs as many rounds of CPU as the hash states, whatever the result.
    #[must_use]
    pub fn verify(&self, password: &[u8]) -> bool {
        let whole = password.len() <= MAX_PASSWORD_BYTES;
        let password = &password[..password.len().min(MAX_PASSWORD_BYTES)];
        let found = match &self.algorithm {
            Algorithm::Apr1 { salt } => encode(&apr1(password, salt), &MD5_ORDER),
            Algorithm::Sha1 { salt } => {
                let mut sha1 = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
                sha1.update(password);
                sha1.update(salt);
                sha1.finish().as_ref().to_vec()
            }
            Algorithm::Sha256Crypt { salt, rounds } => match Params::new(*rounds) {
                Ok(params) => {
                    encode(&sha_crypt::sha256_crypt(password, salt, params), &SHA256_ORDER)
                }
                Err(_) => Vec::new(),
            },
            Algorithm::Sha512Crypt { salt, rounds } => match Params::new(*rounds) {
                Ok(params) => {
                    encode(&sha_crypt::sha512_crypt(password, salt, params), &SHA512_ORDER)
                }
                Err(_) => Vec::new(),
            },
        };
        verify_slices_are_equal(&found, &self.expected).is_ok() & whole
    }

    /// The hash as the file has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The format of the hash.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }
}

impl fmt::Debug for LegacyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LegacyHash").field("format", &self.format).finish_non_exhaustive()
    }
}

/// Salt and hash of `salt$hash` after the prefix; the hash encodes a digest of `digest` bytes.
fn fields(text: &str, prefix: &str, salt: usize, digest: usize) -> Option<(Bytes, Bytes)> {
    let (found, hash) = text.strip_prefix(prefix)?.split_once('$')?;
    let is_hash =
        hash.len() == (digest * 8).div_ceil(6) && hash.bytes().all(|b| DIGITS.contains(&b));
    (found.len() <= salt && is_hash).then(|| (found.as_bytes().into(), hash.as_bytes().into()))
}

/// Digest and salt after the prefix, in base64.
fn sha1_fields(text: &str, prefix: &str) -> Option<(Bytes, Bytes)> {
    let bytes = BASE64_STANDARD.decode(text.strip_prefix(prefix)?).ok()?;
    let (digest, salt) = bytes.split_at_checked(SHA1_OUTPUT_LEN)?;
    Some((digest.into(), salt.into()))
}

/// The number of an optional `rounds=…$`, and the text after it.
fn rounds(text: &str) -> Result<(&str, u32), HashError> {
    let Some(text) = text.strip_prefix("rounds=") else {
        return Ok((text, DEFAULT_ROUNDS));
    };
    let (digits, rest) = text.split_once('$').ok_or(HashError::Malformed)?;
    let plain = !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    match digits.parse().ok().filter(|_| plain).ok_or(HashError::Malformed)? {
        0..MIN_ROUNDS => Err(HashError::Malformed),
        rounds @ MIN_ROUNDS..=MAX_ROUNDS => Ok((rest, rounds)),
        rounds => Err(HashError::TooManyRounds { rounds }),
    }
}

/// Encodes a digest as crypt(3) does: three bytes, in this order, as four digits, the lowest first.
fn encode(digest: &[u8], order: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity((order.len() * 8).div_ceil(6));
    for three in order.chunks(3) {
        let bytes = three.iter().rev().map(|&at| usize::from(digest[usize::from(at)]));
        let mut bits = bytes.fold(0, |bits, byte| bits << 8 | byte);
        for _ in 0..=three.len() {
            text.push(DIGITS[bits % DIGITS.len()]);
            bits /= DIGITS.len();
        }
    }
    text
}

/// Apache's variant of the MD5 crypt of FreeBSD, as in `apr_md5_encode` and `ngx_crypt_apr1`.
fn apr1(password: &[u8], salt: &[u8]) -> [u8; 16] {
    let mut digest: [u8; 16] = Md5::new()
        .chain_update(password)
        .chain_update(salt)
        .chain_update(password)
        .finalize()
        .into();
    let mut md5 = Md5::new().chain_update(password).chain_update("$apr1$").chain_update(salt);
    for piece in password.chunks(digest.len()) {
        md5.update(&digest[..piece.len()]);
    }
    let mut bits = password.len();
    while bits > 0 {
        // The mix of a zero byte and the password's first byte is a quirk of the original.
        md5.update(if bits & 1 == 1 { b"\0" } else { &password[..1] });
        bits >>= 1;
    }
    digest = md5.finalize().into();
    for round in 0..APR1_ROUNDS {
        let mut md5 = Md5::new();
        let is_odd = round % 2 == 1;
        md5.update(if is_odd { password } else { &digest });
        if round % 3 > 0 {
            md5.update(salt);
        }
        if round % 7 > 0 {
            md5.update(password);
        }
        md5.update(if is_odd { &digest } else { password });
        digest = md5.finalize().into();
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::htpasswd::{Formats, PasswordHash};

    /// Made by Apache's `htpasswd`, `openssl passwd` and crypt(3).
    const MADE: [(&str, &str, &str); 12] = [
        ("correct horse", "$apr1$abcdefgh$sIQmFnT1CuEXAsyjuXjUX/", "apr1"),
        ("x", "$apr1$uOeJiNuZ$92LTFnsKX7IpvVqGWf1/u1", "apr1"),
        ("x", "$apr1$$jYtXyIcDHukcQfHjblNhq/", "apr1"),
        ("correct horse", "{SHA}L55TUjtiq8FBorTWAZ0jy6g129A=", "SHA-1"),
        ("x", "{SHA}EfatjsUqKYSrqv18O1FlA3hcIHI=", "SHA-1"),
        ("correct horse", "{SSHA}LhKrkM9Fy+zlstjdD7Kv2s6QvhBzYWx0", "salted SHA-1"),
        (
            "correct horse",
            "$5$saltstring$vc6YOOogU4kWVvwga8e9zTFgKcy4tb5LaPxIiPJzqEC",
            "SHA-256 crypt",
        ),
        (
            "correct horse",
            "$5$rounds=10000$saltstringsaltst$ffO6RHJbzihHqETll0c/MLDJrGhQw9fAaO1LcVIStWB",
            "SHA-256 crypt",
        ),
        (
            "x",
            "$5$rounds=1000$PBG6Ks9qM5aRDgPD$2DlhEmYelhaC/h6MIa/GYEvr3Za6U2tv/nbN6vXjudB",
            "SHA-256 crypt",
        ),
        (
            "correct horse",
            "$6$saltstring$.r0X7ub5wGR2v4Xz7svCIozfnlorFh19V89t8KC9Umd81uGhFgsyTRNyzQDXDIm17fFcR9z3z7oBNdsyYBbtm/",
            "SHA-512 crypt",
        ),
        // Of the specification of SHA-2 crypt.
        (
            "Hello world!",
            "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
            "SHA-512 crypt",
        ),
        (
            "x",
            "$6$fCtUmYNvVmoUiW/7$alEeyXs8eyXgFDf3bgLhfor0J3oEV1.2NDO0IKEgASrF.m5kWzsbOgdv3e92jJ2KfPV/5SV8g7OtbmtBHoww3/",
            "SHA-512 crypt",
        ),
    ];

    fn parse(text: &str) -> Result<PasswordHash, HashError> {
        PasswordHash::parse(text, Formats::WithLegacy)
    }

    #[test]
    fn hash_by_other_programs_verifies_its_password_and_no_other() {
        for (password, text, format) in MADE {
            let hash = parse(text).unwrap();
            assert!(hash.verify(password.as_bytes()), "{text}");
            for wrong in ["", "X", "correct hors", "Hello world!!"] {
                assert!(!hash.verify(wrong.as_bytes()), "{text} {wrong}");
            }
            assert_eq!(hash.as_str(), text);
            let PasswordHash::Legacy(legacy) = &hash else { panic!("{text} is a legacy hash") };
            assert_eq!(legacy.format().to_string().split(" (").next(), Some(format));
            assert!(!hash.dummy().verify(password.as_bytes()), "{text}");
            assert!(!format!("{hash:?}").contains(&text[7..]), "{hash:?}");
        }
    }

    #[test]
    fn hash_with_one_character_changed_verifies_nothing() {
        for (password, text, _) in MADE {
            for at in 0..text.len() {
                let mut other = text.as_bytes().to_vec();
                other[at] = if other[at] == b'A' { b'B' } else { b'A' };
                let other = String::from_utf8(other).unwrap();
                let lets_in = parse(&other).is_ok_and(|hash| hash.verify(password.as_bytes()));
                assert!(!lets_in, "{other}");
            }
            assert!(parse(&text[..text.len() - 1]).is_err(), "{text}");
            assert!(parse(&format!("{text}A")).is_err(), "{text}");
        }
    }

    #[test]
    fn rounds_have_a_limit() {
        let of = |rounds: &str| {
            let (_, text, _) = MADE[7];
            parse(&text.replace("10000", rounds)).map(|_| ())
        };
        assert_eq!(of("1000"), Ok(()));
        assert_eq!(of("1000000"), Ok(()));
        assert_eq!(of("1000001"), Err(HashError::TooManyRounds { rounds: 1_000_001 }));
        assert_eq!(of("999999999"), Err(HashError::TooManyRounds { rounds: 999_999_999 }));
        for damaged in ["999", "0", "", "01000", "+1000", "1e4", "99999999999999999999"] {
            assert_eq!(of(damaged), Err(HashError::Malformed), "{damaged}");
        }
    }

    #[test]
    fn password_over_255_bytes_verifies_nothing() {
        for (length, text, verifies) in [
            (255, "{SHA}Y6oauq27VpjyUnxc/M577PBGX5c=", true),
            (256, "{SHA}Y6oauq27VpjyUnxc/M577PBGX5c=", false),
            (256, "{SHA}U9q1UXAWVzVu2LdWU4ZaLnqcL0I=", false),
        ] {
            let password = "x".repeat(length);
            assert_eq!(parse(text).unwrap().verify(password.as_bytes()), verifies, "{length}");
        }
    }
}
