//! One client: its connections, and the permitted responses.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Version, header};
use serde_json::Value;
use testkit::{
    random::Random,
    site::{PASSWORD, USER},
};
use tokio::time::Instant;

use crate::{killer::Moment, stage::Stage, tally::Kind};

/// Why a client ends.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The server was killed.
    Killed,
    /// Another client has deleted the content that it was working on.
    Gone,
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
    what: String,
}

impl Answer {
    /// The value of a required header.
    pub(crate) fn header(&self, name: &str) -> Outcome<&str> {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.ok_or_else(|| Stop::Wrong(format!("{}: no {name}", self.what)))
    }

    /// The body as JSON; null when it is not JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The error of a response that is not permitted.
    pub(crate) fn wrong(&self) -> Stop {
        let Self { what, status, body, .. } = self;
        Stop::Wrong(format!("{what}: answered {status} {}", String::from_utf8_lossy(body)))
    }
}

/// A client with connections of its own.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    version: Version,
    pub(crate) stage: Arc<Stage>,
    pub(crate) random: Random,
}

impl Client {
    /// A client that speaks one version of HTTP.
    pub(crate) const fn new(
        stage: Arc<Stage>,
        http: reqwest::Client,
        version: Version,
        random: Random,
    ) -> Self {
        Self { http, version, stage, random }
    }

    /// A request to a path, or to a URL from the server.
    pub(crate) fn request(&self, method: Method, target: &str) -> RequestBuilder {
        let url = match target.strip_prefix('/') {
            Some(path) => format!("{}/{path}", self.stage.base),
            None => target.to_owned(),
        };
        self.http.request(method, url).basic_auth(USER, Some(PASSWORD))
    }

    /// Sends a request. A server error, and a connection that breaks without a kill, are faults.
    pub(crate) async fn send(&self, kind: Kind, request: RequestBuilder) -> Outcome<Answer> {
        let Stage { trigger, tally, .. } = &*self.stage;
        if trigger.pulled() {
            return Err(Stop::Killed);
        }
        let (http, request) = request.build_split();
        let request = request.map_err(|error| Stop::Wrong(format!("{error:?}")))?;
        let what = format!("{} {}", request.method(), request.url());
        trigger.reached(kind, Moment::Begin);
        let started = Instant::now();
        let answered = match http.execute(request).await {
            Ok(response) => self.read(response, what.clone()).await,
            Err(error) => Err(error),
        };
        match answered {
            Ok(answer) => {
                let done = answer.status < 400;
                tally.answered(kind, done, started.elapsed());
                if done {
                    trigger.reached(kind, Moment::Answer);
                }
                if answer.status >= 500 { Err(answer.wrong()) } else { Ok(answer) }
            }
            Err(error) if trigger.pulled() && !error.is_timeout() => {
                if !error.is_connect() {
                    tally.cut_off(kind);
                }
                Err(Stop::Killed)
            }
            Err(error) => Err(Stop::Wrong(format!("{what}: broken without a kill: {error:?}"))),
        }
    }

    async fn read(&self, response: Response, what: String) -> reqwest::Result<Answer> {
        assert_eq!(response.version(), self.version, "{what}");
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await?;
        Ok(Answer { status: StatusCode::as_u16(&status), headers, body, what })
    }
}
