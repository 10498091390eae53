//! The syntax of nginx's configuration: directives, blocks, quotes, variables and comments
//! (`ngx_conf_file.c`, `ngx_conf_read_token`). Knows no directive but `include`, which stays one.

use std::{fmt, path::Path, sync::Arc};

/// The most bytes of a file. A site of a registry has a few thousand.
const LONGEST: usize = 1 << 20;

/// The deepest nesting of blocks. nginx's own contexts are at most six deep.
const DEEPEST: usize = 32;

/// A directive with its arguments, and with its block if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directive {
    /// The first word.
    pub(super) name: String,
    /// The words behind it, without quotes.
    pub(super) arguments: Vec<String>,
    /// The place of the first word.
    pub(super) at: Place,
    /// The directives between braces; `None` for a directive that ends with a semicolon.
    pub(super) block: Option<Vec<Self>>,
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    file: Arc<Path>,
    line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// A text that nginx would not read either, or one beyond the limits of this parser.
#[derive(Debug, thiserror::Error)]
#[error("{at}: this is not the syntax of nginx: {what}")]
pub struct SyntaxError {
    at: Place,
    what: &'static str,
}

impl fmt::Display for Directive {
    /// The directive as nginx reads it, up to its block.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text is shown on a terminal.
        write!(f, "{}", self.name.escape_debug())?;
        self.arguments.iter().try_for_each(|argument| match argument.contains([' ', ';', '{']) {
            true => write!(f, " \"{}\"", argument.escape_debug()),
            false => write!(f, " {}", argument.escape_debug()),
        })
    }
}

/// Parses the content of the file `path`.
///
/// # Errors
///
/// When a quote or a block does not end, a brace or semicolon has no directive, or the text is longer
/// or nested deeper than the limits.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Directive>, SyntaxError> {
    let mut parser = Parser { file: path.into(), rest: text.chars().peekable(), line: 1 };
    if text.len() > LONGEST {
        return Err(parser.error("the file is larger than 1 MiB"));
    }
    parser.block(0)
}

struct Parser<'a> {
    file: Arc<Path>,
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    line: usize,
}

/// What ends a word, or stands for itself.
enum Token {
    Word(String),
    Semicolon,
    Open,
    Close,
    End,
}

