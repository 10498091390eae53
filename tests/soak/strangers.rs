//! Clients whose password is wrong, was right, or has just become right. They are slow, since wrong
//! passwords are expensive, and many from one address may be refused unchecked.

use std::{sync::Arc, time::Duration};

use reqwest::{Method, Version};
use testkit::{
    random::Random,
    site::{PASSWORD, USER},
};
use tokio::time;

use crate::{
    changing::Place,
    client::{Answer, Client, Outcome},
    stage::{Stage, Users},
};

/// The user that is removed and added again.
pub(crate) const BOB: &str = "bob";
/// The user whose password changes.
pub(crate) const EVE: &str = "eve";
/// The deploy token that is made and revoked.
pub(crate) const CI: &str = "ci";

const EVERY: Duration = Duration::from_millis(400);
/// How often a session token is used.
const SESSION_USES: usize = 8;

/// Tries until the clients end.
pub(crate) async fn try_to_get_in(stage: Arc<Stage>, mut random: Random) -> Outcome<()> {
    let mut clients = [Version::HTTP_11, Version::HTTP_2].map(|v| Client::new(&stage, v));
    while !stage.is_over() {
        let version = *random.pick(&[0, 1]);
        if random.percent(20) {
            clients[version] = Client::new(&stage, clients[version].version);
            clients[version].meet().await?;
        }
        let client = &clients[version];
        let users = stage.users.last();
        let password = |user| users.get(user).cloned().unwrap_or_else(|| "gone".to_owned());
        match random.below(11) {
            8 | 9 => one(client, CI, &password(CI)).await?,
            10 => session(client, EVE, &password(EVE)).await?,
            0 => nobody(client).await?,
            1 => one(client, USER, "incorrect donkey").await?,
            2 => one(client, "mallory", PASSWORD).await?,
            // The first password of each, which is right until the first change.
            3 if random.percent(50) => one(client, BOB, PASSWORD).await?,
            3 => one(client, EVE, PASSWORD).await?,
            4 | 5 => one(client, BOB, &password(BOB)).await?,
            _ => one(client, EVE, &password(EVE)).await?,
        }
        time::sleep(EVERY).await;
    }
    Ok(())
}

async fn nobody(client: &Client) -> Outcome<()> {
    let answer = client.send("without a password", client.anonymous(Method::GET, "/v2/")).await?;
    answer.expect(401)?.header("www-authenticate").map(drop)
}

/// The response must follow from the users that may be in force.
async fn one(client: &Client, user: &'static str, password: &str) -> Outcome<()> {
    let sent = client.stage.users.now();
    let request = client.request_as((user, password), Method::GET, "/v2/_catalog?n=1");
    let answer = client.send("with some password", request).await?;
    follows(client, &answer, sent, (user, password))
}

/// The same for a session token that the password gave: a changed password ends it.
async fn session(client: &Client, user: &'static str, password: &str) -> Outcome<()> {
    let request = client.request_as((user, password), Method::GET, "/auth/token");
    let answer = client.send("GET token", request).await?;
    if is_refused(&answer)? {
        return Ok(());
    }
    let token = answer.json()["token"].as_str().unwrap_or_default().to_owned();
    for _ in 0..SESSION_USES {
        let sent = client.stage.users.now();
        let request = client.anonymous(Method::GET, "/v2/_catalog?n=1").bearer_auth(&token);
        let answer = client.send("with a session token", request).await?;
        follows(client, &answer, sent, (user, password))?;
        time::sleep(EVERY / 4).await;
    }
    Ok(())
}

/// Checks a response to a request that was sent then, with this password.
fn follows(
    client: &Client,
    answer: &Answer,
    sent: Place,
    (user, password): (&'static str, &str),
) -> Outcome<()> {
    let users = &client.stage.users;
    let refused = is_refused(answer)?;
    let would_be = |users: &Users| users.get(user).is_none_or(|right| right != password);
    if users.since(sent).iter().any(|users| would_be(users) == refused) {
        return Ok(());
    }
    let why = if refused { "with the right password" } else { "with a wrong password" };
    Err(answer.wrong(&format!("{user} {why}")))
}

/// Whether a response refuses a password: 401, or 429 after too many attempts.
pub(crate) fn is_refused(answer: &Answer) -> Outcome<bool> {
    match answer.status {
        200 => Ok(false),
        401 => answer.header("www-authenticate").map(|_| true),
        429 => answer.header("retry-after").map(|_| true),
        _ => Err(answer.wrong("which is neither in nor out")),
    }
}
