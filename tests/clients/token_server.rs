//! docker with a token server of the test's own: `auth.token`.

use std::{
    fs,
    io::Read as _,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::Arc,
    thread,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustls::{ServerConfig, ServerConnection, Stream, crypto::aws_lc_rs::default_provider};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use testkit::issuer::{ISSUER, Issuer, SERVICE};

use crate::{
    docker::Bench,
    server::{PASSWORD, Server, USER, WRONG_PASSWORD},
};

/// The only repository that the token server lets the user push to; all may be pulled.
const OWN: &str = "team/app";

/// Answers requests for tokens until the process ends. It issues none for a wrong password, and none that
/// covers pushes to other repositories.
fn serve(listener: TcpListener, certs: &Path, issuer: Issuer) {
    let chain = CertificateDer::pem_file_iter(certs.join("server.crt")).expect("a certificate");
    let chain = chain.collect::<Result<_, _>>().expect("PEM");
    let key = PrivateKeyDer::from_pem_file(certs.join("server.key")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a pair");
    let config = Arc::new(config);
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            // A client that does not trust the certificate closes the connection.
            let _ = answer(socket, &config, &issuer);
        }
    });
}

fn answer(
    mut socket: TcpStream,
    config: &Arc<ServerConfig>,
    issuer: &Issuer,
) -> std::io::Result<()> {
    let mut tls = ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
    let mut stream = Stream::new(&mut tls, &mut socket);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 16_384 {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let (status, body) = match token(&head, issuer) {
        Some(token) => ("200 OK", json!({ "token": token, "expires_in": 300 })),
        None => ("401 Unauthorized", json!({ "details": "incorrect username or password" })),
    };
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    std::io::Write::write_all(&mut stream, (head + &body).as_bytes())?;
    tls.send_close_notify();
    tls.complete_io(&mut socket).map(|_| ())
}

/// The token for a request with the right password.
fn token(head: &str, issuer: &Issuer) -> Option<String> {
    let credentials = head.lines().find_map(|line| line.strip_prefix("Authorization: Basic "))?;
    let right = BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
    if credentials.trim() != right {
        return None;
    }
    let target = head.split(' ').nth(1)?;
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let query = query.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
    let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope="));
    let scopes = scopes.flat_map(|scopes| scopes.split(['+', ' ']).map(str::to_owned));
    let access: Vec<Value> = scopes.filter_map(|scope| granted(&scope)).collect();
    Some(issuer.token(&json!(access)))
}

fn granted(scope: &str) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let may = |action: &&str| *action == "pull" || name == OWN;
    let actions: Vec<&str> = actions.split(',').filter(may).collect();
    Some(json!({ "type": kind, "name": name, "actions": actions }))
}

/// A bench whose server believes the token server beside it.
fn bench() -> Option<Bench> {
    let bench = Bench::on(|network| {
        let address = network.server_address();
        let listener = TcpListener::bind((address.ip(), 0)).expect("a port");
        let own: SocketAddr = listener.local_addr().expect("an address");
        let auth = format!(
            "auth:\n  token:\n    realm: https://{own}/token\n    service: {SERVICE}\n    \
             issuer: {ISSUER}\n    rootcertbundle: issuer.pem\n"
        );
        Server::with_auth(address, &auth, |folder| {
            let issuer = Issuer::new();
            fs::write(folder.join("issuer.pem"), &issuer.certificate).expect("a file");
            serve(listener, &folder.join("certs"), issuer);
        })
    })?;
    bench.trust_the_server();
    Some(bench)
}

#[test]
fn docker_pushes_and_pulls_through_a_token_server() {
    let Some(mut bench) = bench() else { return };
    let image = bench.server.image("team/app:1");
    let other = bench.server.image("other/app:1");
    bench.build(&image, &["one", "two"]);
    let id = bench.image_id(&image);
    bench.docker(["push", &image]).fails();

    bench.login(WRONG_PASSWORD).fails_saying("unauthorized");
    bench.login(PASSWORD).succeeds();
    bench.docker(["push", &image]).succeeds();
    bench.docker(["tag", &image, &other]).succeeds();
    bench.docker(["push", &other]).fails_saying("denied");
    bench.wipe_the_daemon();
    bench.docker(["pull", &image]).succeeds();
    assert_eq!(bench.image_id(&image), id);
    bench.docker(["logout", &bench.server.name()]).succeeds();
    bench.docker(["pull", &image]).fails();
}
