//! Words that several commands print.

/// A number of things: `no uploads`, `1 upload`, `7 uploads`.
pub(super) fn count(number: u64, what: &str) -> String {
    match number {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}
