//! `portcullis htpasswd` as a process, beside Apache's command of the same name.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers are called by tests only, and a test stops at the first surprise"
)]

use std::{
    fs,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use portcullis::gate::htpasswd::{Formats, Htpasswd};

use crate::support::process::is_there;

/// A directory for one test, and the program run in it.
struct Shell {
    dir: tempfile::TempDir,
}

/// The output and the exit code of a command.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Shell {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, "")
    }

    fn run_with(&self, arguments: &[&str], input: &str) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.arg("htpasswd").args(arguments);
        run(command.current_dir(self.dir.path()), input)
    }

    fn apache(&self, arguments: &[&str], input: &str) -> Ended {
        let mut command = Command::new("htpasswd");
        run(command.args(arguments).current_dir(self.dir.path()), input)
    }

    /// Whether a server that reads this file would let the user in.
    fn lets_in(&self, file: &str, user: &str, password: &str) -> bool {
        self.lets_in_by(Formats::BcryptOnly, file, user, password)
    }

    fn lets_in_by(&self, formats: Formats, file: &str, user: &str, password: &str) -> bool {
        let parsed = Htpasswd::parse(&fs::read(self.path(file)).unwrap(), formats);
        assert_eq!(parsed.problems(), []);
        let hash = parsed.find(user);
        hash.is_some_and(|hash| hash.verify(password.as_bytes()))
    }
}

