use proptest::prelude::*;
use regex::Regex;

use super::*;

fn glob(text: &str) -> Result<Glob, InvalidGlob> {
    Glob::try_from(text.to_owned())
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

#[test]
fn star_matches_within_a_name_component_and_two_stars_across() {
    for (written, matching, others) in [
        ("ci/*", &["ci/a", "ci/a-b"][..], &["ci", "ci/a/b", "xci/a", "cia"][..]),
        ("ci/**", &["ci/a", "ci/a/b/c"], &["ci", "team/ci/a", "cia/b"]),
        ("**/app", &["a/app", "a/b/app"], &["app", "a/app2", "a/app/b"]),
        ("**", &["a", "a/b/c"], &[]),
        ("*", &["a", "a.b_c-d"], &["a/b"]),
        ("a/*/b", &["a/x/b"], &["a/b", "a/x/y/b"]),
        ("a?c", &["abc", "a.c"], &["a/c", "ac", "abbc"]),
        ("a.c", &["a.c"], &["abc"]),
        ("pr-*x*", &["pr-x", "pr-1x2"], &["pr-1", "pr-x/y"]),
        ("**/x/*-b", &["a/x/c-b", "a/x/x/a-b-b"], &["a/x/c", "x/a-b"]),
    ] {
        let glob = glob(written).unwrap();
        for matched in matching {
            assert!(glob.matches(&name(matched)), "{written} {matched}");
        }
        for other in others {
            assert!(!glob.matches(&name(other)), "{written} {other}");
        }
        assert_eq!(glob.to_string(), written);
    }
}

#[test]
fn glob_that_matches_no_valid_name_is_refused() {
    for written in ["", "/a", "a/", "a//b", "a/**/", "{a,b}", "[ab]", "^a$", "A*", "a b", "ä"] {
        assert!(glob(written).is_err(), "{written}");
    }
    assert!(glob(&"a".repeat(255)).is_ok());
    assert_eq!(glob(&"a".repeat(256)), Err(InvalidGlob::TooLong));
}

#[test]
fn variable_stands_for_its_value_and_for_nothing_without_one() {
    let home = Glob::with_variables("home/{user}/**", &["user", "group"]).unwrap();
    assert!(home.matches_with(&name("home/ann/a/b"), &["ann"]));
    assert!(!home.matches_with(&name("home/bob/a"), &["ann"]));
    assert!(!home.matches(&name("home/ann/a")));
    assert!(home.has_variable(0) && !home.has_variable(1));
    assert_eq!(home.prefix(&["ann"]), "home/ann/");
    assert_eq!(home.prefix(&[]), "home/");
    for written in ["{users}/**", "{user/**", "a/{}", "{", "a{user"] {
        let refused = Glob::with_variables(written, &["user"]);
        assert!(matches!(refused, Err(InvalidGlob::Variable { .. })), "{written} {refused:?}");
    }
}

#[test]
fn covered_glob_matches_fewer_names() {
    for (wide, narrow) in [
        ("**", "*"),
        ("**", "a/b"),
        ("a/**", "a/b"),
        ("a/**", "a/*/c"),
        ("a/**", "a/b/**"),
        ("a/*", "a/b"),
        ("a*", "a*"),
    ] {
        assert!(glob(wide).unwrap().covers(&glob(narrow).unwrap()), "{wide} {narrow}");
    }
    for (one, other) in [("a/*", "a/**"), ("a/**", "a"), ("a/b/**", "a/**"), ("*", "**")] {
        assert!(!glob(one).unwrap().covers(&glob(other).unwrap()), "{one} {other}");
    }
}

#[test]
fn component_that_no_name_has_is_found() {
    for (written, component) in
        [("_layers/**", "_layers"), ("a/b..c/*", "b..c"), ("**/-x", "-x"), ("a/b-", "b-")]
    {
        assert_eq!(glob(written).unwrap().impossible_component(), Some(component));
    }
    for written in ["a/**", "*-/b", "a_?", "**"] {
        assert_eq!(glob(written).unwrap().impossible_component(), None, "{written}");
    }
}

proptest! {
    /// The regular expression that a pattern stands for is the model.
    #[test]
    fn glob_matches_as_its_regular_expression(
        written in "([ab/]|\\*|\\*\\*|\\?){1,9}",
        name in "[ab]{1,3}(/[ab]{1,3}){0,3}",
    ) {
        prop_assume!(!written.split('/').any(str::is_empty));
        let mut expression = String::new();
        let mut rest = &*written;
        while !rest.is_empty() {
            let (meaning, length) = match rest.as_bytes() {
                [b'*', b'*', ..] => (".*", 2),
                [b'*', ..] => ("[^/]*", 1),
                [b'?', ..] => ("[^/]", 1),
                _ => (&rest[..1], 1),
            };
            expression.push_str(meaning);
            rest = &rest[length..];
        }
        let regex = Regex::new(&format!("^{expression}$")).unwrap();
        let glob = glob(&written).unwrap();
        prop_assert_eq!(glob.matches(&self::name(&name)), regex.is_match(&name), "{}", expression);
    }

    #[test]
    fn covered_names_match(
        wide in "[ab](/[ab*]){0,2}(/\\*\\*)?",
        narrow in "[ab](/[ab*]){0,2}(/\\*\\*)?",
        name in "[ab](/[ab]){0,3}",
    ) {
        let (wide, narrow) = (glob(&wide).unwrap(), glob(&narrow).unwrap());
        let name = self::name(&name);
        prop_assert!(!wide.covers(&narrow) || !narrow.matches(&name) || wide.matches(&name));
    }
}
