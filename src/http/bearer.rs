//! The header field of a Bearer token (RFC 6750 §2.1).

/// The most bytes of a token: more than any of this server's has.
const MAX_BYTES: usize = 8192;

/// Parses the value of `Authorization`; `None` if it is malformed or has another scheme.
#[must_use]
pub fn token(value: &[u8]) -> Option<&str> {
    let value = std::str::from_utf8(value).ok()?;
    let (scheme, token) = value.trim_ascii().split_once(' ')?;
    let token = token.trim_ascii();
    let is_valid = !token.is_empty()
        && token.len() <= MAX_BYTES
        && token.bytes().all(|byte| {
            byte.is_ascii_alphanumeric()
                || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=')
        });
    (scheme.eq_ignore_ascii_case("bearer") && is_valid).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_what_follows_the_scheme() {
        for value in ["Bearer a.b-c_d", "bearer a.b-c_d", "BEARER  a.b-c_d "] {
            assert_eq!(token(value.as_bytes()), Some("a.b-c_d"), "{value:?}");
        }
        assert_eq!(token(b"Bearer pcl_abc"), Some("pcl_abc"));
    }

    #[test]
    fn malformed_header_has_no_token() {
        for value in ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer a b", "Bearer a,b", "a.b.c"] {
            assert_eq!(token(value.as_bytes()), None, "{value:?}");
        }
        assert_eq!(token(b"Bearer \xff"), None);
        let long = "a".repeat(MAX_BYTES);
        assert!(token(format!("Bearer {long}").as_bytes()).is_some());
        assert!(token(format!("Bearer {long}a").as_bytes()).is_none());
    }
}
