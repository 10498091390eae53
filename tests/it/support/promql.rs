//! A parser for the part of `PromQL` that names the metrics and labels of a query.

/// The names in a query.
#[derive(Debug, Default, PartialEq)]
pub struct Query {
    /// The series, in order.
    pub selectors: Vec<Selector>,
    /// The labels of groupings and joins.
    pub grouped: Vec<String>,
}

/// A name with its label matchers.
#[derive(Debug, PartialEq)]
pub struct Selector {
    pub name: String,
    /// Label, operator, value.
    pub matchers: Vec<(String, String, String)>,
}

/// Words that are neither series nor, before a parenthesis, functions.
const WORDS: &[&str] = &[
    "and",
    "or",
    "unless",
    "bool",
    "offset",
    "sum",
    "min",
    "max",
    "avg",
    "count",
    "topk",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
];

const GROUPING: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];

impl Query {
    /// Parses a valid query of Prometheus, without a check of its validity.
    pub fn parse(text: &str) -> Self {
        let mut query = Self::default();
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            rest = if first.is_ascii_alphabetic() || first == '_' {
                query.word(rest)
            } else if first.is_ascii_digit() {
                // With the unit of a duration.
                rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.')
            } else if first == '[' {
                rest.split_once(']').unwrap().1
            } else {
                assert!("()+-*/%<>=!,^".contains(first), "{rest}: in {text}");
                &rest[1..]
            };
            rest = rest.trim_start();
        }
        query
    }

    fn word<'a>(&mut self, text: &'a str) -> &'a str {
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
        let (word, rest) = text.split_at(end.unwrap_or(text.len()));
        let rest = rest.trim_start();
        if GROUPING.contains(&word) {
            let Some(rest) = rest.strip_prefix('(') else { return rest };
            let (labels, rest) = rest.split_once(')').unwrap();
            let labels = labels.split(',').map(|label| label.trim().to_owned());
            self.grouped.extend(labels.filter(|label| !label.is_empty()));
            return rest;
        }
        if WORDS.contains(&word) || rest.starts_with('(') {
            return rest;
        }
        let (matchers, rest) = match rest.strip_prefix('{') {
            Some(rest) => matchers(rest),
            None => (Vec::new(), rest),
        };
        self.selectors.push(Selector { name: word.to_owned(), matchers });
        rest
    }
}

/// The text between braces, without the first brace, and the text after them.
fn matchers(mut rest: &str) -> (Vec<(String, String, String)>, &str) {
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return (found, rest);
        }
        let (head, behind) = rest.split_once('"').unwrap();
        let (value, behind) = behind.split_once('"').unwrap();
        let at = head.find(['=', '!']).unwrap();
        let (label, operator) = head.split_at(at);
        found.push((label.trim().to_owned(), operator.trim().to_owned(), value.to_owned()));
        rest = behind;
    }
}

#[test]
fn query_yields_the_names_of_its_metrics() {
    let query = Query::parse(
        "histogram_quantile(0.99, sum by (le, a) (rate(x_bucket{a=~\"$a\", b!=\"c}\"}[$__i]))) \
         / on(d) group_left y offset 5m > bool 3 or vector(0)",
    );
    let matcher = |label: &str, operator: &str, value: &str| {
        (label.to_owned(), operator.to_owned(), value.to_owned())
    };
    let matchers = vec![matcher("a", "=~", "$a"), matcher("b", "!=", "c}")];
    let x = Selector { name: "x_bucket".to_owned(), matchers };
    let y = Selector { name: "y".to_owned(), matchers: Vec::new() };
    assert_eq!(query.selectors, [x, y]);
    assert_eq!(query.grouped, ["le", "a", "d"]);
}
