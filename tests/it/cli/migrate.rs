//! `portcullis migrate` as a process.

use std::{fs, process::Command};

#[test]
fn password_file_that_cannot_be_read_is_not_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("config.yml"), "version: 0.1\nstorage: {filesystem: {rootdirectory: /r}}\n")
        .unwrap();
    let site = "server {\n  listen 443 ssl;\n  server_name r.example;\n  ssl_certificate /c.crt;\n  \
                ssl_certificate_key /c.key;\n  location /v2/ {\n    auth_basic r;\n    \
                auth_basic_user_file /nowhere/htpasswd;\n    proxy_pass http://r:5000;\n  }\n}\n";
    fs::write(at("site.conf"), site).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.current_dir(folder.path()).env_clear();
    let output =
        command.args(["migrate", "--from", "config.yml", "--nginx", "site.conf"]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    let last = told.lines().last().unwrap();
    let expected = "portcullis: NOT TAKEN OVER: the users of nginx's password file /nowhere/htpasswd: cannot read it: ";
    assert!(last.starts_with(expected), "{told}");
    assert!(last.contains("`portcullis htpasswd --upgrade /nowhere/htpasswd`"), "{told}");
    let written = String::from_utf8(output.stdout).unwrap();
    assert!(
        written.contains("/nowhere/htpasswd") && !written.contains("legacyformats"),
        "{written}"
    );
}
