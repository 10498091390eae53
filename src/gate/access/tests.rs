//! The rules against small cases, and against a model of ten lines.

use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::{
    gate::{By, Caller, Decision, Policy, Why},
    oci::RepositoryName,
};

fn access(rules: &Json, groups: &str) -> Access {
    let rules: Vec<Rule> = serde_json::from_value(rules.clone()).unwrap();
    Access::new(rules, Groups::parse(groups.as_bytes()).unwrap())
}

fn caller(name: &str, address: Option<&str>) -> Caller {
    let identity = match name {
        "-" => Identity::Anonymous,
        name => match name.strip_prefix("token:") {
            Some(token) => Identity::Token(token.into()),
            None => Identity::User(name.into()),
        },
    };
    Caller::new(identity, address.map(|address| address.parse().unwrap()))
}

/// The number of the rule that allows it; 0 where none does.
fn decided(policy: &Policy, caller: &Caller, may: May, name: &str) -> usize {
    let name: RepositoryName = name.parse().unwrap();
    match policy.decide(caller, &right(may, &name)) {
        Decision::Allowed(By::Rule(number)) => number,
        Decision::Denied(Why::NoRule) => 0,
        decision => panic!("{decision:?}"),
    }
}

fn right(may: May, name: &RepositoryName) -> Right<'_> {
    match may {
        May::Pull => Right::Pull(name),
        May::Create => Right::Create(name),
        May::Push => Right::Push(name),
        May::Delete => Right::Delete(name),
        May::All => unreachable!("no right"),
    }
}

#[test]
fn rules_grant_by_caller_repository_address_and_word() {
    let rules = json!([
        { "who": ["anyone"], "repositories": ["public/**"], "may": ["pull"] },
        { "who": ["users"], "repositories": ["base/**", "shared/*"], "may": ["pull"] },
        {
            "who": ["group:team-a"], "repositories": ["team-a/**"], "except": ["team-a/release/**"],
            "may": ["push"],
        },
        { "who": ["users"], "repositories": ["home/{user}/**"], "may": ["push", "delete"] },
        { "who": ["anyone"], "from": ["10.0.0.0/8", "unix"], "may": ["pull"] },
        { "who": ["group:admins", "root"], "may": ["all"] },
        { "who": ["users"], "repositories": ["{group}/**"], "except": ["**/secret"], "may": ["create"] },
    ]);
    let policy = Policy::rules(access(&rules, "team-a: ann\nadmins: adam\nteam-b: bob Eve"));
    let outside = Some("203.0.113.9");
    for (name, address, may, repository, rule) in [
        ("-", outside, May::Pull, "public/a", 1),
        ("-", outside, May::Create, "public/a", 0),
        ("-", outside, May::Pull, "base/a", 0),
        ("-", Some("10.9.8.7"), May::Pull, "base/a", 5),
        ("-", Some("::ffff:10.9.8.7"), May::Pull, "base/a", 5),
        ("-", None, May::Pull, "base/a", 5),
        ("ann", outside, May::Pull, "shared/a", 2),
        ("ann", outside, May::Pull, "shared/a/b", 0),
        ("token:ann", outside, May::Pull, "base/a", 0),
        ("token:ann", outside, May::Pull, "public/a", 1),
        ("ann", outside, May::Push, "team-a/app", 3),
        ("ann", outside, May::Delete, "team-a/app", 0),
        ("ann", outside, May::Push, "team-a/release/app", 0),
        ("ann", outside, May::Create, "team-a/release/app", 7),
        ("ann", outside, May::Create, "team-a/secret", 3),
        ("bob", outside, May::Push, "team-a/app", 0),
        ("bob", outside, May::Create, "team-b/app", 7),
        ("bob", outside, May::Create, "team-b/secret", 0),
        ("bob", outside, May::Delete, "home/bob/a/b", 4),
        ("bob", outside, May::Pull, "home/ann/a", 0),
        ("Eve", outside, May::Pull, "home/eve/a", 0),
        ("a/b", outside, May::Pull, "home/a/b/c", 0),
        ("adam", outside, May::Delete, "team-a/release/app", 6),
        ("root", outside, May::Push, "any", 6),
    ] {
        let caller = caller(name, address);
        assert_eq!(decided(&policy, &caller, may, repository), rule, "{name} {may} {repository}");
    }
    let group_and_user = Policy::rules(access(&json!([{ "who": ["ann"], "may": ["pull"] }]), ""));
    assert_eq!(decided(&group_and_user, &caller("ann", None), May::Pull, "a"), 1);
}

