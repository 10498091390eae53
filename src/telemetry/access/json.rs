//! The access log as JSON: one object per line.

use std::{borrow::Cow, net::IpAddr};

use serde::Serialize;

use super::{DIGEST, Exchange, Limits, METHOD, REPOSITORY, USER};
use crate::telemetry::{clip, format};

/// The fields of a line, in their order.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    client: Option<IpAddr>,
    user: Option<Cow<'a, str>>,
    method: Cow<'a, str>,
    uri: Cow<'a, str>,
    protocol: &'static str,
    status: u16,
    sent: u64,
    received: u64,
    referer: Option<String>,
    agent: Option<String>,
    repository: Option<Cow<'a, str>>,
    digest: Option<Cow<'a, str>>,
    rule: Option<usize>,
    seconds: f64,
    request: String,
}

/// The line of a request. Its fields have `limits`.
pub(super) fn line(exchange: &Exchange<'_>, limits: &Limits, time: jiff::Timestamp) -> String {
    let text = |bytes: &[u8], limit| (!bytes.is_empty()).then(|| clip::bytes(bytes, limit));
    let Exchange { client, user, method, uri, protocol, status, .. } = *exchange;
    let Exchange { sent, received, repository, digest, rule, .. } = *exchange;
    let object = Line {
        time: format!("{time:.3}"),
        client,
        user: user.map(|user| clip::text(user, USER)),
        method: clip::text(method, METHOD),
        uri: clip::text(uri, limits.uri),
        protocol,
        status,
        sent,
        received,
        referer: text(exchange.referer, limits.referer),
        agent: text(exchange.agent, limits.agent),
        repository: repository.map(|repository| clip::text(repository, REPOSITORY)),
        digest: digest.map(|digest| clip::text(digest, DIGEST)),
        rule,
        seconds: exchange.duration.as_secs_f64(),
        request: exchange.request.to_string(),
    };
    // Every field can be serialised.
    let mut line = serde_json::to_string(&object).unwrap_or_default();
    line.push('\n');
    format::visible(line)
}
