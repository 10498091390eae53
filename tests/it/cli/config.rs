//! `portcullis config` as a process: its output and its checks.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::Command,
};

/// The exit code, standard output and standard error.
fn config(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.current_dir(folder).env_clear().arg("config").args(arguments);
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn config_prints_effective_values_with_origins_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = "version: 0.1\nhttp:\n  addr: :443\n  secret: sesame\n\
                storage: {filesystem: {maxthreads: 100}}\n";
    fs::write(folder.path().join("config.yml"), yaml).unwrap();
    let variables = [("REGISTRY_LOG_LEVEL", "debug"), ("REGISTRY_PORT", "tcp://10.0.0.1:5000")];
    let (code, out, err) = config(folder.path(), &["config.yml"], &variables);
    assert_eq!(code, 0, "{err}");
    let at = |place: &str| format!("{}:{place}", folder.path().join("config.yml").display());
    for (line, origin) in [
        ("  addr: \":443\"", &*at("3:9")),
        ("  level: debug", "REGISTRY_LOG_LEVEL"),
        ("  secret: \"***\"", &*at("4:11")),
        ("    rootdirectory: /var/lib/registry", "default"),
    ] {
        let found = out.lines().find(|found| found.starts_with(line));
        let found = found.unwrap_or_else(|| panic!("{line} is missing: {out}"));
        assert!(found.ends_with(&format!(" # {origin}")), "{found}");
    }
    assert!(err.contains("warning: REGISTRY_PORT names no key"), "{err}");
    assert!(
        err.contains(&format!("note: storage.filesystem.maxthreads ({})", at("5:24"))),
        "{err}"
    );
    assert!(!out.contains("sesame") && !err.contains("sesame"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is made");

    // The output is a configuration.
    fs::write(folder.path().join("again.yml"), &out).unwrap();
    let (code, again, err) = config(folder.path(), &["again.yml"], &[]);
    assert_eq!(code, 0, "{err}");
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split(" # ").next().unwrap().trim_end().to_owned()).collect()
    };
    assert_eq!(values(&again), values(&out));
}

#[test]
fn file_may_be_named_by_registry_2s_variable() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("named.yml"), "version: 0.1\nlog: {level: error}\n").unwrap();
    let named = [("REGISTRY_CONFIGURATION_PATH", "named.yml")];
    let (code, out, err) = config(folder.path(), &[], &named);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("named.yml:2:14"), "{out}");
    fs::write(folder.path().join("other.yml"), "version: 0.1\nlog: {level: warn}\n").unwrap();
    let (_, out, _) = config(folder.path(), &["other.yml"], &named);
    assert!(out.contains("other.yml:2:14") && !out.contains("named"), "{out}");
}

#[test]
fn check_prints_problems_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("good.yml"), "version: 0.1\n").unwrap();
    fs::write(folder.path().join("bad.yml"), "version: 0.1\nhttp: {adr: x}\n").unwrap();
    let (code, out, _) = config(folder.path(), &["--check", "good.yml"], &[]);
    assert_eq!((code, &*out), (0, ""));
    let (code, out, err) = config(folder.path(), &["--check", "bad.yml"], &[]);
    assert_eq!((code, &*out), (1, ""));
    assert!(err.contains("bad.yml:2:8: there is no key `http.adr`. Did you mean `addr`?"), "{err}");
}

#[test]
fn check_of_files_binds_no_address() {
    let folder = tempfile::tempdir().unwrap();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = other.local_addr().unwrap();
    let yaml = format!(
        "version: 0.1\nhttp: {{addr: '{addr}'}}\nstorage: {{filesystem: {{rootdirectory: data}}}}\n"
    );
    fs::write(folder.path().join("config.yml"), yaml).unwrap();
    let (code, _, err) = config(folder.path(), &["--check", "config.yml"], &[]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains(&format!("{addr} is in use")), "{err}");
    let (code, out, err) = config(folder.path(), &["--check", "--files", "config.yml"], &[]);
    assert_eq!((code, &*out), (0, ""), "{err}");
    assert!(!err.contains("http.addr"), "{err}");
    let (code, ..) = config(folder.path(), &["--files", "config.yml"], &[]);
    assert_eq!(code, 2, "--files belongs to --check");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is made");
}

