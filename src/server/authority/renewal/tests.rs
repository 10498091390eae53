//! [`ensure`], [`renew`] and [`examine`] on each state of a directory.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt as _};

use super::*;

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn hosts(names: &[&str]) -> Hosts {
    with_addresses(names, &[])
}

fn with_addresses(names: &[&str], addresses: &[&str]) -> Hosts {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Hosts { required: owned(names), optional: owned(addresses) }
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        })
        .collect()
}

fn described(dir: &Path, file: &str) -> Description {
    let chain = certificates::load_chain(&dir.join(file)).unwrap();
    certificates::describe(&chain[0]).unwrap()
}

fn issued(outcome: Outcome) -> Reason {
    match outcome.certificate {
        ServerCertificate::Issued(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn new_directory_gets_an_authority_and_a_certificate_that_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("made/here");
    let outcome = ensure(&dir, &hosts(&["https://registry.example.com:5000"])).unwrap();
    assert!(outcome.created_authority);
    assert_eq!(issued(outcome), Reason::Missing);

    let names: Vec<_> = files(&dir).into_keys().collect();
    assert_eq!(names, ["ca.crt", "ca.key", "server.crt", "server.key"]);
    for (file, mode) in [(CA_KEY, 0o600), (SERVER_KEY, 0o600), (CA_CERTIFICATE, 0o644)] {
        assert_eq!(fs::metadata(dir.join(file)).unwrap().mode() & 0o777, mode, "{file}");
    }
    certificates::load(&dir.join(SERVER_CERTIFICATE), &dir.join(SERVER_KEY)).unwrap();

    let leaf = described(&dir, SERVER_CERTIFICATE);
    for name in ["registry.example.com", "localhost", "127.0.0.1", "::1"] {
        assert!(leaf.names.contains(&name.to_owned()), "{:?}", leaf.names);
    }
    let ca = described(&dir, CA_CERTIFICATE);
    assert_eq!(leaf.issuer, ca.subject);
    assert!(ca.subject.starts_with("CN=Portcullis local CA"), "{}", ca.subject);

    // A client verifies a certificate so.
    let chain = certificates::load_chain(&dir.join(SERVER_CERTIFICATE)).unwrap();
    let root = certificates::load_chain(&dir.join(CA_CERTIFICATE)).unwrap();
    let anchors = [webpki::anchor_from_trusted_cert(&root[0]).unwrap()];
    let end = webpki::EndEntityCert::try_from(&chain[0]).unwrap();
    end.verify_for_usage(
        super::super::webpki_algorithms(),
        &anchors,
        &[],
        rustls_pki_types::UnixTime::now(),
        webpki::KeyUsage::server_auth(),
        None,
        None,
    )
    .unwrap();
    let name = "registry.example.com".try_into().unwrap();
    end.verify_is_valid_for_subject_name(&name).unwrap();
}

#[test]
fn valid_files_stay_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    ensure(dir.path(), &hosts(&[])).unwrap();
    let before = files(dir.path());
    let outcome = ensure(dir.path(), &hosts(&["localhost:5000"])).unwrap();
    assert_eq!(outcome.certificate, ServerCertificate::Kept);
    assert!(!outcome.created_authority);
    assert_eq!(files(dir.path()), before);
}

#[test]
fn certificate_that_expires_soon_or_lacks_a_name_is_renewed_with_its_old_names() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    ensure(dir, &hosts(&["one.corp.example"])).unwrap();
    let authority = files(dir)[CA_KEY].clone();

    let outcome = ensure(dir, &hosts(&["two.corp.example"])).unwrap();
    assert_eq!(issued(outcome), Reason::LacksName("two.corp.example".to_owned()));

    let at = now() + Duration::days(825 - 31);
    let kept = ensure_at(dir, &hosts(&[]), at).unwrap();
    assert_eq!(kept.certificate, ServerCertificate::Kept);
    for days in [825 - 29, 825 * 3] {
        let old = described(dir, SERVER_CERTIFICATE);
        let outcome = ensure_at(dir, &hosts(&[]), now() + Duration::days(days)).unwrap();
        assert_eq!(issued(outcome), Reason::Expires(old.not_after));
        let new = described(dir, SERVER_CERTIFICATE);
        assert!(new.not_after > old.not_after);
        for name in ["one.corp.example", "two.corp.example"] {
            assert!(new.names.contains(&name.to_owned()), "{:?}", new.names);
        }
    }
    assert_eq!(files(dir)[CA_KEY], authority);
}

