//! What each directive of a site means here.

use super::{
    Change, Directive, Header, Setting, Site, Value, absolute, has_tls, inside, named, passes,
};

/// Directives without which the registry works in the same way, each with the reason.
const NEEDLESS: &[(&[&str], &str)] = &[
    (
        &["chunked_transfer_encoding", "proxy_buffering", "proxy_request_buffering"],
        "bodies are not buffered",
    ),
    (
        &[
            "proxy_set_header",
            "proxy_pass",
            "proxy_pass_header",
            "proxy_redirect",
            "proxy_http_version",
            "proxy_hide_header",
            "proxy_ssl_verify",
            "upstream",
            "map",
            "resolver",
        ],
        "there is no proxy",
    ),
    (
        &[
            "proxy_read_timeout",
            "proxy_send_timeout",
            "proxy_connect_timeout",
            "send_timeout",
            "client_body_timeout",
            "client_header_timeout",
            "keepalive_timeout",
        ],
        "a request may take as long as it makes progress (http.idletimeout)",
    ),
    (
        &[
            "ssl",
            "ssl_ciphers",
            "ssl_prefer_server_ciphers",
            "ssl_session_cache",
            "ssl_session_tickets",
            "ssl_session_timeout",
            "ssl_dhparam",
            "ssl_ecdh_curve",
            "ssl_stapling",
            "ssl_stapling_verify",
            "ssl_trusted_certificate",
            "ssl_buffer_size",
        ],
        "all cipher suites have forward secrecy, and sessions are resumed",
    ),
    (&["http2"], "HTTP/2 is always offered"),
    (
        &[
            "client_body_buffer_size",
            "client_header_buffer_size",
            "large_client_header_buffers",
            "proxy_max_temp_file_size",
            "server_tokens",
            "tcp_nodelay",
            "tcp_nopush",
            "sendfile",
            "gzip",
            "default_type",
            "charset",
        ],
        "it makes no difference to a registry",
    ),
];

/// Directives that the registry has no equivalent of, each with what an operator can do.
const MISSING: &[(&[&str], &str)] = &[
    (
        &["limit_req", "limit_req_zone", "limit_conn", "limit_conn_zone", "limit_rate"],
        "write http.limits by hand: requests with burst and delay for limit_req, download for \
         limit_rate, connections for limit_conn; each counts by user, and by address without one",
    ),
    (
        &["allow", "deny"],
        "write the networks into http.clients by hand (allow, deny); the order there decides nothing",
    ),
    (
        &["satisfy", "geo", "auth_request"],
        "access.rules with `from` can let clients of a network in without a password",
    ),
    (
        &["access_log", "error_log", "log_format"],
        "the access log goes to standard output and the log to standard error",
    ),
    (&["limit_except"], "every client needs a password here, for pulls too"),
    (&["include"], "the file was not read: look whether the registry needs its directives"),
];

impl Site {
    /// The directives beside the servers.
    pub(super) fn outer(&mut self, directives: &[Directive]) {
        for directive in directives {
            match &*directive.name {
                "http" => self.outer(inside(directive)),
                "server" | "events" => {}
                _ => self.rest(directive),
            }
        }
    }

    /// The server of the registry.
    pub(super) fn server(&mut self, server: &Directive) {
        let directives = inside(server);
        self.listen(directives);
        let registry = location(directives);
        for directive in directives {
            match &*directive.name {
                "listen" | "server_name" | "add_header" => {}
                "location" if registry.is_some_and(|chosen| std::ptr::eq(chosen, directive)) => {}
                "location" => {
                    self.leave(directive, "the registry serves no other paths than its own");
                }
                _ => self.directive(directive),
            }
        }
        for directive in registry.map_or(&[][..], inside) {
            self.directive(directive);
        }
        self.add_headers(directives, registry);
        self.host(directives);
        // nginx checks passwords where it has a realm.
        let asks = |setting: &Setting| {
            setting.key == "auth.htpasswd.realm" && setting.value != Value::Text("off".to_owned())
        };
        if !self.settings.iter().any(asks) {
            self.settings.retain(|setting| !setting.key.starts_with("auth."));
        }
    }

    /// A server beside that of the registry: a redirect to it, or another site.
    pub(super) fn other(&mut self, server: &Directive) {
        if passes(server) {
            self.leave(server, "the same requests without TLS are not passed on");
        } else if redirects(server) && !has_tls(server) && self.has_tls {
            let listens: Vec<_> = named(inside(server), "listen").collect();
            self.address("http.redirectaddr", &listens);
        } else {
            self.leave(server, "it does not belong to the registry");
        }
    }

