//! Earlier findings stay fixed, and the seeds keep their coverage.

use std::{
    collections::BTreeSet,
    fs,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
};

use portcullis_fuzz::TARGETS;

#[test]
fn every_kept_input_has_the_properties_of_its_target() {
    let mut failures = Vec::new();
    for (name, target) in TARGETS {
        for folder in ["seeds", "regressions"] {
            for file in entries(&root().join(folder).join(name)) {
                let data = fs::read(&file).unwrap();
                if panic::catch_unwind(AssertUnwindSafe(|| target(&data))).is_err() {
                    failures.push(file);
                }
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn every_target_has_a_program_and_a_seed_and_nothing_is_kept_for_another() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&root().join("fuzz_targets")), targets);
    assert_eq!(names(&root().join("seeds")), targets);
    assert!(names(&root().join("regressions")).is_subset(&targets));
    for target in &targets {
        assert!(!entries(&root().join("seeds").join(target)).is_empty(), "{target} has no seed");
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The names in a folder, without their extensions.
fn names(folder: &Path) -> BTreeSet<String> {
    let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    entries(folder).into_iter().map(stem).collect()
}

/// The files of a folder, sorted; none when the folder is missing.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}
