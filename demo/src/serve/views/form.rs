//! The forms.

use maud::{Markup, html};

use super::{Frame, layout};
use crate::serve::edit::{AuthorForm, DESCRIPTION, KEYWORDS, NAME, PackageForm};
use crate::sources::{Author, Package};

/// The form of a package, with what is wrong in it.
pub(crate) fn package_form(
    frame: &Frame<'_>,
    package: &Package,
    form: &PackageForm,
    problems: &[String],
) -> Markup {
    let at = format!("/packages/{}", package.id.0);
    let heading = html! {
        p.eyebrow { "Edit crate" }
        h1 { (package.name) " " span.version { (package.version) } }
        p.lead { "Written in a transaction; once it has committed, what any cache knows of it is void." }
    };
    let body = html! {
        form.edit method="post" action=(frame.link(&at)) {
            (told(problems))
            label for="description" { "Description" }
            textarea #description name="description" rows="4" maxlength=(DESCRIPTION) { (form.description) }
            label for="keywords" { "Keywords" }
            input #keywords name="keywords" value=(form.keywords) maxlength=(KEYWORDS) autocomplete="off";
            p.hint { "Words with spaces between them, ten at the most." }
            p.actions {
                button type="submit" { "Save" }
                a.button.quiet href=(frame.link(&at)) { "Leave it" }
            }
        }
    };
    layout(&format!("Edit {}", package.name), frame, &heading, &body)
}

/// The form of an author, with what is wrong in it.
pub(crate) fn author_form(
    frame: &Frame<'_>,
    author: &Author,
    form: &AuthorForm,
    problems: &[String],
) -> Markup {
    let at = format!("/authors/{}", author.id.0);
    let heading = html! {
        p.eyebrow { "Edit author" }
        h1 { (author.display()) }
        p.lead { "The name stands on the page of every crate that this author wrote, and of all that depend on them." }
    };
    let body = html! {
        form.edit method="post" action=(frame.link(&at)) {
            (told(problems))
            label for="name" { "Name" }
            input #name name="name" value=(form.name) maxlength=(NAME) required autocomplete="off";
            p.hint { "An address in angle brackets is kept and not shown." }
            p.actions {
                button type="submit" { "Save" }
                a.button.quiet href=(frame.link(&at)) { "Leave it" }
            }
        }
    };
    layout(&format!("Edit {}", author.display()), frame, &heading, &body)
}

fn told(problems: &[String]) -> Markup {
    html! {
        @if !problems.is_empty() {
            div.problems role="alert" { @for problem in problems { p { (problem) } } }
        }
    }
}