#[test]
fn crash_between_the_two_writes_is_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    ensure(dir, &hosts(&[])).unwrap();
    let certificate = dir.join(SERVER_CERTIFICATE);
    let key = dir.join(SERVER_KEY);

    // The crash was in a renewal: the key is new, the certificate old.
    fs::write(&key, new_key().unwrap().serialize_pem()).unwrap();
    assert!(certificates::load(&certificate, &key).is_err());
    assert_eq!(issued(ensure(dir, &hosts(&[])).unwrap()), Reason::KeyMismatch);
    certificates::load(&certificate, &key).unwrap();

    // The crash was at the first start: there is a key and no certificate, and the key is kept.
    let first = fs::read(&key).unwrap();
    fs::remove_file(&certificate).unwrap();
    assert_eq!(issued(ensure(dir, &hosts(&[])).unwrap()), Reason::Missing);
    certificates::load(&certificate, &key).unwrap();
    assert_eq!(fs::read(&key).unwrap(), first);

    fs::remove_file(&key).unwrap();
    assert_eq!(issued(ensure(dir, &hosts(&[])).unwrap()), Reason::KeyMismatch);
    certificates::load(&certificate, &key).unwrap();
}

#[test]
fn certificate_of_another_authority_stays() {
    let other = tempfile::tempdir().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    ensure(other.path(), &hosts(&[])).unwrap();
    for file in [SERVER_CERTIFICATE, SERVER_KEY] {
        fs::copy(other.path().join(file), dir.join(file)).unwrap();
    }
    let before = files(dir);
    let outcome = ensure(dir, &hosts(&["new.corp.example"])).unwrap();
    assert_eq!(outcome.certificate, ServerCertificate::Foreign);
    assert!(matches!(
        renew(dir, &hosts(&[]), 90, Renew::Certificate),
        Err(AuthorityError::Foreign { .. })
    ));
    assert_eq!(files(dir), before);

    // The authority of the directory has the same subject as the issuer, and another key.
    Authority::load_or_create(dir, &[]).unwrap();
    let before = files(dir);
    let outcome = ensure(dir, &hosts(&["new.corp.example"])).unwrap();
    assert_eq!(outcome.certificate, ServerCertificate::Foreign);
    assert!(matches!(
        renew(dir, &hosts(&[]), 90, Renew::Certificate),
        Err(AuthorityError::Foreign { .. })
    ));
    fs::write(dir.join(SERVER_CERTIFICATE), "not a certificate").unwrap();
    let outcome = ensure(dir, &hosts(&[])).unwrap();
    assert_eq!(outcome.certificate, ServerCertificate::Foreign);
    assert_eq!(files(dir)[CA_KEY], before[CA_KEY]);
}

#[test]
fn incomplete_and_mismatched_authorities_are_refused_and_files_stay() {
    let other = tempfile::tempdir().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    ensure(other.path(), &hosts(&[])).unwrap();
    ensure(dir, &hosts(&[])).unwrap();
    let whole = files(dir);

    fs::remove_file(dir.join(SERVER_CERTIFICATE)).unwrap();
    for (file, expected) in [(CA_KEY, "ca.crt but no"), (CA_CERTIFICATE, "ca.key but no")] {
        fs::remove_file(dir.join(file)).unwrap();
        let error = ensure(dir, &hosts(&[])).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        fs::write(dir.join(file), &whole[file]).unwrap();
    }
    fs::write(dir.join(SERVER_CERTIFICATE), &whole[SERVER_CERTIFICATE]).unwrap();
    fs::copy(other.path().join(CA_KEY), dir.join(CA_KEY)).unwrap();
    assert!(matches!(ensure(dir, &hosts(&[])), Err(AuthorityError::Mismatch { .. })));
    fs::write(dir.join(CA_KEY), "").unwrap();
    assert!(matches!(ensure(dir, &hosts(&[])), Err(AuthorityError::Key { .. })));
    fs::copy(dir.join(SERVER_CERTIFICATE), dir.join(CA_CERTIFICATE)).unwrap();
    fs::copy(dir.join(SERVER_KEY), dir.join(CA_KEY)).unwrap();
    assert!(matches!(ensure(dir, &hosts(&[])), Err(AuthorityError::NotAnAuthority { .. })));
    assert_eq!(files(dir)[SERVER_CERTIFICATE], whole[SERVER_CERTIFICATE]);
}

