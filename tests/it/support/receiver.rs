//! An endpoint that receives events.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{HeaderMap, Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::Value;
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

use super::raw::GUARD;

/// A status that stands for no response.
pub const SILENCE: u16 = 0;

/// A webhook of the test. It responds as configured, and keeps its requests.
pub struct Receiver {
    pub addr: SocketAddr,
    status: Arc<AtomicU16>,
    got: mpsc::UnboundedReceiver<Got>,
    serving: JoinHandle<()>,
}

/// A request that a receiver got.
#[derive(Debug)]
pub struct Got {
    pub path: String,
    pub method: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The status of the response.
    pub status: u16,
}

impl Got {
    /// The only event in the body.
    #[track_caller]
    pub fn event(&self) -> Value {
        let envelope: Value = serde_json::from_slice(&self.body).unwrap();
        let events = envelope["events"].as_array().unwrap();
        assert_eq!(events.len(), 1, "{envelope}");
        events[0].clone()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Receiver {
    /// A receiver that accepts everything.
    pub async fn start() -> Self {
        Self::answering(200).await
    }

    /// A receiver that gives this response.
    pub async fn answering(status: u16) -> Self {
        Self::on("127.0.0.1:0".parse().unwrap(), status, None).await
    }

    /// A receiver on an address, which gives this response, with a `Location` if there is one.
    pub async fn on(addr: SocketAddr, status: u16, location: Option<String>) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        Self::over(listener, None, status, location)
    }

    fn over(
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        status: u16,
        location: Option<String>,
    ) -> Self {
        let addr = listener.local_addr().unwrap();
        let status = Arc::new(AtomicU16::new(status));
        let (keep, got) = mpsc::unbounded_channel();
        let answers = Arc::clone(&status);
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answers, keep, tls) = (Arc::clone(&answers), keep.clone(), tls.clone());
                let location = location.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let answers = Arc::clone(&answers);
                    answer(request, answers, keep.clone(), location.clone())
                });
                tokio::spawn(async move {
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = match tls {
                        None => http.serve_connection(TokioIo::new(stream), service).await,
                        Some(tls) => {
                            let stream = tls.accept(stream).await.unwrap();
                            http.serve_connection(TokioIo::new(stream), service).await
                        }
                    };
                });
            }
        });
        Self { addr, status, got, serving }
    }

    /// A receiver behind TLS, with the certificate `server.crt` of a folder.
    pub async fn secure(certificates: &Path) -> Self {
        let chain = CertificateDer::pem_file_iter(certificates.join("server.crt")).unwrap();
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(certificates.join("server.key")).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(chain, key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::over(listener, Some(TlsAcceptor::from(Arc::new(config))), 200, None)
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.addr)
    }

    /// Sets the response from now on.
    pub fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// The next request.
    pub async fn next(&mut self) -> Got {
        let got = tokio::time::timeout(GUARD, self.got.recv()).await;
        got.unwrap_or_else(|_| panic!("no event comes")).unwrap()
    }

    /// The next accepted event.
    pub async fn event(&mut self) -> Value {
        loop {
            let got = self.next().await;
            if (200..400).contains(&got.status) {
                return got.event();
            }
        }
    }

    /// The next `count` events.
    pub async fn events(&mut self, count: usize) -> Vec<Value> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.event().await);
        }
        events
    }

    /// The number of requests that the test has not read.
    pub fn got_now(&mut self) -> usize {
        std::iter::from_fn(|| self.got.try_recv().ok()).count()
    }

    /// Asserts that the test has read every request.
    #[track_caller]
    pub fn is_empty(&mut self) {
        if let Ok(got) = self.got.try_recv() {
            panic!("{}", got.text());
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(
    request: Request<Incoming>,
    status: Arc<AtomicU16>,
    keep: mpsc::UnboundedSender<Got>,
    location: Option<String>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { std::future::pending().await };
    let status = status.load(Ordering::SeqCst);
    let got = Got {
        path: head.uri.path().to_owned(),
        method: head.method.to_string(),
        headers: head.headers,
        body: body.to_bytes(),
        status,
    };
    // The test may have ended.
    let _ = keep.send(got);
    if status == SILENCE {
        std::future::pending::<()>().await;
    }
    let mut response = Response::builder().status(status);
    if let Some(location) = location.filter(|_| (300..400).contains(&status)) {
        response = response.header("location", location);
    }
    Ok(response.body(Empty::new()).unwrap())
}