#[test]
fn lists_are_for_names_and_where_a_rule_is_for_anyone() {
    let rules = json!([
        { "who": ["anyone"], "from": ["10.0.0.0/8"], "repositories": ["public/**"], "may": ["pull"] },
        { "who": ["users"], "repositories": ["home/{user}/**", "{group}/**"], "may": ["pull"] },
        { "who": ["root"], "may": ["pull"] },
    ]);
    let policy = Policy::rules(access(&rules, "team-a: ann\nteam: ann"));
    let inside = Some("10.1.1.1");
    for (name, address, list, all, prefixes) in [
        ("-", inside, Decision::Allowed(By::Rule(1)), false, &["public/"][..]),
        ("-", None, Decision::Denied(Why::NoRule), false, &[]),
        ("ann", None, Decision::Allowed(By::Listing), false, &["home/ann/", "team-a/", "team/"]),
        (
            "ann",
            inside,
            Decision::Allowed(By::Listing),
            false,
            &["home/ann/", "public/", "team-a/", "team/"],
        ),
        ("root", inside, Decision::Allowed(By::Listing), true, &[""]),
    ] {
        let caller = caller(name, address);
        assert_eq!(policy.decide(&caller, &Right::List), list, "{name}");
        assert_eq!(policy.decide(&caller, &Right::PullAll).is_allowed(), all, "{name}");
        assert_eq!(policy.prefixes(&caller), prefixes, "{name}");
    }
    assert!(policy.admits_anonymous(Some("10.0.0.1".parse().unwrap())));
    assert!(!policy.admits_anonymous(None));
    assert!(!Policy::everything().admits_anonymous(None));
}

#[test]
fn written_rules_that_give_nothing_are_refused() {
    for (rule, message) in [
        (json!({ "may": ["pull"] }), "add `who`"),
        (json!({ "who": ["users"] }), "add `may`"),
        (
            json!({ "who": ["users"], "may": ["pull"], "repositories": [] }),
            "leave `repositories` out",
        ),
        (json!({ "who": ["users"], "may": ["pull"], "from": [] }), "leave `from` out"),
        (json!({ "who": ["*"], "may": ["pull"] }), "names no caller"),
        (json!({ "who": ["grp:a"], "may": ["pull"] }), "`user:NAME` or `group:NAME`"),
        (json!({ "who": ["users"], "may": ["read"] }), "`pull`, `create`"),
        (json!({ "who": ["users"], "may": ["pull"], "from": ["10.0.0/8"] }), "a network"),
        (json!({ "who": ["users"], "may": ["pull"], "repositories": ["A/*"] }), "no repository"),
        (json!({ "who": ["users"], "may": ["pull"], "repositories": ["_a/*"] }), "no repository"),
        (json!({ "who": ["users"], "may": ["pull"], "repositories": ["{name}/*"] }), "{user}"),
    ] {
        let error = serde_json::from_value::<Rule>(rule).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

/// The words of a random case: few, so that they meet.
const NAMES: [&str; 4] = ["-", "ann", "bob", "token:ann"];
const REPOSITORIES: [&str; 5] = ["a", "a/b", "a/b/c", "ann/a", "g/x"];
const GLOBS: [&str; 8] = ["**", "*", "a/**", "a/*", "{user}/**", "{group}/**", "**/c", "a"];
const ADDRESSES: [Option<&str>; 3] = [Some("10.0.0.1"), Some("192.0.2.1"), None];
const SOURCES: [&str; 3] = ["10.0.0.0/8", "unix", "192.0.2.1"];
const WHO: [&str; 5] = ["anyone", "users", "ann", "group:g", "user:bob"];
const GROUPS: &str = "g: ann\nh: bob ann";
const RIGHTS: [May; 4] = [May::Pull, May::Create, May::Push, May::Delete];

/// A rule as the model sees it: words.
#[derive(Clone, Debug)]
struct Words {
    who: Vec<&'static str>,
    repositories: Vec<&'static str>,
    except: Vec<&'static str>,
    from: Vec<&'static str>,
    may: Vec<&'static str>,
}

fn some(of: &'static [&'static str], least: usize) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(of, least..=2)
}

fn words() -> impl Strategy<Value = Words> {
    let may = some(&["pull", "create", "push", "delete", "all"], 1);
    (some(&WHO, 1), some(&GLOBS, 0), some(&GLOBS, 0), some(&SOURCES, 0), may).prop_map(
        |(who, repositories, except, from, may)| Words { who, repositories, except, from, may },
    )
}

fn rule(words: &Words) -> Rule {
    let mut rule = json!({ "who": words.who, "except": words.except, "may": words.may });
    if !words.repositories.is_empty() {
        rule["repositories"] = json!(words.repositories);
    }
    if !words.from.is_empty() {
        rule["from"] = json!(words.from);
    }
    serde_json::from_value(rule).unwrap()
}

