//! Line 9: idle connections, and their effect on busy ones.

use std::{fs, sync::Arc};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    Outcome,
    arguments::Plan,
    client::Client,
    line::{Line, Reading, Requirement, Unit, Work},
    sides::Side,
    stage::{REPOSITORY, Stage, TAG},
    tools::{Requests, wrk},
};

const KIB: f64 = 1024.0;
/// How much p99 may grow before the line fails: less is noise.
const GROWTH: f64 = 1.25;
const SLACK: f64 = 0.001;

/// Memory for each idle connection, and p99 of line 1 meanwhile.
#[derive(Debug, Default)]
pub(super) struct IdleConnections {
    /// p99 of Portcullis without idle connections.
    before: Option<f64>,
}

impl Work for IdleConnections {
    fn lines(&self) -> Vec<Line> {
        let idle = Plan::IDLE;
        vec![
            Line {
                number: "9a",
                figure: format!("memory for each of {idle} idle connections"),
                unit: Unit::Memory,
                bound: "",
                requirement: Requirement::AtMost(64.0 * KIB),
            },
            Line {
                number: "9b",
                figure: "p99 of line 1 meanwhile".to_owned(),
                unit: Unit::Time,
                bound: "without them",
                requirement: Requirement::NearBound(GROWTH, SLACK),
            },
        ]
    }

    fn measure(&mut self, stage: &Stage, side: Side) -> Outcome<Vec<Reading>> {
        if side == Side::Bound {
            let before = self.before.ok_or("Portcullis was not measured")?;
            return Ok(vec![Reading::NOTHING, Reading::of(before)]);
        }
        // A fresh server each time: it would reuse memory that it freed earlier, unseen.
        let server = stage.fresh(side, "idle", &stage.side(side)?.root)?;
        let url = server.url(&format!("/v2/{REPOSITORY}/manifests/{TAG}"));
        let requests = Requests { url: &url, connections: 16, seconds: stage.plan.seconds };
        // bcrypt is not measured here.
        Client::new(&stage.site, &stage.runtime)?.timed_get(&server.url("/v2/"))?;
        let before = wrk(requests)?.p99;
        if side == Side::Portcullis {
            self.before = Some(before);
        }
        let without = Stage::resident(&server)?;
        let connections = stage.runtime.block_on(connect(stage, &server.address, "127.0.0.1"))?;
        let with = Stage::resident(&server)?;
        let meanwhile = wrk(requests)?.p99;
        let each = (with - without).max(0.0) / connections.len() as f64;
        Ok(vec![Reading::of(each), Reading::of(meanwhile)])
    }
}

/// Connections that have each sent one request, so that the server knows their version, and wait;
/// each asks for `name`.
pub(super) async fn connect(
    stage: &Stage,
    address: &str,
    name: &str,
) -> Outcome<Vec<TlsStream<TcpStream>>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&fs::read(stage.site.path("certs/ca.crt"))?)?)?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let mut connections = Vec::new();
    for _ in 0..Plan::IDLE {
        let tcp = TcpStream::connect(address).await?;
        let mut tls = connector.connect(ServerName::try_from(name.to_owned())?, tcp).await?;
        // Without a password, or the pair would take a minute. The response is short, in one piece.
        tls.write_all(b"GET /v2/ HTTP/1.1\r\nHost: idle\r\n\r\n").await?;
        if tls.read(&mut [0; 4096]).await? == 0 {
            return Err("a connection was closed".into());
        }
        connections.push(tls);
    }
    Ok(connections)
}
