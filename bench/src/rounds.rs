//! Rounds: every case once, in a fresh order, each held against the reference of its round.

use serde_json::json;

/// How long to measure.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) quick: bool,
}

impl Effort {
    /// The rounds of a group, or few.
    pub(crate) fn rounds(self, rounds: usize) -> usize {
        if self.quick { 3 } else { rounds }
    }
}

/// One way to do the work of a group. It gives what it cost, in the unit of the group.
pub(crate) struct Case<'a> {
    name: &'static str,
    run: Box<dyn FnMut() -> f64 + 'a>,
}

impl<'a> Case<'a> {
    pub(crate) fn new(name: &'static str, run: impl FnMut() -> f64 + 'a) -> Self {
        Self { name, run: Box::new(run) }
    }
}

/// What was measured of a group; its first line is the reference.
pub(crate) struct Table {
    row: String,
    about: String,
    unit: &'static str,
    /// The most that ours may cost, as a ratio to the reference.
    goal: Option<f64>,
    /// The least that cases of ours may bring, as ratios to the reference, where more is better.
    least: &'static [(&'static str, f64)],
    lines: Vec<Line>,
}

struct Line {
    case: &'static str,
    median: f64,
    ratio: f64,
    p25: f64,
    p75: f64,
    /// The ratio of the 10th percentiles, of rates the 90th: bursts of the machine do not reach it.
    low: f64,
}

/// Measures a group. The first case is the reference.
pub(crate) fn measure(
    row: impl Into<String>,
    about: impl Into<String>,
    (unit, goal): (&'static str, Option<f64>),
    rounds: usize,
    mut cases: Vec<Case<'_>>,
) -> Table {
    let mut costs = vec![Vec::with_capacity(rounds); cases.len()];
    for case in &mut cases {
        (case.run)(); // warm
    }
    for _ in 0..rounds {
        let mut order: Vec<_> = (0..cases.len()).collect();
        fastrand::shuffle(&mut order);
        for at in order {
            costs[at].push((cases[at].run)());
        }
    }
    let costs = cases.iter().zip(costs).map(|(case, costs)| (case.name, costs)).collect();
    recorded(row, about, (unit, goal), costs)
}

/// The table of what was measured elsewhere, as many figures for each case. The first case is the reference.
pub(crate) fn recorded(
    row: impl Into<String>,
    about: impl Into<String>,
    (unit, goal): (&'static str, Option<f64>),
    cases: Vec<(&'static str, Vec<f64>)>,
) -> Table {
    Table { row: row.into(), about: about.into(), unit, goal, least: &[], lines: lines(cases, 0.1) }
}

/// The same of figures that are better the higher they are, with the least that some cases have to reach.
pub(crate) fn rates(
    row: impl Into<String>,
    about: impl Into<String>,
    (unit, least): (&'static str, &'static [(&'static str, f64)]),
    cases: Vec<(&'static str, Vec<f64>)>,
) -> Table {
    Table { row: row.into(), about: about.into(), unit, goal: None, least, lines: lines(cases, 0.9) }
}

/// `quiet`: the quantile that bursts of the machine do not reach.
fn lines(cases: Vec<(&'static str, Vec<f64>)>, quiet: f64) -> Vec<Line> {
    let reference = cases.first().map(|(_, costs)| costs.clone()).unwrap_or_default();
    let lines = cases.into_iter().map(|(case, costs)| {
        let mut ratios: Vec<_> = costs.iter().zip(&reference).map(|(cost, base)| cost / base).collect();
        Line {
            case,
            median: quantile(&mut costs.clone(), 0.5),
            ratio: quantile(&mut ratios, 0.5),
            p25: quantile(&mut ratios, 0.25),
            p75: quantile(&mut ratios, 0.75),
            low: quantile(&mut costs.clone(), quiet) / quantile(&mut reference.clone(), quiet),
        }
    });
    lines.collect()
}

fn quantile(values: &mut [f64], at: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let place = ((values.len() - 1) as f64 * at).round() as usize;
    values[place]
}

impl Table {
    /// One JSON object a line.
    pub(crate) fn print_json(&self) {
        for line in &self.lines {
            let row = json!({
                "row": self.row, "case": line.case, "unit": self.unit, "median": line.median,
                "ratio": line.ratio, "p25": line.p25, "p75": line.p75, "low": line.low,
            });
            println!("{row}");
        }
    }

    /// A table for people.
    pub(crate) fn print(&self) {
        println!("\n{}  {}", self.row, self.about);
        println!("  {:28} {:>12} {:>8} {:>16} {:>8}", "case", self.unit, "ratio", "p25..p75", "low");
        for line in &self.lines {
            let spread = format!("{:.2}..{:.2}", line.p25, line.p75);
            let goal = match self.goal {
                Some(goal) if line.case == "mastaba" => {
                    let word = if line.ratio <= goal { "met" } else { "MISSED" };
                    format!("  goal {goal}: {word}")
                }
                _ => match self.least.iter().find(|(case, _)| *case == line.case) {
                    Some((_, least)) => {
                        let word = if line.ratio >= *least { "met" } else { "MISSED" };
                        format!("  goal at least {least}: {word}")
                    }
                    None => String::new(),
                },
            };
            println!(
                "  {:28} {:>12.1} {:>8.2} {spread:>16} {:>8.2}{goal}",
                line.case, line.median, line.ratio, line.low
            );
        }
    }
}
