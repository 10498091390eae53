//! The credentials of HTTP Basic (RFC 7617).

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

/// Some clients leave the padding off.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

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
    /// Reads the value of `Authorization`; `None` for whatever is not well-formed.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let value = std::str::from_utf8(value).ok()?;
        let (scheme, token) = value.trim_ascii().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let bytes = Zeroizing::new(LENIENT.decode(token.trim_ascii()).ok()?);
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

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    fn parse(value: &str) -> Option<(String, String)> {
        let credentials = Credentials::parse(value.as_bytes())?;
        let password = String::from_utf8(credentials.password().to_vec()).unwrap();
        Some((credentials.user().unwrap().to_owned(), password))
    }

    fn basic(text: impl AsRef<[u8]>) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn the_first_colon_ends_the_name() {
        let expected = Some(("a".to_owned(), "b:c".to_owned()));
        assert_eq!(parse(&basic("a:b:c")), expected);
        assert_eq!(parse(&basic("a:b:c").replace("Basic", "bAsIc  ")), expected);
        assert_eq!(parse(basic("a:b:c").trim_end_matches('=')), expected);
        assert_eq!(parse(&basic(":")), Some((String::new(), String::new())));
    }

    #[test]
    fn what_is_not_well_formed_is_none() {
        for value in [
            "",
            "Basic",
            "Basic ",
            "Basic !",
            "Bearer YTpi",
            "YTpi",
            "Basic YTpi YTpi",
            &basic("no colon"),
            &basic("a:b\0"),
            &basic("a:b\n"),
            &basic("a:b\r"),
            &basic("a:b\x7f"),
            &basic("a\n:b"),
            &basic("a\t:b"),
        ] {
            assert_eq!(parse(value), None, "{value:?}");
        }
    }

    #[test]
    fn passwords_are_bytes_and_a_tab_is_one() {
        for password in [&b"b\tc"[..], b"\t", b"gr\xfc\xdfe", b"\xff\xfe", "grüße".as_bytes()] {
            let value = basic([b"a:", password].concat());
            let credentials = Credentials::parse(value.as_bytes()).unwrap();
            assert_eq!((credentials.user(), credentials.password()), (Some("a"), password));
        }
        let latin = Credentials::parse(basic(b"j\xfcrgen:x").as_bytes()).unwrap();
        assert_eq!((latin.user(), latin.user_bytes()), (None, &b"j\xfcrgen"[..]));
    }

    proptest! {
        #[test]
        fn names_and_passwords_come_out_as_they_went_in(
            user in "[^:\\p{Cc}]{0,20}", password in "[\t\\P{Cc}]{0,80}",
        ) {
            let parsed = parse(&basic(format!("{user}:{password}")));
            prop_assert_eq!(parsed, Some((user, password)));
        }

        #[test]
        fn any_bytes_are_credentials_or_none(value in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Credentials::parse(&value);
            let _ = Credentials::parse(&[b"Basic ", value.as_slice()].concat());
        }
    }
}
