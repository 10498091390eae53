//! Variables that are no settings of this program but look as if they were: those of docker-registry
//! 1, which tutorials still set, and `PORTCULLIS_*`. Each is named, with the setting to write instead.

use super::error::Error;

/// The prefix that a user might expect in place of `REGISTRY_`.
pub(super) const OURS: &str = "PORTCULLIS_";

const DIRECTORY: &str = "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY";

/// The flavors of docker-registry 1 that keep images in a directory.
const LOCAL: [&str; 4] = ["common", "dev", "local", "test"];

/// The warning about a variable of docker-registry 1; `None` for other variables.
///
/// # Errors
///
/// When the variable asks for a storage that is no directory: a registry that starts without it would
/// seem to have lost its images.
pub(super) fn version_1(name: &str, value: &str) -> Result<Option<String>, Error> {
    // As if it were unset.
    if value.is_empty() {
        return Ok(None);
    }
    let instead = match name {
        "SETTINGS_FLAVOR" if !LOCAL.contains(&value) => {
            return Err(Error::Flavor { flavor: value.escape_debug().to_string() });
        }
        "SETTINGS_FLAVOR" => format!("remove it; {DIRECTORY} names the directory of the images"),
        "DOCKER_REGISTRY_CONFIG" => {
            "name a configuration file of registry:2 in REGISTRY_CONFIGURATION_PATH".to_owned()
        }
        "STORAGE_PATH" => {
            let path = value.escape_debug();
            format!("to keep images there, write {DIRECTORY}={path}")
        }
        "AWS_BUCKET" | "GCS_BUCKET" => {
            format!("images are kept in a directory, which {DIRECTORY} names")
        }
        _ => return Ok(None),
    };
    Ok(Some(format!("{name} is of docker-registry 1 and has no effect: {instead}")))
}

/// The warning about the variable `PORTCULLIS_` and `rest`; `names_key` says whether `REGISTRY_` with
/// the same rest names a key. `None` for variables that Kubernetes and docker set beside a service
/// called `portcullis`.
pub(super) fn of_ours(rest: &str, names_key: bool) -> Option<String> {
    let is_of_a_service = matches!(rest, "NAME" | "PORT")
        || ["ENV_", "PORT_", "SERVICE_"].iter().any(|prefix| rest.starts_with(prefix));
    if is_of_a_service {
        return None;
    }
    let rest = rest.escape_debug();
    Some(match names_key {
        true => format!("{OURS}{rest} has no effect: write REGISTRY_{rest}"),
        false => format!(
            "{OURS}{rest} has no effect: settings have the names of registry:2, such as \
             REGISTRY_HTTP_ADDR; `portcullis config` shows all keys"
        ),
    })
}
