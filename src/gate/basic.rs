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
#[expect(missing_debug_implementations, reason = "what cannot be printed reaches no log")]
pub struct Credentials {
    text: Zeroizing<String>,
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
        // RFC 7617 §2 excludes control characters. NUL in particular would end the password for
        // programs that check it in C, and not here.
        if bytes.iter().any(u8::is_ascii_control) {
            return None;
        }
        let text = Zeroizing::new(std::str::from_utf8(&bytes).ok()?.to_owned());
        // The user's name cannot contain a colon, the password can.
        let colon = text.find(':')?;
        Some(Self { text, colon })
    }

    /// What stands before the first colon; it may be empty.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.text[..self.colon]
    }

    /// What stands behind the first colon; it may be empty and may have colons of its own.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.text[self.colon + 1..]
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    fn parse(value: &str) -> Option<(String, String)> {
        Credentials::parse(value.as_bytes())
            .map(|credentials| (credentials.user().to_owned(), credentials.password().to_owned()))
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
            &basic(b"a:\xff"),
            &basic("a:b\0"),
            &basic("a\n:b"),
        ] {
            assert_eq!(parse(value), None, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn names_and_passwords_come_out_as_they_went_in(
            user in "[^:\\p{Cc}]{0,20}", password in "\\P{Cc}{0,80}",
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
