//! `portcullis token` as a process.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers are called by tests only, and a test stops at the first surprise"
)]

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Command,
};

use portcullis::gate::tokens::deploy::{DeployTokens, Expiry, Form};

use crate::support::server::write_user;

/// A directory with a configuration and a user, `ann`.
struct Shell {
    dir: tempfile::TempDir,
    settings: &'static str,
}

/// The output and the exit code of a command.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Shell {
    fn new(settings: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("auth")).unwrap();
        write_user(&dir.path().join("auth/htpasswd"), "ann", "secret");
        Self { dir, settings }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path("auth/tokens")).unwrap_or_default()
    }

    fn run(&self, arguments: &str) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.env_clear().env("SUDO_USER", "olga").current_dir(self.dir.path());
        if let Some((name, value)) = self.settings.split_once('=') {
            command.env(name, value);
        }
        let output = command.arg("token").args(arguments.split(' ')).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    #[track_caller]
    fn succeeds(&self, arguments: &str) -> Ended {
        let ended = self.run(arguments);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended
    }

    #[track_caller]
    fn fails(&self, arguments: &str, code: i32, message: &str) {
        let before = self.text();
        let ended = self.run(arguments);
        assert_eq!((ended.code, &*ended.stdout), (Some(code), ""), "{ended:?}");
        let flat = ended.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(message), "{}", ended.stderr);
        assert_eq!(self.text(), before, "nothing has changed");
    }
}

#[test]
fn token_is_created_with_its_secret_on_standard_output_alone() {
    let shell = Shell::new("");
    let arguments = "create ci --may push,delete --repositories team-a/** --repositories base/go \
                     --expires 36h --user ann";
    let ended = shell.succeeds(arguments);
    let secret = ended.stdout.strip_suffix('\n').unwrap();
    let Form::Secret(digest) = Form::of(secret.as_bytes()) else { panic!("{secret}") };
    assert!(!ended.stderr.contains("pcl_"), "{}", ended.stderr);
    assert!(
        ended.stderr.starts_with(
            "portcullis: ci may push,delete in team-a/**,base/go, as far as ann may, until "
        ),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("docker login -u ci --password-stdin"), "{}", ended.stderr);

    let text = shell.text();
    assert!(!text.contains("pcl_") && text.contains(" by=olga user=ann\n"), "{text}");
    let tokens = DeployTokens::parse(text.as_bytes());
    let token = &tokens.entries()[0].token;
    assert_eq!((token.digest, token.repositories.len()), (digest, 2));
    assert!(matches!(token.expires, Expiry::At(_)), "{text}");
    // The server that reads the password file has to read this one.
    let mode = |name| fs::metadata(shell.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("auth/tokens"), mode("auth/htpasswd"));
}

#[test]
fn token_lives_for_90_days_unless_another_life_is_typed() {
    let shell = Shell::new("");
    let expires = |name: &str, option: &str| {
        shell.succeeds(&format!("create {name} --may pull --repositories **{option}"));
        let tokens = DeployTokens::parse(shell.text().as_bytes());
        let token = tokens.of(name).next().unwrap().token.clone();
        let made = token.created.unwrap().to_zoned(jiff::tz::TimeZone::UTC).unwrap();
        token.expires.instant().map(|end| end.duration_since(made.timestamp()).as_hours())
    };
    assert_eq!(expires("a", ""), Some(91 * 24), "to the end of the last day");
    assert_eq!(expires("b", " --expires 7d"), Some(8 * 24));
    assert_eq!(expires("c", " --expires never"), None);
    shell.succeeds("create d --may pull --repositories ** --expires 2999-12-31");
    assert!(shell.text().contains("expires=2999-12-31"));
    shell.fails("create e --may pull --repositories ** --expires 2020-01-01", 2, "is over");
    shell.fails("create e --may pull --repositories ** --expires soon", 2, "a date such as");
}

