//! Tokens that are and are not accepted, with keys made here.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaEncoding, RsaKeyPair},
};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as BASE64},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};

use super::{token::Token, *};
use crate::gate::Right;

const NOW: u64 = 1_800_000_000;

/// A key that signs, and the algorithm by which it does.
enum Signer {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Secret(Box<hmac::Key>),
}

impl Signer {
    fn rsa(encoding: &'static dyn RsaEncoding) -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap(), encoding)
    }

    fn ec(algorithm: &'static signature::EcdsaSigningAlgorithm) -> Self {
        Self::Ec(EcdsaKeyPair::generate(algorithm).unwrap())
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(*encoding, &random, message, &mut signature).unwrap();
                signature
            }
            Self::Ec(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
            Self::Secret(key) => hmac::sign(key, message).as_ref().to_vec(),
        }
    }

    fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| BASE64.encode(bytes);
        match self {
            Self::Rsa(key, _) => {
                let public = key.public_key();
                let (n, e) = (public.modulus(), public.exponent());
                json!({
                    "kty": "RSA",
                    "n": encode(n.big_endian_without_leading_zero()),
                    "e": encode(e.big_endian_without_leading_zero()),
                })
            }
            Self::Ec(key) => {
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = match x.len() {
                    32 => "P-256",
                    48 => "P-384",
                    _ => "P-521",
                };
                json!({ "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y) })
            }
            Self::Ed(key) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(key.public_key().as_ref()) })
            }
            Self::Secret(_) => json!({ "kty": "oct", "k": encode(&[7; 64]) }),
        }
    }
}

fn secret(algorithm: hmac::Algorithm) -> Signer {
    Signer::Secret(Box::new(hmac::Key::new(algorithm, &[7; 64])))
}

fn es256() -> Signer {
    Signer::ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)
}

fn claims() -> Value {
    json!({
        "iss": "token server", "sub": "ann", "aud": "registry", "exp": NOW + 300, "nbf": NOW - 10,
        "iat": NOW, "jti": "1",
        "access": [{ "type": "repository", "name": "team/app", "actions": ["pull", "push"] }],
    })
}

fn token(signer: &Signer, header: &Value, claims: &Value) -> String {
    let [header, claims] = [header, claims].map(|part| BASE64.encode(part.to_string()));
    let signed = format!("{header}.{claims}");
    format!("{signed}.{}", BASE64.encode(signer.sign(signed.as_bytes())))
}

/// The files of an issuer.
struct Site {
    folder: tempfile::TempDir,
    options: IssuerOptions,
}

impl Site {
    fn new() -> Self {
        let options = IssuerOptions {
            realm: "https://auth.example.com/token".to_owned(),
            service: "registry".to_owned(),
            issuer: "token server".to_owned(),
            ..IssuerOptions::default()
        };
        Self { folder: tempfile::tempdir().unwrap(), options }
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn with_keys(keys: &Value) -> Self {
        let mut site = Self::new();
        site.options.jwks = Some(site.file("jwks.json", json!({ "keys": keys }).to_string()));
        site
    }

    fn with_bundle(pem: &str) -> Self {
        let mut site = Self::new();
        site.options.rootcertbundle = Some(site.file("bundle.pem", pem));
        site
    }

    fn issuer(&self) -> Issuer {
        Issuer::new(self.options.clone(), Trust::read(&self.options).unwrap())
    }

    fn verify(&self, token: &str) -> Result<Presented, Invalid> {
        self.issuer().verify(token, SystemTime::UNIX_EPOCH + Duration::from_secs(NOW))
    }
}

/// A key of a certificate, with the signer.
fn certified(signed_by: Option<&CertifiedIssuer<'_, KeyPair>>, is_ca: bool) -> (Signer, String) {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = if is_ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::NoCa };
    let certificate = match signed_by {
        Some(issuer) => params.signed_by(&key, issuer),
        None => params.self_signed(&key),
    };
    let signing = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let signer = EcdsaKeyPair::from_pkcs8(signing, &key.serialize_der()).unwrap();
    (Signer::Ec(signer), certificate.unwrap().pem())
}

fn base64_of(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with('-')).collect()
}

