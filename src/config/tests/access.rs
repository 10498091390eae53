//! `access`: rules from files and variables, and what is wrong with them.

use super::*;
use crate::gate::{AccessOptions, May};

fn access(yaml: &str) -> AccessOptions {
    load(yaml).unwrap().access.unwrap()
}

#[test]
fn without_the_section_there_are_no_rules() {
    assert!(load("").unwrap().access.is_none());
    for yaml in ["access:", "access: {}", "access: {rules: []}", "access:\n  rules:\n"] {
        let config = load(yaml).unwrap();
        assert!(config.access.as_ref().unwrap().rules.is_empty(), "{yaml}");
        assert!(warns(&config, "every request is refused"), "{yaml} {:?}", config.warnings);
    }
}

#[test]
fn rules_take_single_words_and_lists() {
    let options = access(
        "access:\n  groupfile: auth/groups\n  rules:\n    - {who: anyone, repositories: public/**, \
         may: pull}\n    - {who: ['group:a', user:users], repositories: ['**/x', '{user}/**'], \
         except: x, from: [10.0.0.0/8, unix, '::1'], may: [push, delete]}\n",
    );
    assert_eq!(options.groupfile, Some(std::path::absolute("auth/groups").unwrap()));
    let [first, second] = &*options.rules else { panic!("{options:?}") };
    assert_eq!(first.may(), [May::Pull]);
    assert_eq!(first.repositories()[0].to_string(), "public/**");
    assert_eq!(second.who()[1].to_string(), "user:users");
    assert_eq!(second.from().len(), 3);
    assert_eq!(second.except().len(), 1);
}

#[test]
fn variables_set_rules() {
    let config = load_environment(&[
        ("REGISTRY_ACCESS_GROUPFILE", "/etc/groups"),
        ("REGISTRY_ACCESS_RULES_0_WHO", "anyone"),
        ("REGISTRY_ACCESS_RULES_0_MAY", "pull"),
        ("REGISTRY_ACCESS_RULES_0_REPOSITORIES", "public/**"),
        ("REGISTRY_ACCESS_RULES_1", "{who: users, may: push}"),
    ])
    .unwrap();
    assert_eq!(config.warnings, Vec::<String>::new());
    let access = config.access.unwrap();
    assert_eq!(access.groupfile, Some("/etc/groups".into()));
    assert_eq!(access.rules.len(), 2);
    let origin = config.settings.item("access.rules[1]").unwrap().to_string();
    assert_eq!(origin, "REGISTRY_ACCESS_RULES_1");
}

#[test]
fn mistakes_in_rules_are_refused_with_their_place() {
    let rule = |rule: &str| format!("access:\n  rules:\n    - {rule}\n");
    for (yaml, start, end) in [
        (rule("{who: users, may: read}"), "config.yml:4:25: access.rules[0].may: ", "`all`"),
        (rule("{whom: users, may: pull}"), "config.yml:4:8: there is no key", "`who`"),
        (rule("{may: pull}"), "config.yml:4:7: access.rules[0]: ", "add `who`"),
        (rule("{who: users}"), "config.yml:4:7: access.rules[0]: ", "add `may`"),
        (
            rule("{who: users, may: pull, repositories: Team/*}"),
            "config.yml:4:45: access.rules[0].repositories: ",
            "no repository has a 'T'",
        ),
        (
            rule("{who: users, may: pull, repositories: '{users}/*'}"),
            "config.yml:4:45: access.rules[0].repositories: ",
            "`{user}` and `{group}`",
        ),
        (
            rule("{who: users, may: pull, from: here}"),
            "config.yml:4:37: access.rules[0].from: ",
            "a network",
        ),
        (
            rule("{who: 'group:team-a', may: pull}"),
            "config.yml:4:13: access.rules[0].who: ",
            "there is no access.groupfile",
        ),
    ] {
        let message = refusal(&yaml);
        assert!(message.starts_with(start) && message.contains(end), "{message}");
    }
}

