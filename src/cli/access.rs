//! `portcullis access`: what the rules let a caller do, and which of them.

use std::{
    env,
    fmt::Write as _,
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::{Args, Subcommand};

use self::token::TokenLine;
use super::{
    failure::{Failure, tell},
    sources::configuration,
};
use crate::{
    app,
    config::{Config, Origin},
    gate::{
        self, Caller, Identity, May, Policy, Right, UserFile,
        access::{Explanation, NearMiss, Pattern, Rule},
    },
    oci::RepositoryName,
    server::TlsOptions,
};

mod token;

const EXAMPLES: &str = "\
The commands read the configuration, the group file and the password file as the
server does; they need no running server, and change nothing. A server has
changed rules in force after SIGHUP.

Examples:
  portcullis access check ann push team-a/app
  portcullis access check - pull public/app --from 10.1.2.3
  portcullis access list ann /etc/docker/registry/config.yml

Exit codes: 0 done (check: yes); 1 no, or not done; 2 usage.";

/// Explain the access rules: what a caller may do, and by which rule.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Access {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(Check),
    List(List),
}

const CHECKS: &str = "\
Examples:
  portcullis access check ann push team-a/app
  portcullis access check - pull public/app --from 10.1.2.3
  portcullis access check token:ci push app/web          a deploy token
  portcullis access check cert:node1 pull base/app       a client certificate
  portcullis access check ann delete team-a/app config.yml && echo yes

Exit codes: 0 yes; 1 no, or not done; 2 usage.";

/// Say whether a caller may do something, and which rule decides.
#[derive(Debug, Args)]
#[command(after_help = CHECKS)]
struct Check {
    /// A user, `-` for a caller without a password, token:NAME for a deploy token, or cert:NAME for a
    /// client certificate
    who: String,
    /// pull, create (push tags that are not there yet), push or delete
    action: May,
    /// The repository
    repository: RepositoryName,
    /// The configuration file of the server; REGISTRY_… variables apply too
    config: Option<PathBuf>,
    /// The address that the caller comes from, or `unix`. Without it, rules with `from` do not apply
    #[arg(long, value_name = "ADDRESS")]
    from: Option<Address>,
}

const LISTS: &str = "\
Examples:
  portcullis access list ann
  portcullis access list - config.yml        what callers without a password may

Exit codes: 0 done; 1 not done; 2 usage.";

/// List the rights of a caller, each with its rule.
#[derive(Debug, Args)]
#[command(after_help = LISTS)]
struct List {
    /// A user, `-` for a caller without a password, token:NAME for a deploy token, or cert:NAME for a
    /// client certificate
    who: String,
    /// The configuration file of the server; REGISTRY_… variables apply too
    config: Option<PathBuf>,
}

/// `--from`: an address, or a Unix socket.
#[derive(Clone, Copy, Debug)]
struct Address(Option<IpAddr>);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unix" {
            return Ok(Self(None));
        }
        let address = text.parse().map_err(|_| format!("{text:?} is no address, and not `unix`"));
        address.map(|address| Self(Some(address)))
    }
}

impl Access {
    /// Runs the command, and prints on standard output.
    ///
    /// # Errors
    ///
    /// Code 1 when `check` says no, and when the configuration or a file of it cannot be used.
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Check(check) => check.run(),
            Command::List(list) => list.run(),
        }
    }
}

/// The rules of a configuration, and the places of what they are made of.
struct Sources {
    config: Config,
    policy: Policy,
}

impl Sources {
    fn read(config: Option<&Path>) -> Result<Self, Failure> {
        let config = configuration(config, &[])?;
        let policy = app::policy(&config)?;
        Ok(Self { config, policy })
    }

    /// A rule with its place.
    fn rule(&self, number: usize) -> String {
        let item = format!("access.rules[{}]", number - 1);
        match self.config.settings.item(&item) {
            None | Some(Origin::Default) => format!("rule {number}"),
            Some(Origin::File { file, line, .. }) => {
                format!("rule {number} ({}:{line})", near(file))
            }
            Some(origin) => format!("rule {number} ({origin})"),
        }
    }

    /// Where the group file puts the user into the group.
    fn line(&self, line: usize) -> String {
        let file = self.config.access.as_ref().and_then(|access| access.groupfile.as_deref());
        format!("{}:{line}", near(file.unwrap_or_else(|| Path::new(""))))
    }