#[test]
fn longest_life_bounds_every_token() {
    let shell = Shell::new("REGISTRY_AUTH_HTPASSWD_TOKENS_MAXLIFETIME=720h");
    shell.succeeds("create ci --may pull --repositories **");
    let created = DeployTokens::parse(shell.text().as_bytes());
    let bound = "a token lives for 30 days at most (auth.htpasswd.tokens.maxlifetime)";
    for expires in ["never", "31d", "721h", "2999-01-01"] {
        shell.fails(
            &format!("create k8s --may pull --repositories ** --expires {expires}"),
            1,
            bound,
        );
        shell.fails(&format!("rotate ci --expires {expires}"), 1, bound);
    }
    shell.succeeds("rotate ci");
    let rotated = DeployTokens::parse(shell.text().as_bytes());
    assert_eq!(rotated.entries()[0].token.expires, created.entries()[0].token.expires);
    // A line by hand is told, and works.
    let text = shell.text();
    let date = rotated.entries()[0].token.expires.to_string();
    fs::write(shell.path("auth/tokens"), text.replace(&date, "never")).unwrap();
    let listed = shell.succeeds("list");
    assert!(listed.stderr.contains("line 1 (token ci): it lives longer"), "{}", listed.stderr);
}

#[test]
fn names_and_rights_that_cannot_be_are_refused_with_a_reason() {
    let shell = Shell::new("");
    let users = shell.path("auth/htpasswd");
    let users = users.display();
    let taken = format!("ann is a user of {users}: choose another name");
    shell.fails("create ann --may pull --repositories **", 1, &taken);
    let unknown = format!("there is no user bob in {users}: `portcullis htpasswd {users} bob`");
    shell.fails("create ci --may pull --repositories ** --user bob", 1, &unknown);
    shell.fails("create CI --may pull --repositories **", 2, "lower-case letters, digits");
    shell.fails("create ci --may read --repositories **", 2, "`delete` or `all`");
    shell.fails("create ci --may pull --repositories [ab]", 2, "no repository has a '['");
    shell.fails("create ci --may pull", 2, "--repositories");
    shell.fails("create ci --repositories **", 2, "--may");
    shell.succeeds("create ci --may pull --repositories **");
    let tokens = shell.path("auth/tokens");
    let there = format!("there is a token ci already ({}:1)", tokens.display());
    shell.fails("create ci --may pull --repositories **", 1, &there);
    fs::write(&tokens, "# robots\nk8s may=pull\n").unwrap();
    let broken = format!("there is a token k8s already ({}:2)", tokens.display());
    shell.fails("create k8s --may pull --repositories **", 1, &broken);
    shell.fails("rotate k8s", 1, "line 2 (token k8s): sha256 is missing");
    let gone = format!("there is no token ci in {}", tokens.display());
    shell.fails("rotate ci", 1, &gone);
    shell.fails("revoke ci", 1, &gone);
    let open = Shell::new("REGISTRY_AUTH=none");
    open.fails("create ci --may pull --repositories **", 1, "auth is `none`");
    let nowhere = Shell::new("REGISTRY_AUTH_HTPASSWD_TOKENS_FILE=/nowhere/tokens");
    nowhere.fails("create ci --may pull --repositories **", 1, "/nowhere/tokens");
}

#[test]
fn rotation_replaces_the_secret_and_keeps_the_old_one_as_long_as_asked() {
    let shell = Shell::new("");
    let first = shell.succeeds("create ci --may push --repositories a/** --expires 30d").stdout;
    let before = shell.text();
    fs::write(shell.path("auth/tokens"), format!("# robots\n{}  # nightly\n", before.trim_end()))
        .unwrap();
    let second = shell.succeeds("rotate ci --keep 24h");
    assert_ne!(second.stdout, first);
    assert!(second.stderr.contains("accepted for 1 day more"), "{}", second.stderr);
    let text = shell.text();
    assert!(text.starts_with("# robots\n"), "{text}");
    let tokens = DeployTokens::parse(text.as_bytes());
    let [old, new] = tokens.entries() else { panic!("{text}") };
    assert!(matches!(old.token.expires, Expiry::At(_)), "{text}");
    assert_eq!(new.token.comment.as_deref(), Some("nightly"));
    assert_eq!(
        (&new.token.may, &new.token.repositories),
        (&old.token.may, &old.token.repositories)
    );
    assert!(before.contains(&new.token.expires.to_string()), "as long as before");

    let third = shell.succeeds("rotate ci --expires never");
    assert!(third.stderr.contains("refuses the old secret"), "{}", third.stderr);
    let text = shell.text();
    let tokens = DeployTokens::parse(text.as_bytes());
    assert_eq!(tokens.entries().len(), 1, "{text}");
    let digest = tokens.entries()[0].token.digest;
    assert_eq!(Form::of(third.stdout.trim_end().as_bytes()), Form::Secret(digest));
    assert_eq!(tokens.entries()[0].token.expires, Expiry::Never);
}

