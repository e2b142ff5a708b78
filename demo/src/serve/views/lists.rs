//! Lists of packages: what a search found, what an author wrote, what stands under a licence.

use maud::{Markup, html};

use super::{Frame, counted, layout};
use crate::serve::pages::{Card, ENTRIES, Listing};
use crate::sources::{Author, License};

/// All packages, or those that were searched for.
pub(crate) fn search(frame: &Frame<'_>, listing: &Listing, page: usize) -> Markup {
    let heading = if frame.search.is_empty() {
        html! {
            p.eyebrow { "Dependency graph" }
            h1 { (counted(listing.all, "crate", "crates")) }
            p.lead { "Everything that this workspace is built from. Open one, then read the same page in another way." }
        }
    } else {
        html! {
            p.eyebrow { "Search" }
            h1 { (counted(listing.all, "crate", "crates")) " like “" (frame.search) "”" }
            p.lead { a href=(frame.link("/")) { "All crates" } }
        }
    };
    let body = html! {
        @if listing.cards.is_empty() { p.empty { "No crate has a name like that." } }
        (cards(frame, &listing.cards))
        (turn(frame, listing, page))
    };
    let title = if frame.search.is_empty() { "All crates" } else { frame.search };
    layout(title, frame, &heading, &body)
}

/// An author and what is from the same hand.
pub(crate) fn author(frame: &Frame<'_>, author: &Author, listing: &Listing, page: usize) -> Markup {
    let heading = html! {
        p.eyebrow { "Author" }
        h1 { (author.display()) }
        p.lead { (counted(listing.all, "crate", "crates")) " in this build" }
        p { a.button href=(frame.link(&format!("/authors/{}/edit", author.id.0))) { "Edit the name" } }
    };
    let body = html! { (cards(frame, &listing.cards)) (turn(frame, listing, page)) };
    layout(author.display(), frame, &heading, &body)
}

/// A licence and what stands under it.
pub(crate) fn license(frame: &Frame<'_>, license: &License, listing: &Listing, page: usize) -> Markup {
    let heading = html! {
        p.eyebrow { "Licence" }
        h1 { (license.name) }
        p.lead { (counted(listing.all, "crate", "crates")) " in this build may be used under it" }
    };
    let body = html! { (cards(frame, &listing.cards)) (turn(frame, listing, page)) };
    layout(&license.name, frame, &heading, &body)
}

/// Packages as cards.
pub(super) fn cards(frame: &Frame<'_>, cards: &[Card]) -> Markup {
    html! {
        ul.cards {
            @for card in cards {
                li.card {
                    h3 {
                        a href=(frame.link(&format!("/packages/{}", card.package.id.0))) { (card.package.name) }
                        " " span.version { (card.package.version) }
                    }
                    @if let Some(text) = &card.package.description { p.text { (text) } }
                    p.meta {
                        @for license in &card.licenses { (tag(frame, license)) }
                        @if card.dependents > 0 {
                            span { (counted(card.dependents, "dependent", "dependents")) }
                        }
                        @if let Some(author) = card.authors.first() {
                            span {
                                "by " a href=(frame.link(&format!("/authors/{}", author.id.0))) { (author.display()) }
                                @if card.authors.len() > 1 { " +" (card.authors.len() - 1) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A licence as a small label.
pub(super) fn tag(frame: &Frame<'_>, license: &License) -> Markup {
    html! { a.tag href=(frame.link(&format!("/licences/{}", license.id.0))) { (license.name) } }
}

/// The way to the other pages of a list.
fn turn(frame: &Frame<'_>, listing: &Listing, page: usize) -> Markup {
    let pages = listing.all.div_ceil(ENTRIES);
    // the address of this page says its number, where it has one
    let base = frame.address.split(['?', '&']).filter(|part| !part.starts_with("page=")).collect::<Vec<_>>();
    let address = |page: usize| {
        let mut address = base[0].to_owned();
        let number = format!("page={page}");
        for (nth, part) in base[1..].iter().copied().chain([number.as_str()]).enumerate() {
            address.push(if nth == 0 { '?' } else { '&' });
            address.push_str(part);
        }
        frame.link(&address)
    };
    html! {
        @if pages > 1 {
            nav.turn aria-label="Pages of this list" {
                @if page > 1 { a.button rel="prev" href=(address(page - 1)) { "← Back" } } @else { span {} }
                span { "Page " (page) " of " (pages) }
                @if page < pages { a.button rel="next" href=(address(page + 1)) { "On →" } } @else { span {} }
            }
        }
    }
}
