//! Line 12: what access rules, session tokens and deploy tokens cost, beside the same work by a
//! password and without rules.

use std::{fmt::Write as _, fs, thread};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::lists;
use crate::{
    Outcome,
    arguments::Plan,
    client::Client,
    line::{Line, Reading, Requirement, Unit, Work},
    process,
    results::median,
    sides::{Served, Side, portcullis::More},
    site::{Site, USER},
    stage::{REPOSITORY, Stage, TAG},
    tools::{Requests, wrk_authorised},
};

const CONNECTIONS: usize = 16;
/// The rules of 12a, of which the last one lets the user in.
const RULES: usize = 100;
/// Turns are short and differ little, so there are more of them.
const TURNS: usize = 3;
/// The name of the deploy token.
const TOKEN: &str = "bench";
const MIB: f64 = 1_048_576.0;

/// Requests for a manifest, as in line 1.
#[derive(Debug, Default)]
pub(super) struct Callers {
    /// Two servers that differ in their rules only.
    servers: Option<Servers>,
    /// The secret of the deploy token.
    secret: Option<String>,
}

#[derive(Debug)]
struct Servers {
    ruled: Served,
    plain: Served,
}

impl Callers {
    fn servers(&mut self, stage: &Stage) -> Outcome<&Servers> {
        if self.servers.is_none() {
            let root = &stage.side(Side::Portcullis)?.root;
            let mut sections = "access:\n  rules:\n".to_owned();
            for number in 1..RULES {
                writeln!(
                    sections,
                    "    - {{who: users, repositories: team-{number}/**, may: push}}"
                )?;
            }
            writeln!(sections, "    - {{who: {USER}, repositories: bench/**, may: push}}")?;
            let more = More { sections, ..More::default() };
            let ruled = stage.fresh_with("ruled", root, &more)?;
            let plain = stage.fresh_with("plain", root, &More::default())?;
            self.servers = Some(Servers { ruled, plain });
        }
        self.servers.as_ref().ok_or_else(|| "no servers".into())
    }

    fn secret(&mut self, stage: &Stage) -> Outcome<&str> {
        if self.secret.is_none() {
            let binary = stage.site.binary.to_str().ok_or("the path of the binary is not text")?;
            let file = stage.site.path("portcullis.yml");
            let mut arguments =
                vec!["token", "create", "--may", "pull", "--repositories", "bench/**"];
            arguments.extend([TOKEN, &file]);
            self.secret = Some(process::run(binary, &arguments, b"")?.trim().to_owned());
        }
        self.secret.as_deref().ok_or_else(|| "no deploy token".into())
    }
}

impl Work for Callers {
    fn lines(&self) -> Vec<Line> {
        let line = |number, figure: String, bound, least| Line {
            number,
            figure,
            unit: Unit::Requests,
            bound,
            requirement: Requirement::Better(least, Side::Bound),
        };
        let tokens = |number, kind| line(number, format!("line 1 with {kind}"), "password", 0.95);
        vec![
            line("12a", format!("line 1 with {RULES} rules"), "without rules", 0.97),
            tokens("12b", "a session token"),
            tokens("12c", "a deploy token"),
        ]
    }

    fn sides(&self) -> &'static [Side] {
        &[Side::Portcullis, Side::Bound]
    }

    fn rounds(&self, planned: usize) -> usize {
        TURNS * planned
    }

    fn measure(&mut self, stage: &Stage, side: Side) -> Outcome<Vec<Reading>> {
        let seconds = stage.plan.seconds;
        let path = format!("/v2/{REPOSITORY}/manifests/{TAG}");
        let reading = |server: &Served, authorization: &str| -> Outcome<Reading> {
            let url = server.url(&path);
            let requests = Requests { url: &url, connections: CONNECTIONS, seconds };
            let (counted, _, load) =
                Stage::timed(Some(server), || wrk_authorised(requests, authorization))?;
            Ok(Reading::under(counted.rate, load))
        };
        let password = Site::authorization();
        let secret = self.secret(stage)?.to_owned();
        let Servers { ruled, plain } = self.servers(stage)?;
        if side == Side::Bound {
            let reading = reading(plain, &password)?;
            return Ok(vec![reading; 3]);
        }
        let scope = format!("repository:{REPOSITORY}:pull");
        let session = stage.client.session_token(plain, &scope)?;
        Ok(vec![
            reading(ruled, &password)?,
            reading(plain, &format!("Authorization: Bearer {session}"))?,
            reading(plain, &Site::authorization_of(TOKEN, &secret))?,
        ])
    }
}

