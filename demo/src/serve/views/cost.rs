//! What the page cost, in this mode and in the others.

use maud::{Markup, html};

use super::{Frame, counted};
use crate::serve::cost::{Figures, Tiers, Versus};
use crate::serve::reader::Mode;

/// The switch, the figures of this page, and the modes beside each other.
pub(super) fn panel(frame: &Frame<'_>, versus: &Versus) -> Markup {
    let Some(now) = versus[frame.mode as usize] else { return html! {} };
    html! {
        aside.cost aria-label="What this page cost" {
            nav.modes aria-label="How this page is read" {
                @for mode in Mode::ALL {
                    a.{(mode.word())} href=(mode.link(frame.address))
                        aria-current=[(mode == frame.mode).then_some("true")] { (mode.name()) }
                }
            }
            dl.now.{(frame.mode.word())} {
                div { dt { "statements" } dd data-figure="statements" { (now.statements) } }
                div { dt { "round trips" } dd data-figure="trips" { (now.trips) } }
                div { dt { "milliseconds" } dd data-figure="ms" { (millis(&now)) } }
            }
            p.said { (said(frame.mode, &now)) }
            @if let Some(tiers) = &now.tiers { (answered(tiers)) }
            div.versus {
                (bars(frame, versus, "Statements", |of| of.statements as f64, |of| of.statements.to_string()))
                (bars(frame, versus, "Round trips", |of| of.trips as f64, |of| of.trips.to_string()))
                (bars(frame, versus, "Milliseconds", |of| of.took.as_secs_f64(), millis))
            }
        }
    }
}

/// The report of the request, which shows every trip, and what the same page costs naively.
pub(super) fn report(frame: &Frame<'_>, versus: &Versus, report: &str) -> Markup {
    html! {
        aside.report aria-label="The report of this request" {
            details {
                summary { "The cost report of this request, trip by trip" }
                p {
                    @match &versus[Mode::Naive as usize] {
                        Some(naive) => {
                            "Read naively, the same page made " (counted(naive.statements, "statement", "statements"))
                            ", one after the other."
                        }
                        None => {
                            a href=(Mode::Naive.link(frame.address)) { "Read it naively" }
                            " to see the same page beside it."
                        }
                    }
                }
                pre tabindex="0" { (report) }
            }
        }
    }
}

/// One figure of all modes, each as long as it is large.
fn bars(
    frame: &Frame<'_>,
    versus: &Versus,
    title: &str,
    size: fn(&Figures) -> f64,
    text: fn(&Figures) -> String,
) -> Markup {
    let most = versus.iter().flatten().map(size).fold(0.0, f64::max);
    html! {
        section {
            h2 { (title) }
            @for mode in Mode::ALL {
                div.row.{(mode.word())} aria-current=[(mode == frame.mode).then_some("true")] {
                    span.name { (mode.name()) }
                    @match &versus[mode as usize] {
                        Some(figures) => {
                            svg.bar aria-hidden="true" {
                                rect.all width="100%" height="100%" {}
                                rect.part width=(format!("{:.1}%", share(size(figures), most))) height="100%" {}
                            }
                            span.number { (text(figures)) }
                        }
                        None => {
                            span.unknown {}
                            a.number href=(mode.link(frame.address)) { "try" }
                        }
                    }
                }
            }
        }
    }
}

/// Never so little that nothing is seen.
fn share(size: f64, most: f64) -> f64 {
    if most > 0.0 { (100.0 * size / most).max(1.0) } else { 1.0 }
}

/// What the figures mean, in a sentence.
fn said(mode: Mode, now: &Figures) -> String {
    match (mode, &now.tiers) {
        (Mode::Naive, _) => "One statement for each object, when the page meets it.".into(),
        (Mode::DataLoader, _) => {
            "One statement per kind of object and level. The next request starts from nothing.".into()
        }
        (Mode::Mastaba, Some(tiers)) if tiers.source > 0 => format!(
            "{} objects were new to the cache and came from the database, in batches. Look again: they are known now.",
            tiers.source
        ),
        (Mode::Mastaba, _) => "Everything was known to the cache: level by level, in one read each.".into(),
    }
}

/// Which tier knew what.
fn answered(tiers: &Tiers) -> Markup {
    let all = (tiers.request + tiers.near + tiers.shared + tiers.source).max(1);
    let parts = [
        ("request", tiers.request),
        ("near", tiers.near),
        ("shared", tiers.shared),
        ("database", tiers.source),
    ];
    let mut from = 0.0;
    let parts = parts.map(|(name, keys)| {
        let wide = 100.0 * keys as f64 / all as f64;
        let part = (name, keys, from, wide);
        from += wide;
        part
    });
    html! {
        div.tiers {
            svg.bar role="img" aria-label="Which tier knew the objects of this page" {
                @for (name, _, from, wide) in &parts {
                    rect.{(name)} x=(format!("{from:.2}%")) width=(format!("{wide:.2}%")) height="100%" {}
                }
            }
            ul {
                @for (name, keys, ..) in parts.iter().filter(|(_, keys, ..)| *keys > 0) {
                    li.{(name)} { b { (keys) } " " (name) }
                }
            }
        }
    }
}

fn millis(figures: &Figures) -> String {
    format!("{:.1}", figures.took.as_secs_f64() * 1000.0)
}
