//! `portcullis token`: makes, lists, rotates and revokes deploy tokens.

mod lifetime;
mod list;

use std::{
    env,
    fmt::Write as _,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Subcommand;
use jiff::{Timestamp, tz::TimeZone};

use self::{lifetime::Lifetime, list::List};
use super::{
    failure::{Failure, tell},
    htpasswd::written,
    sources::configuration,
};
use crate::{
    config::Config,
    gate::{
        self, HtpasswdOptions, May, UserFile,
        htpasswd::Htpasswd,
        tokens::deploy::{
            self, DeployToken, DeployTokens, Expiry, Joined, Secret, TokenLines, TokenName, Word,
        },
    },
    humanize::Span,
    oci::{Glob, InvalidGlob},
};

const EXAMPLES: &str = "\
A token is a name with a secret of its own, for a program: it logs in with them as a user does with a
password, and may do what its line in the token file says and no more, whatever access.rules say.

Examples:
  portcullis token create ci --may push --repositories 'team-a/**'
  portcullis token create k8s --may pull --repositories 'team-a/**,base/*'
  portcullis token create nightly --may create --repositories 'app/**' \\
      --expires 720h --user ann
  portcullis token list
  portcullis token rotate ci --keep 24h
  portcullis token revoke ci

A running registry reads a changed file by itself.

Exit codes: 0 done; 1 not done; 2 usage.";

/// Make, list, rotate or revoke deploy tokens: credentials for programs.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Token {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    Create(Create),
    List(List),
    Rotate(Rotate),
    Revoke(Revoke),
}

const OF_CREATE: &str = "\
Standard output has the secret, and nothing else: it is shown this once.

Rights: pull reads; create uploads, and adds tags that are not there yet; push moves tags as well;
delete deletes tags, manifests, blobs and repositories. Each includes pull; all is everything.

Examples:
  portcullis token create ci --may push --repositories 'team-a/**'
  portcullis token create ci --may push --repositories 'team-a/**' |
      docker login -u ci --password-stdin registry.example.com";

/// Make a token, and print its secret.
#[derive(Debug, clap::Args)]
#[command(after_help = OF_CREATE)]
struct Create {
    /// The name, which is the user of a login: lower-case letters, digits, `.`, `_` and `-`
    name: TokenName,
    /// What it may do: pull, create, push, delete or all; several with commas
    #[arg(long, required = true, value_delimiter = ',', value_name = "RIGHT")]
    may: Vec<May>,
    /// In which repositories: `*` is any text without a `/`, `**` any text; may be repeated
    #[arg(long, required = true, value_delimiter = ',', value_name = "GLOB", value_parser = glob)]
    repositories: Vec<Glob>,
    /// How long it lives: 90d, 36h, a date such as 2027-02-24 (its last day, UTC), or `never` [default: 90d]
    #[arg(long, value_name = "TIME")]
    expires: Option<Lifetime>,
    /// Give it no more rights than this user has, and none once the user is removed
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// The configuration file of the server; REGISTRY_… variables apply too
    config: Option<PathBuf>,
}

/// Give a token another secret, and print it.
///
/// The token keeps its rights, and lives as long from now as it did from its making.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  portcullis token rotate ci --keep 24h")]
struct Rotate {
    /// The name of the token
    name: String,
    /// Accept the old secret for this long, too, such as 24h or 7d; otherwise it is refused at once
    #[arg(long, value_name = "TIME", value_parser = lifetime::duration)]
    keep: Option<Duration>,
    /// How long it lives, as for `create`
    #[arg(long, value_name = "TIME")]
    expires: Option<Lifetime>,
    /// The configuration file of the server; REGISTRY_… variables apply too
    config: Option<PathBuf>,
}

/// Remove a token with all its secrets.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  portcullis token revoke ci")]
struct Revoke {
    /// The name of the token
    name: String,
    /// The configuration file of the server; REGISTRY_… variables apply too
    config: Option<PathBuf>,
}

impl Token {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Code 1 when there is no such token or user, when the name is taken, and when a file cannot be
    /// read or written; 2 for invalid arguments.
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            TokenCommand::Create(create) => create.run(Timestamp::now()),
            TokenCommand::List(list) => list.run(),
            TokenCommand::Rotate(rotate) => rotate.run(Timestamp::now()),
            TokenCommand::Revoke(revoke) => revoke.run(),
        }
    }
}

/// The files that the configuration names.
struct Place {
    config: Config,
    options: HtpasswdOptions,
    tokens: PathBuf,
}