#[test]
fn certificates_end_with_their_authority() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    ensure(dir, &hosts(&[])).unwrap();
    let ca = described(dir, CA_CERTIFICATE);

    let late = now() + Duration::days(3640);
    assert!(matches!(issued(ensure_at(dir, &hosts(&[]), late).unwrap()), Reason::Expires(_)));
    assert_eq!(described(dir, SERVER_CERTIFICATE).not_after, ca.not_after);
    // A certificate that ends with its authority is not renewed at each start.
    let kept = ensure_at(dir, &hosts(&[]), late).unwrap();
    assert_eq!(kept.certificate, ServerCertificate::Kept);
    let over = ensure_at(dir, &hosts(&[]), now() + Duration::days(3660));
    assert!(matches!(over, Err(AuthorityError::Expired)), "{over:?}");
}

#[test]
fn renewal_makes_a_new_key_and_debug_output_has_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let outcome = renew(dir, &hosts(&["one.corp.example"]), 10, Renew::Certificate).unwrap();
    assert!(outcome.created_authority);
    let before = files(dir);
    renew(dir, &hosts(&["two.corp.example"]), 90, Renew::Certificate).unwrap();
    let after = files(dir);
    assert_eq!(before[CA_CERTIFICATE], after[CA_CERTIFICATE]);
    assert_ne!(before[SERVER_KEY], after[SERVER_KEY]);
    let names = described(dir, SERVER_CERTIFICATE).names;
    assert!(names.contains(&"one.corp.example".to_owned()), "{names:?}");

    let (authority, _) = Authority::load_or_create(dir, &[]).unwrap();
    let pair = authority.issue(&hosts(&["x.corp.example", "192.168.2.7"]).required, 1).unwrap();
    let shown = format!("{authority:?} {pair:?}");
    assert!(!shown.contains("PRIVATE KEY"), "{shown}");
    assert!(authority.issue(&hosts(&["a b"]).required, 1).is_err());
}

#[test]
fn valid_certificate_is_kept_without_the_authoritys_key_and_expired_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    ensure(dir, &hosts(&["one.corp.example"])).unwrap();
    fs::remove_file(dir.join(CA_KEY)).unwrap();
    let before = files(dir);

    // `ensure` keeps a certificate that expires soon, too; the server warns of its end.
    for days in [0, 825 - 29] {
        let outcome = ensure_at(dir, &hosts(&[]), now() + Duration::days(days)).unwrap();
        assert_eq!(outcome.certificate, ServerCertificate::Kept);
        assert!(!outcome.created_authority);
        let outcome = ensure_at(dir, &hosts(&["two.corp.example"]), now() + Duration::days(days));
        let lacks = Reason::LacksName("two.corp.example".to_owned());
        assert_eq!(outcome.unwrap().certificate, ServerCertificate::Outdated(lacks));
    }
    examine(dir, &[]).unwrap();
    let over = ensure_at(dir, &hosts(&[]), now() + Duration::days(826)).unwrap_err();
    assert!(matches!(over, AuthorityError::KeyElsewhere { .. }), "{over}");
    assert!(over.to_string().contains("run `portcullis certs` where it is kept"), "{over}");
    assert_eq!(files(dir), before);

    fs::remove_file(dir.join(SERVER_KEY)).unwrap();
    let error = ensure(dir, &hosts(&[])).unwrap_err();
    assert!(matches!(error, AuthorityError::KeyElsewhere { .. }), "{error}");
    assert!(matches!(examine(dir, &[]), Err(AuthorityError::KeyElsewhere { .. })));
}

