//! The load generators, and their output.

use std::{fs, path::Path};

use crate::{
    Outcome, process,
    site::{PASSWORD, Site, USER},
};

/// The `Accept` that every registry client sends; registry:2 hides OCI manifests from other
/// clients.
const ACCEPT: &str = "Accept: application/vnd.oci.image.manifest.v1+json";

/// The counts of wrk or h2load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    /// Requests a second, all of which were answered with 2xx unless said otherwise.
    pub(crate) rate: f64,
    /// The p99 of the response time, in seconds; zero where the tool does not report it.
    pub(crate) p99: f64,
}

/// A load of requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Requests<'a> {
    pub(crate) url: &'a str,
    pub(crate) connections: usize,
    pub(crate) seconds: u32,
}

/// wrk over HTTP/1.1 with the right password.
pub(crate) fn wrk(load: Requests<'_>) -> Outcome<Counted> {
    wrk_authorised(load, &Site::authorization())
}

/// wrk over HTTP/1.1 with this `Authorization` header.
pub(crate) fn wrk_authorised(load: Requests<'_>, authorization: &str) -> Outcome<Counted> {
    let more = ["-H", authorization, "-H", ACCEPT];
    let said = process::run("wrk", &wrk_arguments(&load, &more)?, b"")?;
    let counted = read_wrk(&said)?;
    for complaint in ["Non-2xx", "Socket errors"] {
        if let Some(line) = said.lines().find(|line| line.contains(complaint)) {
            return Err(format!("wrk: {}", line.trim()).into());
        }
    }
    Ok(counted)
}

/// Starts wrk as [`wrk`] runs it; [`read_wrk`] reads its output.
pub(crate) fn start_wrk(load: Requests<'_>) -> Outcome<process::Running> {
    let header = Site::authorization();
    process::start("wrk", &wrk_arguments(&load, &["-H", header.as_str(), "-H", ACCEPT])?)
}

/// Starts wrk with a script that makes the requests.
pub(crate) fn start_wrk_script(load: Requests<'_>, script: &str) -> Outcome<process::Running> {
    process::start("wrk", &wrk_arguments(&load, &["-s", script])?)
}