fn run(command: &mut Command, input: &str) -> Ended {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input may be gone by now.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    Ended {
        code: status.code(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

#[test]
fn line_of_registry_2s_documentation_makes_a_usable_file() {
    let shell = Shell::new();
    let ended = shell.run(&["-Bbn", "testuser", "testpassword"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stderr, "");
    assert!(ended.stdout.starts_with("testuser:$2y$12$"), "{ended:?}");
    assert!(ended.stdout.ends_with("\n\n"), "{ended:?}");
    assert_eq!(ended.stdout.lines().count(), 2);

    let again = shell.run(&["-Bbn", "-C", "4", "other", "secret"]);
    fs::write(shell.path("htpasswd"), ended.stdout + &again.stdout).unwrap();
    assert!(shell.lets_in("htpasswd", "testuser", "testpassword"));
    assert!(shell.lets_in("htpasswd", "other", "secret"));
}

#[test]
fn users_are_added_changed_tried_and_deleted_and_the_rest_of_the_file_stays() {
    let shell = Shell::new();
    let made = shell.run(&["-cbC4", "users", "alice", "one"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    assert_eq!(made.stderr, "Adding password for user alice\n");
    assert_eq!(fs::metadata(shell.path("users")).unwrap().mode() & 0o777, 0o600);

    let kept = "# staff\r\n\r\n  odd : line\n";
    fs::write(shell.path("users"), shell.text("users") + kept + "# end").unwrap();
    let stderr = shell.run(&["-bC", "4", "users", "bob", "two"]).stderr;
    assert_eq!(stderr, "Adding password for user bob\n");
    let stderr = shell.run(&["-bC4", "users", "alice", "three"]).stderr;
    assert_eq!(stderr, "Updating password for user alice\n");
    let text = shell.text("users");
    assert!(text.starts_with("alice:$2y$04$"), "{text}");
    assert!(text.contains(&format!("\n{kept}# end\nbob:$2y$04$")), "{text}");

    let right = shell.run(&["-vb", "users", "alice", "three"]);
    assert_eq!(right.code, Some(0), "{right:?}");
    assert_eq!(right.stderr, "Password for user alice correct.\n");
    let wrong = shell.run(&["-vb", "users", "alice", "one"]);
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(wrong.stderr.contains("verification failed"), "{wrong:?}");
    assert!(wrong.stderr.contains("/users alice`"), "{wrong:?}");

    let gone = shell.run(&["-D", "users", "bob"]);
    assert_eq!(gone.code, Some(0), "{gone:?}");
    assert_eq!(gone.stderr, "Deleting password for user bob\n");
    assert!(shell.text("users").ends_with(&format!("\n{kept}# end\n")));
    for arguments in [["-D", "users", "bob"], ["-vi", "users", "bob"]] {
        let absent = shell.run_with(&arguments, "x");
        assert_eq!(absent.code, Some(1), "{absent:?}");
        assert!(absent.stderr.contains("User bob not found"), "{absent:?}");
    }
}

#[test]
fn password_comes_from_standard_input_without_its_line_break() {
    let shell = Shell::new();
    let made = shell.run_with(&["-ciC4", "users", "alice"], "s p a c e\r\n");
    assert_eq!(made.code, Some(0), "{made:?}");
    assert!(shell.lets_in("users", "alice", "s p a c e"));
    let tried = shell.run_with(&["-vi", "users", "alice"], "s p a c e");
    assert_eq!(tried.code, Some(0), "{tried:?}");

    let two_lines = shell.run_with(&["-iC4", "users", "bob"], "one\ntwo\n");
    assert_eq!(two_lines.code, Some(1), "{two_lines:?}");
    assert!(two_lines.stderr.contains("control character"), "{two_lines:?}");
}

#[test]
fn password_may_look_like_an_option() {
    let shell = Shell::new();
    let made = shell.run(&["-cbC4", "users", "alice", "-secret"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    assert!(shell.lets_in("users", "alice", "-secret"));
}

#[test]
fn failures_are_reported_with_a_remedy_and_change_nothing() {
    let shell = Shell::new();
    let before = "alice:$apr1$x$y\n";
    fs::write(shell.path("users"), before).unwrap();
    let long = "x".repeat(73);
    for (arguments, expected) in [
        (&["-b", "missing", "a", "b"][..], "add -c to create it"),
        (&["-D", "missing", "a"], "add -c to create it"),
        (&["-cb", "no/such/place", "a", "b"], "does its directory exist?"),
        (&["-vb", "missing", "a", "b"], "/missing: No such file"),
        (&["-vb", "users", "alice", "b"], "/users: the password is stored as apr1"),
        (&["-vb", "users", "alice", "b"], "auth.htpasswd.legacyformats: true"),
        (&["--upgrade", "missing"], "/missing: No such file"),
        (&["-b", "users", "", "b"], "the user name is empty"),
        (&["-b", "users", "a:b", "c"], "contains a colon"),
        (&["-bn", "a\tb", "c"], "control character"),
        (&["-b", "users", "a", &long], "73 bytes long"),
        (&["-b", "users", "a", ""], "the password is empty"),
    ] {
        let ended = shell.run(arguments);
        assert_eq!(ended.code, Some(1), "{arguments:?} {ended:?}");
        assert!(ended.stderr.contains(expected), "{arguments:?} {ended:?}");
        assert_eq!(ended.stdout, "", "{arguments:?}");
    }
    assert_eq!(shell.text("users"), before);
    assert_eq!(fs::read_dir(shell.dir.path()).unwrap().count(), 1);
}

#[test]
fn arguments_without_a_meaning_are_a_usage_error() {
    let shell = Shell::new();
    fs::write(shell.path("users"), "").unwrap();
    for (arguments, expected) in [
        (&["-mb", "users", "a", "b"][..], "-m is for MD5"),
        (&["-db", "users", "a", "b"], "bcrypt only"),
        (&["-sb", "users", "a", "b"], "bcrypt only"),
        (&["-pb", "users", "a", "b"], "bcrypt only"),
        (&["-2b", "users", "a", "b"], "bcrypt only"),
        (&["-5b", "users", "a", "b"], "bcrypt only"),
        (&["-cn", "a"], "cannot be used with"),
        (&["-Dv", "users", "a"], "cannot be used with"),
        (&["-bi", "users", "a", "b"], "cannot be used with"),
        (&["-bC", "17", "users", "a", "b"], "17 is not in 4..=16"),
        (&["-bC", "3", "users", "a", "b"], "3 is not in 4..=16"),
        (&["-b", "users", "a"], "expected FILE USER PASSWORD"),
        (&["-i", "users", "a", "b"], "expected FILE USER after"),
        (&["-bn", "a"], "expected USER PASSWORD"),
        (&["--upgrade", "users", "a"], "expected FILE after"),
        (&["--upgrade", "-v", "users"], "cannot be used with"),
        (&["--upgrade", "-b", "users"], "cannot be used with"),
        (&["-z", "users", "a"], "unexpected argument"),
        (&[], "required"),
    ] {
        let ended = shell.run(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?} {ended:?}");
        assert!(ended.stderr.contains(expected), "{arguments:?} {ended:?}");
    }
    assert_eq!(shell.text("users"), "");
}

#[test]
fn help_shows_an_example() {
    let ended = Shell::new().run(&["--help"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("portcullis htpasswd -Bbn admin"), "{ended:?}");
}

#[test]
fn upgrade_lists_whose_password_is_not_bcrypt_and_changes_nothing() {
    let shell = Shell::new();
    let bcrypt = shell.run(&["-nbC4", "alice", "one"]).stdout;
    fs::write(shell.path("users"), format!("# staff\n{bcrypt}")).unwrap();
    let none = shell.run(&["--upgrade", "users"]);
    assert_eq!(none.code, Some(0), "{none:?}");
    assert_eq!(none.stdout, "");
    let users = shell.path("users");
    let all = format!("All passwords in {} are stored as bcrypt.\n", users.display());
    assert_eq!(none.stderr, all);

    let before = format!(
        "bob:{{SHA}}L55TUjtiq8FBorTWAZ0jy6g129A=\nalice:plain\ncarol:secret\n{bcrypt}\
         dave:$apr1$x\ndave:$apr1$abcdefgh$sIQmFnT1CuEXAsyjuXjUX/\nno colon\n"
    );
    fs::write(shell.path("users"), &before).unwrap();
    let some = shell.run(&["--upgrade", "users"]);
    assert_eq!(some.code, Some(1), "{some:?}");
    let lines: Vec<_> = some.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{some:?}");
    assert!(lines[0].starts_with("line 1 (user \"bob\"): the password is stored as SHA-1"));
    assert!(lines[1].starts_with("line 3 (user \"carol\"): the password is stored as"));
    assert!(lines[2].starts_with("line 7 (user \"dave\"): the password is stored as apr1"));
    assert!(some.stderr.contains("3 passwords are not stored as bcrypt"), "{some:?}");
    assert!(some.stderr.contains("/users USER`"), "{some:?}");
    assert!(!some.stdout.contains("secret") && !some.stdout.contains("L55T"), "{some:?}");
    assert_eq!(shell.text("users"), before);
}

#[test]
fn other_hashes_of_apache_and_openssl_let_in_where_they_are_accepted() {
    if !is_there("htpasswd", "apache2-utils") || !is_there("openssl", "openssl") {
        return;
    }
    let shell = Shell::new();
    let openssl = |flag: &str, password: &str| {
        let mut command = Command::new("openssl");
        run(command.args(["passwd", flag, "-stdin"]), password).stdout
    };
    let longest = "x".repeat(255);
    let passwords = ["s", "secret", "with space", "pässwörd", "sixteen letters!", &longest];
    for password in passwords {
        let mut file = String::new();
        for (user, flags) in [
            ("apr1", &["-nim"][..]),
            ("sha1", &["-nis"]),
            ("sha256", &["-ni2"]),
            ("sha512", &["-ni5"]),
            ("rounds256", &["-ni2", "-r", "1234"]),
            ("rounds512", &["-ni5", "-r", "54321"]),
        ] {
            let made = shell.apache(&[flags, &[user]].concat(), password);
            // Only newer versions of Apache's command know SHA-2; to the others it is wrong usage.
            let may_be_unknown = user.contains("256") || user.contains("512");
            if !(may_be_unknown && made.code == Some(2)) {
                assert_eq!(made.code, Some(0), "{made:?}");
                file.push_str(&made.stdout);
            }
        }
        for (user, flag) in [("openssl-apr1", "-apr1"), ("openssl-5", "-5"), ("openssl-6", "-6")] {
            file.push_str(&format!("{user}:{}", openssl(flag, password)));
        }
        fs::write(shell.path("users"), &file).unwrap();
        let users: Vec<_> = file.lines().filter_map(|line| line.split_once(':')).collect();
        assert!(users.len() >= 5, "{file}");
        for (user, _) in users {
            let lets_in = |password| shell.lets_in_by(Formats::WithLegacy, "users", user, password);
            assert!(lets_in(password), "{user} {password}: {file}");
            assert!(!lets_in("wrong"), "{user}");
            let tried = shell.run(&["-vb", "users", user, password]);
            assert_eq!(tried.code, Some(1), "{tried:?}");
        }
    }
}

#[test]
fn apache_verifies_our_hashes_and_we_verify_apaches() {
    if !is_there("htpasswd", "apache2-utils") {
        return;
    }
    let shell = Shell::new();
    let longest = "ü".repeat(36);
    for password in ["secret", "with space", "pässwörd", longest.as_str()] {
        let ours = shell.run_with(&["-ciC4", "ours", "alice"], password);
        assert_eq!(ours.code, Some(0), "{ours:?}");
        let tried = shell.apache(&["-vi", "ours", "alice"], password);
        assert_eq!(tried.code, Some(0), "{password}: {tried:?}");
        let tried = shell.apache(&["-vi", "ours", "alice"], "wrong");
        assert_eq!(tried.code, Some(3), "{password}: {tried:?}");

        let apaches = shell.apache(&["-ciBC4", "apaches", "alice"], password);
        assert_eq!(apaches.code, Some(0), "{apaches:?}");
        let tried = shell.run_with(&["-vi", "apaches", "alice"], password);
        assert_eq!(tried.code, Some(0), "{password}: {tried:?}");
        let tried = shell.run_with(&["-vi", "apaches", "alice"], "wrong");
        assert_eq!(tried.code, Some(1), "{password}: {tried:?}");
    }

    // Each edits the other's file.
    shell.run(&["-bC4", "apaches", "bob", "two"]);
    shell.apache(&["-bBC4", "apaches", "carol", "three"], "");
    shell.run(&["-D", "apaches", "alice"]);
    assert!(shell.lets_in("apaches", "bob", "two"));
    assert!(shell.lets_in("apaches", "carol", "three"));
    assert_eq!(shell.text("apaches").lines().count(), 2);

    // And the printed line has the same form, including the blank line.
    let shape = |ended: &Ended| {
        let (head, tail) = ended.stdout.split_once("$04$").unwrap();
        (head.to_owned(), tail.len(), tail.ends_with("\n\n"))
    };
    let ours = shell.run(&["-nbB", "-C", "4", "dave", "x"]);
    let apaches = shell.apache(&["-nbB", "-C", "4", "dave", "x"], "");
    assert_eq!(shape(&ours), shape(&apaches));

    // The other formats of Apache are named.
    for (flag, name) in [("-m", "apr1"), ("-s", "SHA-1"), ("-d", "crypt")] {
        shell.apache(&["-cb", flag, "weak", "eve", "x"], "");
        let tried = shell.run(&["-vb", "weak", "eve", "x"]);
        assert_eq!(tried.code, Some(1), "{tried:?}");
        assert!(tried.stderr.contains(name), "{tried:?}");
    }
}

#[test]
fn file_in_utf_16_is_named_and_not_written_to() {
    let shell = Shell::new();
    let made = shell.run(&["-cbC4", "users", "alice", "one"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let units = format!("\u{feff}{}", shell.text("users"));
    let bytes: Vec<u8> = units.encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(shell.path("users"), &bytes).unwrap();
    for arguments in [
        &["-bC4", "users", "bob", "two"][..],
        &["-D", "users", "alice"],
        &["-vb", "users", "alice", "one"],
        &["--upgrade", "users"],
    ] {
        let ended = shell.run(arguments);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("`iconv -f UTF-16 -t UTF-8`"), "{ended:?}");
        assert_eq!(fs::read(shell.path("users")).unwrap(), bytes);
    }
}
