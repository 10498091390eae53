//! Hashes of passwords: parses and verifies them, and creates bcrypt hashes.

use std::{fmt, str::FromStr};

use bcrypt::{HashParts, Version};

use super::legacy::{LegacyHash, MAX_ROUNDS};

/// bcrypt's lowest cost.
pub const MIN_COST: u8 = 4;
/// The highest cost that is accepted, for new hashes and for those in the file. A hash costs `2^cost`
/// rounds: 16 takes about four seconds of a core for each login, and 31, which the format allows,
/// would take hours.
pub const MAX_COST: u8 = 16;
/// The default cost of new hashes: about a quarter of a second.
pub const DEFAULT_COST: u8 = 12;

/// bcrypt uses at most this many bytes of a password.
const MAX_PASSWORD_BYTES: usize = 72;

/// Which formats of hashes are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Formats {
    /// Only bcrypt, as in registry:2.
    BcryptOnly,
    /// Also the formats of [`LegacyHash`], which nginx and Apache verify.
    WithLegacy,
}

/// The hash of a password, in an accepted format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordHash {
    /// The format of new hashes.
    Bcrypt(BcryptHash),
    /// A format that is only verified.
    Legacy(LegacyHash),
}

/// The bcrypt hash of a password, known to be well-formed and to cost at most [`MAX_COST`].
///
/// `$2a$`, `$2b$`, `$2x$` and `$2y$` are the same function by four names, as in registry:2. For
/// crypt(3) `$2x$` marks hashes of an implementation that hashed bytes above 127 wrongly: here such
/// a hash verifies passwords in ASCII only, which that implementation hashed like the others. `Debug` shows the cost
/// and never the hash.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BcryptHash {
    text: Box<str>,
    cost: u8,
}

/// Why the text after the colon is not a usable hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The format is not accepted.
    #[error("the password is stored as {0}, and only bcrypt is accepted: {remedy}", remedy = .0.remedy())]
    Format(Format),
    /// bcrypt of a cost above [`MAX_COST`].
    #[error(
        "the bcrypt cost is {cost}, and at most {MAX_COST} is accepted: set the password again"
    )]
    TooExpensive {
        /// The cost of the hash.
        cost: u8,
    },
    /// A SHA-2 crypt of more than [`MAX_ROUNDS`].
    #[error(
        "the hash takes {rounds} rounds, and at most {MAX_ROUNDS} are accepted: set the password again"
    )]
    TooManyRounds {
        /// The rounds of the hash.
        rounds: u32,
    },
    /// Each `$` is doubled, as a docker compose file needs it.
    #[error(
        "each `$` of the hash is doubled, which only a docker compose file needs: write each `$` \
         once, as `sed -i 's/[$][$]/$/g'` does"
    )]
    DoubledDollars,
    /// The text begins like an accepted hash, and is truncated or damaged.
    #[error("the hash is damaged: set the password again")]
    Malformed,
}

/// The formats other than bcrypt that are recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `$apr1$`, of `htpasswd -m`
    Apr1,
    /// `{SHA}`, of `htpasswd -s`
    Sha1,
    /// `{SSHA}`, of nginx
    SaltedSha1,
    /// `$5$`, of `htpasswd -2`
    Sha256Crypt,
    /// `$6$`, of `htpasswd -5`
    Sha512Crypt,
    /// `$1$`
    Md5Crypt,
    /// `$argon2…`
    Argon2,
    /// `$y$`
    Yescrypt,
    /// Thirteen characters, of `htpasswd -d`
    DesCrypt,
    /// Anything else; probably plain text.
    Unknown,
}

/// Why a password cannot be hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// The password is empty, as from an unset variable in a script.
    #[error("the password is empty")]
    Empty,
    /// bcrypt would ignore the rest, and so accept the password with any other rest.
    #[error(
        "the password is {bytes} bytes long, and bcrypt reads no more than {MAX_PASSWORD_BYTES}"
    )]
    TooLong {
        /// The length of the password.
        bytes: usize,
    },
    /// RFC 7617 §2 forbids them; other implementations of bcrypt end the password at a NUL. A tab is
    /// allowed, as by other servers.
    #[error("the password contains a control character other than a tab (a line break, a NUL)")]
    Control,
    /// The cost is not between [`MIN_COST`] and [`MAX_COST`].
    #[error("a bcrypt cost of {0} is not between {MIN_COST} and {MAX_COST}")]
    Cost(u8),
    /// The system gave no random numbers for the salt.
    #[error("the system's random number generator failed")]
    NoRandomNumbers,
}

