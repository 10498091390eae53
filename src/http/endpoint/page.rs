//! Compares `docs/API.md` with the endpoints and the error codes.

use std::collections::BTreeMap;

use axum::http::Method;

use super::*;
use crate::http::RequestId;

const PAGE: &str = include_str!("../../../docs/API.md");
const PATH: &str = "docs/API.md";
const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A value for each parameter of a query, which changes the endpoint of any request that obeys it.
const PARAMETERS: &[(&str, &str)] = &[
    ("n", "2"),
    ("last", DIGEST),
    ("tag", "v1"),
    ("digest", DIGEST),
    ("mount", DIGEST),
    ("from", "other/app"),
    ("digest-algorithm", "sha512"),
    ("artifactType", "a/b"),
    ("q", "app"),
    ("page", "2"),
];

/// The name and a number of each endpoint. A new one needs the next number here, and a row in the page.
const fn numbered(endpoint: &Endpoint) -> (usize, &'static str) {
    match endpoint {
        Endpoint::Base => (0, "Base"),
        Endpoint::Catalog { .. } => (1, "Catalog"),
        Endpoint::Tags { .. } => (2, "Tags"),
        Endpoint::ReadManifest { .. } => (3, "ReadManifest"),
        Endpoint::PutManifest { .. } => (4, "PutManifest"),
        Endpoint::DeleteManifest { .. } => (5, "DeleteManifest"),
        Endpoint::ReadBlob { .. } => (6, "ReadBlob"),
        Endpoint::DeleteBlob { .. } => (7, "DeleteBlob"),
        Endpoint::StartUpload { .. } => (8, "StartUpload"),
        Endpoint::PutBlob { .. } => (9, "PutBlob"),
        Endpoint::MountBlob { .. } => (10, "MountBlob"),
        Endpoint::UploadStatus { .. } => (11, "UploadStatus"),
        Endpoint::AppendUpload { .. } => (12, "AppendUpload"),
        Endpoint::FinishUpload { .. } => (13, "FinishUpload"),
        Endpoint::CancelUpload { .. } => (14, "CancelUpload"),
        Endpoint::Referrers { .. } => (15, "Referrers"),
        Endpoint::DeleteRepository { .. } => (16, "DeleteRepository"),
        Endpoint::Search { .. } => (17, "Search"),
    }
}

/// The number of endpoints.
const COUNT: usize = 18;

/// Every code, for the table of codes.
const CODES: &[ErrorCode] = &[
    ErrorCode::BlobUnknown,
    ErrorCode::BlobUploadInvalid,
    ErrorCode::BlobUploadUnknown,
    ErrorCode::Denied,
    ErrorCode::DigestInvalid,
    ErrorCode::ManifestBlobUnknown,
    ErrorCode::ManifestInvalid,
    ErrorCode::ManifestUnknown,
    ErrorCode::NameInvalid,
    ErrorCode::NameUnknown,
    ErrorCode::PaginationNumberInvalid,
    ErrorCode::RangeInvalid,
    ErrorCode::SizeInvalid,
    ErrorCode::TagInvalid,
    ErrorCode::TooManyRequests,
    ErrorCode::Unauthorized,
    ErrorCode::Unavailable,
    ErrorCode::Unknown,
    ErrorCode::Unsupported,
];

/// The statuses that `http/error.rs` and the handlers give to a code beside its usual one.
const OTHER_STATUSES: &[(u16, &str)] = &[
    (408, "SIZE_INVALID"),
    (409, "BLOB_UPLOAD_INVALID"),
    (409, "DENIED"),
    (409, "TAG_INVALID"),
    (413, "DENIED"),
    (413, "SIZE_INVALID"),
    (414, "TAG_INVALID"),
    (507, "UNKNOWN"),
];

/// The cells of the rows below a head.
fn rows(head: &str) -> Vec<Vec<&'static str>> {
    let (_, table) = PAGE.split_once(head).unwrap_or_else(|| panic!("{PATH} has no table {head}"));
    let rows = table.trim_start().lines().skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

fn endpoints() -> Vec<Vec<&'static str>> {
    rows("| endpoint | methods | path | parameters | success | errors |")
}

/// The names of the parameters in a cell, in backquotes.
fn parameters(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn value(parameter: &str) -> &'static str {
    let found = PARAMETERS.iter().find(|(name, _)| *name == parameter);
    found.unwrap_or_else(|| panic!("{PATH} has a parameter `{parameter}`: add it to PARAMETERS")).1
}

