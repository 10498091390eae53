//! The program under the names that registry:2's image has for it, and its configuration file under
//! several.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Output},
};

use crate::support::process::Launched;

/// The program, called by another name.
fn called(name: &str, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.arg0(name).current_dir(folder).env_clear().args(arguments);
    command
}

/// The exit code, standard output and standard error.
fn run(mut command: Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn program_called_htpasswd_prints_the_line_of_a_user() {
    let folder = tempfile::tempdir().unwrap();
    let (code, line, err) = run(called("htpasswd", folder.path(), &["-Bbn", "admin", "admin"]));
    assert_eq!(code, 0, "{err}");
    let hash = line.strip_prefix("admin:").unwrap().strip_suffix("\n\n").unwrap();
    fs::write(folder.path().join("htpasswd"), &line).unwrap();
    let verify = ["-vb", "htpasswd", "admin", "admin"];
    let (code, _, err) = run(called("/bin/htpasswd", folder.path(), &verify));
    assert_eq!(code, 0, "{hash}: {err}");
}

#[test]
fn program_called_registry_collects_garbage_in_the_storage_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("images")).unwrap();
    let yaml = "version: 0.1\nstorage: {filesystem: {rootdirectory: images}}\n";
    fs::write(folder.path().join("config.yml"), yaml).unwrap();
    for arguments in [
        &["garbage-collect", "--dry-run", "config.yml"][..],
        &["garbage-collect", "config.yml"],
        &["/bin/registry", "garbage-collect", "config.yml"],
    ] {
        let (code, out, err) = run(called("/bin/registry", folder.path(), arguments));
        assert_eq!(code, 0, "{err}");
        assert!(out.contains("0 blobs marked"), "{out}");
    }
    let (code, out, _) = run(called("registry", folder.path(), &["-v"]));
    assert!(code == 0 && out.starts_with("portcullis "), "{out}");
}

#[test]
fn configuration_file_alone_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let yaml =
        "version: 0.1\nhttp: {addr: 127.0.0.1:0}\nstorage: {filesystem: {rootdirectory: images}}\n";
    fs::write(folder.path().join("config.yml"), yaml).unwrap();
    let Launched { mut child, .. } =
        Launched::new(called("registry", folder.path(), &["config.yml"]));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(folder.path().join("images").is_dir());
}

#[test]
fn first_file_that_registry_2s_variable_names_is_used_by_commands() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let paths = [at("docker.yml"), at("ours.yml")].join(":");
    let config = || {
        let mut command = called("portcullis", folder.path(), &["config"]);
        command.env("REGISTRY_CONFIGURATION_PATH", &paths);
        run(command)
    };
    let (code, _, err) = config();
    assert_eq!(code, 1);
    let none = format!("names no file that exists: {}, {};", at("docker.yml"), at("ours.yml"));
    assert!(err.contains(&none), "{err}");
    fs::write(at("ours.yml"), "version: 0.1\nlog: {level: warn}\n").unwrap();
    let (_, out, err) = config();
    assert!(out.contains(&format!("# {}:2:14", at("ours.yml"))), "{out}{err}");
    fs::write(at("docker.yml"), "version: 0.1\nlog: {level: error}\n").unwrap();
    let (_, out, err) = config();
    assert!(out.contains(&format!("# {}:2:14", at("docker.yml"))), "{out}{err}");
}

#[test]
fn configuration_file_that_is_missing_is_told_from_a_directory_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yml");
    let (code, _, err) = run(called("portcullis", folder.path(), &["config", "config.yml"]));
    assert_eq!(code, 1);
    assert!(err.contains(&format!("there is no configuration file {}", file.display())), "{err}");
    fs::create_dir(&file).unwrap();
    let (code, _, err) = run(called("portcullis", folder.path(), &["config", "config.yml"]));
    assert_eq!(code, 1);
    assert!(
        err.contains(&format!("{} is a directory, which docker makes", file.display())),
        "{err}"
    );
}

#[test]
fn storage_of_docker_registry_1_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = called("portcullis", folder.path(), &["serve"]);
    command.env("SETTINGS_FLAVOR", "s3").env("AWS_BUCKET", "images");
    let (code, _, err) = run(command);
    assert_eq!(code, 1);
    assert!(err.contains("SETTINGS_FLAVOR: `s3` is a storage of docker-registry 1"), "{err}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is made");
}
