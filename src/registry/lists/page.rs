//! One page of a list.

/// The part of a sorted list that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, in the order of their bytes.
    pub items: Vec<T>,
    /// Whether there are items behind these.
    pub more: bool,
}

impl<T> Page<T> {
    /// Makes a page of `limit` items from a list that was read up to one item more.
    pub(in crate::registry) fn cut(mut items: Vec<T>, limit: usize) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        Self { items, more }
    }
}
