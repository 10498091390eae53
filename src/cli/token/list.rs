//! `portcullis token list`.

use std::{path::PathBuf, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Place, cannot_read};
use crate::{
    cli::{
        failure::{Failure, tell},
        print::Output,
    },
    gate::tokens::deploy::{DeployToken, Entry, Expiry, Joined, LastUses, UseFile, Word},
    humanize::Ago,
};

/// List the tokens with their rights, their expiry and their last use.
///
/// A name with several lines was rotated, and its old secret is kept for a while.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  portcullis token list\n  portcullis token list --json | jq 'select(.expired)'"
)]
pub(super) struct List {
    /// Print a JSON object in each line
    #[arg(long)]
    json: bool,
    /// The configuration file of the server; REGISTRY_… variables apply too
    config: Option<PathBuf>,
}

impl List {
    /// Prints the tokens on standard output, and problems of their lines on standard error.
    pub(super) fn run(self) -> Result<(), Failure> {
        let place = Place::of(self.config.as_deref())?;
        let users = place.users()?;
        let tokens = place.tokens()?;
        let uses = UseFile::beside(&place.tokens);
        let last = uses.read().map_err(|error| cannot_read(uses.path(), &error))?;
        let output = Output::default();
        let now = Timestamp::now();
        if !self.json {
            let header = ["NAME", "MAY", "EXPIRES", "LAST USED", "REPOSITORIES"];
            let _ = output.line(format_args!("{}", row(header)));
        }
        for Entry { token, .. } in tokens.entries() {
            let printed = match self.json {
                true => output.line(format_args!("{}", as_json(token, &last, now))),
                false => output.line(format_args!("{}", as_row(token, &last, now))),
            };
            if printed.is_break() {
                break;
            }
        }
        output.end()?;
        let is_user = |name: &str| users.find(name).is_some();
        for finding in tokens.findings(is_user, place.options.tokens.maxlifetime) {
            tell(&format!("{}: {finding}", place.tokens.display()));
        }
        Ok(())
    }
}

/// Long names and rights push the others to the right. The repositories may be many, and stand last.
fn row([name, may, expires, last, repositories]: [&str; 5]) -> String {
    format!("{name:<18} {may:<11} {expires:<10} {last:<14} {repositories}")
}

fn as_row(token: &DeployToken, last: &LastUses, now: Timestamp) -> String {
    let expires = match token.expires {
        _ if has_expired(token, now) => "expired".to_owned(),
        Expiry::At(time) => time.strftime("%Y-%m-%d").to_string(),
        expires => expires.to_string(),
    };
    let last = last.get(token.name.as_str()).map_or_else(
        || "never".to_owned(),
        |time| Ago(Duration::try_from(now.duration_since(*time)).unwrap_or_default()).to_string(),
    );
    let repositories = token.repositories.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut repositories = repositories.join(" ");
    if let Some(user) = &token.user {
        repositories.push_str(&format!(" (as {user})"));
    }
    row([token.name.as_str(), &Joined(&token.may).to_string(), &expires, &last, &repositories])
}

fn as_json(token: &DeployToken, last: &LastUses, now: Timestamp) -> Value {
    let DeployToken { name, may, repositories, expires, created, by, user, comment, .. } = token;
    let text = |word: &Option<Word>| word.as_ref().map(|word| word.as_str().to_owned());
    json!({
        "name": name.as_str(),
        "may": may.iter().map(|may| may.as_str()).collect::<Vec<_>>(),
        "repositories": repositories.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "expires": expires.instant().map(|_| expires.to_string()),
        "expired": has_expired(token, now),
        "created": created.map(|date| date.to_string()),
        "by": text(by),
        "user": text(user),
        "comment": comment,
        "lastUsed": last.get(name.as_str()).map(ToString::to_string),
    })
}

fn has_expired(token: &DeployToken, now: Timestamp) -> bool {
    token.expires.instant().is_some_and(|end| end <= now)
}
