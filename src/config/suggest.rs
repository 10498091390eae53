//! "Did you mean …?"

use super::schema;

/// The number of sections that a hint names at most.
const MOST: usize = 3;

/// The suggestion for a key that `section` does not have: a key of the section with nearly the same
/// spelling, or else the section that has a key of this name. Starts with a space and ends a
/// sentence; empty without a suggestion.
pub(super) fn hint<'a>(
    unknown: &str,
    known: impl Iterator<Item = &'a str>,
    section: &str,
) -> String {
    if let Some(near) = nearest(unknown, known) {
        return format!(" Did you mean `{near}`?");
    }
    let homes = homes(unknown, section);
    if homes.is_empty() {
        return String::new();
    }
    let homes: Vec<_> = homes.iter().map(|home| format!("`{home}`")).collect();
    format!(" `{unknown}` belongs to {}; check the indentation.", homes.join(" or "))
}

/// The sections that have the key that `section` lacks: those below `section`, or else those nearest
/// to the top; empty where that would be a list.
fn homes(unknown: &str, section: &str) -> Vec<String> {
    let mut homes = schema::homes(unknown);
    homes.retain(|home| home != section && !home.is_empty());
    let depth = |home: &String| home.matches('.').count();
    let below: Vec<_> = homes
        .iter()
        .filter(|home| home.strip_prefix(section).is_some_and(|rest| rest.starts_with('.')))
        .cloned()
        .collect();
    let mut nearest = match below.is_empty() {
        true => homes,
        false => below,
    };
    if nearest.len() > MOST {
        let first = nearest.first().map(depth);
        nearest.retain(|home| Some(depth(home)) == first);
    }
    nearest.truncate(if nearest.len() > MOST { 0 } else { MOST });
    nearest
}

/// The known word that differs from `unknown` by a slip of the finger, if there is one.
pub(super) fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let unknown = unknown.to_lowercase();
    let tolerance = (unknown.chars().count() / 3).max(1);
    known
        .map(|word| (distance(&unknown, &word.to_lowercase()), word))
        .filter(|(distance, _)| *distance <= tolerance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Levenshtein's: insertions, deletions and substitutions of characters.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_edits() {
        assert_eq!(distance("", ""), 0);
        assert_eq!(distance("addr", "addr"), 0);
        assert_eq!(distance("adr", "addr"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn misspelt_word_finds_its_word_and_an_unrelated_one_finds_none() {
        let known = ["rootdirectory", "maxthreads"];
        assert_eq!(nearest("root_directory", known.into_iter()), Some("rootdirectory"));
        assert_eq!(nearest("RootDirectory", known.into_iter()), Some("rootdirectory"));
        assert_eq!(nearest("port", known.into_iter()), None);
    }

    #[test]
    fn misplaced_key_is_reported_with_its_section() {
        let hint = hint("rootdirectory", ["filesystem"].into_iter(), "storage");
        assert!(hint.contains("belongs to `storage.filesystem`"), "{hint}");
    }
}
