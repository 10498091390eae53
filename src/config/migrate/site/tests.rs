use proptest::prelude::*;

use super::*;

fn site(text: &str) -> Result<Site, String> {
    let file = Path::new("/etc/nginx/conf.d/registry.conf");
    let directives = nginx::parse(file, text).map_err(|error| error.to_string())?;
    Site::of(file, &directives).map_err(|error| error.to_string())
}

/// The settings and the headers, a line each.
fn taken(text: &str) -> Vec<String> {
    let site = site(text).unwrap();
    let settings = site.settings.iter().map(|setting| match &setting.value {
        Value::Text(text) => format!("{}={text}", setting.key),
        Value::Texts(texts) => format!("{}={texts:?}", setting.key),
    });
    let headers = site.headers.iter().map(|header| format!("{}: {}", header.name, header.value));
    settings.chain(headers).collect()
}

/// The directives that are not taken over.
fn left(text: &str) -> Vec<String> {
    let changes = site(text).unwrap().changes.into_iter();
    changes
        .filter_map(|change| match change {
            Change::Left { what, .. } => Some(what.split('`').nth(1).unwrap().to_owned()),
            _ => None,
        })
        .collect()
}

const PASS: &str = "location / { proxy_pass http://registry:5000; }";

#[test]
fn site_of_a_registry_becomes_settings() {
    let text = r#"
        server { listen 80; listen [::]:80; server_name r.example; return 301 https://$host$request_uri; }
        server {
            listen 443 ssl http2;
            listen [::]:443 ssl http2;
            server_name _ r.example www.r.example;
            ssl_certificate ssl/full.pem;
            ssl_certificate_key /etc/ssl/key.pem;
            ssl_protocols TLSv1.3;
            ssl_client_certificate clients.pem;
            ssl_verify_client optional;
            client_max_body_size 0;
            add_header X-Server "not beside the headers of the location";
            location /v2/ {
                auth_basic "Our registry";
                auth_basic_user_file htpasswd;
                add_header Docker-Distribution-Api-Version $version always;
                add_header Strict-Transport-Security "max-age=63072000; includeSubDomains" always;
                add_header X-Host $host;
                proxy_pass http://127.0.0.1:5000;
            }
        }"#;
    assert_eq!(
        taken(text),
        [
            "http.addr=:443",
            "http.tls.certificate=/etc/nginx/ssl/full.pem",
            "http.tls.key=/etc/ssl/key.pem",
            "http.tls.minimumtls=tls1.3",
            "http.tls.clientcas=[\"/etc/nginx/clients.pem\"]",
            "http.tls.clientauth=verify-client-cert-if-given",
            "auth.htpasswd.realm=Our registry",
            "auth.htpasswd.path=/etc/nginx/htpasswd",
            "http.host=https://r.example",
            "http.redirectaddr=:80",
            "Strict-Transport-Security: max-age=63072000; includeSubDomains",
        ]
    );
    assert_eq!(left(text), ["add_header X-Host $host"]);
}

#[test]
fn largest_body_becomes_the_largest_blob() {
    for (size, expected) in [("20g", "20GiB"), ("512M", "512MiB"), ("8k", "8KiB"), ("9000", "9000")]
    {
        let text = format!("server {{ listen 443 ssl; client_max_body_size {size}; {PASS} }}");
        let blob = format!("http.limits.blob={expected}");
        assert!(taken(&text).contains(&blob), "{size}: {:?}", taken(&text));
    }
}

#[test]
fn addresses_of_a_server_become_one_or_two() {
    for (listens, expected) in [
        ("listen 443 ssl;", "http.addr=:443"),
        ("listen 10.0.0.1:8443 ssl default_server;", "http.addr=10.0.0.1:8443"),
        ("listen *:443 ssl; listen [::]:443 ssl;", "http.addr=:443"),
        ("listen 443 ssl; listen 80;", "http.addr=:443 http.redirectaddr=:80"),
        ("listen [2001:db8::1]:443 ssl;", "http.addr=[2001:db8::1]:443"),
        ("listen 127.0.0.1;", "http.addr=127.0.0.1:80"),
        ("listen 443; ssl on;", "http.addr=:443"),
        ("listen unix:/run/nginx.sock;", ""),
        ("listen 0;", ""),
        ("listen $port;", ""),
        ("", ""),
    ] {
        let text = format!("server {{ {listens} {PASS} }}");
        assert_eq!(taken(&text).join(" "), expected, "{listens}");
    }
    assert_eq!(left(&format!("server {{ listen 443; listen 444; {PASS} }}")), ["listen 444"]);
    assert_eq!(left(&format!("server {{ listen unix:/s; {PASS} }}")), ["listen unix:/s"]);
}

#[test]
fn host_has_the_port_and_the_scheme_of_the_site() {
    for (lines, expected) in [
        ("listen 443 ssl; server_name a.example;", "http.host=https://a.example"),
        ("listen 8443 ssl; server_name a.example;", "http.host=https://a.example:8443"),
        ("listen 80; server_name a.example;", "http.host=http://a.example"),
        (r"listen 80; server_name *.a.example ~^(.+)\.example$ .b.example;", ""),
    ] {
        let taken = taken(&format!("server {{ {lines} {PASS} }}"));
        let host = taken.iter().find(|line| line.starts_with("http.host"));
        assert_eq!(host.map_or("", |host| host), expected, "{lines}");
    }
}

#[test]
fn passwords_are_asked_for_where_nginx_has_a_realm() {
    for (lines, expected) in [
        ("auth_basic R; auth_basic_user_file /h;", 2),
        ("auth_basic off; auth_basic_user_file /h;", 0),
        ("auth_basic_user_file /h;", 0),
    ] {
        let taken = taken(&format!("server {{ {lines} {PASS} }}"));
        assert_eq!(taken.len(), expected, "{lines}: {taken:?}");
        let pass = format!("location / {{ {lines} proxy_pass http://a; }}");
        assert_eq!(self::taken(&format!("server {{ {pass} }}")).len(), expected, "{lines}");
    }
}

#[test]
fn preflight_headers_of_an_if_are_taken() {
    let text = "server { listen 80; location / {
        if ($request_method = OPTIONS) {
            add_header Access-Control-Allow-Origin https://ui.example;
            add_header Content-Length 0;
            return 204;
        }
        if ($http_user_agent ~ \"^(docker\\/1\\.3|Go ).*$\") { return 404; }
        proxy_pass http://a; } }";
    assert_eq!(taken(text), ["http.addr=:80", "Access-Control-Allow-Origin: https://ui.example"]);
    assert_eq!(left(text), [""; 0]);
}

#[test]
fn what_a_registry_cannot_do_is_left() {
    let text = "limit_req_zone $a zone=r:1m rate=5r/s;
        server { listen 80; limit_req zone=r; allow 10.0.0.0/8; deny all; ssl_protocols TLSv1 TLSv1.2;
            client_max_body_size unlimited; include snippets/other.conf; frobnicate on;
            location /ui { root /srv; }
            location / { proxy_pass http://a; limit_except GET { auth_basic R; } } }
        server { listen 8080; root /srv; }";
    assert_eq!(
        left(text),
        [
            "limit_req_zone $a zone=r:1m rate=5r/s",
            "limit_req zone=r",
            "allow 10.0.0.0/8",
            "deny all",
            "ssl_protocols TLSv1 TLSv1.2",
            "client_max_body_size unlimited",
            "include snippets/other.conf",
            "frobnicate on",
            "location /ui",
            "limit_except GET",
            "server",
        ]
    );
}

#[test]
fn file_without_one_site_of_a_registry_is_refused() {
    let error = site("server { listen 80; root /srv; }").unwrap_err();
    assert!(error.contains("no `server` block has a `proxy_pass`"), "{error}");
    let error = site(&format!("server {{ {PASS} }}\nserver {{ {PASS} }}")).unwrap_err();
    assert!(error.contains("registry.conf:1, /etc/nginx/conf.d/registry.conf:2"), "{error}");
    // The same without TLS beside it is no other site.
    let two =
        format!("http {{ server {{ listen 80; {PASS} }} server {{ listen 443 ssl; {PASS} }} }}");
    assert_eq!(taken(&two), ["http.addr=:443"]);
}

#[test]
fn included_file_beside_the_site_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["sites", "snippets"] {
        fs::create_dir(path(name)).unwrap();
    }
    fs::write(path("snippets/tls.conf"), "ssl_certificate /c; include more.conf;").unwrap();
    fs::write(path("sites/more.conf"), "ssl_certificate_key /k;").unwrap();
    fs::write(path("sites/loop.conf"), "include loop.conf;").unwrap();
    fs::write(path("outside.conf"), "ssl_protocols TLSv1.3;").unwrap();
    let text = format!(
        "server {{ listen 443 ssl; include snippets/tls.conf; include loop.conf; {PASS}\n\
         include ../outside.conf; include {}; include *.conf; }}",
        path("outside.conf").display()
    );
    fs::write(path("sites/registry"), text).unwrap();
    let site = Site::read(&path("sites/registry")).unwrap();
    let keys: Vec<_> = site.settings.iter().map(|setting| setting.key).collect();
    assert_eq!(keys, ["http.addr", "http.tls.certificate", "http.tls.key"]);
    let left: Vec<_> = site.changes.iter().map(ToString::to_string).collect();
    let left = left.iter().filter(|change| change.contains("`include "));
    assert_eq!(left.count(), 4, "{:?}", site.changes);
    fs::write(path("snippets/tls.conf"), "ssl_certificate /c").unwrap();
    let error = Site::read(&path("sites/registry")).unwrap_err().to_string();
    assert!(error.contains("snippets/tls.conf:1: this is not the syntax of nginx"), "{error}");
    assert!(matches!(Site::read(&path("none")), Err(SiteError::Read { .. })));
}

/// Words of sites, so that random texts have meaning.
fn words() -> impl Strategy<Value = String> {
    let words = [
        "server {",
        "location / {",
        "location",
        "if ($request_method = OPTIONS) {",
        "}",
        "}",
        "}",
        "listen",
        "443",
        "[::]:443",
        ":",
        "ssl",
        "server_name",
        "a.example",
        "_",
        ";",
        ";",
        ";",
        "proxy_pass http://a;",
        "return 301 https://$host;",
        "add_header",
        "X-A",
        "\"a b\"",
        "'",
        "auth_basic",
        "auth_basic_user_file",
        "off",
        "ssl_certificate",
        "ssl_protocols TLSv1.3;",
        "client_max_body_size",
        "http {",
        "#",
        "\n",
        "\\",
        "$",
        "${",
        "ssl_verify_client",
        "on",
        "include",
        "\u{7}",
        "ü",
        "return",
        "limit_req",
        "ssl_client_certificate",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..60)
        .prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn any_site_is_read_or_refused(text in words()) {
        let wrapped = format!("server {{ proxy_pass http://a; {text} }}");
        for text in [text, wrapped] {
            if let Ok(site) = site(&text) {
                for change in site.changes {
                    prop_assert!(!change.to_string().contains(char::is_control));
                }
            }
        }
    }
}
