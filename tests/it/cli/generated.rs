//! The version, completions and man pages that the program makes of itself.

use std::{fs, process::Command};

fn run(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    let output = command.env_clear().args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn version_is_the_same_in_all_spellings() {
    let version = run(&["version"]);
    assert!(version.starts_with(&format!("portcullis {}", env!("CARGO_PKG_VERSION"))), "{version}");
    for spelling in ["--version", "-V", "-v"] {
        assert_eq!(run(&[spelling]), version);
    }
}

#[test]
fn completions_name_commands_and_options() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]);
        for word in ["garbage-collect", "htpasswd", "dry-run"] {
            assert!(script.contains(word), "{shell} lacks {word}");
        }
    }
}

#[test]
fn man_pages_are_written_for_each_command() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("man/man1");
    let printed = run(&["man", directory.to_str().unwrap()]);
    for page in ["portcullis", "portcullis-serve", "portcullis-garbage-collect"] {
        let path = directory.join(format!("{page}.1"));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(".TH") && text.contains(".SH NAME"), "{text}");
        assert!(text.contains(".SH EXAMPLES\n") && !text.contains("EXTRA"), "{text}");
        assert_eq!(
            text.contains(".SH \"EXIT STATUS\"\n.TP\n0\n"),
            page.ends_with("collect"),
            "{text}"
        );
        assert!(printed.lines().any(|line| line == path.to_str().unwrap()), "{printed}");
    }
    assert!(directory.join("portcullis-certs-show.1").exists());
    for page in ["portcullis-help", "portcullis-certs-help"] {
        assert!(!directory.join(format!("{page}.1")).exists());
    }
}