impl PasswordHash {
    /// Parses the text after a user's name.
    ///
    /// # Errors
    ///
    /// When its format is not in `formats`, or it is damaged, or it costs more than is accepted.
    pub fn parse(text: &str, formats: Formats) -> Result<Self, HashError> {
        match text.parse() {
            Ok(hash) => Ok(Self::Bcrypt(hash)),
            Err(HashError::Format(format)) if formats == Formats::WithLegacy => {
                LegacyHash::parse(text, format).map(Self::Legacy)
            }
            Err(error) => Err(error),
        }
    }

    /// A dummy hash: no password has it, and verifying it costs as much as verifying this one. For
    /// unknown users.
    #[must_use]
    pub fn dummy(&self) -> Self {
        match self {
            Self::Bcrypt(hash) => Self::Bcrypt(BcryptHash::dummy(hash.cost)),
            Self::Legacy(hash) => Self::Legacy(hash.dummy()),
        }
    }

    /// Whether this is the hash of the password. [`BcryptHash::verify`] and [`LegacyHash::verify`]
    /// state the cost; callers bound how many run at a time and keep them off async workers.
    #[must_use]
    pub fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Bcrypt(hash) => hash.verify(password),
            Self::Legacy(hash) => hash.verify(password),
        }
    }

    /// The hash as the file has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Bcrypt(hash) => hash.as_str(),
            Self::Legacy(hash) => hash.as_str(),
        }
    }
}

impl BcryptHash {
    /// Hashes a password with a new random salt, as `$2y$`, the name Apache writes.
    ///
    /// # Errors
    ///
    /// When the password is empty, longer than 72 bytes or contains a control character other
    /// than a tab, when the cost is out of range, or when the random number
    /// generator fails. Takes `2^cost` rounds of CPU.
    pub fn new(password: impl AsRef<[u8]>, cost: u8) -> Result<Self, PasswordError> {
        let password = password.as_ref();
        if !(MIN_COST..=MAX_COST).contains(&cost) {
            return Err(PasswordError::Cost(cost));
        }
        if password.is_empty() {
            return Err(PasswordError::Empty);
        }
        if password.len() > MAX_PASSWORD_BYTES {
            let bytes = password.len();
            return Err(PasswordError::TooLong { bytes });
        }
        if password.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
            return Err(PasswordError::Control);
        }
        // The only remaining error is that of the random number generator.
        let parts = bcrypt::hash_with_result(password, u32::from(cost))
            .map_err(|_| PasswordError::NoRandomNumbers)?;
        Ok(Self { text: parts.format_for_version(Version::TwoY).into(), cost })
    }

    /// A dummy hash: no password has it, and verifying it costs as much as any hash of that cost. For
    /// unknown users. `cost` is between [`MIN_COST`] and [`MAX_COST`].
    #[must_use]
    pub fn dummy(cost: u8) -> Self {
        // A dot is bcrypt's digit zero; 22 of them are the salt, 31 the hash.
        let text = format!("$2y${cost:02}${}", ".".repeat(53)).into();
        Self { text, cost }
    }

    /// Whether this is the hash of the password.
    ///
    /// Costs `2^cost` rounds of CPU, whatever the result; callers bound how many run at a time and
    /// keep them off async workers. Bytes beyond the 72nd are ignored, as by registry:2.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the only call; the gate bounds how many run at a time"
    )]
    pub fn verify(&self, password: &[u8]) -> bool {
        // An error is a malformed hash, and `from_str` has excluded that.
        bcrypt::verify(password, &self.text).unwrap_or(false)
    }

    /// The hash as the file has it: sixty characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The binary logarithm of the number of rounds, between [`MIN_COST`] and [`MAX_COST`].
    #[must_use]
    pub fn cost(&self) -> u8 {
        self.cost
    }
}

impl FromStr for BcryptHash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        if text.starts_with("$$") {
            return Err(HashError::DoubledDollars);
        }
        if !["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|p| text.starts_with(p)) {
            return Err(HashError::Format(Format::of(text)));
        }
        let parts: HashParts = text.parse().map_err(|_| HashError::Malformed)?;
        // The crate's parser accepts any number, also `+5`.
        let cost = text
            .get(4..6)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|_| u8::try_from(parts.get_cost()).ok())
            .filter(|cost| (MIN_COST..=31).contains(cost))
            .ok_or(HashError::Malformed)?;
        if cost > MAX_COST {
            return Err(HashError::TooExpensive { cost });
        }
        Ok(Self { text: text.into(), cost })
    }
}

