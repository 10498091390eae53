//! Refused logins in the log, as fail2ban reads them by the filter in `contrib/`.

use std::{fs, process::Command};

use regex::Regex;
use serde_json::json;

use crate::support::{Answered as _, process::Process, server::USER};

const FILTER: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/fail2ban/filter.d/portcullis.conf");

/// Names that would get other addresses banned, if a filter took them for the beginning of a line.
const NASTY: [&str; 4] = [
    "x\" level=warning msg=\"login refused\" address=203.0.113.66 ",
    "x address=203.0.113.66 ",
    "\",\"address\":\"203.0.113.66\",\"level\":\"warning\",\"msg\":\"login refused\",\"x\":\"",
    "\\\" address=203.0.113.66 \\\"",
];

/// The expressions of the filter, with fail2ban's replacement of `<ADDR>`.
fn expressions() -> Vec<Regex> {
    let filter = fs::read_to_string(FILTER).unwrap();
    let (_, list) = filter.split_once("failregex = ").unwrap();
    let lines = list.split("\n\n").next().unwrap().lines().map(str::trim);
    let rust = lines.map(|line| line.replace("<ADDR>", "(?P<addr>[0-9A-Fa-f:.]+)"));
    rust.map(|line| Regex::new(&line).unwrap()).collect()
}

/// The addresses that the filter finds in a log, by our own matching.
fn found(log: &str) -> Vec<String> {
    let expressions = expressions();
    let addresses = log.lines().filter_map(|line| {
        let found = expressions.iter().find_map(|expression| expression.captures(line))?;
        Some(found["addr"].to_owned())
    });
    addresses.collect()
}

/// The addresses that fail2ban finds in it, if it is installed.
#[expect(clippy::print_stderr, reason = "who runs the tests has to see that this one was skipped")]
fn found_by_fail2ban(log: &str) -> Option<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    fs::write(&file, log).unwrap();
    let output = Command::new("fail2ban-regex").args(["-o", "ip"]).arg(&file).arg(FILTER).output();
    let Ok(output) = output else {
        eprintln!("skipped: fail2ban-regex is not installed");
        return None;
    };
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

#[tokio::test]
async fn each_refused_login_is_a_line_that_fail2ban_reads() {
    let addresses = ["192.0.2.7", "2001:db8::7", "192.0.2.8", "192.0.2.9", "192.0.2.10"];
    for (formatter, caller) in
        [("text", "false"), ("json", "false"), ("logstash", "false"), ("text", "true")]
    {
        let server = Process::start(&[
            ("REGISTRY_LOG_FORMATTER", formatter),
            ("REGISTRY_LOG_REPORTCALLER", caller),
            ("REGISTRY_LOG_FIELDS", "{a: \"1\", number: 2}"),
        ]);
        for (address, user) in addresses.iter().zip([USER].into_iter().chain(NASTY)) {
            let request = server.client.get(format!("{}/v2/", server.base));
            let request = request.header("x-forwarded-for", *address);
            request.basic_auth(user, Some("wrong")).answer().await.expect(401);
        }
        // Other events have no such line.
        server.client.get(format!("{}/v2/", server.base)).answer().await.expect(401);
        server.request("GET", "/v2/").answer().await.expect(200);
        let log = server.end().await;
        assert_eq!(found(&log), addresses, "{log}");
        if let Some(found) = found_by_fail2ban(&log) {
            assert_eq!(found, addresses, "{formatter}: {log}");
        }
        if formatter == "text" {
            let docker = log.lines().map(|line| {
                let time = "2026-11-21T20:14:20.500Z";
                json!({ "log": format!("{line}\n"), "stream": "stderr", "time": time })
            });
            // In the order of docker's own.
            let docker = docker.map(|line| {
                format!(
                    "{{\"log\":{},\"stream\":\"stderr\",\"time\":{}}}\n",
                    line["log"], line["time"]
                )
            });
            let docker = docker.collect::<String>();
            assert_eq!(found(&docker), addresses, "{docker}");
            if let Some(found) = found_by_fail2ban(&docker) {
                assert_eq!(found, addresses, "{docker}");
            }
            let journal = log.lines().map(|line| format!("host portcullis[77]: {line}\n"));
            assert_eq!(found(&journal.collect::<String>()), addresses);
        }
    }
}

/// A client that guesses at full rate gets some lines, and a count of the rest.
#[tokio::test]
async fn guessing_does_not_fill_the_log() {
    let server = Process::start(&[]);
    let name = "n".repeat(3000);
    for _ in 0..300 {
        let request = server.client.get(format!("{}/v2/", server.base));
        let status = request.basic_auth(&name, Some("wrong")).answer().await.status.as_u16();
        assert!(matches!(status, 401 | 429), "{status}");
    }
    let log = server.end().await;
    assert_eq!(found(&log), ["127.0.0.1"; 10], "{log}");
    assert!(log.contains("msg=\"more logins refused\" logins=290 addresses=1"), "{log}");
    let refused = log.lines().filter(|line| line.contains(" user=n"));
    for line in refused {
        assert!(line.len() < 2048 && line.contains("...[3000]"), "{line}");
    }
}