#[test]
fn each_algorithm_is_accepted_with_a_key_of_its_kind_only() {
    let all = [
        ("RS256", Signer::rsa(&signature::RSA_PKCS1_SHA256)),
        ("RS384", Signer::rsa(&signature::RSA_PKCS1_SHA384)),
        ("RS512", Signer::rsa(&signature::RSA_PKCS1_SHA512)),
        ("PS256", Signer::rsa(&signature::RSA_PSS_SHA256)),
        ("PS384", Signer::rsa(&signature::RSA_PSS_SHA384)),
        ("PS512", Signer::rsa(&signature::RSA_PSS_SHA512)),
        ("ES256", es256()),
        ("ES384", Signer::ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING)),
        ("ES512", Signer::ec(&signature::ECDSA_P521_SHA512_FIXED_SIGNING)),
        ("EdDSA", Signer::Ed(Ed25519KeyPair::generate().unwrap())),
        ("HS256", secret(hmac::HMAC_SHA256)),
        ("HS384", secret(hmac::HMAC_SHA384)),
        ("HS512", secret(hmac::HMAC_SHA512)),
    ];
    for (name, signer) in &all {
        let site = Site::with_keys(&json!([signer.jwk()]));
        let presented = site.verify(&token(signer, &json!({ "alg": name }), &claims())).unwrap();
        assert_eq!(presented.identity, Identity::User("ann".into()), "{name}");
        for (other, _) in all.iter().filter(|(other, _)| other != name) {
            let wrong = token(signer, &json!({ "alg": other }), &claims());
            assert_eq!(site.verify(&wrong), Err(Invalid::Signature), "{name} as {other}");
        }
        let mut bound = signer.jwk();
        bound["alg"] = json!(if *name == "RS256" { "PS256" } else { "RS256" });
        let site = Site::with_keys(&json!([bound]));
        let wrong = token(signer, &json!({ "alg": name }), &claims());
        assert_eq!(site.verify(&wrong), Err(Invalid::Signature), "{name} of another's key");
    }
    let site = Site::with_keys(&json!([all[0].1.jwk()]));
    for none in ["none", "None", "rs256", ""] {
        let unsigned = token(&all[0].1, &json!({ "alg": none }), &claims());
        assert_eq!(site.verify(&unsigned), Err(Invalid::Algorithm), "{none}");
    }
}

/// A public key is no secret of an HMAC, in whichever form an attacker takes its bytes.
#[test]
fn public_key_is_no_secret() {
    let (_, pem) = certified(None, false);
    let site = Site::with_bundle(&pem);
    let der = BASE64_STANDARD.decode(base64_of(&pem)).unwrap();
    for bytes in [pem.as_bytes(), pem.trim_end().as_bytes(), &der] {
        let forged = Signer::Secret(Box::new(hmac::Key::new(hmac::HMAC_SHA256, bytes)));
        let forged = token(&forged, &json!({ "alg": "HS256" }), &claims());
        assert_eq!(site.verify(&forged), Err(Invalid::Signature));
    }
}

#[test]
fn algorithm_that_is_not_in_the_list_is_refused() {
    let signer = es256();
    let mut site = Site::with_keys(&json!([signer.jwk()]));
    let signed = token(&signer, &json!({ "alg": "ES256" }), &claims());
    site.options.signingalgorithms = vec![Algorithm::Rs256];
    assert_eq!(site.verify(&signed), Err(Invalid::Algorithm));
    site.options.signingalgorithms.push(Algorithm::Es256);
    assert!(site.verify(&signed).is_ok());
}

#[test]
fn key_is_found_by_each_of_its_names() {
    let signer = es256();
    let mut jwk = signer.jwk();
    jwk["kid"] = json!("of the set");
    let site = Site::with_keys(&json!([es256().jwk(), jwk]));
    let key = key::Key::of_jwk(&serde_json::from_value(jwk.clone()).unwrap()).unwrap();
    let fingerprint = key.names()[2].clone();
    assert_eq!(fingerprint.len(), 59);
    assert!(fingerprint.split(':').all(|four| four.len() == 4), "{fingerprint}");
    for kid in ["of the set", &key.thumbprint, &fingerprint] {
        let signed = token(&signer, &json!({ "alg": "ES256", "kid": kid }), &claims());
        assert!(site.verify(&signed).is_ok(), "{kid}");
    }
    let unknown = token(&signer, &json!({ "alg": "ES256", "kid": "another" }), &claims());
    assert_eq!(site.verify(&unknown), Err(Invalid::Key));
    // Without a name, each key of the kind is tried.
    assert!(site.verify(&token(&signer, &json!({ "alg": "ES256" }), &claims())).is_ok());
}