#[test]
fn revocation_removes_every_line_of_the_token_and_no_other() {
    let shell = Shell::new("");
    shell.succeeds("create ci --may push --repositories a/**");
    shell.succeeds("create k8s --may pull --repositories **");
    shell.succeeds("rotate ci --keep 1h");
    fs::set_permissions(shell.path("auth/tokens"), Permissions::from_mode(0o640)).unwrap();
    let kept = shell.text().lines().nth(1).unwrap().to_owned();
    let ended = shell.succeeds("revoke ci");
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.contains("revoked ci"), "{}", ended.stderr);
    assert_eq!(shell.text(), format!("{kept}\n"));
    assert!(kept.starts_with("k8s "), "{kept}");
    let mode = fs::metadata(shell.path("auth/tokens")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn list_fits_a_terminal_and_json_has_everything() {
    let shell = Shell::new("");
    assert_eq!(shell.succeeds("list --json").stdout, "", "there is no file yet");
    shell.succeeds("create ci --may push --repositories team-a/**,base/go --user ann");
    shell.succeeds("create k8s --may pull --repositories ** --expires never");
    let mut text = shell.text();
    text.push_str(
        &text.lines().last().unwrap().replace("k8s", "old").replace("never", "2026-01-01"),
    );
    text.push_str("\nbroken\n");
    fs::write(shell.path("auth/tokens"), text).unwrap();
    fs::write(shell.path("auth/tokens.used"), "k8s 2026-11-01T10:00:00Z\n").unwrap();

    let listed = shell.succeeds("list");
    let rows: Vec<Vec<&str>> =
        listed.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 4, "{}", listed.stdout);
    // The repositories of a token may be many, and stand last.
    let others = listed.stdout.lines().filter(|line| !line.contains("(as ann)"));
    assert!(others.into_iter().all(|line| line.len() <= 80), "{}", listed.stdout);
    assert_eq!((rows[1][0], rows[1][1], rows[1][3]), ("ci", "push", "never"), "{rows:?}");
    assert_eq!((rows[2][0], rows[2][2], *rows[2].last().unwrap()), ("k8s", "never", "**"));
    assert!(listed.stdout.lines().nth(2).unwrap().contains(" ago "), "{}", listed.stdout);
    assert_eq!((rows[3][0], rows[3][2]), ("old", "expired"), "{rows:?}");
    assert!(listed.stderr.contains("auth/tokens: line 4 (token broken): "), "{}", listed.stderr);

    let json = shell.succeeds("list --json").stdout;
    let lines: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{json}");
    assert_eq!(lines[0]["repositories"], serde_json::json!(["team-a/**", "base/go"]));
    assert_eq!((&lines[0]["user"], &lines[0]["by"]), (&"ann".into(), &"olga".into()), "{json}");
    assert_eq!(lines[1]["expires"], serde_json::Value::Null);
    assert_eq!(lines[1]["lastUsed"], "2026-11-01T10:00:00Z");
    assert_eq!(lines[2]["expired"], true);
    assert!(!json.contains("sha256"), "{json}");
}

#[test]
fn check_of_the_configuration_tells_lines_that_open_nothing() {
    let shell = Shell::new("");
    shell.succeeds("create ci --may push --repositories a/**");
    fs::write(shell.path("auth/tokens"), shell.text() + "ann\nci2 usr=ann\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.env_clear().current_dir(shell.dir.path()).args(["config", "--check"]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    for expected in [
        "tokens: line 2 (token ann): sha256 is missing",
        "line 3 (token ci2): there is no field \"usr\"",
    ] {
        assert!(text.contains(expected), "{text}");
    }
}