#[test]
fn check_finds_a_folder_of_the_tree_that_this_user_may_not_use() {
    let folder = tempfile::tempdir().unwrap();
    let open =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let blobs = folder.path().join("data/docker/registry/v2/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir(folder.path().join("auth")).unwrap();
    let yaml = "version: 0.1\nhttp: {tls: off}\nauth: none\n\
                storage: {filesystem: {rootdirectory: data}}\n";
    fs::write(folder.path().join("config.yml"), yaml).unwrap();
    for path in blobs.ancestors().take(6) {
        open(path, 0o777);
    }
    let check = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.current_dir(folder.path()).env_clear();
        command.args(["config", "--check", "--files", "config.yml"]);
        if rustix::process::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, err) = check();
    assert_eq!(code, 0, "{err}");
    open(&blobs, 0o500);
    let (code, err) = check();
    assert_eq!(code, 1, "{err}");
    let blobs = fs::canonicalize(blobs).unwrap();
    for words in [
        "config.yml:4:39: storage.filesystem.rootdirectory: ",
        &format!("{} cannot be used by this user (", blobs.display()),
        "`chown -R ",
    ] {
        assert!(err.contains(words), "{words}: {err}");
    }
}

#[test]
fn storage_commands_accept_a_file_whose_other_keys_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("images")).unwrap();
    let yaml = "version: 0.1\nstorage:\n  cache: {blobdescriptor: redis}\n  \
                filesystem: {rootdirectory: images}\nredis: {addr: r:6379}\n\
                auth: {silly: {realm: r, service: s}}\n";
    fs::write(folder.path().join("config.yml"), yaml).unwrap();
    for (arguments, code) in [
        (&["verify"][..], 0),
        (&["garbage-collect", "--dry-run"], 0),
        (&["purge-uploads", "--dry-run"], 0),
        // There are no rules, and there is no such repository.
        (&["retain"], 1),
        (&["rm", "team/app"], 1),
        (&["config", "--check", "--files"], 1),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.current_dir(folder.path()).env_clear().args(arguments);
        let output = command.arg("config.yml").output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {err}");
        let note = "portcullis: note: `serve` would refuse auth.silly, redis, \
                    storage.cache.blobdescriptor, and this command does not read it";
        assert_eq!(err.contains(note), arguments[0] != "config", "{arguments:?}: {err}");
        assert_eq!(err.contains("no Redis is needed"), arguments[0] == "config", "{err}");
    }
}

#[test]
fn options_win_over_file_and_variables_and_are_named_as_origins() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = "version: 0.1\nhttp: {addr: ':1'}\nstorage: {filesystem: {rootdirectory: /srv}}\n";
    fs::write(folder.path().join("config.yml"), yaml).unwrap();
    let variables = [("REGISTRY_HTTP_ADDR", ":2"), ("REGISTRY_HTTP_HOSTS", "[c]")];
    let options = ["--addr", ":3", "--host", "a", "--host", "b.example", "--data", "images"];
    let arguments = [&["config.yml"], &options[..]].concat();
    let (code, out, err) = config(folder.path(), &arguments, &variables);
    assert_eq!(code, 0, "{err}");
    for (line, origin) in [
        ("  addr: \":3\"", "--addr"),
        ("  hosts: [a, b.example]", "--host"),
        ("    rootdirectory: images", "--data"),
    ] {
        let found = out.lines().find(|found| found.starts_with(line));
        let found = found.unwrap_or_else(|| panic!("{line} is missing: {out}"));
        assert!(found.ends_with(&format!(" # {origin}")), "{found}");
    }
    // An error names the option.
    fs::write(folder.path().join("config.yml"), "version: 0.1\nstorage: inmemory\n").unwrap();
    let (code, _, err) = config(folder.path(), &["config.yml", "--data", "images"], &[]);
    assert_eq!(code, 1);
    assert!(err.contains("--data: storage.filesystem: there is `inmemory`"), "{err}");
}
