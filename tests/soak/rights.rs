//! Access rules that change: a reader may see one of two repositories, which depends on its group and on
//! what the rules open to the groups. Every response must follow from one state of both: a reader who
//! sees both repositories, or neither, was judged by parts of two states.

use std::{sync::Arc, time::Duration};

use reqwest::{Method, Version};
use serde_json::json;
use testkit::{
    random::Random,
    site::{PASSWORD, USER},
};
use tokio::time;

use crate::{
    client::{Answer, Client, Outcome},
    stage::Stage,
    strangers::{CI, EVE},
};

/// The user whose rights change.
pub(crate) const READER: &str = "roy";
/// The repositories of which the reader sees one.
const REPOSITORIES: [&str; 2] = ["soak/left", "soak/right"];
const TAG: &str = "v1";
const EVERY: Duration = Duration::from_millis(20);

/// The group file and the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rights {
    /// Whether the reader is in the second group.
    pub(crate) moved: bool,
    /// Whether the rules open each repository to the other group.
    pub(crate) exchanged: bool,
}

impl Rights {
    /// The repository that the reader sees.
    fn seen(self) -> &'static str {
        REPOSITORIES[usize::from(self.moved != self.exchanged)]
    }

    /// The group file.
    pub(crate) fn groups(self) -> String {
        let members = if self.moved { [EVE, READER] } else { [READER, EVE] };
        format!("first: {}\nsecond: {}\n", members[0], members[1])
    }

    /// The section of the configuration.
    pub(crate) fn section(self) -> String {
        let [mut left, mut right] = REPOSITORIES;
        if self.exchanged {
            std::mem::swap(&mut left, &mut right);
        }
        format!(
            "\
access:
  groupfile: groups
  rules:
    - {{who: {USER}, may: all}}
    - {{who: 'group:first', repositories: {left}, may: pull}}
    - {{who: 'group:second', repositories: {right}, may: pull}}
"
        )
    }
}

/// What `portcullis token create` is given for the deploy token of the run.
pub(crate) const NEW_TOKEN: [&str; 8] =
    ["token", "create", CI, "--may", "pull", "--repositories", "soak/**", "config.yml"];

/// Makes the two repositories.
pub(crate) async fn make_repositories(stage: &Arc<Stage>, random: &mut Random) -> Outcome<()> {
    let client = Client::new(stage, Version::HTTP_2);
    let image = stage.content.numbered(0);
    for name in REPOSITORIES {
        for blob in &image.blobs {
            client.push_blob(random, name, blob).await?;
        }
        client.put(name, &image, TAG).await?;
    }
    Ok(())
}

/// Reads what the reader may see, until the clients end.
pub(crate) async fn read(stage: Arc<Stage>) -> Outcome<()> {
    let clients = [Version::HTTP_11, Version::HTTP_2].map(|version| Client::new(&stage, version));
    while !stage.is_over() {
        for client in &clients {
            list(client).await?;
            for name in REPOSITORIES {
                pull(client, name).await?;
            }
        }
        time::sleep(EVERY).await;
    }
    Ok(())
}

async fn ask(client: &Client, target: &str) -> Outcome<Answer> {
    let request = client.request_as((READER, PASSWORD), Method::GET, target);
    client.send("while rights change", request).await
}

async fn list(client: &Client) -> Outcome<()> {
    let sent = client.stage.rights.now();
    let answer = ask(client, "/v2/_catalog").await?.expect(200)?;
    let seen = answer.json();
    let states = client.stage.rights.since(sent);
    let follows = |state: &Rights| seen["repositories"] == json!([state.seen()]);
    if states.iter().any(follows) {
        return Ok(());
    }
    Err(answer.wrong(&format!("which follows from none of {states:?}")))
}

async fn pull(client: &Client, name: &str) -> Outcome<()> {
    let sent = client.stage.rights.now();
    let answer = ask(client, &format!("/v2/{name}/manifests/{TAG}")).await?;
    let allowed = match answer.status {
        200 => true,
        403 => false,
        _ => return Err(answer.wrong("which is neither in nor out")),
    };
    let states = client.stage.rights.since(sent);
    if states.iter().any(|state| (state.seen() == name) == allowed) {
        return Ok(());
    }
    Err(answer.wrong(&format!("{name} by one of {states:?}")))
}

/// Whether the reader sees what these rights give it.
pub(crate) async fn are_in_force(client: &Client, rights: Rights) -> Outcome<bool> {
    let answer = ask(client, &format!("/v2/{}/manifests/{TAG}", rights.seen())).await?;
    Ok(answer.status == 200)
}
