//! Line 10: wrong passwords at full rate beside the right ones of line 1.

use std::{fmt::Write as _, fs, thread, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::{
    Outcome,
    line::{Line, Reading, Requirement, Unit, Work},
    sides::Side,
    site::USER,
    stage::{REPOSITORY, Stage, TAG},
    tools::{Requests, read_wrk, start_wrk_script, wrk},
};

const CONNECTIONS: usize = 50;
const P99: f64 = 0.020;
/// How long a side may take to finish its requests.
const SETTLED: Duration = Duration::from_secs(4);

/// The rate of line 1 while 50 connections send passwords that were never seen before.
#[derive(Debug)]
pub(super) struct WrongPasswords;

impl Work for WrongPasswords {
    fn lines(&self) -> Vec<Line> {
        vec![
            Line {
                number: "10a",
                figure: "line 1 beside 50 connections with wrong passwords".to_owned(),
                unit: Unit::Requests,
                bound: "without them",
                requirement: Requirement::Better(0.7, Side::Bound),
            },
            Line {
                number: "10b",
                figure: "p99 meanwhile".to_owned(),
                unit: Unit::Time,
                bound: "without them",
                requirement: Requirement::AtMost(P99),
            },
        ]
    }

    fn measure(&mut self, stage: &Stage, side: Side) -> Outcome<Vec<Reading>> {
        let attacked = side != Side::Bound;
        let server = stage.side(if attacked { side } else { Side::Portcullis })?;
        let path = format!("/v2/{REPOSITORY}/manifests/{TAG}");
        let url = server.url(&path);
        let requests = Requests { url: &url, connections: 16, seconds: stage.plan.seconds };
        let (counted, _, load) = if attacked {
            let script = stage.path("wrong.lua");
            fs::write(&script, wrong_passwords(&path))?;
            let script = script.to_str().ok_or("a path is not text")?;
            // From before the requests with the right password until after them.
            let seconds = requests.seconds + 2;
            let wrong = Requests { connections: CONNECTIONS, seconds, ..requests };
            let attack = start_wrk_script(wrong, script)?;
            thread::sleep(Duration::from_secs(1));
            let done = Stage::timed(Some(server), || wrk(requests));
            let said = attack.finish(b"")?;
            eprintln!("  wrong passwords: {:.0}/s answered", read_wrk(&said)?.rate);
            // The pair goes on checking passwords of closed connections, on the same cores.
            thread::sleep(SETTLED);
            done?
        } else {
            Stage::timed(Some(server), || wrk(requests))?
        };
        Ok(vec![Reading::under(counted.rate, load), Reading::of(counted.p99)])
    }
}

/// A script for wrk in which no two requests have the same password, and which names a new client
/// address each time: from one address the server checks only a few passwords.
fn wrong_passwords(path: &str) -> String {
    // Three digits are four characters of base64, so that a number is made from a table.
    let digits = (0..1000).fold(String::new(), |mut table, number| {
        let _ = write!(table, "'{}',", BASE64_STANDARD.encode(format!("{number:03}")));
        table
    });
    let prefix = format!("{USER}:no");
    assert_eq!(prefix.len() % 3, 0, "or the digits behind it would not be from the table");
    format!(
        "local digits = {{{digits}}}
local threads = 0
function setup(thread) thread:set('own', threads); threads = threads + 1 end
local sent = 0
function request()
  sent = sent + 1
  local password = digits[own + 1] .. digits[math.floor(sent / 1000000) % 1000 + 1]
    .. digits[math.floor(sent / 1000) % 1000 + 1] .. digits[sent % 1000 + 1]
  local address = '10.' .. own .. '.' .. math.floor(sent / 250) % 250 .. '.' .. sent % 250
  return wrk.format('GET', '{path}', {{
    ['Authorization'] = 'Basic {prefix}' .. password, ['X-Forwarded-For'] = address }})
end
",
        prefix = BASE64_STANDARD.encode(prefix),
    )
}