    /// Tells that the password file does not have the user, who so cannot log in, or that no certificate
    /// names a caller.
    fn note_stranger(&self, identity: &Identity) {
        if matches!(self.config.auth, gate::Options::Token(_)) && self.policy.access().is_some() {
            tell("note: beside the rules, the caller's token must cover it (auth.token)");
        }
        if matches!(identity, Identity::Certificate(_)) && !self.takes_names_of_certificates() {
            tell("note: http.tls.clientidentity is not set, so no certificate lets a client in");
        }
        let (Identity::User(name), gate::Options::Htpasswd(options)) =
            (identity, &self.config.auth)
        else {
            return;
        };
        let Ok((_, users)) = UserFile::open(options) else { return };
        if users.find(name).is_none() {
            let path = options.path.display();
            tell(&format!("note: {path} has no user {name}"));
        }
    }
}

impl Sources {
    fn takes_names_of_certificates(&self) -> bool {
        match &self.config.http.server.tls {
            TlsOptions::On { clients: Some(clients), .. } => {
                clients.identity_of_verified().is_some()
            }
            _ => false,
        }
    }
}

/// A path from the working directory, if it is below it.
fn near(path: &Path) -> String {
    let folder = env::current_dir().unwrap_or_default();
    path.strip_prefix(&folder).unwrap_or(path).display().to_string()
}

fn identity(who: &str) -> Result<Identity, Failure> {
    match who.split_once(':') {
        None if matches!(who, "-" | "anyone") => Ok(Identity::Anonymous),
        None if who == "users" => Err(Failure::usage(
            "`users` are all who have logged in: name one of them, or write user:users",
        )),
        None => Ok(Identity::User(who.into())),
        Some(("user", name)) => Ok(Identity::User(name.into())),
        Some(("cert", name)) => Ok(Identity::Certificate(name.into())),
        Some(("token", name)) => Ok(Identity::Token(name.into())),
        Some(_) => {
            Err(Failure::usage(format!("{who:?} is no user: write NAME, or `-` for nobody")))
        }
    }
}

/// The caller in a sentence.
fn called(identity: &Identity) -> String {
    match identity {
        Identity::Anonymous => "a caller without a password".to_owned(),
        identity => identity.to_string(),
    }
}

fn right<'a>(may: May, name: &'a RepositoryName) -> Right<'a> {
    match may {
        May::Pull => Right::Pull(name),
        May::Create => Right::Create(name),
        May::Push => Right::Push(name),
        May::Delete | May::All => Right::Delete(name),
    }
}

/// The words of a rule behind "lets NAME".
fn does(may: May) -> &'static str {
    match may {
        May::Pull => "pull",
        May::Create => "add tags to",
        May::Push => "push to",
        May::Delete => "delete from",
        May::All => "do everything in",
    }
}

/// The repositories of a rule, as far as one item of them decided.
fn place(explanation: &Explanation<'_>) -> String {
    match explanation.pattern {
        Some(pattern) => pattern.to_string(),
        None => "every repository".to_owned(),
    }
}

impl Check {
    fn run(self) -> Result<(), Failure> {
        if self.action == May::All {
            let why = "`all` is for rules: ask for pull, create, push or delete";
            return Err(Failure::usage(why));
        }
        let identity = identity(&self.who)?;
        let sources = Sources::read(self.config.as_deref())?;
        sources.note_stranger(&identity);
        // Without --from, an address that is in no network.
        let address = self.from.map_or_else(|| Some(Ipv4Addr::UNSPECIFIED.into()), |from| from.0);
        let (yes, sentence) = match &identity {
            Identity::Token(name) => {
                TokenLine::find(&sources, name)?.answer(&self, &sources, address)
            }
            identity => self.answer(&sources, identity, address),
        };
        writeln!(io::stdout().lock(), "{}: {sentence}", if yes { "yes" } else { "no" })?;
        if yes { Ok(()) } else { Err(Failure { code: 1, message: String::new() }) }
    }

    fn answer(
        &self,
        sources: &Sources,
        identity: &Identity,
        address: Option<IpAddr>,
    ) -> (bool, String) {
        let who = called(identity);
        let Some(access) = sources.policy.access() else {
            let is_open = matches!(sources.config.auth, gate::Options::None);
            if matches!(sources.config.auth, gate::Options::Token(_)) {
                let sentence = "there is no section `access`, so a caller may do what the tokens of the \
                                token server (auth.token) cover";
                return (*identity != Identity::Anonymous, sentence.to_owned());
            }
            return match identity {
                Identity::Anonymous if !is_open => (
                    false,
                    "there is no section `access`, so every request needs a password".into(),
                ),
                _ => (true, format!("there is no section `access`, so {who} may do everything")),
            };
        };
        let right = right(self.action, &self.repository);
        let decision = sources.policy.decide(&Caller::new(identity.clone(), address), &right);
        match access.explain(identity, address, &right) {
            Some(explanation) if decision.is_allowed() => {
                (true, self.yes(sources, identity, &explanation))
            }
            _ => (false, self.no(sources, access, identity, address)),
        }
    }