    fn directive(&mut self, directive: &Directive) {
        let path = match directive.arguments.as_slice() {
            // A variable has another value for each request.
            [path, ..] if !path.contains('$') => Some(path.as_str()),
            _ => None,
        };
        match (&*directive.name, path) {
            ("ssl_certificate", Some(path)) => self.file("http.tls.certificate", path, directive),
            ("ssl_certificate_key", Some(path)) => self.file("http.tls.key", path, directive),
            ("ssl_client_certificate", Some(path)) => {
                let paths = Value::Texts(vec![absolute(path)]);
                self.set("http.tls.clientcas", paths, directive);
            }
            ("ssl_verify_client", Some(word)) => match word {
                "on" => self.client_certificates("require-and-verify-client-cert", directive),
                "optional" => self.client_certificates("verify-client-cert-if-given", directive),
                "optional_no_ca" => self.client_certificates("request-client-cert", directive),
                _ => {}
            },
            ("ssl_protocols", Some(_)) => self.protocols(directive),
            ("auth_basic", Some(realm)) => {
                self.set("auth.htpasswd.realm", Value::Text(realm.to_owned()), directive);
            }
            ("auth_basic_user_file", Some(path)) => {
                self.file("auth.htpasswd.path", path, directive);
            }
            ("client_max_body_size", Some("0")) => {
                self.needless(directive, "blobs have no largest size");
            }
            ("client_max_body_size", Some(size)) => match byte_size(size) {
                Some(most) => self.set("http.limits.blob", Value::Text(most), directive),
                None => self.leave(directive, "it is no size such as 20g"),
            },
            ("return" | "rewrite", _) => {
                self.leave(directive, "the registry redirects from http.redirectaddr only");
            }
            // It is read with the headers.
            ("add_header", _) => {}
            ("if", _) if mentions(directive, "$http_user_agent") => {
                self.needless(directive, "clients that old speak another protocol");
            }
            ("if", _) if mentions(directive, "$request_method") => {
                self.needless(directive, "a CORS preflight request gets 204 with http.headers");
            }
            ("if", _) if redirects(directive) => {
                self.needless(directive, "http.redirectaddr redirects to HTTPS");
            }
            _ => self.rest(directive),
        }
    }