fn query(parameters: &[&str]) -> String {
    let pairs = parameters.iter().map(|name| format!("{name}={}", value(name)));
    pairs.collect::<Vec<_>>().join("&")
}

/// The path of a row as a request has it.
fn path(cell: &str) -> String {
    cell.trim_matches('`')
        .replace("<name>", "team/app")
        .replace("<digest>", DIGEST)
        .replace("<reference>", DIGEST)
        .replace("<id>", "6b3c9a93-af5d-473f-a4cf-9710022185cd")
}

#[test]
fn page_has_each_endpoint_with_its_methods_and_path_and_no_other() {
    let mut seen = [false; COUNT];
    for row in endpoints() {
        let (name, path, query) = (row[0], path(row[2]), query(&parameters(row[3])));
        let listed: Vec<_> = row[1].split(", ").collect();
        let mut found = Vec::new();
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
            let parsed = Endpoint::parse(&method.parse::<Method>().unwrap(), &path, &query);
            match parsed.as_ref().map(numbered) {
                Ok((number, parsed)) if parsed == name => {
                    seen[number] = true;
                    found.push(method);
                }
                _ => {}
            }
        }
        assert_eq!(found, listed, "the methods of {name} at {path}?{query}; change {PATH}");
    }
    assert_eq!(
        endpoints().len(),
        COUNT,
        "{PATH} has an endpoint twice, or a line that names no endpoint"
    );
    let missing: Vec<_> = (0..COUNT).filter(|number| !seen[*number]).collect();
    assert!(
        missing.is_empty(),
        "{PATH} has no row for the endpoints of these numbers: {missing:?}"
    );
}

#[test]
fn page_has_each_parameter_of_an_endpoint_and_no_other() {
    for row in endpoints() {
        let method: Method = row[1].split(", ").next().unwrap().parse().unwrap();
        let path = path(row[2]);
        let listed = parameters(row[3]);
        let parse = |parameters: &[&str]| {
            Endpoint::parse(&method, &path, &query(parameters))
                .map_err(|error| format!("{error:?}"))
        };
        let whole = parse(&listed);
        for (parameter, _) in PARAMETERS {
            let is_listed = listed.contains(parameter);
            let others: Vec<_> = listed.iter().copied().filter(|name| name != parameter).collect();
            let changed = match is_listed {
                true => parse(&others),
                false => parse(&[&*listed, &[parameter]].concat()),
            };
            // With some parameters an endpoint becomes another one, which has a row of its own.
            let is_same = |endpoint: &Endpoint| numbered(endpoint).1 == row[0];
            match changed == whole {
                true => assert!(!is_listed, "{PATH}: {} ignores `{parameter}`", row[0]),
                false => assert!(
                    is_listed || !changed.as_ref().is_ok_and(is_same),
                    "{PATH}: {} lacks `{parameter}`",
                    row[0]
                ),
            }
        }
    }
}

#[test]
fn page_has_the_status_of_each_error_code() {
    let status = |code| Error::refused(code).into_response(RequestId::new()).status().as_u16();
    let expected: BTreeMap<_, _> =
        CODES.iter().map(|code| (code.as_str(), status(*code).to_string())).collect();
    let found: BTreeMap<_, _> =
        rows("| code | status |").iter().map(|row| (row[0], row[1].to_owned())).collect();
    assert_eq!(found, expected, "the error codes of {PATH}");

    let of_endpoints =
        endpoints().into_iter().flat_map(|row| row[5].split(", ").collect::<Vec<_>>());
    let of_all = rows("| status | code | cause |").into_iter();
    let of_all = of_all.map(|row| format!("{} {}", row[0], row[1]).trim().to_owned());
    for error in of_endpoints.map(str::to_owned).chain(of_all).filter(|error| !error.is_empty()) {
        let (number, code) = error.split_once(' ').unwrap_or((&error, ""));
        let is_usual = expected.get(code).is_some_and(|status| status == number);
        let is_other =
            OTHER_STATUSES.iter().any(|(other, of)| *of == code && other.to_string() == number);
        let has_none = code.is_empty() && ["400", "404", "412", "416", "421"].contains(&number);
        assert!(is_usual || is_other || has_none, "{PATH}: {error} is never answered");
    }
}
