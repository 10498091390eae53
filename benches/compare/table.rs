//! The table, readable in a terminal and as Markdown alike.

use std::iter;

use crate::{results::Measured, sides::Side};

const HEAD: [&str; 10] = [
    "#",
    "figure",
    "Portcullis",
    "nginx + registry:2",
    "limit",
    "× pair",
    "× limit",
    "at least",
    "met",
    "server's processor time",
];

/// The table, and below it the lines that could not be measured.
pub(crate) fn render(results: &[Measured]) -> String {
    let head = HEAD.map(str::to_owned);
    let rows: Vec<_> = results.iter().map(|result| row(result, results)).collect();
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| {
            let cells = iter::once(&head).chain(&rows).map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        })
        .collect();
    let print = |row: &[String; 10]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!(" {cell:<width$} |"));
        format!("|{}\n", cells.collect::<String>())
    };
    let rule = widths.iter().map(|width| format!("{}|", "-".repeat(width + 2))).collect::<String>();
    let rows = rows.iter().map(print).collect::<String>();
    format!("{}|{rule}\n{rows}{}{}", print(&head), busy(results), failures(results))
}

fn row(result: &Measured, results: &[Measured]) -> [String; 10] {
    let ratio =
        |side| result.advantage(side).map_or_else(|| "–".to_owned(), |times| format!("{times:.2}"));
    let met = match result.is_met(results) {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "–",
    };
    [
        result.line.number.to_owned(),
        result.line.figure.clone(),
        cell(result, Side::Portcullis),
        cell(result, Side::Pair),
        cell(result, Side::Bound),
        ratio(Side::Pair),
        ratio(Side::Bound),
        result.required(),
        met.to_owned(),
        processor_time(result),
    ]
}

/// The median, and the least and the greatest after several turns.
fn cell(result: &Measured, side: Side) -> String {
    let Some(median) = result.median(side) else {
        let failed = result.failures.iter().any(|(failed, _)| *failed == side);
        return if failed { "not measured" } else { "–" }.to_owned();
    };
    let unit = result.line.unit;
    let bound =
        if side == Side::Bound { format!("{}: ", result.line.bound) } else { String::new() };
    let spread = result.spread(side).map_or_else(String::new, |(least, greatest)| {
        format!(" ({}–{})", bare(&unit.show(least)), bare(&unit.show(greatest)))
    });
    format!("{bound}{}{spread}", unit.show(median))
}

/// The processor time of a request or a gigabyte on each side that has a server.
fn processor_time(result: &Measured) -> String {
    let Some(unit) = result.line.unit.processor_unit() else { return "–".to_owned() };
    let names = [(Side::Portcullis, ""), (Side::Pair, "pair "), (Side::Bound, "limit ")];
    let cells: Vec<_> = names
        .into_iter()
        .filter_map(|(side, name)| {
            Some(format!("{name}{}", unit.show(result.processor_time(side)?)))
        })
        .collect();
    if cells.is_empty() { "–".to_owned() } else { cells.join(", ") }
}

/// A figure without its unit, unless it differs from the usual one.
fn bare(shown: &str) -> &str {
    shown.trim_end_matches("/s").trim_end_matches(" GB")
}

fn busy(results: &[Measured]) -> String {
    let lines: String = results
        .iter()
        .filter_map(|result| Some((result, result.load()?)))
        .map(|(result, load)| {
            let who = if load.clients > load.servers { ": the client takes more" } else { "" };
            format!("- {}: {:.2} + {:.2}{who}\n", result.line.number, load.clients, load.servers)
        })
        .collect();
    if lines.is_empty() {
        return lines;
    }
    format!(
        "\nCores kept busy while Portcullis had its turn, clients + server. Where the sum is what \
         the machine\nhas, both share the bottleneck, and a client that takes more is most of \
         it:\n\n{lines}"
    )
}

fn failures(results: &[Measured]) -> String {
    let lines: String = results
        .iter()
        .flat_map(|result| result.failures.iter().map(move |failure| (result, failure)))
        .map(|(result, (side, why))| format!("- {} ({side:?}): {why}\n", result.line.number))
        .collect();
    if lines.is_empty() { lines } else { format!("\nNot measured:\n\n{lines}") }
}
