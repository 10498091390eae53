//! The first start: the files that it creates, those that it refuses to create, and its warnings.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::support::{
    process::{Launched, Log},
    raw::GUARD,
    server::write_user,
};

fn portcullis(folder: &Path, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.current_dir(folder).env_clear().arg("serve").env("REGISTRY_HTTP_ADDR", "127.0.0.1:0");
    command.envs(variables.iter().copied()).stdout(Stdio::null());
    command
}

/// The log of a server, from its start to its end.
fn log_of(folder: &Path, variables: &[(&str, &str)]) -> String {
    let Launched { mut child, log, .. } = Launched::new(portcullis(folder, variables));
    let _ = Command::new("kill").arg(child.id().to_string()).status();
    assert!(child.wait().unwrap().success());
    log.whole()
}

/// The message of a server that does not start.
fn refusal(folder: &Path, variables: &[(&str, &str)]) -> String {
    let Output { status, stderr, .. } = portcullis(folder, variables).output().unwrap();
    let message = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{message}");
    message
}

const NAMED: [(&str, &str); 1] = [("REGISTRY_AUTH_HTPASSWD_PATH", "users/htpasswd")];

#[test]
fn configured_password_file_is_created_in_its_folder_and_logged_at_warn() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("users")).unwrap();
    let log = log_of(folder.path(), &NAMED);
    let line = log.lines().find(|line| line.contains("is its volume mounted?")).unwrap_or(&log);
    assert!(line.contains("level=warning"), "{line}");
    let path = folder.path().join("users/htpasswd");
    assert!(line.contains(&format!("file={}", path.display())), "{line}");
    for name in ["htpasswd", "admin.password"] {
        let mode =
            fs::metadata(folder.path().join("users").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert!(!log_of(folder.path(), &NAMED).contains("volume"), "it is there");
}

#[test]
fn password_file_whose_folder_is_missing_is_not_created() {
    let folder = tempfile::tempdir().unwrap();
    let message = refusal(folder.path(), &NAMED);
    let users = folder.path().join("users");
    assert!(message.contains(&format!("there is no folder {}", users.display())), "{message}");
    assert!(message.contains("is its volume mounted?"), "{message}");
    let command = format!("`mkdir -m 700 {}`", users.display());
    assert!(message.contains(&command), "{message}");
    assert!(!users.exists());
    // A file in place of the folder.
    fs::write(&users, "").unwrap();
    assert!(refusal(folder.path(), &NAMED).contains("there is no folder"));
}

/// Runs a shell command on a terminal; gives the terminal's content. `None` without a terminal.
fn on_a_terminal(folder: &Path, command: &str) -> Option<String> {
    if !crate::support::process::is_there("script", "util-linux") {
        return None;
    }
    let mut script = Command::new("script");
    script.current_dir(folder).args(["-qec", command, "/dev/null"]).stdin(Stdio::null());
    let output = script.output().unwrap();
    Some(String::from_utf8(output.stdout).unwrap().replace('\r', ""))
}

#[test]
fn first_password_is_shown_on_a_terminal_and_kept_in_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_portcullis");
    // The test ends it after its last message.
    let command = format!(
        "REGISTRY_HTTP_ADDR=127.0.0.1:0 {program} serve 2>log & \
         while ! grep -q listening log; do sleep 0.05; done; kill $!; wait $!"
    );
    let Some(shown) = on_a_terminal(folder.path(), &command) else { return };
    let password = shown.split("password  ").nth(1).and_then(|rest| rest.lines().next());
    assert_eq!(password.map(str::len), Some(43), "{shown}");
    assert!(shown.contains("The password is shown only once."), "{shown}");
    assert!(!folder.path().join("auth/admin.password").exists());
}

fn until(log: &Log, what: &str) {
    let begun = std::time::Instant::now();
    while !log.so_far().contains(what) {
        assert!(begun.elapsed() < GUARD, "{what}: {}", log.so_far());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn files_that_other_users_may_access_get_a_warning_at_start_and_reload() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("auth")).unwrap();
    let users = folder.path().join("auth/htpasswd");
    write_user(&users, "carol", "password");
    let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    set(&users, 0o600);
    let Launched { mut child, log, .. } = Launched::new(portcullis(folder.path(), &[]));
    assert!(!log.so_far().contains("chmod"), "{}", log.so_far());
    set(&users, 0o666);
    let key = folder.path().join("certs/server.key");
    set(&key, 0o644);
    let _ = Command::new("kill").args(["-s", "HUP", &child.id().to_string()]).status();
    let warning = |path: &Path, what: &str| format!("{} can be {what}", path.display());
    until(&log, &warning(&users, "written to by every user of this machine (mode 0666)"));
    until(&log, &warning(&key, "read by every user of this machine (mode 0644)"));
    let _ = Command::new("kill").arg(child.id().to_string()).status();
    child.wait().unwrap();
    drop(log);

    let log = log_of(folder.path(), &[]);
    for (path, name) in [(&users, "password file"), (&key, "private key")] {
        let path = path.display();
        let line = log.lines().find(|line| line.contains(&format!("the {name} {path} can be")));
        let line = line.unwrap_or_else(|| panic!("{name}: {log}"));
        assert!(line.contains("level=warning"), "{line}");
        assert!(line.contains(&format!("`chmod 600 {path}`")), "{line}");
    }
}

#[test]
fn existing_root_keeps_its_mode() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("data");
    fs::create_dir(&root).unwrap();
    fs::set_permissions(&root, Permissions::from_mode(0o755)).unwrap();
    log_of(folder.path(), &[]);
    assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o755);
}
