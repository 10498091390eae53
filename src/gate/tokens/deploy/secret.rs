//! The secret of a deploy token: `pcl_`, 27 characters of 160 random bits, 6 of a checksum.
//!
//! The prefix lets programs that look for leaked secrets find it. The checksum is the CRC-32 of zlib
//! over the 31 characters before it, so that such programs, and this server, tell a secret from other
//! text and from a secret with a typing error without a lookup.

use std::{fmt, str::FromStr};

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest, rand};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::gate::NoRandomness;

/// The beginning of every secret.
pub const PREFIX: &str = "pcl_";

/// How many bytes are random: 160 bits, beyond any search, so that SHA-256 without a salt protects
/// them in the file.
const RANDOM_BYTES: usize = 20;

/// How many digits 160 bits take.
const RANDOM_DIGITS: usize = 27;

/// How many digits the 32 bits of the checksum take.
const CHECK_DIGITS: usize = 6;

const LENGTH: usize = PREFIX.len() + RANDOM_DIGITS + CHECK_DIGITS;

/// Letters and digits only: a double click marks all of them, and no shell changes them.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A new secret. It is shown once, and erased from memory when it is dropped.
pub struct Secret(Zeroizing<String>);

/// The SHA-256 of a secret, all that the token file has of it. As text it is base64url.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretDigest([u8; digest::SHA256_OUTPUT_LEN]);

/// The text is not the SHA-256 of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256 as 43 characters of base64url")]
pub struct NoDigest;

/// What a password may be, by its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The secret of a token, with this digest.
    Secret(SecretDigest),
    /// It begins as a secret, and its length or its checksum is wrong.
    Mistyped,
    /// A password, or something else.
    Other,
}

impl Secret {
    /// A new random secret.
    ///
    /// # Errors
    ///
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut random = Zeroizing::new([0; RANDOM_BYTES]);
        rand::fill(random.as_mut()).map_err(|_| NoRandomness)?;
        Ok(Self::of(&mut random))
    }

    fn of(random: &mut [u8; RANDOM_BYTES]) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(LENGTH));
        text.push_str(PREFIX);
        let random: Zeroizing<[u8; RANDOM_DIGITS]> = digits(random);
        text.extend(random.iter().copied().map(char::from));
        let check = check_digits(text.as_bytes());
        text.extend(check.iter().copied().map(char::from));
        Self(text)
    }

    /// The secret as text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What the token file has of it.
    #[must_use]
    pub fn digest(&self) -> SecretDigest {
        SecretDigest::of(self.0.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Form {
    /// The form of a password.
    #[must_use]
    pub fn of(password: &[u8]) -> Self {
        if !password.starts_with(PREFIX.as_bytes()) {
            return Self::Other;
        }
        let Some((checked, check)) = password.split_at_checked(LENGTH - CHECK_DIGITS) else {
            return Self::Mistyped;
        };
        if check == check_digits(checked).as_slice() {
            Self::Secret(SecretDigest::of(password))
        } else {
            Self::Mistyped
        }
    }
}

impl SecretDigest {
    fn of(secret: &[u8]) -> Self {
        let mut bytes = [0; digest::SHA256_OUTPUT_LEN];
        let hash = digest::digest(&digest::SHA256, secret);
        for (to, from) in bytes.iter_mut().zip(hash.as_ref()) {
            *to = *from;
        }
        Self(bytes)
    }

    /// Whether both are the same. The time that this takes does not depend on where they differ.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; digest::SHA256_OUTPUT_LEN] {
        &self.0
    }
}

impl From<[u8; digest::SHA256_OUTPUT_LEN]> for SecretDigest {
    fn from(bytes: [u8; digest::SHA256_OUTPUT_LEN]) -> Self {
        Self(bytes)
    }
}

impl FromStr for SecretDigest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| NoDigest)?;
        bytes.try_into().map(Self).map_err(|_| NoDigest)
    }
}

impl fmt::Display for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretDigest")
    }
}