#[test]
fn name_that_the_constraints_exclude_is_refused_with_the_command_for_another_authority() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    ensure(dir, &hosts(&["registry.corp.example"])).unwrap();
    ensure(dir, &hosts(&["other.corp.example", "192.168.7.7"])).unwrap();
    let before = files(dir);
    for name in ["bank.example", "203.0.113.9"] {
        for error in [
            ensure(dir, &hosts(&[name])).unwrap_err(),
            examine(dir, &hosts(&[name]).required).unwrap_err(),
            renew(dir, &hosts(&[name]), 90, Renew::Certificate).unwrap_err(),
        ] {
            let command =
                format!("`portcullis certs --out {} --new-authority --host {name}`", dir.display());
            assert!(error.to_string().contains(&command), "{error}");
        }
    }
    assert_eq!(files(dir), before);

    let outcome = renew(dir, &hosts(&["bank.example"]), 90, Renew::Authority).unwrap();
    assert!(outcome.created_authority);
    let names = described(dir, SERVER_CERTIFICATE).names;
    for name in ["bank.example", "registry.corp.example", "192.168.7.7"] {
        assert!(names.contains(&name.to_owned()), "{names:?}");
    }
    let after = files(dir);
    assert_ne!(after[CA_CERTIFICATE], before[CA_CERTIFICATE]);
    // The old files are kept under other names.
    assert_eq!(after.len(), 8);
    for (name, bytes) in &before {
        let aside = after.iter().find(|(other, _)| other.starts_with(&format!("{name}.")));
        assert_eq!(aside.unwrap().1, bytes, "{name}");
    }
    let outcome = ensure(dir, &hosts(&["bank.example"])).unwrap();
    assert_eq!(outcome.certificate, ServerCertificate::Kept);
}

#[test]
fn authority_without_constraints_issues_certificates_for_any_name() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let key = new_key().unwrap();
    let mut params = super::super::ca_params(now(), &super::super::Constraints::default()).unwrap();
    params.name_constraints = None;
    params.extended_key_usages.clear();
    fs::write(dir.join(CA_CERTIFICATE), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(dir.join(CA_KEY), key.serialize_pem()).unwrap();
    for name in ["registry.corp.example", "bank.example", "203.0.113.9"] {
        ensure(dir, &hosts(&[name])).unwrap();
        assert!(described(dir, SERVER_CERTIFICATE).names.contains(&name.to_owned()));
    }
}

#[test]
fn certificate_has_the_addresses_of_this_machine_and_follows_them() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let names = || described(dir, SERVER_CERTIFICATE).names;
    let first = with_addresses(&[], &["10.1.2.3", "203.0.113.9", "not an address"]);
    ensure(dir, &first).unwrap();
    for name in ["10.1.2.3", "203.0.113.9", "localhost"] {
        assert!(names().contains(&name.to_owned()), "{:?}", names());
    }
    assert_eq!(ensure(dir, &first).unwrap().certificate, ServerCertificate::Kept);
    let authority = files(dir)[CA_CERTIFICATE].clone();

    // Another private address: the authority permits it, so that clients need not trust another one.
    let moved = with_addresses(&[], &["10.9.9.9"]);
    let outcome = ensure(dir, &moved).unwrap();
    assert_eq!(issued(outcome), Reason::LacksName("10.9.9.9".to_owned()));
    for name in ["10.9.9.9", "10.1.2.3", "203.0.113.9"] {
        assert!(names().contains(&name.to_owned()), "{:?}", names());
    }
    assert_eq!(files(dir)[CA_CERTIFICATE], authority);

    // Another public address: the authority does not permit it, and the server starts all the same.
    let abroad = with_addresses(&[], &["198.51.100.7"]);
    assert_eq!(ensure(dir, &abroad).unwrap().certificate, ServerCertificate::Kept);

    // Where the authority's key is kept elsewhere, an address is no reason for a warning.
    fs::remove_file(dir.join(CA_KEY)).unwrap();
    let elsewhere = with_addresses(&[], &["10.8.8.8"]);
    assert_eq!(ensure(dir, &elsewhere).unwrap().certificate, ServerCertificate::Kept);
}

#[test]
fn certificate_loses_the_oldest_addresses_and_no_name() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    ensure(dir, &hosts(&["registry.corp.example"])).unwrap();
    for last in 0..3 {
        let block: Vec<String> = (0..30).map(|host| format!("10.0.{last}.{host}")).collect();
        let block: Vec<&str> = block.iter().map(String::as_str).collect();
        ensure(dir, &with_addresses(&[], &block)).unwrap();
    }
    let names = described(dir, SERVER_CERTIFICATE).names;
    assert!(names.len() <= MAX_NAMES + 2, "{names:?}");
    for (name, is_there) in [
        ("10.0.2.0", true),
        ("10.0.2.29", true),
        ("registry.corp.example", true),
        ("10.0.0.29", false),
    ] {
        assert_eq!(names.contains(&name.to_owned()), is_there, "{name}: {names:?}");
    }
}