    /// A directive that sets no key.
    fn rest(&mut self, directive: &Directive) {
        let find = |table: &[(&[&str], &'static str)]| {
            let row = table.iter().find(|(names, _)| names.contains(&&*directive.name));
            row.map(|(_, why)| *why)
        };
        if let Some(why) = find(NEEDLESS) {
            self.needless(directive, why);
        } else if let Some(why) = find(MISSING) {
            self.leave(directive, why);
        } else {
            self.leave(directive, "`migrate` does not know it");
        }
    }

    /// Sets a key; of two directives the second is left.
    fn set(&mut self, key: &'static str, value: Value, directive: &Directive) {
        if self.settings.iter().any(|setting| setting.key == key) {
            return self.leave(directive, "only the first of several can be");
        }
        self.settings.push(Setting { key, value, why: said(directive) });
    }

    fn file(&mut self, key: &'static str, path: &str, directive: &Directive) {
        match path.contains(':') {
            true => self.leave(directive, "it names no file"),
            false => self.set(key, Value::Text(absolute(path)), directive),
        }
    }

    fn client_certificates(&mut self, word: &str, directive: &Directive) {
        self.set("http.tls.clientauth", Value::Text(word.to_owned()), directive);
    }

    fn protocols(&mut self, directive: &Directive) {
        let has = |version: &str| directive.arguments.iter().any(|word| word == version);
        if !has("TLSv1.2") && has("TLSv1.3") {
            self.set("http.tls.minimumtls", Value::Text("tls1.3".to_owned()), directive);
        } else if has("TLSv1") || has("TLSv1.1") || has("SSLv3") {
            self.leave(directive, "TLS 1.2 is the oldest version here");
        } else {
            self.needless(directive, "TLS 1.2 and 1.3 are the default");
        }
    }

    fn listen(&mut self, directives: &[Directive]) {
        let listens: Vec<_> = named(directives, "listen").collect();
        let encrypts = |listen: &&Directive| listen.arguments.iter().any(|flag| flag == "ssl");
        let is_mixed = listens.iter().any(encrypts) && !listens.iter().all(encrypts);
        if !is_mixed {
            return self.address("http.addr", &listens);
        }
        // One server for both: the address without TLS can redirect to the other.
        let (encrypted, plain): (Vec<_>, Vec<_>) = listens.into_iter().partition(encrypts);
        self.address("http.addr", &encrypted);
        self.address("http.redirectaddr", &plain);
    }

    /// Sets an address by `listen` directives: one, or the same port of all addresses.
    fn address(&mut self, key: &'static str, listens: &[&Directive]) {
        let mut chosen: Option<(String, &Directive)> = None;
        for listen in listens {
            let Some(addr) = listen.arguments.first().and_then(|text| address(text)) else {
                self.leave(listen, "it is no address and port");
                continue;
            };
            match &chosen {
                None => chosen = Some((addr, listen)),
                // `:443` is both the IPv4 and the IPv6 address.
                Some((first, _)) if *first == addr => {}
                Some(_) => self.leave(listen, "the registry listens on one address"),
            }
        }
        if let Some((addr, listen)) = chosen {
            self.set(key, Value::Text(addr), listen);
        }
    }

    /// The name of the site, with its port.
    fn host(&mut self, directives: &[Directive]) {
        let Some(directive) = named(directives, "server_name").next() else { return };
        let is_name = |name: &&String| {
            let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
            !name.starts_with('.') && name.chars().all(is_host) && !name.is_empty()
        };
        let Some(name) = directive.arguments.iter().find(is_name) else {
            return self.leave(directive, "it is no single name");
        };
        let addr = self.settings.iter().find(|setting| setting.key == "http.addr");
        let port = addr.and_then(|setting| match &setting.value {
            Value::Text(addr) => addr.rsplit(':').next(),
            Value::Texts(_) => None,
        });
        let (scheme, usual) = if self.has_tls { ("https", "443") } else { ("http", "80") };
        let port = port.filter(|port| *port != usual).map(|port| format!(":{port}"));
        let host = format!("{scheme}://{name}{}", port.unwrap_or_default());
        self.set("http.host", Value::Text(host), directive);
    }

    /// The headers of the block that is nearest to the registry: nginx uses those of the server only
    /// where the location has none.
    fn add_headers(&mut self, directives: &[Directive], registry: Option<&Directive>) {
        let location = registry.map_or(&[][..], inside);
        let nearest = match named(location, "add_header").next() {
            Some(_) => location,
            None => directives,
        };
        let preflight = [directives, location].into_iter().flat_map(|block| {
            named(block, "if").filter(|block| mentions(block, "$request_method")).flat_map(inside)
        });
        let preflight = preflight.filter(|directive| {
            let name = directive.arguments.first().map(|name| name.to_ascii_lowercase());
            name.is_some_and(|name| name.starts_with("access-control-"))
        });
        for directive in named(nearest, "add_header").chain(preflight) {
            if directive.name == "add_header" {
                self.add_header(directive);
            }
        }
    }

    fn add_header(&mut self, directive: &Directive) {
        let [name, value, ..] = directive.arguments.as_slice() else {
            return self.leave(directive, "it has no value");
        };
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let is_same = |header: &Header| header.name.eq_ignore_ascii_case(name);
        if name.eq_ignore_ascii_case("Docker-Distribution-Api-Version") {
            self.needless(directive, "it is always sent");
        } else if value.contains('$') {
            self.leave(directive, "a header of http.headers has the same value in every response");
        } else if name.is_empty() || !name.chars().all(is_token) || value.contains(char::is_control)
        {
            self.leave(directive, "it cannot be sent as a header");
        } else if !self.headers.iter().any(|header| is_same(header) && header.value == *value) {
            let (name, value) = (name.clone(), value.clone());
            self.headers.push(Header { name, value, why: said(directive) });
        }
    }

    fn needless(&mut self, directive: &Directive, why: &str) {
        let what = said(directive);
        self.changes.push(Change::Needless { what, why: why.to_owned() });
    }

    fn leave(&mut self, directive: &Directive, why: &str) {
        let what = said(directive);
        self.changes.push(Change::Left { what, why: why.to_owned() });
    }
}

/// The location of the registry: the one that passes `/v2/` on, or else `/`.
fn location(directives: &[Directive]) -> Option<&Directive> {
    let locations = || named(directives, "location").filter(|location| passes(location));
    let path = |location: &Directive| {
        location.arguments.last().map(|path| path.trim_start_matches(['^', '~']).to_owned())
    };
    locations()
        .find(|location| path(location).is_some_and(|path| path.starts_with("/v2")))
        .or_else(|| locations().find(|location| path(location).is_some_and(|path| path == "/")))
        .or_else(|| locations().next())
}

/// Whether a server sends its clients to HTTPS.
fn redirects(server: &Directive) -> bool {
    inside(server).iter().any(|directive| {
        let is_redirect = matches!(&*directive.name, "return" | "rewrite");
        is_redirect && directive.arguments.iter().any(|word| word.starts_with("https://"))
            || matches!(&*directive.name, "location" | "if") && redirects(directive)
    })
}

/// A size of nginx's, which counts in powers of 1024, in our form.
fn byte_size(text: &str) -> Option<String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &*text[number.len()..].to_ascii_lowercase() {
        "" => "",
        "k" => "KiB",
        "m" => "MiB",
        "g" => "GiB",
        _ => return None,
    };
    let is_number = number.parse::<u32>().is_ok_and(|number| number > 0);
    is_number.then(|| format!("{number}{unit}"))
}

fn mentions(directive: &Directive, variable: &str) -> bool {
    directive.arguments.iter().any(|word| word.contains(variable))
}

/// The address of a `listen` in our form: `:443` for every address.
fn address(text: &str) -> Option<String> {
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    if is_port(text) {
        return Some(format!(":{text}"));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if is_port(port) => (host, port),
        // nginx listens on port 80 where the address has none.
        _ if text.parse::<std::net::Ipv4Addr>().is_ok() => (text, "80"),
        _ => return None,
    };
    match host {
        "*" | "0.0.0.0" | "[::]" => Some(format!(":{port}")),
        host if host.contains(['/', '$']) || host == "unix" || host.is_empty() => None,
        host => Some(format!("{host}:{port}")),
    }
}

/// A directive and its place, for a sentence.
fn said(directive: &Directive) -> String {
    format!("`{directive}` ({})", directive.at)
}
