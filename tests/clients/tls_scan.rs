//! The findings of scanners about the server's TLS: old protocols, weak ciphers, incomplete chains.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256,
};
use testkit::process::{Outcome, client};
use testkit::require::{self, Need};

use crate::server::Server;
use crate::sslscan::Scan;

const TLS_1_3: [&str; 3] = [
    "TLSv1.3 TLS_AES_128_GCM_SHA256",
    "TLSv1.3 TLS_AES_256_GCM_SHA384",
    "TLSv1.3 TLS_CHACHA20_POLY1305_SHA256",
];
const TLS_1_2: [&str; 3] = [
    "TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305",
];
/// The same for a certificate whose key is RSA.
const TLS_1_2_RSA: [&str; 3] = [
    "TLSv1.2 ECDHE-RSA-AES128-GCM-SHA256",
    "TLSv1.2 ECDHE-RSA-AES256-GCM-SHA384",
    "TLSv1.2 ECDHE-RSA-CHACHA20-POLY1305",
];
/// All of them have at least 128 bits. The last one is newer than some scanners.
const GROUPS: [&str; 4] = ["secp256r1", "secp384r1", "x25519", "X25519MLKEM768"];

const REQUEST: &str = "GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[test]
fn nothing_but_tls_1_2_and_1_3_is_spoken_and_no_weak_cipher() {
    let Some(server) = scanned_by("sslscan", "tls1.2", |_, _| ()) else { return };

    let scan = sslscan(&server);

    assert_eq!(scan.protocols, ["tls1.2", "tls1.3"]);
    assert_eq!(scan.ciphers, [TLS_1_3, TLS_1_2].concat());
    assert_eq!(scan.key, "EC 128");
    assert!(scan.issuer.starts_with("Portcullis local CA"), "{scan:?}");
}

#[test]
fn with_a_minimum_of_tls_1_3_nothing_else_is_spoken() {
    let Some(server) = scanned_by("sslscan", "tls1.3", |_, _| ()) else { return };

    let scan = sslscan(&server);

    assert_eq!(scan.protocols, ["tls1.3"]);
    assert_eq!(scan.ciphers, TLS_1_3);
}

#[test]
fn rsa_certificate_gets_no_weaker_ciphers_than_an_ecdsa_one() {
    let Some(server) = scanned_by("sslscan", "tls1.2", rsa_behind_an_intermediate) else { return };

    let scan = sslscan(&server);

    assert_eq!(scan.protocols, ["tls1.2", "tls1.3"]);
    assert_eq!(scan.ciphers, [TLS_1_3, TLS_1_2_RSA].concat());
    assert_eq!((&*scan.key, &*scan.issuer), ("RSA 2048", "Intermediate"));
}

#[test]
fn nmap_finds_no_other_protocol_and_no_cipher_below_the_best_grade() {
    for (minimum, ciphers) in [("tls1.2", &[TLS_1_2, TLS_1_3][..]), ("tls1.3", &[TLS_1_3])] {
        let Some(server) = scanned_by("nmap", minimum, |_, _| ()) else { return };
        let mut nmap = client("nmap");
        let (ip, port) = (server.address().ip().to_string(), server.address().port().to_string());
        nmap.args(["-Pn", "-p", &port, "--script", "ssl-enum-ciphers", &ip]);

        assert_eq!(graded(&Outcome::of(&mut nmap).succeeds()), named_as_in_nmap(ciphers));
    }
}

#[test]
fn clients_get_the_chain_that_the_file_has() {
    for (certificates, chain) in
        [((|_: &Path, _| ()) as fn(&Path, SocketAddr), 1), (rsa_behind_an_intermediate, 2)]
    {
        let Some(server) = scanned_by("openssl", "tls1.2", certificates) else { return };
        for version in ["-tls1_2", "-tls1_3"] {
            let mut openssl = s_client(&server, &[version, "-showcerts", "-verify_return_error"]);

            let said = Outcome::of(&mut openssl).succeeds();

            assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
            assert_eq!(said.matches("-----BEGIN CERTIFICATE-----").count(), chain, "{said}");
        }
    }
}

#[test]
fn sessions_are_resumed_without_early_data() {
    for (minimum, versions) in [("tls1.2", &["-tls1_2", "-tls1_3"][..]), ("tls1.3", &["-tls1_3"])] {
        let Some(server) = scanned_by("openssl", minimum, |_, _| ()) else { return };
        let session = server.trust().with_file_name("session");
        let session = session.to_str().expect("a temporary folder has a plain name");
        for version in versions {
            let connect = |option: &str| {
                let mut openssl = s_client(&server, &[version, "-ign_eof", option, session]);
                Outcome::with_input(&mut openssl, REQUEST).succeeds()
            };
            let (first, second) = (connect("-sess_out"), connect("-sess_in"));

            assert!(first.contains("\nNew, TLSv1."), "{first}");
            assert!(second.contains("\nReused, TLSv1."), "{second}");
            assert!(second.contains("HTTP/1.1 401"), "{second}");
            assert!(!second.contains("Early data was accepted"), "{second}");
            assert!(!second.lines().any(|line| {
                let line = line.trim();
                line.starts_with("Max Early Data:") && line != "Max Early Data: 0"
            }));
        }
    }
}