impl Parser<'_> {
    /// The directives up to the closing brace, or at depth 0 up to the end of the text.
    fn block(&mut self, depth: usize) -> Result<Vec<Directive>, SyntaxError> {
        let mut directives = Vec::new();
        loop {
            match self.token()? {
                Token::End if depth == 0 => return Ok(directives),
                Token::Close if depth > 0 => return Ok(directives),
                Token::End => return Err(self.error("a block has no `}`")),
                Token::Close => return Err(self.error("`}` closes no block")),
                Token::Semicolon => return Err(self.error("`;` ends no directive")),
                Token::Open => return Err(self.error("`{` has no directive before it")),
                Token::Word(name) => {
                    let at = self.place();
                    directives.push(self.directive(name, at, depth)?);
                }
            }
        }
    }

    fn directive(
        &mut self,
        name: String,
        at: Place,
        depth: usize,
    ) -> Result<Directive, SyntaxError> {
        let mut arguments = Vec::new();
        loop {
            match self.token()? {
                Token::Word(word) => arguments.push(word),
                Token::Semicolon => return Ok(Directive { name, arguments, at, block: None }),
                Token::Open if depth == DEEPEST => {
                    return Err(self.error("blocks are nested more than 32 deep"));
                }
                Token::Open => {
                    let block = Some(self.block(depth + 1)?);
                    return Ok(Directive { name, arguments, at, block });
                }
                Token::Close | Token::End => return Err(self.error("a directive has no `;`")),
            }
        }
    }

    fn token(&mut self) -> Result<Token, SyntaxError> {
        loop {
            match self.next() {
                None => return Ok(Token::End),
                Some(';') => return Ok(Token::Semicolon),
                Some('{') => return Ok(Token::Open),
                Some('}') => return Ok(Token::Close),
                Some('#') => while self.next().is_some_and(|c| c != '\n') {},
                Some(quote @ ('"' | '\'')) => return self.quoted(quote).map(Token::Word),
                Some(c) if c.is_whitespace() => {}
                Some(first) => return Ok(Token::Word(self.word(first))),
            }
        }
    }

    /// The rest of a text in quotes.
    fn quoted(&mut self, quote: char) -> Result<String, SyntaxError> {
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err(self.error("a quoted text does not end")),
                Some(c) if c == quote => return Ok(text),
                Some('\\') => self.escaped(&mut text),
                Some(c) => text.push(c),
            }
        }
    }

    /// The rest of a word without quotes, which begins with `first`.
    fn word(&mut self, first: char) -> String {
        let mut text = String::new();
        let mut current = Some(first);
        while let Some(c) = current {
            match c {
                '\\' => self.escaped(&mut text),
                // A brace behind `$` begins the name of a variable, and no block.
                '$' if self.rest.peek() == Some(&'{') => {
                    text.push(c);
                    while let Some(c) = self.next() {
                        text.push(c);
                        if c == '}' {
                            break;
                        }
                    }
                }
                c => text.push(c),
            }
            let ends = |c: &char| c.is_whitespace() || matches!(c, ';' | '{');
            current = match self.rest.peek() {
                Some(c) if ends(c) => None,
                _ => self.next(),
            };
        }
        text
    }

    /// What a backslash and the next character stand for. Before other characters nginx keeps it.
    fn escaped(&mut self, text: &mut String) {
        match self.next() {
            Some(c @ ('"' | '\'' | '\\')) => text.push(c),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some('n') => text.push('\n'),
            Some(c) => text.extend(['\\', c]),
            None => text.push('\\'),
        }
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.line += usize::from(next == Some('\n'));
        next
    }

    fn place(&self) -> Place {
        Place { file: Arc::clone(&self.file), line: self.line }
    }

    fn error(&self, what: &'static str) -> SyntaxError {
        SyntaxError { at: self.place(), what }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<Directive>, String> {
        parse(Path::new("site.conf"), text).map_err(|error| error.to_string())
    }

    /// The directives in one line each, with braces around blocks.
    fn flat(directives: &[Directive]) -> String {
        let flat = directives.iter().map(|directive| {
            let words = std::iter::once(&directive.name).chain(&directive.arguments);
            let words: Vec<_> = words.map(|word| format!("[{word}]")).collect();
            match &directive.block {
                Some(block) => format!("{}{{{}}}", words.concat(), flat(block)),
                None => format!("{};", words.concat()),
            }
        });
        flat.collect()
    }

    #[test]
    fn words_quotes_variables_and_comments_are_read_as_nginx_reads_them() {
        for (text, expected) in [
            ("", ""),
            ("# nothing\n", ""),
            ("listen 443 ssl;", "[listen][443][ssl];"),
            ("a{b c;}d;", "[a]{[b][c];}[d];"),
            ("server { # x { ; \n listen 80; }", "[server]{[listen][80];}"),
            (r#"h "a \"b\" ; {" 'it\'s' ;"#, r#"[h][a "b" ; {][it's];"#),
            (r"if ($a ~ ^\d+$) { return 404; }", r"[if][($a][~][^\d+$)]{[return][404];}"),
            (
                "return 301 https://${host}$request_uri;",
                "[return][301][https://${host}$request_uri];",
            ),
            ("a b#c;", "[a][b#c];"),
            ("a b}c;", "[a][b}c];"),
            ("map $x $y {\n '' 'registry/2.0';\n}", "[map][$x][$y]{[][registry/2.0];}"),
        ] {
            assert_eq!(flat(&read(text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn malformed_text_is_refused_with_its_line() {
        let deep = "a {".repeat(40);
        let long = "#".repeat(LONGEST + 1);
        for (text, expected) in [
            ("a b", "site.conf:1: this is not the syntax of nginx: a directive has no `;`"),
            ("a {\n b;\n", "site.conf:3: this is not the syntax of nginx: a block has no `}`"),
            ("\n}", "site.conf:2: this is not the syntax of nginx: `}` closes no block"),
            (
                "a 'b;\n\n",
                "site.conf:3: this is not the syntax of nginx: a quoted text does not end",
            ),
            (";", "site.conf:1: this is not the syntax of nginx: `;` ends no directive"),
            ("{}", "site.conf:1: this is not the syntax of nginx: `{` has no directive before it"),
            (
                &deep,
                "site.conf:1: this is not the syntax of nginx: blocks are nested more than 32 deep",
            ),
            (&long, "site.conf:1: this is not the syntax of nginx: the file is larger than 1 MiB"),
        ] {
            assert_eq!(read(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn place_of_a_directive_is_the_line_of_its_first_word() {
        let read = read("a;\n\nb\n c;\n").unwrap();
        let places: Vec<_> = read.iter().map(|directive| directive.at.to_string()).collect();
        assert_eq!(places, ["site.conf:1", "site.conf:3"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in r#"([a-z$ ;{}'"\\#\n]|\PC){0,80}"#) {
            if let Ok(directives) = read(&text) {
                // What is shown has no control characters, whatever the file has.
                for directive in directives {
                    prop_assert!(!directive.to_string().contains(char::is_control));
                }
            }
        }
    }
}
