//! `cargo xtask bench --svg`: the rows of the bench that a reader of the README wants to see, as a picture.
//!
//! Every figure is of the lines that `mastaba-bench --json` prints, of one run. Nothing is left out of a row that is shown.

use std::fmt::Write;

use serde_json::Value;

/// A row that is drawn.
struct Shown {
    row: &'static str,
    title: &'static str,
    /// How its figures are to be read.
    about: &'static str,
    /// What everything is held against.
    reference: &'static str,
}

/// In this order, as far as the run has them.
const SHOWN: [Shown; 4] = [
    Shown {
        row: "P6 32 connections 100% warm rate",
        title: "A page over HTTP, everything in Redis",
        about: "pages per second on 32 connections, more is better",
        reference: "by hand",
    },
    Shown {
        row: "P6 32 connections 90% warm rate",
        title: "The same, and a tenth of it only in PostgreSQL",
        about: "pages per second on 32 connections, more is better",
        reference: "by hand",
    },
    Shown {
        row: "P7 spread statements",
        title: "200 requests for the same 20 cold keys, within 40 ms",
        about: "statements that reach the database, fewer are better",
        reference: "the least there can be",
    },
    Shown {
        row: "P7 two processes statements",
        title: "The same at once, half of them in each of two processes",
        about: "statements that reach the database, fewer are better",
        reference: "the least there can be",
    },
];

/// The rows to measure for it.
pub(crate) const ROWS: [&str; 2] = ["P6", "P7"];

/// What each case is called in the picture.
const NAMES: [(&str, &str); 4] = [
    ("mastaba near", "Mastaba, near"),
    ("mastaba", "Mastaba"),
    ("moka and GET", "moka and GET by hand"),
    ("by hand and near", "by hand, with a near cache"),
];

const WIDTH: usize = 720;
/// The room for names.
const LABEL: usize = 190;
const LINE: usize = 22;
const HEAD: usize = 44;
const GAP: usize = 16;

/// The picture of what `mastaba-bench --json` printed.
pub(crate) fn draw(lines: &str) -> Result<String, String> {
    let mut groups = Vec::new();
    for shown in &SHOWN {
        let mut bars = Vec::new();
        for line in lines.lines().filter(|line| !line.trim().is_empty()) {
            let value: Value =
                serde_json::from_str(line).map_err(|error| format!("no JSON: {error}: {line}"))?;
            if value["row"] == shown.row {
                let field = |name: &str| value[name].as_f64().ok_or_else(|| format!("no `{name}`: {line}"));
                let case = value["case"].as_str().ok_or_else(|| format!("no `case`: {line}"))?;
                bars.push(Bar { case: case.to_owned(), median: field("median")?, ratio: field("ratio")? });
            }
        }
        if !bars.is_empty() {
            groups.push((shown, bars));
        }
    }
    if groups.is_empty() {
        let rows: Vec<&str> = SHOWN.iter().map(|shown| shown.row).collect();
        return Err(format!("none of the rows that are drawn was measured: {}", rows.join(", ")));
    }
    Ok(picture(&groups))
}

struct Bar {
    case: String,
    median: f64,
    /// To the first case.
    ratio: f64,
}

fn picture(groups: &[(&Shown, Vec<Bar>)]) -> String {
    let height: usize = groups.iter().map(|(_, bars)| HEAD + bars.len() * LINE + GAP).sum();
    let mut svg = String::with_capacity(8 << 10);
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"13\">"
    );
    svg.push_str(STYLE);
    let mut y = 0;
    for (shown, bars) in groups {
        let _ = writeln!(
            svg,
            "<text class=\"ink\" x=\"0\" y=\"{}\" font-weight=\"600\">{}</text>",
            y + 18,
            text(shown.title)
        );
        let _ = writeln!(
            svg,
            "<text class=\"soft\" x=\"0\" y=\"{}\" font-size=\"12\">{}</text>",
            y + 35,
            text(shown.about)
        );
        y += HEAD;
        let most = bars.iter().map(|bar| bar.median).fold(f64::MIN_POSITIVE, f64::max);
        for bar in bars {
            line(&mut svg, y, (shown.reference, bar), most);
            y += LINE;
        }
        y += GAP;
    }
    svg.push_str("</svg>\n");
    svg
}