/// Why an edit of the token file was not made.
enum Unedited {
    Io(io::Error),
    Refused(Failure),
}

impl Create {
    fn run(self, now: Timestamp) -> Result<(), Failure> {
        let place = Place::of(self.config.as_deref())?;
        let Self { name, mut may, repositories, expires, user, .. } = self;
        may.sort_unstable();
        may.dedup();
        let lifetime = match expires {
            Some(lifetime) => lifetime,
            None => Lifetime::DEFAULT.within(place.options.tokens.maxlifetime),
        };
        let expires = place.bounded(lifetime, now)?;
        let users = place.users()?;
        let path = place.options.path.display();
        if users.find(name.as_str()).is_some() {
            return Err(Failure::new(format!(
                "{name} is a user of {path}: choose another name for the token"
            )));
        }
        if let Some(user) = user.as_deref().filter(|user| users.find(user).is_none()) {
            return Err(Failure::new(format!(
                "there is no user {user} in {path}: `portcullis htpasswd {path} {user}` adds one"
            )));
        }
        let user = user.map(|user| user.parse::<Word>()).transpose().map_err(|_| {
            Failure::new("a name with white space or `#` cannot stand in the token file: choose another user")
        })?;
        let secret = Secret::generate()?;
        let token = DeployToken {
            name,
            digest: secret.digest(),
            may,
            repositories,
            expires,
            created: Some(TimeZone::UTC.to_datetime(now).date()),
            by: operator(),
            user,
            comment: None,
        };
        place.edit(|lines| {
            let file = DeployTokens::parse(&lines.to_bytes());
            let name = &token.name;
            let line = file.of(name.as_str()).map(|entry| entry.line).next();
            let problems = file.problems().iter();
            let line = line.or_else(|| {
                let mut own = problems.filter(|problem| problem.name.as_ref() == Some(name));
                own.next().map(|problem| problem.line)
            });
            if let Some(line) = line {
                return Err(Failure::new(format!(
                    "there is a token {name} already ({}:{line}): `portcullis token rotate {name}` gives \
                     it another secret, `portcullis token revoke {name}` removes it",
                    place.tokens.display()
                )));
            }
            lines.add(&token);
            Ok(())
        })?;
        place.show(&secret, &token)
    }
}

impl Rotate {
    fn run(self, now: Timestamp) -> Result<(), Failure> {
        let place = Place::of(self.config.as_deref())?;
        let Self { name, keep, expires, .. } = self;
        let secret = Secret::generate()?;
        let token = place.edit(|lines| {
            let file = DeployTokens::parse(&lines.to_bytes());
            let latest = file
                .of(&name)
                .max_by_key(|entry| entry.token.expires.instant().unwrap_or(Timestamp::MAX));
            let Some(entry) = latest else { return Err(place.no_token(&file, &name)) };
            let old = &entry.token;
            let lifetime = expires
                .unwrap_or_else(|| Lifetime::of(old).within(place.options.tokens.maxlifetime));
            let token = DeployToken {
                digest: secret.digest(),
                expires: place.bounded(lifetime, now)?,
                created: Some(TimeZone::UTC.to_datetime(now).date()),
                by: operator(),
                ..old.clone()
            };
            match keep {
                Some(keep) => {
                    lines.remove_expired(&name, now);
                    lines.expire(&name, Expiry::after_exactly(keep, now));
                }
                None => {
                    lines.remove(&name);
                }
            }
            lines.add(&token);
            Ok(token)
        })?;
        place.show(&secret, &token)?;
        match keep {
            Some(keep) => tell(&format!("the old secret is accepted for {} more", Span(keep))),
            None => tell("a running registry refuses the old secret within two seconds"),
        }
        Ok(())
    }
}

impl Revoke {
    fn run(self) -> Result<(), Failure> {
        let place = Place::of(self.config.as_deref())?;
        let name = self.name;
        place.edit(|lines| {
            let file = DeployTokens::parse(&lines.to_bytes());
            if lines.remove(&name) == 0 { Err(place.no_token(&file, &name)) } else { Ok(()) }
        })?;
        tell(&format!("revoked {name}: a running registry refuses it within two seconds"));
        Ok(())
    }
}

