//! `access` for a deploy token: the line of the token file beside the rules.

use std::{fmt::Write as _, net::IpAddr, path::Path, sync::Arc};

use jiff::Timestamp;

use super::{Check, Sources, does, join, near, right};
use crate::{
    app::StartError,
    cli::failure::Failure,
    gate::{
        self, By, Caller, Decision, Identity,
        tokens::deploy::{DeployTokens, Entry, TokenFile},
    },
};

/// A usable line of the token file.
pub(super) struct TokenLine {
    entry: Entry,
    /// The file and the number of the line.
    place: String,
}

impl TokenLine {
    /// Finds the line of a token: of several, the one that expires last.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or has no usable line of that name.
    pub(super) fn find(sources: &Sources, name: &str) -> Result<Self, Failure> {
        let gate::Options::Htpasswd(options) = &sources.config.auth else {
            return Err(Failure::new("deploy tokens are for auth.htpasswd, and auth is another"));
        };
        let path = options.token_file();
        let (_, tokens) =
            TokenFile::open(&path).map_err(|source| StartError::tokens(&path, source))?;
        let entry = latest(&tokens, name).ok_or_else(|| missing(&path, name))?;
        let place = format!("{}:{}", near(&path), entry.line);
        Ok(Self { entry, place })
    }

    /// The rights in the line, as `access list` shows them.
    pub(super) fn rights(&self) -> String {
        let token = &self.entry.token;
        let mut text = format!(
            "the token's line ({}): {} in {}, until {}",
            self.place,
            join(&token.may),
            join(&token.repositories),
            token.expires
        );
        if let Some(user) = &token.user {
            let _ = write!(text, ", as far as {} may", user.as_str());
        }
        text
    }

    /// Whether the token may do what is asked, and the line that decides.
    pub(super) fn answer(
        &self,
        check: &Check,
        sources: &Sources,
        address: Option<IpAddr>,
    ) -> (bool, String) {
        let token = &self.entry.token;
        let name = &token.name;
        if token.expires.instant().is_some_and(|end| end <= Timestamp::now()) {
            let place = &self.place;
            return (false, format!("token {name} expired on {} ({place})", token.expires));
        }
        let identity = Identity::Token(name.as_str().into());
        let grant = Some(Arc::new(token.grant()));
        let caller = Caller { grant, ..Caller::new(identity, address) };
        let (action, repository) = (does(check.action), &check.repository);
        match sources.policy.decide(&caller, &right(check.action, repository)) {
            Decision::Allowed(By::Rule(number)) => {
                (true, format!("{} lets anyone {action} {repository}", sources.rule(number)))
            }
            Decision::Allowed(_) => {
                let globs = token.repositories.iter().filter(|glob| glob.matches(repository));
                let globs: Vec<_> = globs.map(ToString::to_string).collect();
                let (place, globs) = (&self.place, globs.join(", "));
                (true, format!("the token's line ({place}) lets {name} {action} {globs}"))
            }
            Decision::Denied(_) => {
                let rights = self.rights();
                (false, format!("{name} may not {action} {repository}; {rights}"))
            }
        }
    }
}

fn latest(tokens: &DeployTokens, name: &str) -> Option<Entry> {
    tokens
        .of(name)
        .max_by_key(|entry| entry.token.expires.instant().unwrap_or(Timestamp::MAX))
        .cloned()
}

fn missing(path: &Path, name: &str) -> Failure {
    Failure::new(format!(
        "{} has no token {name}: `portcullis token list` shows those that it has",
        path.display()
    ))
}