#[test]
fn quotas_alone_close_nothing() {
    let quotas = "quotas: [{repositories: team-a/**, except: [team-a/x], bytes: 50GiB}]";
    let config = load(&format!("access: {{{quotas}}}")).unwrap();
    assert_eq!(config.warnings, load("").unwrap().warnings);
    assert!(config.access.is_none());
    assert_eq!(config.quotas.len(), 1);
    let config = load(&format!("access: {{{quotas}, rules: []}}")).unwrap();
    assert!(config.access.is_some() && config.quotas.len() == 1);
    assert!(warns(&config, "every request is refused"));
    let config = load_environment(&[("REGISTRY_ACCESS_QUOTAS_0_BYTES", "1TB")]).unwrap();
    assert!(config.access.is_none() && config.quotas.len() == 1);
    // Commands about stored images show quotas.
    let yaml = format!("version: 0.1\naccess: {{{quotas}, rules: [{{may: pull}}]}}\n");
    let read = load_for_storage(&yaml).unwrap();
    assert_eq!(read.config.quotas.len(), 1);
}

#[test]
fn mistakes_in_quotas_are_refused_with_their_place() {
    for (quota, start, end) in [
        ("{repositories: a}", "config.yml:4:7: access.quotas[0]: ", "add `bytes: 50GiB`"),
        ("{bytes: 50G}", "config.yml:4:15: access.quotas[0].bytes: ", "write `GB` or `GiB`"),
        ("{bytes: 0}", "config.yml:4:15: access.quotas[0].bytes: ", "for no limit"),
        (
            "{bytes: 1GB, repositories: Team/*}",
            "config.yml:4:34: access.quotas[0].repositories: ",
            "no repository has a 'T'",
        ),
        (
            "{bytes: 1GB, repositories: a/_layers}",
            "config.yml:4:34: access.quotas[0].repositories: ",
            "joined by `.`, `_`, `__` or `-`",
        ),
        ("{byte: 1GB}", "config.yml:4:8: there is no key", "`bytes`"),
    ] {
        let message = refusal(&format!("access:\n  quotas:\n    - {quota}\n"));
        assert!(message.starts_with(start) && message.contains(end), "{message}");
    }
}

#[test]
fn quotas_without_effect_are_warned_of_with_their_lines() {
    let yaml = "access:\n  quotas:\n    - {bytes: 1GB}\n    - {repositories: a/**, bytes: 2GB}\n";
    let config = load(yaml).unwrap();
    let warning = config.warnings.iter().find(|warning| warning.contains("quotas[1]")).unwrap();
    for words in ["config.yml:5:7", "access.quotas[0] allows", "config.yml:4:7"] {
        assert!(warning.contains(words), "{warning}");
    }
}

#[test]
fn glob_that_yaml_takes_for_an_alias_is_explained() {
    for glob in ["**", "*", "**/app", "*/app"] {
        let message = refusal(&format!(
            "access:\n  rules:\n    - {{who: users, may: pull, repositories: {glob}}}\n"
        ));
        assert!(message.contains("in quotes"), "{message}");
        let message =
            refusal(&format!("access:\n  rules:\n    - who: users\n      repositories: {glob}\n"));
        assert!(message.contains("in quotes"), "{message}");
    }
}

#[test]
fn rules_without_effect_are_warned_of_with_their_lines() {
    let yaml = "access:\n  rules:\n    - {who: users, repositories: a/**, may: push}\n    - {who: \
                ann, repositories: a/b, may: pull}\n    - {who: users, repositories: b/c, except: \
                b/**, may: pull}\n";
    let config = load(yaml).unwrap();
    assert_eq!(config.warnings.len(), 3, "{:?}", config.warnings);
    assert!(warns(&config, "access.rules[0] gives all that it gives"));
    let warning = config.warnings.iter().find(|warning| warning.contains("rules[1]")).unwrap();
    assert!(warning.contains("config.yml:4:7") && warning.contains("config.yml:5:7"), "{warning}");
    assert!(warns(&config, "takes away all of its repositories"));
    let open = load(&format!("auth: none\n{yaml}")).unwrap();
    assert!(warns(&open, "no caller has a name"));
    assert!(!warns(&open, "lets every client pull"));
}