/// Pages of the catalog, for callers who see all of it, a part that begins alike, and one name that
/// only a look at every name finds.
#[derive(Debug)]
pub(super) struct Pages {
    names: usize,
}

impl Pages {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { names: plan.names }
    }
}

impl Work for Pages {
    fn lines(&self) -> Vec<Line> {
        let names = self.names;
        let line = |number, what: &str, most| Line {
            number,
            figure: format!("catalog of {names} by rules, a page: {what}"),
            unit: Unit::Time,
            bound: "",
            requirement: Requirement::AtMost(most),
        };
        vec![
            line("12d", "100 of all", 0.002),
            line("12e", "100 of one prefix", 0.005),
            line("12f", "one by **/NAME", 0.150),
        ]
    }

    fn sides(&self) -> &'static [Side] {
        &[Side::Portcullis]
    }

    fn rounds(&self, _: usize) -> usize {
        1
    }

    fn measure(&mut self, stage: &Stage, _: Side) -> Outcome<Vec<Reading>> {
        let tree = stage.path("many");
        if !tree.exists() {
            lists::plant(&tree, self.names)?;
            thread::sleep(lists::SETTLED);
        }
        let prefix = format!("many/app-{:03}*", self.names / 200);
        let one = format!("**/app-{:05}", self.names / 2);
        let mut readings = Vec::new();
        for repositories in ["**", &prefix, &one] {
            let sections = format!(
                "access:\n  rules:\n    - {{who: {USER}, repositories: '{repositories}', may: pull}}\n"
            );
            let more = More { sections, ..More::default() };
            let server = stage.fresh_with("pages", &tree, &more)?;
            let client = Client::new(&stage.site, &stage.runtime)?;
            let url = server.url("/v2/_catalog?n=100");
            client.timed_get(&url)?;
            let mut seconds =
                (0..lists::TIMES).map(|_| client.timed_get(&url)).collect::<Outcome<Vec<_>>>()?;
            seconds.sort_unstable_by(f64::total_cmp);
            readings.push(Reading::of(median(&seconds).unwrap_or(f64::NAN)));
        }
        Ok(readings)
    }
}

/// Resident memory with many groups and deploy tokens.
#[derive(Debug)]
pub(super) struct Held;

impl Held {
    const GROUPS: usize = 10_000;
    const TOKENS: usize = 1000;

    /// A server with ten users in each of the groups, as many rules as in 12a, and tokens in a file of
    /// their own.
    fn start(stage: &Stage, root: &std::path::Path) -> Outcome<Served> {
        let (groups, tokens) = (stage.site.path("many-groups"), stage.site.path("many-tokens"));
        let mut lines = String::new();
        for group in 0..Self::GROUPS {
            write!(lines, "team-{group}:")?;
            (0..10).try_for_each(|member| write!(lines, " user-{}", group * 7 + member))?;
            lines.push('\n');
        }
        fs::write(&groups, lines)?;
        let mut lines = String::new();
        for token in 0..Self::TOKENS {
            let digest = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(token.to_be_bytes()));
            writeln!(
                lines,
                "ci-{token} sha256={digest} may=push repositories=team-{token}/**,base/** \
                 expires=never"
            )?;
        }
        fs::write(&tokens, lines)?;
        let mut sections = format!("access:\n  groupfile: {groups}\n  rules:\n");
        for group in 0..RULES {
            writeln!(
                sections,
                "    - {{who: 'group:team-{group}', repositories: team-{group}/**, may: push}}"
            )?;
        }
        let more = More {
            htpasswd: format!("    tokens: {{file: {tokens}}}\n"),
            sections,
            ..More::default()
        };
        stage.fresh_with("held", root, &more)
    }
}

impl Work for Held {
    fn lines(&self) -> Vec<Line> {
        let (groups, tokens) = (Self::GROUPS, Self::TOKENS);
        vec![Line {
            number: "12g",
            figure: format!("memory with {groups} groups, {tokens} deploy tokens"),
            unit: Unit::Memory,
            bound: "without",
            requirement: Requirement::NearBound(1.0, 16.0 * MIB),
        }]
    }

    fn sides(&self) -> &'static [Side] {
        &[Side::Portcullis, Side::Bound]
    }

    fn rounds(&self, _: usize) -> usize {
        1
    }

    fn measure(&mut self, stage: &Stage, side: Side) -> Outcome<Vec<Reading>> {
        let root = &stage.side(Side::Portcullis)?.root;
        let server = match side {
            Side::Portcullis => Self::start(stage, root)?,
            _ => stage.fresh_with("held", root, &More::default())?,
        };
        stage.client.anonymous_status(&server.url("/v2/"))?;
        Ok(vec![Reading::of(Stage::resident(&server)?)])
    }
}
