//! One request of the script.

use testkit::wire::basic;

/// The users of both servers, and an unknown one.
pub(crate) const USER: &str = "ann";
pub(crate) const PASSWORD: &str = "correct horse battery";

/// A request, to be sent to both servers.
#[derive(Debug)]
pub(crate) struct Step {
    /// Its name, which `deviations` uses.
    pub(crate) name: String,
    pub(crate) method: &'static str,
    /// The path and the query. `{up}` stands for the URL that a server gave in the step that was
    /// kept as `up`, `{up.id}` for the id of the upload in it.
    pub(crate) target: String,
    /// The addition to the query.
    pub(crate) query: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Body,
    /// The name under which the `Location` of the response is kept.
    pub(crate) keep: Option<&'static str>,
}

/// The body of a request, and its framing.
#[derive(Debug)]
pub(crate) enum Body {
    /// None, and no length.
    None,
    /// Bytes with their length.
    Whole(Vec<u8>),
    /// Bytes with chunked framing.
    Chunked(Vec<u8>),
}

impl Step {
    /// A request of the user without a body; a write has `Content-Length: 0`.
    pub(crate) fn new(
        method: &'static str,
        name: impl Into<String>,
        target: impl Into<String>,
    ) -> Self {
        let body = match method {
            "POST" | "PUT" | "PATCH" => Body::Whole(Vec::new()),
            _ => Body::None,
        };
        Self {
            name: name.into(),
            method,
            target: target.into(),
            query: None,
            headers: vec![("Authorization".to_owned(), basic(USER, PASSWORD))],
            body,
            keep: None,
        }
    }

    /// Adds to the query of a target that is a URL from a server.
    pub(crate) fn query(self, query: impl Into<String>) -> Self {
        Self { query: Some(query.into()), ..self }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn body(self, bytes: impl Into<Vec<u8>>) -> Self {
        Self { body: Body::Whole(bytes.into()), ..self }
    }

    pub(crate) fn chunked(self, bytes: impl Into<Vec<u8>>) -> Self {
        Self { body: Body::Chunked(bytes.into()), ..self }
    }

    /// Replaces or removes `Authorization`.
    pub(crate) fn by(mut self, authorization: Option<&str>) -> Self {
        self.headers.retain(|(name, _)| name != "Authorization");
        match authorization {
            Some(value) => self.header("Authorization", value),
            None => self,
        }
    }

    pub(crate) fn keep(self, name: &'static str) -> Self {
        Self { keep: Some(name), ..self }
    }
}

pub(crate) fn get(name: impl Into<String>, target: impl Into<String>) -> Step {
    Step::new("GET", name, target)
}

pub(crate) fn head(name: impl Into<String>, target: impl Into<String>) -> Step {
    Step::new("HEAD", name, target)
}

pub(crate) fn put(name: impl Into<String>, target: impl Into<String>) -> Step {
    Step::new("PUT", name, target)
}

pub(crate) fn post(name: impl Into<String>, target: impl Into<String>) -> Step {
    Step::new("POST", name, target)
}

pub(crate) fn patch(name: impl Into<String>, target: impl Into<String>) -> Step {
    Step::new("PATCH", name, target)
}

pub(crate) fn delete(name: impl Into<String>, target: impl Into<String>) -> Step {
    Step::new("DELETE", name, target)
}
