//! The first start: the files that it creates, those that it refuses to create, and its warnings.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
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

/// The password of such a user would be lost.
#[test]
fn failed_start_leaves_no_user_whose_password_was_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_portcullis");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    for variables in [
        format!("REGISTRY_HTTP_ADDR={at}"),
        "REGISTRY_HTTP_ADDR=127.0.0.1:0 REGISTRY_HTTP_TLS_CERTIFICATE=no.crt \
         REGISTRY_HTTP_TLS_KEY=no.key"
            .to_owned(),
        "REGISTRY_HTTP_ADDR=127.0.0.1:0 REGISTRY_HTTP_HEADERS='{a b: [c]}'".to_owned(),
    ] {
        let command = format!("{variables} {program} serve; test $? = 1 && echo failed");
        let Some(shown) = on_a_terminal(folder.path(), &command) else { return };
        assert!(shown.ends_with("failed\n") && !shown.contains("password  "), "{shown}");
        assert!(!folder.path().join("auth/htpasswd").exists(), "{shown}");
    }
}

#[test]
fn every_start_says_its_address_data_users_and_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for message in [
        format!("data folder is new\" folder={}", data.display()),
        "msg=\"data folder\" repositories=0".to_owned(),
    ] {
        let Launched { mut child, log, .. } = Launched::new(portcullis(folder.path(), &[]));
        until(&log, "data folder");
        let _ = Command::new("kill").arg(child.id().to_string()).status();
        assert!(child.wait().unwrap().success());
        let log = log.whole();
        for part in [
            "msg=\"listening\" addr=\"127.0.0.1:",
            "msg=\"users of the password file\" users=1",
            "msg=\"certificate of the server\" until=",
            "127.0.0.1 ::1",
            &message,
        ] {
            assert!(log.contains(part), "{part}: {log}");
        }
        fs::create_dir_all(data.join("docker/registry/v2/repositories")).unwrap();
    }
}

#[test]
fn start_on_a_terminal_has_short_lines() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_portcullis");
    // The first message goes to a file, and the log to the terminal.
    let command = format!(
        "REGISTRY_HTTP_ADDR=127.0.0.1:0 NO_COLOR=1 {program} serve >first & \
         while ! grep -q 'docker login' first; do sleep 0.05; done; kill $!; wait $!"
    );
    let Some(shown) = on_a_terminal(folder.path(), &command) else { return };
    let line = shown.lines().find(|line| line.contains("listening")).unwrap_or(&shown);
    assert_eq!(&line[8..14], " info ", "{line}");
    assert!(!shown.contains("level=") && !shown.contains("Some("), "{shown}");
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

/// A user without privileges, which root is not: no permission stops root.
const NOBODY: u32 = 65534;

/// A folder whose permissions bind the processes of [`as_nobody`].
fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    folder
}

/// Makes root's processes those of nobody; others are bound by permissions already.
fn as_nobody(mut command: Command) -> Command {
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// The message of a start that fails, as a user without privileges.
fn denial(folder: &Path, variables: &[(&str, &str)]) -> String {
    let Output { status, stderr, .. } = as_nobody(portcullis(folder, variables)).output().unwrap();
    let message = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{message}");
    message
}

#[test]
fn storage_that_cannot_be_written_to_is_refused_with_path_user_and_command() {
    for closed in ["data", "data/docker", "data/docker/registry/v2/blobs"] {
        let folder = open_folder();
        let closed = folder.path().join(closed);
        fs::create_dir_all(&closed).unwrap();
        for above in closed.ancestors().take_while(|above| *above != folder.path()) {
            fs::set_permissions(above, Permissions::from_mode(0o777)).unwrap();
        }
        fs::set_permissions(&closed, Permissions::from_mode(0o555)).unwrap();
        let message = denial(folder.path(), &[]);
        let start = format!("portcullis: cannot write to the storage {} as ", closed.display());
        assert!(message.starts_with(&start), "{message}");
        assert!(message.contains("Permission denied") && message.contains("(uid "), "{message}");
        let data = folder.path().join("data");
        let has_command = [
            format!("`chown -R {NOBODY}:{NOBODY} {}`", data.display()),
            format!("`chmod u+rwx {}`", closed.display()),
            "docker run --user".to_owned(),
        ];
        assert!(has_command.iter().any(|command| message.contains(command)), "{message}");
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "neither users nor certificates are made");
    }
}

#[test]
fn storage_that_cannot_be_written_to_is_served_read_only() {
    let folder = open_folder();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, Permissions::from_mode(0o555)).unwrap();
    let readonly = [("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true")];
    let Launched { mut child, .. } = Launched::new(as_nobody(portcullis(folder.path(), &readonly)));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
}

#[test]
fn probe_of_the_storage_leaves_nothing_behind_beside_another_server() {
    let folder = tempfile::tempdir().unwrap();
    // Otherwise the server begins the records of pulls at any moment.
    let still = [("REGISTRY_STORAGE_MAINTENANCE_GARBAGECOLLECTION_DELETEUNTAGGEDAFTER", "0s")];
    let Launched { mut child, .. } = Launched::new(portcullis(folder.path(), &still));
    let before = crate::support::server::files(&folder.path().join("data"));
    log_of(folder.path(), &still);
    assert_eq!(crate::support::server::files(&folder.path().join("data")), before);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn password_file_and_certificate_that_cannot_be_read_are_not_called_missing() {
    let folder = open_folder();
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    let users = closed.join("htpasswd");
    write_user(&users, "carol", "password");
    let variables = [("REGISTRY_AUTH_HTPASSWD_PATH", "closed/htpasswd")];
    fs::set_permissions(&users, Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o755)).unwrap();
    let message = denial(folder.path(), &variables);
    let start = format!("cannot read the password file {} as ", users.display());
    assert!(message.contains(&start), "{message}");
    // Nor when its folder may not be entered.
    fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
    let message = denial(folder.path(), &variables);
    assert!(message.contains(&start), "{message}");
    assert!(message.contains(&format!("`chmod a+x {}` does", closed.display())), "{message}");

    let none = [
        ("REGISTRY_AUTH", "none"),
        ("REGISTRY_HTTP_TLS_CERTIFICATE", "closed/server.crt"),
        ("REGISTRY_HTTP_TLS_KEY", "closed/server.key"),
    ];
    let message = denial(folder.path(), &none);
    let certificate = closed.join("server.crt");
    assert!(message.contains(&format!("cannot read {} as ", certificate.display())), "{message}");
    fs::set_permissions(&closed, Permissions::from_mode(0o755)).unwrap();
    let message = denial(folder.path(), &none);
    assert!(message.contains(&format!("there is no file {}", certificate.display())), "{message}");
}
