//! A package and everything around it.

use maud::{Markup, html};

use super::lists::{cards, tag};
use super::{Frame, counted, layout};
use crate::serve::pages::{Branch, Built, Credit, PackagePage};
use crate::sources::Package;

/// The page of a package.
pub(crate) fn package(frame: &Frame<'_>, page: &PackagePage) -> Markup {
    let package = &*page.package;
    let heading = html! {
        p.eyebrow { "Crate" }
        h1 { (package.name) " " span.version { (package.version) } }
        @if let Some(text) = &package.description { p.lead { (text) } }
        p.meta {
            @for license in &page.licenses { (tag(frame, license)) }
            @for word in &page.keywords { span.keyword { "#" (word) } }
        }
        p.actions {
            a.button href=(frame.link(&format!("/packages/{}/edit", package.id.0))) { "Edit" }
            @if let Some(address) = web(package) {
                a.button.quiet href=(address) rel="noreferrer" { "Repository" }
            }
        }
    };
    let body = html! {
        @if !page.credits.is_empty() {
            section {
                h2 { "Authors" }
                div.people { @for credit in &page.credits { (person(frame, credit)) } }
            }
        }
        (dependencies(frame, &page.branches))
        @if !page.features.is_empty() {
            section {
                h2 { "Features " span.count { (page.features.len()) } }
                dl.features {
                    @for feature in &page.features {
                        div {
                            dt { (feature.name) }
                            dd { @for other in &feature.enables { code { (other) } " " } }
                        }
                    }
                }
            }
        }
        section {
            h2 { "Dependents " span.count { (page.dependents.len()) } }
            @if page.dependents.is_empty() { p.empty { "Nothing in this build depends on it." } }
            (cards(frame, &page.dependents))
        }
    };
    layout(&package.name, frame, &heading, &body)
}

/// An author, and what else is from the same hand.
fn person(frame: &Frame<'_>, credit: &Credit) -> Markup {
    let author = format!("/authors/{}", credit.author.id.0);
    html! {
        div.person {
            h3 { a href=(frame.link(&author)) { (credit.author.display()) } }
            @if credit.others.is_empty() {
                p.empty { "Nothing else in this build" }
            } @else {
                p.chips {
                    @for other in &credit.others { (chip(frame, other)) }
                    @if credit.more > 0 { a.more href=(frame.link(&author)) { "+" (credit.more) " more" } }
                }
            }
        }
    }
}

fn chip(frame: &Frame<'_>, package: &Package) -> Markup {
    html! { a.chip href=(frame.link(&format!("/packages/{}", package.id.0))) { (package.name) } }
}

fn dependencies(frame: &Frame<'_>, branches: &[Branch]) -> Markup {
    let kinds =
        [(None, "Dependencies"), (Some("build"), "Build dependencies"), (Some("dev"), "For its own tests")];
    html! {
        @for (kind, title) in kinds {
            @let (built, rest): (Vec<_>, Vec<_>) = branches
                .iter()
                .filter(|branch| branch.kind.as_deref() == kind)
                .partition(|branch| branch.built.is_some());
            @if !built.is_empty() || !rest.is_empty() {
                section {
                    h2 { (title) " " span.count { (built.len() + rest.len()) } }
                    ul.branches {
                        @for branch in &built {
                            @if let Some(into) = &branch.built { (leaf(frame, branch, into)) }
                        }
                    }
                    @if !rest.is_empty() {
                        p.rest {
                            "Not in this build: "
                            @for branch in &rest { code { (branch.name) } " " }
                        }
                    }
                }
            }
        }
    }
}

fn leaf(frame: &Frame<'_>, branch: &Branch, built: &Built) -> Markup {
    let package = &*built.package;
    html! {
        li {
            div.what {
                h3 {
                    a href=(frame.link(&format!("/packages/{}", package.id.0))) { (package.name) }
                    " " span.version { (package.version) }
                }
                p.meta {
                    code { (branch.req) }
                    @if branch.optional { span { "optional" } }
                    @for license in &built.licenses { (tag(frame, license)) }
                    @if built.features > 0 { span { (counted(built.features, "feature", "features")) } }
                }
            }
            @if !built.credits.is_empty() {
                details {
                    summary {
                        "by " (built.credits[0].author.display())
                        @if built.credits.len() > 1 { " +" (built.credits.len() - 1) }
                    }
                    @for credit in &built.credits { (person(frame, credit)) }
                }
            }
        }
    }
}

/// Where it is kept, if that is an address of the web: anything else in a link could be a program.
fn web(package: &Package) -> Option<&str> {
    package.repository.as_deref().filter(|at| at.starts_with("https://") || at.starts_with("http://"))
}