impl fmt::Debug for BcryptHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BcryptHash").field("cost", &self.cost).finish_non_exhaustive()
    }
}

impl Format {
    /// What the operator can do about a password in this format.
    const fn remedy(self) -> &'static str {
        match self {
            Self::Apr1 | Self::Sha1 | Self::SaltedSha1 | Self::Sha256Crypt | Self::Sha512Crypt => {
                "set it again, or let the registry accept it meanwhile, with \
                 auth.htpasswd.legacyformats: true"
            }
            Self::Md5Crypt | Self::Argon2 | Self::Yescrypt | Self::DesCrypt | Self::Unknown => {
                "set it again"
            }
        }
    }

    fn of(text: &str) -> Self {
        const PREFIXES: [(&str, Format); 9] = [
            ("$apr1$", Format::Apr1),
            ("{SHA}", Format::Sha1),
            ("{SSHA}", Format::SaltedSha1),
            ("$5$", Format::Sha256Crypt),
            ("$6$", Format::Sha512Crypt),
            ("$1$", Format::Md5Crypt),
            ("$argon2", Format::Argon2),
            ("$y$", Format::Yescrypt),
            ("$gy$", Format::Yescrypt),
        ];
        let crypt = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'/';
        match PREFIXES.iter().find(|(prefix, _)| text.starts_with(prefix)) {
            Some(&(_, format)) => format,
            None if text.len() == 13 && text.bytes().all(crypt) => Self::DesCrypt,
            None => Self::Unknown,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Apr1 => "apr1 (Apache's MD5)",
            Self::Sha1 => "SHA-1",
            Self::SaltedSha1 => "salted SHA-1",
            Self::Sha256Crypt => "SHA-256 crypt",
            Self::Sha512Crypt => "SHA-512 crypt",
            Self::Md5Crypt => "MD5 crypt",
            Self::Argon2 => "Argon2",
            Self::Yescrypt => "yescrypt",
            Self::DesCrypt => "crypt or plain text",
            Self::Unknown => "an unknown format, perhaps plain text",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_verifies_its_password_and_no_other() {
        let hash = BcryptHash::new("sésame", MIN_COST).unwrap();
        assert!(hash.as_str().starts_with("$2y$04$"));
        assert!(hash.verify("sésame".as_bytes()));
        assert!(!hash.verify(b"sesame"));
        assert!(!hash.verify(b""));
        assert_eq!(hash.as_str().parse::<BcryptHash>().unwrap(), hash);
        assert_ne!(BcryptHash::new("sésame", MIN_COST).unwrap(), hash);
    }

    #[test]
    fn all_four_prefixes_of_bcrypt_verify() {
        let made = BcryptHash::new("x", MIN_COST).unwrap();
        for name in ["$2a$", "$2b$", "$2x$", "$2y$"] {
            let hash: BcryptHash = made.as_str().replace("$2y$", name).parse().unwrap();
            assert_eq!(hash.cost(), MIN_COST);
            assert!(hash.verify(b"x"), "{name}");
        }
    }

    #[test]
    fn passwords_that_bcrypt_or_basic_would_change_are_refused() {
        let refused = |password: &str| BcryptHash::new(password, MIN_COST).unwrap_err();
        assert_eq!(refused(""), PasswordError::Empty);
        assert_eq!(refused(&"x".repeat(73)), PasswordError::TooLong { bytes: 73 });
        assert_eq!(refused("a\0b"), PasswordError::Control);
        assert_eq!(refused("a\nb"), PasswordError::Control);
        for password in [&b"a\tb"[..], b"gr\xfc\xdfe"] {
            assert!(BcryptHash::new(password, MIN_COST).unwrap().verify(password));
        }
        assert_eq!(BcryptHash::new("x", 3).unwrap_err(), PasswordError::Cost(3));
        assert_eq!(BcryptHash::new("x", 17).unwrap_err(), PasswordError::Cost(17));

        let longest = "x".repeat(72);
        let hash = BcryptHash::new(&longest, MIN_COST).unwrap();
        assert!(hash.verify(longest.as_bytes()));
        assert!(!hash.verify(&longest.as_bytes()[1..]));
    }
}
