//! The findings of `sslscan`, read from its XML. An unknown element is an error: it might be the
//! very weakness that the scan looks for.

use std::collections::BTreeMap;

/// The TLS of a server, as `sslscan` sees it.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// The supported protocols: `tls1.2`.
    pub(crate) protocols: Vec<String>,
    /// Whether a client may renegotiate. A `false` proves little: sslscan 2.0 finds no
    /// renegotiation where `openssl s_client` gets one.
    pub(crate) renegotiation: bool,
    /// The ciphers in the order of preference, with their protocols: `TLSv1.2 ECDHE-…`.
    pub(crate) ciphers: Vec<String>,
    /// The groups of the key exchange: `x25519`.
    pub(crate) groups: Vec<String>,
    /// The host name of the server's certificate, its issuer, and the kind and the strength of its
    /// key: `EC 128`.
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) key: String,
}

type Attributes = BTreeMap<String, String>;

impl Scan {
    /// Reads the output of `sslscan --xml=-`.
    pub(crate) fn read(xml: &str) -> Self {
        let mut scan = Self::default();
        for line in xml.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if !scan.find(line) {
                panic!("sslscan says what is not known here: {line}\n{xml}");
            }
        }
        scan
    }

    /// Reads a line; whether it is known and acceptable.
    fn find(&mut self, line: &str) -> bool {
        let (name, attributes, text) = element(line);
        let is = |attribute: &str, value: &str| attributes[attribute] == value;
        match name {
            "?xml" | "document" | "/document" | "ssltest" | "/ssltest" => {}
            "certificates" | "/certificates" | "/certificate" | "altnames" => {}
            "not-valid-before" | "not-valid-after" => {}
            "certificate" => return is("type", "short"),
            "protocol" if is("enabled", "0") => {}
            "protocol" if is("enabled", "1") => {
                self.protocols.push(attributes["type"].clone() + &attributes["version"]);
            }
            "renegotiation" => self.renegotiation = !is("supported", "0"),
            "heartbleed" => return is("vulnerable", "0"),
            // sslscan gives no cipher of TLS 1.3 a better grade.
            "cipher" if is("strength", "strong") || is("strength", "acceptable") => {
                let preferred = is("status", "preferred");
                let cipher = format!("{} {}", attributes["sslversion"], attributes["cipher"]);
                let first = !self.ciphers.iter().any(|c| c.starts_with(&attributes["sslversion"]));
                self.ciphers.push(cipher);
                return preferred == first && (preferred || is("status", "accepted"));
            }
            "group" => {
                let name = attributes["name"].split(' ').next().unwrap_or_default();
                self.groups.push(name.to_owned());
            }
            "signature-algorithm" => {
                return ["ecdsa-with-SHA256", "sha256WithRSAEncryption"].contains(&text);
            }
            "pk" => {
                self.key = format!("{} {}", attributes["type"], attributes["bits"]);
                return is("error", "false");
            }
            "subject" => self.subject = text.to_owned(),
            "issuer" => self.issuer = text.to_owned(),
            "self-signed" | "expired" => return text == "false",
            _ => return false,
        }
        true
    }
}

/// The name, the attributes and the text of an element on a line of its own.
fn element(line: &str) -> (&str, Attributes, &str) {
    let inner = line.strip_prefix('<').unwrap_or_default();
    let (tag, rest) = inner.split_once('>').unwrap_or_default();
    let (name, mut values) = tag.split_once(' ').unwrap_or((tag, ""));
    let mut attributes = Attributes::new();
    while let Some((key, quoted)) = values.split_once("=\"") {
        let (value, rest) = quoted.split_once('"').expect("a value ends");
        attributes.insert(key.trim().to_owned(), value.to_owned());
        values = rest;
    }
    let text = rest.split("</").next().unwrap_or_default();
    let text = text.trim_start_matches("<![CDATA[").trim_end_matches("]]>");
    (name, attributes, text)
}