impl Place {
    fn of(config: Option<&Path>) -> Result<Self, Failure> {
        let config = configuration(config, &[])?;
        if matches!(config.auth, gate::Options::Token(_)) {
            return Err(Failure::new(
                "auth is `token`: the token server of auth.token says who may do what; deploy tokens are for \
                 auth.htpasswd",
            ));
        }
        let gate::Options::Htpasswd(options) = config.auth.clone() else {
            return Err(Failure::new(
                "auth is `none`: every client may do everything, with or without a token; set \
                 auth.htpasswd to have users and tokens",
            ));
        };
        let tokens = options.token_file();
        Ok(Self { config, options, tokens })
    }

    /// The users; none where there is no password file yet.
    fn users(&self) -> Result<Htpasswd, Failure> {
        match UserFile::open(&self.options) {
            Ok((_, users)) => Ok(users),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Htpasswd::default()),
            Err(error) => Err(cannot_read(&self.options.path, &error)),
        }
    }

    /// The tokens; none where there is no file yet.
    fn tokens(&self) -> Result<DeployTokens, Failure> {
        let opened = deploy::TokenFile::open(&self.tokens);
        opened.map(|(_, tokens)| tokens).map_err(|error| cannot_read(&self.tokens, &error))
    }

    /// The expiry of a token that is made `now`.
    fn bounded(&self, lifetime: Lifetime, now: Timestamp) -> Result<Expiry, Failure> {
        let expires = lifetime.from(now);
        if expires.instant().is_some_and(|end| end <= now) {
            return Err(Failure::usage(format!("--expires {expires} is over")));
        }
        let most = self.options.tokens.maxlifetime;
        if !most.is_zero() && expires.exceeds(most, now) {
            return Err(Failure::new(format!(
                "a token lives for {} at most (auth.htpasswd.tokens.maxlifetime): choose a shorter \
                 --expires",
                Span(most)
            )));
        }
        Ok(expires)
    }

    fn edit<T>(
        &self,
        change: impl FnOnce(&mut TokenLines) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let edited = deploy::change(&self.tokens, &self.options.path, |lines| {
            change(lines).map_err(Unedited::Refused)
        });
        match edited {
            Ok(result) => Ok(result),
            Err(Unedited::Refused(failure)) => Err(failure),
            Err(Unedited::Io(error)) => written(&self.tokens, Err(error)),
        }
    }

    fn no_token(&self, file: &DeployTokens, name: &str) -> Failure {
        let path = self.tokens.display();
        let mut problems = file.problems().iter();
        let of_token = |problem: &&deploy::Problem| {
            problem.name.as_ref().is_some_and(|own| own.as_str() == name)
        };
        Failure::new(match problems.find(of_token) {
            Some(problem) => format!("cannot use {path}: {problem}"),
            None => format!(
                "there is no token {name} in {path}: `portcullis token list` shows the tokens there are"
            ),
        })
    }

    /// Prints the secret on standard output, and what the token may do on standard error.
    fn show(&self, secret: &Secret, token: &DeployToken) -> Result<(), Failure> {
        writeln!(io::stdout().lock(), "{}", secret.reveal())?;
        let DeployToken { name, may, repositories, expires, user, .. } = token;
        let repositories = Joined(repositories);
        let mut text = match may.as_slice() {
            [May::Pull] => format!("{name} may pull from {repositories}"),
            [May::Create] => format!("{name} may add tags to {repositories}"),
            [May::Push] => format!("{name} may push to {repositories}"),
            may => format!("{name} may {} in {repositories}", Joined(may)),
        };
        if let Some(user) = user {
            let _ = write!(text, ", as far as {user} may");
        }
        let _ = match expires {
            Expiry::Never => write!(text, ", and does not expire"),
            expires => write!(text, ", until {expires}"),
        };
        tell(&text);
        tell(&format!("to log in with this secret: docker login -u {name} --password-stdin HOST"));
        let deletes = may.iter().any(|may| may.includes(May::Delete));
        if deletes && !self.config.storage.delete.enabled {
            tell(
                "note: storage.delete.enabled is false, so the registry deletes nothing for anybody",
            );
        }
        Ok(())
    }
}

impl From<io::Error> for Unedited {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("cannot read {}: {error}", path.display()))
}

/// The user of this machine who types the command, as far as the environment says.
fn operator() -> Option<Word> {
    let variables = ["SUDO_USER", "USER", "LOGNAME"];
    variables.iter().filter_map(|name| env::var(name).ok()).find_map(|name| name.parse().ok())
}

fn glob(text: &str) -> Result<Glob, InvalidGlob> {
    Glob::try_from(text.to_owned())
}