    fn yes(&self, sources: &Sources, identity: &Identity, explanation: &Explanation<'_>) -> String {
        let Explanation { number, rule, who, membership, .. } = explanation;
        let given = rule.may().iter().find(|may| may.includes(self.action));
        let mut sentence = format!(
            "{} lets {who} {} {}",
            sources.rule(*number),
            does(given.copied().unwrap_or(self.action)),
            place(explanation)
        );
        if let Some(membership) = membership {
            let (group, line) = (membership.group(), sources.line(membership.line()));
            // Writing to a string does not fail.
            let _ = write!(sentence, ", and {identity} is in {group} ({line})");
        }
        sentence
    }

    /// What the caller may do there instead, and the rules that almost apply.
    fn no(
        &self,
        sources: &Sources,
        access: &gate::Access,
        identity: &Identity,
        address: Option<IpAddr>,
    ) -> String {
        let who = called(identity);
        let others = [May::Push, May::Create, May::Delete, May::Pull];
        let instead = others.into_iter().filter(|may| *may != self.action).find_map(|may| {
            let explanation = access.explain(identity, address, &right(may, &self.repository))?;
            Some((may, explanation))
        });
        let mut sentence = match instead {
            None => format!("no rule lets {who} {} {}", does(self.action), self.repository),
            Some((may, explanation)) => format!(
                "{} lets {who} {} {}; no rule lets {who} {} {}",
                sources.rule(explanation.number),
                does(may),
                place(&explanation),
                does(self.action),
                self.repository
            ),
        };
        let right = right(self.action, &self.repository);
        for (number, miss) in access.near_misses(identity, address, &right) {
            let rule = &access.rules()[number - 1];
            let _ = match miss {
                NearMiss::Except(pattern) => {
                    write!(sentence, "; {} excepts {pattern}", sources.rule(number))
                }
                NearMiss::From => write!(
                    sentence,
                    "; {} is for {} only (--from)",
                    sources.rule(number),
                    join(rule.from())
                ),
            };
        }
        sentence
    }
}

impl List {
    fn run(self) -> Result<(), Failure> {
        let identity = identity(&self.who)?;
        let sources = Sources::read(self.config.as_deref())?;
        sources.note_stranger(&identity);
        let mut stdout = io::stdout().lock();
        if let Identity::Token(name) = &identity {
            writeln!(stdout, "{}", TokenLine::find(&sources, name)?.rights())?;
        }
        let Some(access) = sources.policy.access() else {
            if matches!(identity, Identity::Token(_)) {
                return Ok(());
            }
            let sentence =
                "there is no section `access`: every caller that is let in may do everything";
            writeln!(stdout, "{sentence}")?;
            return Ok(());
        };
        if let Identity::User(name) | Identity::Certificate(name) = &identity {
            for membership in access.groups().of(name) {
                let line = sources.line(membership.line());
                writeln!(stdout, "{name} is in {} ({line})", membership.group())?;
            }
        }
        let rules = access.rules_of(&identity);
        if rules.is_empty() {
            writeln!(stdout, "no rule is for {}", called(&identity))?;
        }
        for explanation in rules {
            let Explanation { number, rule, who, .. } = explanation;
            writeln!(
                stdout,
                "{} for {who}: {}",
                sources.rule(number),
                rights(rule, &identity, access)
            )?;
        }
        Ok(())
    }
}

/// The rights of a rule, with the values of its variables.
fn rights(rule: &Rule, identity: &Identity, access: &gate::Access) -> String {
    let patterns = |patterns: &[Pattern]| -> String {
        let values = patterns.iter().flat_map(|pattern| values(pattern, identity, access));
        values.collect::<Vec<_>>().join(", ")
    };
    let mut text = format!("{} in ", join(rule.may()));
    text.push_str(&match rule.repositories() {
        [] => "every repository".to_owned(),
        repositories => patterns(repositories),
    });
    if !rule.except().is_empty() {
        let _ = write!(text, ", except {}", patterns(rule.except()));
    }
    if !rule.from().is_empty() {
        let _ = write!(text, ", from {}", join(rule.from()));
    }
    text
}

/// A pattern with the caller's name and each of the caller's groups in it.
fn values(pattern: &Pattern, identity: &Identity, access: &gate::Access) -> Vec<String> {
    let name = identity.name().map_or("", |name| &**name);
    let pattern_of_user = pattern.to_string().replace("{user}", name);
    if !pattern.has_group() {
        return vec![pattern_of_user];
    }
    let groups = access.groups().of(name).iter();
    groups.map(|of| pattern_of_user.replace("{group}", of.group())).collect()
}

fn join<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}