fn wrk_arguments<'a>(load: &Requests<'a>, more: &[&'a str]) -> Outcome<Vec<&'a str>> {
    // They live as long as this short-lived program.
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let connections = leak(format!("-c{}", load.connections));
    let seconds = leak(format!("-d{}", load.seconds));
    let threads = if load.connections == 1 { "-t1" } else { "-t2" };
    let mut arguments = vec![threads, "--latency", "--timeout", "30s", connections, seconds];
    arguments.extend(more);
    arguments.push(load.url);
    Ok(arguments)
}

/// Reads the output of wrk.
pub(crate) fn read_wrk(said: &str) -> Outcome<Counted> {
    let rate = behind(said, "Requests/sec:")?.parse()?;
    let p99 = duration(behind(said, "99%")?)?;
    Ok(Counted { rate, p99 })
}

/// h2load over HTTP/2 with the right password, one stream in each connection.
pub(crate) fn h2load(load: Requests<'_>, method: &str) -> Outcome<Counted> {
    let (header, method) = (Site::authorization(), format!(":method: {method}"));
    let (seconds, connections) = (load.seconds.to_string(), load.connections.to_string());
    let mut arguments = vec!["-t2", "-m1", "-c", &connections, "-D", &seconds];
    arguments.extend(["-H", &header, "-H", ACCEPT, "-H", &method, load.url]);
    let said = process::run("h2load", &arguments, b"")?;
    let counts = said.lines().find(|line| line.starts_with("requests:")).unwrap_or_default();
    if !counts.contains(" 0 failed, 0 errored, 0 timeout") || !said.contains(" 0 4xx, 0 5xx") {
        return Err(format!("h2load: {counts}").into());
    }
    let finished = said.lines().find(|line| line.starts_with("finished in")).unwrap_or_default();
    let rate = finished.split(", ").nth(1).and_then(|rate| rate.strip_suffix(" req/s"));
    Ok(Counted { rate: rate.ok_or("h2load gave no rate")?.parse()?, p99: 0.0 })
}

/// Pulls a blob to /dev/null over HTTP/1.1, as docker does; `url` may contain a range of numbers,
/// all of which are pulled at once.
pub(crate) fn start_curl(site: &Site, url: &str) -> Outcome<process::Running> {
    let (authority, user) = (site.path("certs/ca.crt"), format!("{USER}:{PASSWORD}"));
    let mut arguments = vec!["-sS", "--fail", "--http1.1", "--cacert", &authority, "--user", &user];
    arguments.extend(["--parallel", "--parallel-immediate", "--parallel-max", "300"]);
    arguments.extend(["--output", "/dev/null", url]);
    process::start("curl", &arguments)
}

/// Pulls a URL to /dev/null over HTTP/1.1, from the server at `address` whatever the URL's host, of
/// which no certificate is expected.
pub(crate) fn curl_from(address: &str, url: &str) -> Outcome<()> {
    let connect = format!("::{address}");
    let mut arguments = vec!["-sS", "--fail", "--http1.1", "--insecure", "--connect-to", &connect];
    arguments.extend(["--output", "/dev/null", url]);
    process::run("curl", &arguments, b"")?;
    Ok(())
}

/// Sends a file to an upload as docker does, in chunks and without a length; gives the upload's
/// next URL.
pub(crate) fn curl_patch(site: &Site, file: &Path, location: &str) -> Outcome<String> {
    let (authority, user) = (site.path("certs/ca.crt"), format!("{USER}:{PASSWORD}"));
    let file = file.to_str().ok_or("a path is not text")?;
    let mut arguments = vec!["-sS", "--fail", "--http1.1", "--cacert", &authority, "--user", &user];
    arguments.extend(["--request", "PATCH", "--upload-file", file, "--dump-header", "-"]);
    arguments.extend(["--header", "Content-Type: application/octet-stream"]);
    arguments.extend(["--header", "Transfer-Encoding: chunked", "--header", "Expect:"]);
    arguments.extend(["--output", "/dev/null", location]);
    let headers = process::run("curl", &arguments, b"")?;
    let next = headers.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
    });
    next.ok_or_else(|| "no Location in the answer to PATCH".into())
}

/// Copies an image unchanged, with the options for the registry's side.
pub(crate) fn skopeo(site: &Site, from: &str, to: &str) -> Outcome<()> {
    let (trust, user) = (site.path("trust"), format!("{USER}:{PASSWORD}"));
    let (certificates, credentials) = if from.starts_with("docker:") {
        ("--src-cert-dir", "--src-creds")
    } else {
        ("--dest-cert-dir", "--dest-creds")
    };
    let mut arguments = vec!["--insecure-policy", "copy", "--quiet", "--preserve-digests"];
    arguments.extend([certificates, &trust, credentials, &user, from, to]);
    process::run("skopeo", &arguments, b"")?;
    Ok(())
}

/// Copies a file with a sync at the end (`dd conv=fdatasync`).
pub(crate) fn dd(from: &Path, to: &Path) -> Outcome<()> {
    let (input, output) = (format!("if={}", from.display()), format!("of={}", to.display()));
    process::run("dd", &[&input, &output, "bs=1M", "conv=fdatasync"], b"")?;
    Ok(())
}

/// Removes a file that a tool wrote.
pub(crate) fn remove(path: &Path) -> Outcome<()> {
    Ok(fs::remove_file(path)?)
}

fn behind<'a>(said: &'a str, word: &str) -> Outcome<&'a str> {
    let line = said.lines().find_map(|line| line.trim().strip_prefix(word));
    line.map(str::trim).ok_or_else(|| format!("wrk does not say {word}").into())
}

/// A time as wrk writes it, in seconds.
fn duration(text: &str) -> Outcome<f64> {
    for (unit, seconds) in [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0)] {
        if let Some(number) = text.strip_suffix(unit)
            && let Ok(number) = number.parse::<f64>()
        {
            return Ok(number * seconds);
        }
    }
    Err(format!("wrk printed a malformed time: {text}").into())
}