/// A number, whose bytes are in order of their weight, as digits of base 62. The bytes are zero
/// afterwards.
fn digits<const COUNT: usize>(number: &mut [u8]) -> Zeroizing<[u8; COUNT]> {
    let mut digits = Zeroizing::new([0; COUNT]);
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0_u32;
        for byte in number.iter_mut() {
            let value = (remainder << 8) | u32::from(*byte);
            // Less than 256, since the remainder is less than 62.
            *byte = (value / 62) as u8;
            remainder = value % 62;
        }
        *digit = DIGITS[remainder as usize];
    }
    digits
}

/// The digits of the checksum of a secret without it.
fn check_digits(secret: &[u8]) -> Zeroizing<[u8; CHECK_DIGITS]> {
    digits(&mut crc32(secret).to_be_bytes())
}

/// The CRC-32 of zlib, gzip and PNG (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        let [low, ..] = crc.to_le_bytes();
        (crc >> 8) ^ CRC_TABLE[usize::from(low ^ byte)]
    })
}

/// The effect of each byte on the checksum.
const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn checksum_is_that_of_zlib() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        // python3 -c 'import zlib; print(hex(zlib.crc32(b"pcl_000000000000000000000000000")))'
        assert_eq!(crc32(b"pcl_000000000000000000000000000"), 0x8f23_e49d);
    }

    #[test]
    fn largest_and_smallest_random_number_have_as_many_digits() {
        let zero = Secret::of(&mut [0; RANDOM_BYTES]);
        assert!(zero.reveal().starts_with("pcl_000000000000000000000000000"), "{}", zero.reveal());
        let largest = Secret::of(&mut [0xff; RANDOM_BYTES]);
        // 2^160 - 1.
        assert!(largest.reveal().starts_with("pcl_aWgEPTl1tmebfsQzFP4bxwgy80V"));
        for secret in [zero, largest, Secret::generate().unwrap()] {
            assert_eq!(secret.reveal().len(), LENGTH);
            assert_eq!(Form::of(secret.reveal().as_bytes()), Form::Secret(secret.digest()));
        }
    }

    #[test]
    fn secrets_differ() {
        let (one, other) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert_ne!(one.reveal(), other.reveal());
        assert!(!one.digest().is(&other.digest()));
        assert!(one.digest().is(&one.digest()));
    }

    #[test]
    fn other_passwords_are_no_secrets() {
        for password in ["", "pcl", "secret", "PCL_", " pcl_x"] {
            assert_eq!(Form::of(password.as_bytes()), Form::Other, "{password}");
        }
        for password in ["pcl_", "pcl_x", "pcl_é"] {
            assert_eq!(Form::of(password.as_bytes()), Form::Mistyped, "{password}");
        }
        assert_eq!(Form::of(b"pcl_\xff"), Form::Mistyped);
    }

    #[test]
    fn nothing_prints_a_secret() {
        let secret = Secret::generate().unwrap();
        let shown = format!("{secret:?} {:?}", Form::of(secret.reveal().as_bytes()));
        assert_eq!(shown, "Secret Secret(SecretDigest)");
    }

    proptest! {
        #[test]
        fn one_wrong_character_or_two_exchanged_ones_are_noticed(
            random in any::<[u8; RANDOM_BYTES]>(), at in 0..LENGTH - 1, wrong in "[ -~]",
        ) {
            let secret = Secret::of(&mut { random });
            let right = secret.reveal().as_bytes();
            let mut typed = right.to_vec();
            typed[at] = wrong.as_bytes()[0];
            let mut exchanged = right.to_vec();
            exchanged.swap(at, at + 1);
            for changed in [typed, exchanged, right[..at].to_vec(), [right, b"x"].concat()] {
                if changed != right {
                    prop_assert!(!matches!(Form::of(&changed), Form::Secret(_)));
                }
            }
        }

        #[test]
        fn digests_come_back_from_their_text(bytes in any::<[u8; 32]>()) {
            let digest = SecretDigest(bytes);
            prop_assert_eq!(digest.to_string().len(), 43);
            prop_assert_eq!(digest.to_string().parse::<SecretDigest>().unwrap(), digest);
        }

        #[test]
        fn any_password_has_a_form(password in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Form::of(&password);
            let _ = Form::of(&[PREFIX.as_bytes(), &password].concat());
        }
    }
}
