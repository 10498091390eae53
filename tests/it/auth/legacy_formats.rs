//! Password files of nginx, used unchanged: `auth.htpasswd.legacyformats`.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use portcullis::{config::Config, gate};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use crate::support::{Answered as _, TestServer, process::Process, raw, server::USER};

/// Lines whose password `correct horse` nginx accepts.
const LINES: [&str; 6] = [
    "apr1:$apr1$abcdefgh$sIQmFnT1CuEXAsyjuXjUX/",
    "sha:{SHA}L55TUjtiq8FBorTWAZ0jy6g129A=",
    "ssha:{SSHA}LhKrkM9Fy+zlstjdD7Kv2s6QvhBzYWx0",
    "crypt5:$5$saltstring$vc6YOOogU4kWVvwga8e9zTFgKcy4tb5LaPxIiPJzqEC",
    "rounds5:$5$rounds=10000$saltstringsaltst$ffO6RHJbzihHqETll0c/MLDJrGhQw9fAaO1LcVIStWB",
    "crypt6:$6$saltstring$.r0X7ub5wGR2v4Xz7svCIozfnlorFh19V89t8KC9Umd81uGhFgsyTRNyzQDXDIm17fFcR9z3z7oBNdsyYBbtm/",
];

/// Lines that look alike and accept no password.
const BROKEN: [&str; 8] = [
    "apr1-long-salt:$apr1$abcdefghi$sIQmFnT1CuEXAsyjuXjUX/",
    "apr1-short:$apr1$abcdefgh$sIQmFnT1CuEXAsyjuXjUX",
    "apr1-longer:$apr1$abcdefgh$sIQmFnT1CuEXAsyjuXjUX/.",
    "sha-cut:{SHA}L55TUjtiq8FBorTWAZ0jy6g129A",
    "sha-salted:{SHA}LhKrkM9Fy+zlstjdD7Kv2s6QvhBzYWx0",
    "rounds-few:$5$rounds=999$saltstring$vc6YOOogU4kWVvwga8e9zTFgKcy4tb5LaPxIiPJzqEC",
    "rounds-zero:$5$rounds=05000$saltstring$vc6YOOogU4kWVvwga8e9zTFgKcy4tb5LaPxIiPJzqEC",
    "crypt5-longer:$5$saltstring$vc6YOOogU4kWVvwga8e9zTFgKcy4tb5LaPxIiPJzqEC.",
];

const PASSWORD: &str = "correct horse";

/// Adds the lines to the file of a server that has one user already.
fn add_lines(config: &mut Config, accepted: bool) {
    let gate::Options::Htpasswd(options) = &mut config.auth else { unreachable!() };
    options.legacyformats = accepted;
    let users = fs::read_to_string(&options.path).unwrap();
    let lines = [&LINES[..], &BROKEN].concat().join("\n");
    fs::write(&options.path, format!("{users}{lines}\n")).unwrap();
}

