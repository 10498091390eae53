//! The form of a line on a terminal, for a person who watches a start:
//! `12:00:01 info  listening  addr=0.0.0.0:5000`, the time in the time zone of the terminal, time and
//! fields dimmed. Programs read the other forms, which have the date.

use std::{
    env,
    fmt::Write as _,
    io::{self, IsTerminal as _},
};

use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;
use tracing::Level;

use super::format::{Form, is_plain};

/// How the terminal of standard error shows lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terminal {
    has_colours: bool,
}

const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const RESET: &str = "\x1b[0m";

impl Terminal {
    /// The terminal of standard error, if it is one. `NO_COLOR` and `TERM=dumb` mean no colours.
    pub(super) fn of_standard_error() -> Option<Self> {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        let has_colours = !is_set("NO_COLOR") && !is_dumb;
        io::stderr().is_terminal().then_some(Self { has_colours })
    }

    /// Begins the line of an event.
    pub(super) fn line(self, level: Level, time: Timestamp) -> TerminalLine {
        let name = match level {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        let colour = match level {
            Level::ERROR => RED,
            Level::WARN => YELLOW,
            _ => "",
        };
        let time = time.to_zoned(TimeZone::system()).strftime("%H:%M:%S");
        let mut line = TerminalLine { text: String::new(), has_fields: false, terminal: self };
        line.styled(DIM, &time.to_string());
        line.text.push(' ');
        line.styled(colour, &format!("{name:<5}"));
        line
    }
}

/// A line under way: time, level, the message, and the fields behind it.
pub(super) struct TerminalLine {
    text: String,
    has_fields: bool,
    terminal: Terminal,
}

impl TerminalLine {
    /// Ends the line.
    pub(super) fn finish(mut self) -> String {
        if self.has_fields && self.terminal.has_colours {
            self.text.push_str(RESET);
        }
        self.text.push('\n');
        self.text
    }

    fn styled(&mut self, style: &str, text: &str) {
        match self.terminal.has_colours && !style.is_empty() {
            true => {
                let _ = write!(self.text, "{style}{text}{RESET}");
            }
            false => self.text.push_str(text),
        }
    }

    fn field(&mut self, name: &str, value: &str) {
        self.text.push(' ');
        if !self.has_fields {
            self.has_fields = true;
            self.text.push(' ');
            if self.terminal.has_colours {
                self.text.push_str(DIM);
            }
        }
        let _ = write!(self.text, "{name}={value}");
    }
}

impl Form for TerminalLine {
    /// The message stands alone; its control characters are escaped, as in other texts.
    fn set_text(&mut self, name: &str, text: &str) {
        if name == "msg" {
            self.text.push(' ');
            for character in text.chars() {
                match character.is_ascii_control() {
                    true => self.text.extend(character.escape_default()),
                    false => self.text.push(character),
                }
            }
        } else if is_plain(text) {
            self.field(name, text);
        } else {
            self.set(name, text.into());
        }
    }

    fn set(&mut self, name: &str, value: Value) {
        self.field(name, &value.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_on_a_terminal_is_short_and_no_value_can_change_the_terminal() {
        let line = |has_colours, level| {
            let mut line = Terminal { has_colours }.line(level, Timestamp::UNIX_EPOCH);
            line.set_text("msg", "listening \x1b[31m\nnow");
            line.set_text("addr", "a b\x1b");
            line.set("n", 3.into());
            line.finish()
        };
        let plain = line(false, Level::INFO);
        assert!(plain[8..].starts_with(" info  listening "), "{plain}");
        assert!(plain.ends_with("now  addr=\"a b\\u001b\" n=3\n"), "{plain}");
        assert!(!plain.contains('\x1b') && plain.lines().count() == 1, "{plain}");
        let coloured = line(true, Level::WARN);
        assert!(coloured.contains("\x1b[33mwarn \x1b[0m listening"), "{coloured}");
        assert!(coloured.ends_with("n=3\x1b[0m\n"), "{coloured}");
    }
}