/// Colours for a light page and for a dark one; the picture itself has no ground.
const STYLE: &str = "<style>\
.ink{fill:#1f2328}.soft{fill:#59636e}.ours{fill:#b45309}.theirs{fill:#9aa4af}\
@media(prefers-color-scheme:dark){.ink{fill:#e6edf3}.soft{fill:#9198a1}.ours{fill:#f59e0b}.theirs{fill:#59636e}}\
</style>\n";

fn line(svg: &mut String, y: usize, (reference, bar): (&str, &Bar), most: f64) {
    let room = WIDTH - LABEL - 130;
    #[allow(clippy::cast_precision_loss)]
    let width = (bar.median / most * room as f64).max(1.0);
    let ours = bar.case.starts_with("mastaba");
    let class = if ours { "ours" } else { "theirs" };
    let weight = if ours { " font-weight=\"600\"" } else { "" };
    let known = NAMES.iter().find(|(case, _)| *case == bar.case).map_or(bar.case.as_str(), |(_, name)| name);
    let name = if bar.case == "reference" { reference } else { known };
    let middle = y + 14;
    let _ = writeln!(
        svg,
        "<text class=\"ink\" x=\"{}\" y=\"{middle}\" text-anchor=\"end\"{weight}>{}</text>",
        LABEL - 10,
        text(name)
    );
    let _ = writeln!(
        svg,
        "<rect class=\"{class}\" x=\"{LABEL}\" y=\"{}\" width=\"{width:.1}\" height=\"14\" rx=\"2\"/>",
        y + 3
    );
    #[allow(clippy::cast_precision_loss)]
    let end = LABEL as f64 + width + 8.0;
    let _ = writeln!(
        svg,
        "<text class=\"ink\" x=\"{end:.1}\" y=\"{middle}\"{weight}>{} <tspan class=\"soft\">{:.2}\u{d7}</tspan></text>",
        figure(bar.median),
        bar.ratio
    );
}

/// Three digits that matter, and thousands apart.
fn figure(value: f64) -> String {
    if value < 9.95 {
        let text = format!("{value:.1}");
        return text.strip_suffix(".0").map_or(text.clone(), str::to_owned);
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn text(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the bench prints it: the rows of a quick run.
    const LINES: &str = include_str!("chart/fixture.jsonl");

    #[test]
    fn every_case_of_a_row_is_drawn_with_its_figures() {
        let svg = draw(LINES).unwrap();
        assert_eq!(svg.matches("<rect").count(), 7 + 7 + 3, "{svg}");
        for shown in [
            "by hand</text>",
            "Mastaba, near</text>",
            "DataLoader</text>",
            "naive SQL</text>",
            "14,250",
            "2.50\u{d7}",
            "the least there can be",
        ] {
            assert!(svg.contains(shown), "{shown}: {svg}");
        }
        assert!(svg.contains("200 requests for") && !svg.contains("two processes"), "{svg}");
    }

    #[test]
    fn bars_are_as_long_as_their_figures_say() {
        let svg = draw(LINES).unwrap();
        let widths: Vec<f64> = svg
            .split("<rect ")
            .skip(1)
            .filter_map(|rect| rect.split("width=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        // of the first group: 5,700 by hand, 14,250 with near
        assert!((widths[0] / widths[2] - 0.4).abs() < 0.01, "{widths:?}");
        assert!((widths[2] - 400.0).abs() < 0.1, "{widths:?}");
    }

    #[test]
    fn ours_stand_out_in_light_and_in_dark() {
        let svg = draw(LINES).unwrap();
        assert_eq!(svg.matches("class=\"ours\"").count(), 5, "{svg}");
        assert!(svg.contains("prefers-color-scheme:dark"));
    }

    #[test]
    fn a_run_without_those_rows_is_an_error_that_names_them() {
        let other = r#"{"row":"P1","case":"reference","median":1.0,"ratio":1.0}"#;
        assert!(draw(other).unwrap_err().contains("P7 spread statements"));
        assert!(draw("nothing").unwrap_err().contains("no JSON"));
        let bare = r#"{"row":"P7 spread statements","case":"reference"}"#;
        assert!(draw(bare).unwrap_err().contains("no `median`"));
    }

    #[test]
    fn figures_are_shown_as_people_write_them() {
        assert_eq!([1.0, 1.26, 20.0, 999.6, 14_250.4].map(figure), ["1", "1.3", "20", "1,000", "14,250"]);
    }
}