/// The example of RFC 7638 §3.1, and of RFC 8037 §A.3.
#[test]
fn thumbprint_is_that_of_the_specification() {
    let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_\
             BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_\
             FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhA\
             I4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    for (jwk, thumbprint) in [
        (
            json!({ "kty": "RSA", "n": n, "e": "AQAB" }),
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
        ),
        (
            json!({
                "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            }),
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
        ),
    ] {
        let jwk = serde_json::from_value(jwk).unwrap();
        assert_eq!(key::Key::of_jwk(&jwk).unwrap().thumbprint, thumbprint);
    }
}

#[test]
fn certificate_of_the_header_counts_if_the_bundle_has_it_or_its_authority() {
    let authority = CertificateParams::default();
    let authority = {
        let mut params = authority;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (signer, leaf) = certified(Some(&authority), false);
    let header = json!({ "alg": "ES256", "x5c": [base64_of(&leaf)] });
    let issued = token(&signer, &header, &claims());
    assert!(Site::with_bundle(&authority.pem()).verify(&issued).is_ok());
    // `openssl req -x509` makes an authority of it, and Go takes it all the same.
    for is_ca in [false, true] {
        let (signer, own) = certified(None, is_ca);
        let header = json!({ "alg": "ES256", "x5c": [base64_of(&own)] });
        let listed = token(&signer, &header, &claims());
        assert!(Site::with_bundle(&own).verify(&listed).is_ok(), "{is_ca}");
        assert_eq!(Site::with_bundle(&authority.pem()).verify(&listed), Err(Invalid::Chain));
        // The key of the certificate counts, not that of the signer.
        let header = json!({ "alg": "ES256", "x5c": [base64_of(&own)] });
        let forged = token(&es256(), &header, &claims());
        assert_eq!(Site::with_bundle(&own).verify(&forged), Err(Invalid::Signature));
    }
    let long = json!({ "alg": "ES256", "x5c": vec![base64_of(&leaf); 5] });
    let long = token(&signer, &long, &claims());
    assert_eq!(Site::with_bundle(&authority.pem()).verify(&long), Err(Invalid::Chain));
}

/// CVE-2025-24976: registry:3 believed the key in the header.
#[test]
fn key_of_the_header_counts_only_if_it_is_trusted() {
    let (ours, foreign) = (es256(), es256());
    let site = Site::with_keys(&json!([ours.jwk()]));
    let with = |signer: &Signer, jwk: Value| {
        token(signer, &json!({ "alg": "ES256", "jwk": jwk, "kid": "x" }), &claims())
    };
    assert!(site.verify(&with(&ours, ours.jwk())).is_ok());
    assert_eq!(site.verify(&with(&foreign, foreign.jwk())), Err(Invalid::Key));
    assert_eq!(site.verify(&with(&foreign, ours.jwk())), Err(Invalid::Signature));
    let mut named = foreign.jwk();
    named["kid"] = ours.jwk()["x"].clone();
    assert_eq!(site.verify(&with(&foreign, named)), Err(Invalid::Key));
}

#[test]
fn claims_are_those_of_this_registry_and_of_now() {
    let signer = es256();
    let site = Site::with_keys(&json!([signer.jwk()]));
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        site.verify(&token(&signer, &json!({ "alg": "ES256" }), &claims)).map(|_| ())
    };
    for (name, value, expected) in [
        ("iss", json!("another"), Err(Invalid::Issuer)),
        ("aud", json!("another"), Err(Invalid::Audience)),
        ("aud", json!([]), Err(Invalid::Audience)),
        ("aud", json!(["another", "registry"]), Ok(())),
        ("exp", json!(NOW - 60), Ok(())),
        ("exp", json!(NOW - 61), Err(Invalid::Time)),
        ("exp", json!(NOW as f64 + 0.5), Ok(())),
        ("exp", json!("soon"), Err(Invalid::Malformed)),
        ("exp", Value::Null, Err(Invalid::Malformed)),
        ("nbf", json!(NOW + 60), Ok(())),
        ("nbf", json!(NOW + 61), Err(Invalid::Time)),
        ("nbf", Value::Null, Ok(())),
        ("access", Value::Null, Ok(())),
        ("access", json!("all"), Err(Invalid::Malformed)),
    ] {
        assert_eq!(with(name, value.clone()), expected, "{name}: {value}");
    }
}

#[test]
fn malformed_token_is_refused_before_a_signature_is_verified() {
    let signer = es256();
    let site = Site::with_keys(&json!([signer.jwk()]));
    let good = token(&signer, &json!({ "alg": "ES256" }), &claims());
    let (head, _) = good.split_once('.').unwrap();
    for malformed in
        ["", ".", "..", "a.b.c", &format!("{head}.e30"), &format!("{good}.e30"), "e30.e30.e30"]
    {
        assert_eq!(site.verify(malformed), Err(Invalid::Malformed), "{malformed:?}");
    }
    let critical = json!({ "alg": "ES256", "crit": ["b64"], "b64": false });
    assert_eq!(site.verify(&token(&signer, &critical, &claims())), Err(Invalid::Malformed));
    let changed = good.replacen('.', ".e", 1);
    assert_eq!(site.verify(&changed), Err(Invalid::Signature));
}

#[test]
fn token_covers_what_registry_2_takes_it_for() {
    let names = ["team/app", "other/app"].map(|name| name.parse().unwrap());
    let [app, other] = &names;
    let covered = |access: Value| {
        let entries: Vec<covered::Entry> = serde_json::from_value(access).unwrap();
        Covered::by(&entries)
    };
    let of = |actions: Value| {
        covered(
            json!([{ "type": "repository", "class": "", "name": "team/app", "actions": actions }]),
        )
    };
    for (actions, pull, push, delete) in [
        (json!(["pull"]), true, false, false),
        (json!(["push"]), false, false, false),
        (json!(["pull", "push"]), true, true, false),
        (json!(["delete"]), false, false, true),
        (json!(["*"]), true, true, true),
        (json!(["fly"]), false, false, false),
        (Value::Null, false, false, false),
    ] {
        let covered = of(actions.clone());
        assert_eq!(covered.covers(&Right::Pull(app)), pull, "{actions}");
        assert_eq!(covered.covers(&Right::Create(app)), push, "{actions}");
        assert_eq!(covered.covers(&Right::Push(app)), push, "{actions}");
        assert_eq!(covered.covers(&Right::Delete(app)), delete, "{actions}");
        let elsewhere = [Right::Pull(other), Right::PullAll, Right::List];
        assert!(!elsewhere.iter().any(|right| covered.covers(right)), "{actions}");
    }
    let entry = |kind, name, action| json!({ "type": kind, "name": name, "actions": [action] });
    let split = covered(json!([
        entry("repository", "team/app", "pull"),
        entry("repository", "team/app", "push"),
        entry("registry", "catalog", "*"),
    ]));
    assert!(split.covers(&Right::Push(app)) && split.covers(&Right::List));
    let foreign = covered(json!([
        entry("artifact", "team/app", "*"),
        entry("repository", "Team/App", "*"),
        entry("registry", "catalog", "pull"),
    ]));
    assert_eq!(foreign, Covered::default());
}

#[test]
fn token_without_a_subject_has_no_user() {
    let signer = es256();
    let site = Site::with_keys(&json!([signer.jwk()]));
    for subject in [json!(""), Value::Null] {
        let mut claims = claims();
        claims["sub"] = subject;
        let presented = site.verify(&token(&signer, &json!({ "alg": "ES256" }), &claims)).unwrap();
        assert_eq!(presented.identity, Identity::Anonymous);
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let short = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let told = |site: &Site| {
        let message = Trust::read(&site.options).unwrap_err().to_string();
        let folder: &Path = site.folder.path();
        message.replace(&format!("{}/", folder.display()), "")
    };
    for (site, expected) in [
        (Site::with_bundle(""), "bundle.pem has no certificate that can be used: put the PEM"),
        (Site::with_bundle(short), "bundle.pem has no certificate that can be used ("),
        (Site::with_keys(&json!("x")), "jwks.json is no JSON Web Key Set: "),
        (Site::with_keys(&json!([])), "jwks.json has no key that verifies tokens"),
        (Site::with_keys(&json!([{ "kty": "new" }])), "jwks.json has no key that verifies tokens"),
        (
            Site::with_keys(&json!([{ "kty": "RSA", "n": "AQAB", "e": "AQAB" }])),
            "key 1 of jwks.json cannot be used: it is an RSA key of fewer than 2048 bits",
        ),
        (
            Site::with_keys(&json!([{ "kty": "oct", "k": "AQAB" }])),
            "key 1 of jwks.json cannot be used: it is incomplete or malformed",
        ),
        (
            Site::with_keys(&Value::Array(vec![json!({ "kty": "new" }); 65])),
            "jwks.json has more than 64 keys",
        ),
    ] {
        let message = told(&site);
        assert!(message.starts_with(expected), "{message}");
    }
    let mut missing = Site::new();
    missing.options.jwks = Some(missing.folder.path().join("missing.json"));
    assert!(told(&missing).starts_with("cannot read missing.json: "));
}

#[test]
fn changed_file_is_read_again() {
    let (old, new) = (es256(), es256());
    let site = Site::with_keys(&json!([old.jwk()]));
    let (mut files, trust) = TrustFiles::open(site.options.clone()).unwrap();
    let issuer = Issuer::new(site.options.clone(), trust);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    let [before, after] =
        [&old, &new].map(|signer| token(signer, &json!({ "alg": "ES256" }), &claims()));
    assert!(issuer.verify(&before, now).is_ok());
    site.file("jwks.json", "broken");
    assert!(files.reload(false).is_err());
    assert!(issuer.verify(&before, now).is_ok());
    site.file("jwks.json", json!({ "keys": [new.jwk()] }).to_string());
    issuer.set_trust(files.reload(false).unwrap().unwrap());
    assert_eq!(issuer.verify(&before, now), Err(Invalid::Signature));
    assert!(issuer.verify(&after, now).is_ok());
}

proptest::proptest! {
    #[test]
    fn any_text_is_a_token_or_not(text in "[A-Za-z0-9_.-]{0,200}") {
        let _ = Token::parse(&text);
    }
}
