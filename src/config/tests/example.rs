//! `portcullis.example.yml` against the schema and the defaults.

use super::*;
use crate::config::Settings;

const EXAMPLE: &str = include_str!("../../../portcullis.example.yml");

#[test]
fn example_has_the_defaults() {
    let mut example = load_with(EXAMPLE, &[]).unwrap();
    assert_eq!(example.warnings, Vec::<String>::new());
    let mut defaults = load("").unwrap();
    defaults.warnings.clear();
    example.warnings.clear();
    assert_eq!(example.settings.changed(&defaults.settings), Vec::<String>::new());
    defaults.settings = Settings::default();
    example.settings = Settings::default();
    assert_eq!(format!("{example:#?}"), format!("{defaults:#?}"));
}

#[test]
fn example_has_every_working_key_with_its_variable() {
    let lines: Vec<&str> = EXAMPLE.lines().map(str::trim).collect();
    for (path, _) in schema::leaves() {
        let name = format!("REGISTRY_{}", path.replace('.', "_").to_uppercase());
        let variable = lines.iter().position(|line| {
            line.starts_with('#') && line.split_whitespace().next_back() == Some(&name)
        });
        let variable = variable.unwrap_or_else(|| panic!("{name} is missing"));
        let key = format!("{}:", path.rsplit('.').next().unwrap());
        // The key is below the variable, in force or commented out.
        let below = lines[variable + 1].trim_start_matches("# ");
        assert!(below.starts_with(&key), "{path}: {below} stands below {name}");
    }
}

#[test]
fn commented_out_keys_of_the_example_exist() {
    for (commented, instead_of) in [
        ("  # inmemory: {}", "  filesystem:\n"),
        ("  # none: {}", "  htpasswd:\n"),
        ("  # host:", ""),
        ("      # file: auth/tokens", ""),
        ("    # certificate:", ""),
        ("    # clientauth:", ""),
        ("    # clientidentity:", ""),
    ] {
        let mut yaml = EXAMPLE.replace(commented, &commented.replace("# ", ""));
        assert_ne!(yaml, EXAMPLE, "{commented}");
        if commented.contains("certificate") {
            yaml = yaml.replace("# key:", "key:");
        }
        if commented.contains("clientidentity") {
            yaml = yaml.replace("clientcas: []", "clientcas: [/clients.crt]");
        }
        let result = load_with(&yaml, &[]);
        if instead_of.is_empty() {
            result.unwrap();
        } else {
            assert!(matches!(result, Err(Error::Several { .. })));
        }
    }
}
