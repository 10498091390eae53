//! The header fields of HTTP Basic (RFC 7617).

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

use crate::gate::Credentials;

/// Some clients omit the padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Parses the value of `Authorization`; `None` if it is malformed or has another scheme.
#[must_use]
pub fn credentials(value: &[u8]) -> Option<Credentials> {
    let value = std::str::from_utf8(value).ok()?;
    let (scheme, token) = value.trim_ascii().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    Credentials::new(Zeroizing::new(LENIENT.decode(token.trim_ascii()).ok()?))
}

/// The value of `WWW-Authenticate` that challenges for credentials of a realm (RFC 7617 §2).
pub(super) fn challenge(realm: &str) -> String {
    let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
    format!("Basic realm=\"{quoted}\", charset=\"UTF-8\"")
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    fn parse(value: &str) -> Option<(String, String)> {
        let credentials = credentials(value.as_bytes())?;
        let password = String::from_utf8(credentials.password().to_vec()).unwrap();
        Some((credentials.user().unwrap().to_owned(), password))
    }

    fn basic(text: impl AsRef<[u8]>) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn first_colon_ends_the_name() {
        let expected = Some(("a".to_owned(), "b:c".to_owned()));
        assert_eq!(parse(&basic("a:b:c")), expected);
        assert_eq!(parse(&basic("a:b:c").replace("Basic", "bAsIc  ")), expected);
        assert_eq!(parse(basic("a:b:c").trim_end_matches('=')), expected);
        assert_eq!(parse(&basic(":")), Some((String::new(), String::new())));
    }

    #[test]
    fn malformed_header_has_no_credentials() {
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
            let credentials = credentials(value.as_bytes()).unwrap();
            assert_eq!((credentials.user(), credentials.password()), (Some("a"), password));
        }
        let latin = credentials(basic(b"j\xfcrgen:x").as_bytes()).unwrap();
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
            let _ = credentials(&value);
            let _ = credentials(&[b"Basic ", value.as_slice()].concat());
        }
    }
}
