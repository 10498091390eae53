//! The rights of a reader, whose group may change while no server runs: the next server judges its first
//! request by the files as they are, and knows the session token that the killed server issued.

use std::fs;

use reqwest::{Method, Version};
use serde_json::Value;
use testkit::site::{PASSWORD, Site, USER};

/// The user whose rights change.
const READER: &str = "roy";
const GROUPS: &str = "groups";

/// The section of the configuration.
pub(crate) const SECTION: &str = "\
access:
  groupfile: groups
  rules:
    - {who: ann, may: all}
    - {who: 'group:readers', may: pull}
";

/// The reader, with the session token that the last server issued.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    token: Option<String>,
}

/// Adds the reader to the users of a site.
pub(crate) fn add_reader(site: &Site) {
    site.run(&["htpasswd", "-Bb", "-C", "4", "htpasswd", READER, PASSWORD]);
}

/// Writes the group file.
pub(crate) fn set_member(site: &Site, member: bool) {
    let members = if member { [USER, READER].join(" ") } else { USER.to_owned() };
    fs::write(site.path(GROUPS), format!("readers: {members}\n")).unwrap();
}

impl Reader {
    /// Asks a server that has just started, whose group file has or lacks the reader.
    pub(crate) async fn check(&mut self, site: &Site, member: bool) -> Result<(), String> {
        let client = site.client(Version::HTTP_2).build().unwrap();
        let ask = async |target: &str, token: Option<&str>| {
            let request = client.request(Method::GET, format!("{}{target}", site.base()));
            let request = match token {
                Some(token) => request.bearer_auth(token),
                None => request.basic_auth(READER, Some(PASSWORD)),
            };
            let answer = request.send().await.map_err(|error| format!("{target}: {error:?}"))?;
            let status = answer.status().as_u16();
            let body = answer.bytes().await.map_err(|error| format!("{target}: {error:?}"))?;
            Ok::<_, String>((status, body))
        };
        let pull = "/v2/chaos/never/tags/list";
        let expected = if member { 404 } else { 403 };
        let (status, _) = ask(pull, None).await?;
        if status != expected {
            return Err(format!("{READER}, member: {member}, is answered {status}"));
        }
        if let Some(token) = &self.token {
            let (status, _) = ask("/v2/", Some(token)).await?;
            if status != 200 {
                return Err(format!("the session token of the killed server is answered {status}"));
            }
        }
        let (status, body) = ask("/auth/token", None).await?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        self.token = answer["token"].as_str().map(str::to_owned);
        if self.token.is_some() { Ok(()) } else { Err(format!("/auth/token: {status}, no token")) }
    }
}
