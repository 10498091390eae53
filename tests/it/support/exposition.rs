//! A parser of the metrics that a server exposes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use portcullis::{config::Config, http};

use super::{raw::GUARD, server::TestServer};

/// Makes a server expose its metrics.
pub fn expose(config: &mut Config) {
    config.http.api.debug = http::DebugOptions {
        addr: "127.0.0.1:0".to_owned(),
        prometheus: http::PrometheusOptions { enabled: true, path: "/metrics".to_owned() },
    };
}

/// The exposed text.
pub async fn scraped(server: &TestServer) -> String {
    let addr = server.app().debug_addr().unwrap();
    let answer = reqwest::get(format!("http://{addr}/metrics")).await.unwrap();
    answer.error_for_status().unwrap().text().await.unwrap()
}

/// The exposed text once every request is over: a client has its response before it is
/// counted.
pub async fn exposed(server: &TestServer) -> String {
    let settling = async {
        loop {
            let text = scraped(server).await;
            let in_flight = |sample: &Sample<'_>| sample.name == "registry_http_in_flight_requests";
            if samples(&text).filter(in_flight).all(|sample| sample.value == 0.0) {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(GUARD, settling).await.unwrap()
}

/// A line with a number.
#[derive(Debug)]
pub struct Sample<'a> {
    pub name: &'a str,
    pub labels: Vec<(&'a str, &'a str)>,
    pub value: f64,
}

impl Sample<'_> {
    fn series(&self) -> String {
        let labels = self.labels.iter().filter(|(name, _)| *name != "le");
        let labels: Vec<_> =
            labels.map(|(name, value)| format!("{name}=\"{}\"", masked(name, value))).collect();
        if labels.is_empty() {
            return self.name.to_owned();
        }
        format!("{}{{{}}}", self.name, labels.join(","))
    }
}

/// A version changes with each release.
fn masked<'a>(label: &str, value: &'a str) -> &'a str {
    if label == "version" { "…" } else { value }
}

pub fn samples(text: &str) -> impl Iterator<Item = Sample<'_>> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let value = value.parse().unwrap();
        let Some((name, labels)) = series.split_once('{') else {
            return Sample { name: series, labels: Vec::new(), value };
        };
        let labels = labels.strip_suffix("\"}").unwrap().split("\",");
        let labels = labels.map(|label| label.split_once("=\"").unwrap()).collect();
        Sample { name, labels, value }
    })
}

/// The number of a series, by its exact name.
#[track_caller]
pub fn number(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is missing: {text}")).parse().unwrap()
}

/// The same without its numbers, and with all bounds of a histogram in one line.
pub fn without_numbers(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let Some(sample) = (!line.starts_with('#')).then(|| samples(line).next().unwrap()) else {
            lines.push(line.to_owned());
            continue;
        };
        let series = sample.series();
        let Some((_, bound)) = sample.labels.iter().find(|(name, _)| *name == "le") else {
            lines.push(series);
            continue;
        };
        match lines.last_mut().filter(|last| last.starts_with(&format!("{series} le="))) {
            Some(last) => *last = format!("{last} {bound}"),
            None => lines.push(format!("{series} le={bound}")),
        }
    }
    lines.join("\n") + "\n"
}

/// All numbers of one name.
#[derive(Debug, Default)]
pub struct Family {
    pub kind: String,
    /// The labels, but for a histogram's `le`, each with its values.
    pub labels: BTreeMap<String, BTreeSet<String>>,
    pub has_samples: bool,
}

/// The families by the name that queries have: that of a counter ends in `_total`, and that of a
/// histogram gets a suffix there.
pub fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families = BTreeMap::new();
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    for (name, kind) in kinds {
        let total = if kind == "counter" { "_total" } else { "" };
        let family = Family { kind: kind.to_owned(), ..Family::default() };
        families.insert(format!("{name}{total}"), family);
    }
    for sample in samples(text) {
        let suffixes = ["", "_bucket", "_sum", "_count"];
        let names = suffixes.iter().filter_map(|suffix| sample.name.strip_suffix(suffix));
        let name = names.into_iter().find(|name| families.contains_key(*name)).unwrap().to_owned();
        let family = families.get_mut(&name).unwrap();
        family.has_samples = true;
        for (label, value) in sample.labels.iter().filter(|(label, _)| *label != "le") {
            family.labels.entry((*label).to_owned()).or_default().insert((*value).to_owned());
        }
    }
    families
}
