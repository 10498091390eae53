//! One client: its connections, and the permitted responses.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use bytes::Bytes;
use reqwest::{Method, RequestBuilder, Response, Version, header, tls::TlsInfo};
use serde_json::Value;
use testkit::site::{PASSWORD, USER};

use crate::stage::Stage;

/// Why a client ends.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The server is stopping and accepts no more requests.
    Ended,
    /// The server did something wrong.
    Wrong(String),
}

/// The result of a client's action, unless the client had to end.
pub(crate) type Outcome<T> = Result<T, Stop>;

/// A response with its whole body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: header::HeaderMap,
    pub(crate) body: Bytes,
    /// The certificate of the connection, in DER.
    pub(crate) certificate: Option<Vec<u8>>,
    what: String,
}

impl Answer {
    /// The value of a required header.
    pub(crate) fn header(&self, name: &str) -> Outcome<&str> {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.ok_or_else(|| self.wrong(&format!("no {name}")))
    }

    /// The body as JSON; null when it is not JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Checks the status.
    pub(crate) fn expect(self, status: u16) -> Outcome<Self> {
        if self.status == status { Ok(self) } else { Err(self.wrong(&format!("not {status}"))) }
    }

    /// The error of a response that is not permitted, with the expected one.
    pub(crate) fn wrong(&self, why: &str) -> Stop {
        let Self { what, status, body, .. } = self;
        let body = String::from_utf8_lossy(&body[..body.len().min(500)]);
        Stop::Wrong(format!("{what}: answered {status}, {why}: {body}"))
    }
}

/// A client with connections of its own.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    pub(crate) version: Version,
    pub(crate) stage: Arc<Stage>,
    base: String,
}

impl Client {
    /// A client that has neither a connection nor a session to resume.
    pub(crate) fn new(stage: &Arc<Stage>, version: Version) -> Self {
        let http = stage.site.client(version).tls_info(true).build().unwrap();
        stage.tally.began();
        Self { http, version, stage: Arc::clone(stage), base: stage.site.base() }
    }

    /// A request to a path, or to a URL from the server.
    pub(crate) fn request(&self, method: Method, target: &str) -> RequestBuilder {
        self.request_as((USER, PASSWORD), method, target)
    }

    /// The same with other credentials, from a new client address each time, by way of a proxy:
    /// after a few wrong passwords from one address the server checks no more.
    pub(crate) fn request_as(
        &self,
        (user, password): (&str, &str),
        method: Method,
        target: &str,
    ) -> RequestBuilder {
        static COME: AtomicU32 = AtomicU32::new(0);
        let request = self.anonymous(method, target).basic_auth(user, Some(password));
        if user == USER && password == PASSWORD {
            return request;
        }
        let [.., high, middle, low] = COME.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        request.header("x-forwarded-for", format!("10.{high}.{middle}.{low}"))
    }

    /// The same without credentials.
    pub(crate) fn anonymous(&self, method: Method, target: &str) -> RequestBuilder {
        let url = match target.strip_prefix('/') {
            Some(path) => format!("{}/{path}", self.base),
            None => target.to_owned(),
        };
        self.http.request(method, url)
    }

    /// Sends a request of a kind and counts it.
    ///
    /// A server error is a fault, and so is a connection that breaks before the server is told to
    /// stop, or, after that, during a response.
    pub(crate) async fn send(
        &self,
        kind: &'static str,
        request: RequestBuilder,
    ) -> Outcome<Answer> {
        let (http, request) = request.build_split();
        let request = request.map_err(|error| Stop::Wrong(format!("{error:?}")))?;
        let what = format!("{:?}: {} {}", self.version, request.method(), request.url());
        let sent = request.body().and_then(|body| body.as_bytes()).map_or(0, <[u8]>::len);
        let response = match http.execute(request).await {
            Ok(response) => response,
            Err(error) if self.stage.is_stopping() && !error.is_timeout() => {
                return Err(Stop::Ended);
            }
            Err(error) => return Err(Stop::Wrong(format!("{what}: not answered: {error:?}"))),
        };
        let read = self.read(response, what.clone()).await;
        let answer = read.map_err(|error| Stop::Wrong(format!("{what}: cut off: {error:?}")))?;
        self.stage.tally.answered(kind, answer.status, sent, answer.body.len());
        if answer.status >= 500 { Err(answer.wrong("a failure")) } else { Ok(answer) }
    }

    async fn read(&self, response: Response, what: String) -> reqwest::Result<Answer> {
        assert_eq!(response.version(), self.version, "{what}");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let tls = response.extensions().get::<TlsInfo>();
        let certificate = tls.and_then(TlsInfo::peer_certificate).map(<[u8]>::to_vec);
        let body = response.bytes().await?;
        Ok(Answer { status, headers, body, certificate, what })
    }

    /// Sends the first request of a new client, on a new connection, and gives the certificate of
    /// the connection, which must be one that may be in force.
    pub(crate) async fn meet(&self) -> Outcome<Vec<u8>> {
        let sent = self.stage.certificates.now();
        let answer = self.send("first", self.request(Method::GET, "/v2/")).await?.expect(200)?;
        let known = self.stage.certificates.since(sent);
        let met = answer.certificate.as_ref();
        match met {
            Some(met) if known.iter().any(|c| c.as_ref().is_none_or(|known| known == met)) => {
                Ok(met.clone())
            }
            Some(_) => Err(answer.wrong("with a certificate that is not in force any more")),
            None => Err(answer.wrong("without a certificate")),
        }
    }

    /// The `Location` of a response.
    pub(crate) fn location(&self, answer: &Answer) -> Outcome<String> {
        answer.header("location").map(str::to_owned)
    }
}
