//! A user's name and a password, as a client sends them.

use zeroize::Zeroizing;

use super::tokens::deploy::PREFIX;

/// A user and a password as a client sent them.
///
/// Both are bytes. A client that ignores `charset="UTF-8"` sends Latin-1, and the password's hash may
/// have been made from Latin-1; registry:2 accepts that.
#[expect(missing_debug_implementations, reason = "credentials must not reach the log")]
pub struct Credentials {
    bytes: Zeroizing<Vec<u8>>,
    colon: usize,
}

impl Credentials {
    /// Splits `user:password` (RFC 7617 §2); `None` without a colon, or with a control character.
    #[must_use]
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        // The user's name cannot contain a colon, the password can.
        let colon = bytes.iter().position(|b| *b == b':')?;
        // RFC 7617 §2 excludes control characters. NUL in particular ends the password in programs
        // written in C, and not here. A tab is allowed in passwords, as by registry:2 and nginx.
        let (user, password) = bytes.split_at(colon);
        if user.iter().any(u8::is_ascii_control)
            || password.iter().any(|b| b.is_ascii_control() && *b != b'\t')
        {
            return None;
        }
        Some(Self { bytes, colon })
    }

    /// Whether both are empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == 1
    }

    /// Credentials that have the secret of a deploy token and no name, as a client sends them by
    /// `Authorization: Bearer` (RFC 6750 §2.1); `None` for a text that does not begin as a secret.
    #[must_use]
    pub fn of_secret(text: &[u8]) -> Option<Self> {
        let is_secret = text.starts_with(PREFIX.as_bytes());
        if is_secret { Self::new(Zeroizing::new([b":", text].concat())) } else { None }
    }

    /// The user's name, before the first colon; it may be empty. `None` when it is not UTF-8: no user
    /// has such a name.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        std::str::from_utf8(self.user_bytes()).ok()
    }

    /// The bytes of [`user`](Self::user) as the client sent them.
    #[must_use]
    pub fn user_bytes(&self) -> &[u8] {
        &self.bytes[..self.colon]
    }

    /// The password, after the first colon; it may be empty and may contain colons.
    #[must_use]
    pub fn password(&self) -> &[u8] {
        &self.bytes[self.colon + 1..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_alone_has_no_name() {
        let credentials = Credentials::of_secret(b"pcl_abc").unwrap();
        assert_eq!((credentials.user(), credentials.password()), (Some(""), &b"pcl_abc"[..]));
        assert!(Credentials::of_secret(b"eyJhbGciOi").is_none());
        assert!(Credentials::of_secret(b"pcl_\n").is_none());
    }
}