/// The meaning of a glob, letter by letter.
fn is_like(glob: &str, name: &str) -> bool {
    let any = |glob: &str, most: usize| (0..=most).any(|at| is_like(glob, &name[at..]));
    match (glob.strip_prefix("**"), glob.strip_prefix('*')) {
        (Some(rest), _) => any(rest, name.len()),
        (None, Some(rest)) => any(rest, name.find('/').unwrap_or(name.len())),
        (None, None) => match (glob.split_at_checked(1), name.split_at_checked(1)) {
            (Some((letter, glob)), Some((other, name))) => letter == other && is_like(glob, name),
            (one, other) => one.is_none() && other.is_none(),
        },
    }
}

/// The model: what the documentation says of rules, a line for each sentence.
fn model(rules: &[Words], name: &str, from: Option<&str>, may: &str, repository: &str) -> bool {
    let groups: &[&str] = match name {
        "ann" => &["g", "h"],
        "bob" => &["h"],
        _ => &[],
    };
    let is = |who: &&str| match *who {
        "anyone" => true,
        "users" => matches!(name, "ann" | "bob"),
        who => {
            who.trim_start_matches("user:") == name
                || who.strip_prefix("group:").is_some_and(|group| groups.contains(&group))
        }
    };
    let user = if matches!(name, "ann" | "bob") { name } else { "{none}" };
    let is_about = |glob: &&str| {
        groups.iter().chain(&["{none}"]).any(|group| {
            is_like(&glob.replace("{user}", user).replace("{group}", group), repository)
        })
    };
    let gives = |word: &&str| match *word {
        "all" => true,
        "push" => may != "delete",
        "create" => matches!(may, "pull" | "create"),
        word => word == may || may == "pull",
    };
    let is_from = |source: &&str| match *source {
        "unix" => from.is_none(),
        network => from.is_some_and(|from| network.starts_with(&from[..3])),
    };
    rules.iter().any(|rule| {
        let has_user = rule.repositories.iter().chain(&rule.except).any(|g| g.contains("{user}"));
        rule.who.iter().any(is)
            && rule.may.iter().any(gives)
            && (rule.repositories.is_empty() || rule.repositories.iter().any(is_about))
            && !rule.except.iter().any(is_about)
            && (rule.from.is_empty() || rule.from.iter().any(is_from))
            && (!has_user || user == name)
    })
}

/// Every question that can be asked about the words of a random case.
fn questions() -> impl Iterator<Item = (&'static str, Option<&'static str>, May, &'static str)> {
    NAMES.into_iter().flat_map(|name| {
        ADDRESSES.into_iter().flat_map(move |from| {
            RIGHTS.into_iter().flat_map(move |may| {
                REPOSITORIES.into_iter().map(move |repository| (name, from, may, repository))
            })
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn rules_decide_as_the_model(written in proptest::collection::vec(words(), 0..4)) {
        let rules: Vec<_> = written.iter().map(rule).collect();
        let policy = Policy::rules(Access::new(rules, Groups::parse(GROUPS.as_bytes()).unwrap()));
        for (name, from, may, repository) in questions() {
            let allowed = decided(&policy, &caller(name, from), may, repository) > 0;
            let expected = model(&written, name, from, may.as_str(), repository);
            prop_assert_eq!(allowed, expected, "{} {:?} {} {}", name, from, may, repository);
        }
    }

    #[test]
    fn another_rule_takes_nothing_away(
        written in proptest::collection::vec(words(), 0..4),
        more in words(),
        at in 0_usize..4,
    ) {
        let mut rules: Vec<_> = written.iter().map(rule).collect();
        let groups = Groups::parse(GROUPS.as_bytes()).unwrap();
        let before = Policy::rules(Access::new(rules.clone(), groups.clone()));
        rules.insert(at.min(rules.len()), rule(&more));
        let after = Policy::rules(Access::new(rules, groups));
        for (name, from, may, repository) in questions() {
            let caller = caller(name, from);
            let had = decided(&before, &caller, may, repository) > 0;
            prop_assert!(!had || decided(&after, &caller, may, repository) > 0);
        }
    }
}

/// Names that begin with none of the prefixes are not seen.
#[test]
fn prefixes_leave_out_no_repository_that_is_seen() {
    let rules = json!([
        { "who": ["ann"], "repositories": ["a/b*", "{user}/**", "c"], "may": ["pull"] },
    ]);
    let policy = Policy::rules(access(&rules, ""));
    let ann = caller("ann", None);
    let prefixes = policy.prefixes(&ann);
    for name in ["a/bc", "ann/x", "c", "a/c", "b"] {
        let is_seen = decided(&policy, &ann, May::Pull, name) > 0;
        let begins = prefixes.iter().any(|prefix| name.starts_with(&**prefix));
        assert!(begins || !is_seen, "{name}");
    }
    let address: Option<IpAddr> = None;
    assert_eq!(address, ann.address);
}
