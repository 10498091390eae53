//! A user's name and a password, as a client sends them.

use zeroize::Zeroizing;

/// A user and a password as a client sent them.
///
/// Both are bytes. A client that does not go by `charset="UTF-8"` sends Latin-1, and the password's
/// hash may have been made from that, as registry:2 takes it.
#[expect(missing_debug_implementations, reason = "what cannot be printed reaches no log")]
pub struct Credentials {
    bytes: Zeroizing<Vec<u8>>,
    colon: usize,
}

impl Credentials {
    /// Takes `user:password` (RFC 7617 §2) apart; `None` without a colon, or with a control character.
    #[must_use]
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        // The user's name cannot contain a colon, the password can.
        let colon = bytes.iter().position(|b| *b == b':')?;
        // RFC 7617 §2 excludes control characters. NUL in particular would end the password for
        // programs that check it in C, and not here. A tab is in passwords that registry:2 and nginx
        // take.
        let (user, password) = bytes.split_at(colon);
        if user.iter().any(u8::is_ascii_control)
            || password.iter().any(|b| b.is_ascii_control() && *b != b'\t')
        {
            return None;
        }
        Some(Self { bytes, colon })
    }

    /// What stands before the first colon; it may be empty. `None` when it is not UTF-8: no user has
    /// such a name.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        std::str::from_utf8(self.user_bytes()).ok()
    }

    /// As [`user`](Self::user), as it was sent.
    #[must_use]
    pub fn user_bytes(&self) -> &[u8] {
        &self.bytes[..self.colon]
    }

    /// What stands behind the first colon; it may be empty and may have colons of its own.
    #[must_use]
    pub fn password(&self) -> &[u8] {
        &self.bytes[self.colon + 1..]
    }
}
