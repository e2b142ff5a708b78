//! The templates. Everything that they are given is escaped.

mod cost;
mod form;
mod lists;
mod package;

use axum::http::StatusCode;
use maud::{DOCTYPE, Markup, html};

pub(crate) use self::form::{author_form, package_form};
pub(crate) use self::lists::{author, license, search};
pub(crate) use self::package::package;
use super::cost::Versus;
use super::reader::Mode;

/// What every page knows.
pub(crate) struct Frame<'p> {
    pub(crate) mode: Mode,
    /// What was searched for, to stand in the field.
    pub(crate) search: &'p str,
    /// The address of this page in the usual mode.
    pub(crate) address: &'p str,
    /// What it is read from, in words.
    pub(crate) tiers: &'p str,
    /// What it cost, by mode.
    pub(crate) versus: Option<Versus>,
    /// What Mastaba says of it, where it was read by that.
    pub(crate) report: Option<String>,
    /// An edit has led here.
    pub(crate) saved: bool,
}

impl Frame<'_> {
    fn link(&self, address: &str) -> String {
        self.mode.link(address)
    }
}

/// The mark: a step pyramid.
fn mark() -> Markup {
    html! {
        svg.mark viewBox="0 0 24 24" aria-hidden="true" {
            rect x="8" y="4" width="8" height="4" rx="1" {}
            rect x="5" y="10" width="14" height="4" rx="1" {}
            rect x="2" y="16" width="20" height="4" rx="1" {}
        }
    }
}

/// A whole page.
fn layout(title: &str, frame: &Frame<'_>, heading: &Markup, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Mastaba crate explorer" }
                link rel="stylesheet" href="/style.css";
                link rel="icon" type="image/svg+xml" href="/favicon.svg";
            }
            body {
                a.skip href="#main" { "Skip to the page" }
                header.top {
                    div.inside {
                        a.home href=(frame.link("/")) { (mark()) span { "Crate explorer" } }
                        form.search role="search" action="/" method="get" {
                            @if frame.mode != Mode::default() {
                                input type="hidden" name="mode" value=(frame.mode.word());
                            }
                            input type="search" name="q" value=(frame.search) placeholder="Search crates by name"
                                aria-label="Search crates by name" maxlength="100" autocomplete="off";
                            button type="submit" { "Search" }
                        }
                    }
                }
                main #main .inside {
                    @if frame.saved {
                        p.saved role="status" {
                            "Saved and published: every page shows it from now on, in every mode."
                        }
                    }
                    div.page.plain[frame.versus.is_none()] {
                        div.heading { (heading) }
                        @if let Some(versus) = &frame.versus {
                            (cost::panel(frame, versus))
                        }
                        div.body {
                            (body)
                            @if let (Some(versus), Some(report)) = (&frame.versus, &frame.report) {
                                (cost::report(frame, versus, report))
                            }
                        }
                    }
                }
                footer.foot {
                    div.inside { p { (frame.tiers) } }
                }
            }
        }
    }
}

/// A page that says why there is no other.
pub(crate) fn refusal(status: StatusCode, sentence: &str) -> Markup {
    let frame = Frame {
        mode: Mode::default(),
        search: "",
        address: "/",
        tiers: "",
        versus: None,
        report: None,
        saved: false,
    };
    let title = status.canonical_reason().unwrap_or("No page");
    let heading = html! {
        p.eyebrow { (status.as_u16()) }
        h1 { (title) }
    };
    let body = html! {
        p.lead { (sentence) }
        p { a.button href="/" { "All crates" } }
    };
    layout(title, &frame, &heading, &body)
}

/// A number and its noun.
pub(super) fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
