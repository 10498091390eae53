//! The sources of the configuration: a file, the `REGISTRY_*` variables, the options of a command.

use std::{
    env,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
};

use super::failure::tell;
use crate::config::{Config, Error, ForStorage, Override};

/// The variable that names the configuration file, as with registry:2. Several paths are separated
/// by colons, and the first that exists is used: an image can so look where registry:2's image has
/// its file.
const NAMES: &str = "REGISTRY_CONFIGURATION_PATH";

/// The configuration in a file, if an argument or the variable names one, in the `REGISTRY_*` variables
/// over it, and in the options of the command over both.
pub(super) fn configuration(file: Option<&Path>, options: &[Override]) -> Result<Config, Error> {
    Config::load_with(named(file)?.as_deref(), environment(), options)
}

/// The configuration for a command that reads or deletes stored images. Keys that such a command does
/// not read may be refused ones: a note names them.
pub(super) fn storage_configuration(file: Option<&Path>) -> Result<Config, Error> {
    let ForStorage { config, refused } =
        Config::load_for_storage(named(file)?.as_deref(), environment())?;
    if !refused.is_empty() {
        tell(&format!(
            "note: `serve` would refuse {}, and this command does not read it; `portcullis config \
             --check` says why",
            refused.join(", ")
        ));
    }
    Ok(config)
}

/// The file that an argument names, or else the variable.
fn named(file: Option<&Path>) -> Result<Option<PathBuf>, Error> {
    match file {
        Some(file) => Ok(Some(file.to_owned())),
        None => first_of(env::var_os(NAMES).as_deref().unwrap_or_default()),
    }
}

/// The variables of the process. The names and values of ours are Unicode.
fn environment() -> impl Iterator<Item = (String, String)> {
    env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The first of these paths that exists; `None` where there are no paths.
fn first_of(paths: &OsStr) -> Result<Option<PathBuf>, Error> {
    let files: Vec<_> =
        env::split_paths(paths).filter(|path| !path.as_os_str().is_empty()).collect();
    match files.iter().find(|file| exists(file)) {
        Some(file) => Ok(Some(file.clone())),
        None if files.is_empty() => Ok(None),
        None => Err(Error::Missing { files, named_by: Some(NAMES) }),
    }
}

/// Whether there is a file, readable or not: a file that cannot be read must not give way to another.
fn exists(file: &Path) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    !file.metadata().is_err_and(|error| matches!(error.kind(), NotFound | NotADirectory))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn first_existing_path_names_the_configuration_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let first = |paths: &str| first_of(paths.as_ref()).unwrap();
        assert_eq!(first(""), None);
        assert_eq!(first(":"), None);
        fs::write(at("b.yml"), "").unwrap();
        fs::write(at("c.yml"), "").unwrap();
        let paths = [at("a.yml"), at("b.yml/below"), at("b.yml"), at("c.yml")].join(":");
        assert_eq!(first(&paths), Some(at("b.yml").into()));
        // docker makes a directory where the file of a mount is missing.
        fs::create_dir(at("a.yml")).unwrap();
        assert_eq!(first(&paths), Some(at("a.yml").into()));

        let paths = format!("{}::{}", at("x.yml"), at("y.yml"));
        let error = first_of(paths.as_ref()).unwrap_err().to_string();
        assert!(error.starts_with("REGISTRY_CONFIGURATION_PATH names no file"), "{error}");
        assert!(error.contains(&at("x.yml")) && error.contains(&at("y.yml")), "{error}");
    }
}
