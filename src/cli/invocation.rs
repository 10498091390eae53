//! The arguments of the command, from the words that the process was started with.
//!
//! The program stands in for registry:2's image, whose users type `registry serve FILE`,
//! `/bin/registry garbage-collect FILE`, `htpasswd -Bbn USER PASSWORD`, or a configuration file alone.

use std::{
    ffi::{OsStr, OsString},
    iter,
    path::Path,
};

/// The name that usage and errors show.
const PROGRAM: &str = "portcullis";

/// The arguments, the program's name first.
///
/// - A program called `htpasswd` is the command `htpasswd`.
/// - A first argument that names this program or registry:2's, which registry:2's entrypoint would
///   run, is left out.
/// - A first argument that ends in `.yml` or `.yaml` is a file to serve, as for that entrypoint.
pub(super) fn arguments(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words = words.into_iter().peekable();
    let program = words.next();
    let command = if program.as_deref().is_some_and(|name| is_called(name, &["htpasswd"])) {
        Some("htpasswd")
    } else {
        words.next_if(|word| is_called(word, &["registry", PROGRAM]));
        words.peek().is_some_and(|word| is_yaml(word)).then_some("serve")
    };
    iter::once(PROGRAM).chain(command).map(OsString::from).chain(words).collect()
}

/// Whether the last part of this path is one of the names.
fn is_called(path: &OsStr, names: &[&str]) -> bool {
    Path::new(path).file_name().is_some_and(|last| names.iter().any(|name| last == *name))
}

fn is_yaml(word: &OsStr) -> bool {
    Path::new(word).extension().is_some_and(|extension| extension == "yml" || extension == "yaml")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> String {
        let arguments = arguments(words.split(' ').map(OsString::from));
        let arguments: Vec<_> = arguments.iter().map(|word| word.to_str().unwrap()).collect();
        arguments.join(" ")
    }

    #[test]
    fn program_is_the_command_that_registry_2s_image_has_under_its_name() {
        for (words, expected) in [
            ("htpasswd -Bbn admin admin", "portcullis htpasswd -Bbn admin admin"),
            ("/bin/htpasswd -v users registry", "portcullis htpasswd -v users registry"),
            ("registry serve /etc/config.yml", "portcullis serve /etc/config.yml"),
            ("/bin/registry garbage-collect -d f.yml", "portcullis garbage-collect -d f.yml"),
            ("registry -v", "portcullis -v"),
            ("registry", "portcullis"),
            ("target/debug/portcullis serve", "portcullis serve"),
        ] {
            assert_eq!(read(words), expected, "{words}");
        }
    }

    #[test]
    fn first_argument_of_the_image_is_what_registry_2s_entrypoint_takes_it_for() {
        for (words, expected) in [
            ("/bin/portcullis /etc/x/config.yml", "portcullis serve /etc/x/config.yml"),
            ("registry config.yaml --addr :80", "portcullis serve config.yaml --addr :80"),
            ("portcullis registry serve c.yml", "portcullis serve c.yml"),
            ("portcullis /bin/registry c.yml", "portcullis serve c.yml"),
            ("portcullis config c.yml", "portcullis config c.yml"),
            ("portcullis htpasswd users.yml alice", "portcullis htpasswd users.yml alice"),
            ("portcullis .yml", "portcullis .yml"),
        ] {
            assert_eq!(read(words), expected, "{words}");
        }
    }
}