fn users(lines: &[&'static str]) -> Vec<&'static str> {
    lines.iter().map(|line| line.split_once(':').unwrap().0).collect()
}

#[tokio::test]
async fn hashes_of_nginx_let_in_where_they_are_accepted_and_nowhere_else() {
    for accepted in [false, true] {
        let server = TestServer::with(|config| add_lines(config, accepted)).await;
        let status = async |user: &str, password: &str| {
            let request = server.anonymous("GET", "/v2/").basic_auth(user, Some(password));
            request.answer().await.status.as_u16()
        };
        assert_eq!(status(USER, PASSWORD).await, 200);
        for user in users(&LINES) {
            assert_eq!(status(user, PASSWORD).await, if accepted { 200 } else { 401 }, "{user}");
            assert_eq!(status(user, "wrong").await, 401, "{user}");
            assert_eq!(status(user, "").await, 401, "{user}");
        }
        for user in users(&BROKEN) {
            assert_eq!(status(user, PASSWORD).await, 401, "{user}");
        }
    }
}

#[tokio::test]
async fn fast_hash_is_checked_once_and_forgotten_with_its_line() {
    let server = TestServer::with(|config| add_lines(config, true)).await;
    let status = async |password: &str| {
        let request = server.anonymous("GET", "/v2/").basic_auth("sha", Some(password));
        request.answer().await.status.as_u16()
    };
    for _ in 0..20 {
        assert_eq!(status(PASSWORD).await, 200);
    }
    assert_eq!(server.app().gate().verifications(), 1);
    fs::write(server.folder().join("htpasswd"), "sha:{SHA}EfatjsUqKYSrqv18O1FlA3hcIHI=\n").unwrap();
    server.app().reload().await;
    assert_eq!(status(PASSWORD).await, 401);
    assert_eq!(status("x").await, 200);
}

#[tokio::test]
async fn each_user_with_a_fast_hash_is_named_in_the_log() {
    let server = Process::prepared(&[("REGISTRY_AUTH_HTPASSWD_LEGACYFORMATS", "true")], |path| {
        fs::write(path, [&LINES[..], &BROKEN].concat().join("\n")).unwrap()
    });
    let request = server.client.get(format!("{}/v2/", server.base));
    request.basic_auth("apr1", Some(PASSWORD)).answer().await.expect(200);
    let log = server.end().await;
    let line = |user: &str| {
        let name = format!("(user \"{user}\")").replace('"', "\\\"");
        log.lines().find(|line| line.contains(&name)).unwrap_or_else(|| panic!("{user}: {log}"))
    };
    for user in users(&LINES) {
        assert!(line(user).contains("can guess quickly: set it again"), "{log}");
    }
    for user in users(&BROKEN) {
        assert!(line(user).contains("the hash is damaged"), "{log}");
    }
    assert!(!log.contains("L55TUjtiq8FBorTWAZ0jy6g129A"), "{log}");
}

/// As in registry:2, which ignores the letter after the 2.
#[tokio::test]
async fn all_prefixes_of_bcrypt_accept_passwords_of_any_characters() {
    let names = ["2a", "2b", "2x", "2y"];
    let server = TestServer::with(|config| {
        let gate::Options::Htpasswd(options) = &mut config.auth else { unreachable!() };
        let hash = gate::htpasswd::BcryptHash::new("s\u{e9}same", 4).unwrap();
        let line = |name: &&str| format!("user{name}:{}\n", hash.as_str().replacen("2y", name, 1));
        fs::write(&options.path, names.iter().map(line).collect::<String>()).unwrap();
    })
    .await;
    for name in names {
        for (password, status) in [("s\u{e9}same", 200), ("sesame", 401)] {
            let request = server.anonymous("GET", "/v2/");
            let answer = request.basic_auth(format!("user{name}"), Some(password)).answer().await;
            assert_eq!(answer.status, status, "{name}");
        }
    }
}

/// nginx with the same file, on a socket of its own.
struct Nginx(Child);

impl Nginx {
    fn start(folder: &Path, users: &str) -> Self {
        fs::write(folder.join("users"), users).unwrap();
        let at = folder.display();
        let configuration = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;\n\
             events {{}}\n\
             http {{\n\
             access_log off;\n\
             client_body_temp_path {at}/1; proxy_temp_path {at}/2; fastcgi_temp_path {at}/3;\n\
             uwsgi_temp_path {at}/4; scgi_temp_path {at}/5;\n\
             server {{\n\
             listen unix:{at}/socket;\n\
             location / {{ auth_basic registry; auth_basic_user_file {at}/users; \
             try_files /users =404; root {at}; }}\n\
             }} }}\n"
        );
        fs::write(folder.join("nginx.conf"), configuration).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf"));
        Self(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn nginx_lets_in_the_same_users() {
    if !crate::support::process::is_there("nginx", "nginx") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let lines = [&LINES[..], &BROKEN].concat();
    let _nginx = Nginx::start(folder.path(), &(lines.join("\n") + "\n"));
    let socket = folder.path().join("socket");
    let connect = async {
        loop {
            match UnixStream::connect(&socket).await {
                Ok(stream) => return stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(raw::GUARD, connect).await.expect("nginx listens");
    for (lines, expected) in [(&LINES[..], "200"), (&BROKEN, "401")] {
        for user in users(lines) {
            let mut stream = UnixStream::connect(&socket).await.unwrap();
            let authorization = raw::basic(user, PASSWORD);
            let request = format!("GET /x HTTP/1.0\r\nAuthorization: {authorization}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer.split(' ').nth(1), Some(expected), "{user}: {answer}");
        }
    }
}