#[test]
fn client_that_wants_to_renegotiate_is_refused() {
    let Some(server) = scanned_by("openssl", "tls1.2", |_, _| ()) else { return };

    let mut openssl = s_client(&server, &["-tls1_2"]);
    let asked = Outcome::with_open_input(&mut openssl, "R\n");

    asked.fails_saying("RENEGOTIATING");
    asked.fails_saying("no renegotiation");
    let mut openssl = s_client(&server, &["-tls1_2", "-ign_eof"]);
    let after = Outcome::with_input(&mut openssl, REQUEST).succeeds();
    assert!(after.contains("HTTP/1.1 401"), "the server is well: {after}");
}

/// A server to be scanned by a program; `None` without the program.
fn scanned_by(
    program: &'static str,
    minimum: &str,
    certificates: impl FnOnce(&Path, SocketAddr),
) -> Option<Server> {
    let met = require::met(&format!("tls_scan by {program}"), &[Need::Program(program)]);
    met.then(|| Server::with_tls(minimum, certificates))
}

/// Scans the server, and checks the rules for every server of ours.
fn sslscan(server: &Server) -> Scan {
    let mut sslscan = client("sslscan");
    let scan = Scan::read(
        &Outcome::of(sslscan.args(["--no-colour", "--xml=-", &server.name()])).succeeds(),
    );
    assert!(!scan.renegotiation, "{scan:?}");
    assert!(!scan.groups.is_empty(), "{scan:?}");
    assert!(scan.groups.iter().all(|group| GROUPS.contains(&&**group)), "{scan:?}");
    assert!(!scan.subject.is_empty(), "{scan:?}");
    scan
}

/// `openssl s_client`, which trusts the same authority as clients of the server.
fn s_client(server: &Server, options: &[&str]) -> Command {
    let mut openssl = client("openssl");
    openssl.args(["s_client", "-connect", &server.name(), "-CAfile"]);
    openssl.arg(server.trust().join("ca.crt")).args(options);
    openssl
}

/// The protocols and ciphers that nmap has found; an error if one does not have the best grade.
fn graded(said: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut version = "";
    let table = said.lines().filter_map(|line| line.strip_prefix('|'));
    for line in table.map(|line| line.trim_start_matches('_').trim()) {
        if let Some(protocol) = line.strip_suffix(':').filter(|name| name.starts_with("TLSv")) {
            version = protocol;
        } else if let Some((name, grade)) = line.split_once(" (") {
            assert!(grade.ends_with(") - A"), "{said}");
            found.push(format!("{version} {name}"));
        } else {
            let known = ["ssl-enum-ciphers:", "ciphers:", "compressors:", "NULL"];
            let known = known.contains(&line)
                || ["cipher preference: server", "least strength: A"].contains(&line);
            assert!(known, "nmap says what is not known here: {line}\n{said}");
        }
    }
    found.sort();
    found
}

/// nmap has names of its own for the ciphers.
fn named_as_in_nmap(ciphers: &[[&str; 3]]) -> Vec<String> {
    let name = |cipher: &&str| match *cipher {
        "TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256" => {
            "TLSv1.2 TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256".to_owned()
        }
        "TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384" => {
            "TLSv1.2 TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384".to_owned()
        }
        "TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305" => {
            "TLSv1.2 TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256".to_owned()
        }
        tls_1_3 => tls_1_3.replace(" TLS_", " TLS_AKE_WITH_"),
    };
    let mut names: Vec<String> = ciphers.iter().flatten().map(name).collect();
    names.sort();
    names
}

/// Installs a new root, an intermediate authority and a server certificate with an RSA key.
fn rsa_behind_an_intermediate(folder: &Path, address: SocketAddr) {
    let named = |name: &str, is_ca| {
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = is_ca;
        params
    };
    let key = |kind| KeyPair::generate_for(kind).expect("a key can be made");
    let authority = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(named("Root", authority), key(&PKCS_ECDSA_P256_SHA256))
        .expect("a root can be made");
    let between = CertifiedIssuer::signed_by(
        named("Intermediate", authority),
        key(&PKCS_ECDSA_P256_SHA256),
        &root,
    )
    .expect("an authority can be made");
    let mut leaf = named("Server", IsCa::ExplicitNoCa);
    leaf.subject_alt_names = vec![rcgen::SanType::IpAddress(address.ip())];
    let own = key(&PKCS_RSA_SHA256);
    let leaf = leaf.signed_by(&own, &between).expect("a certificate can be made");
    let put = |name: &str, pem: String| fs::write(folder.join(name), pem).expect("can be written");
    put("ca.crt", root.pem());
    put("server.crt", leaf.pem() + &between.pem());
    put("server.key", own.serialize_pem());
}
