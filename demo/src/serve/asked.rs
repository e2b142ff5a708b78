//! What an address asks for, checked before anything is done: the mode, the search, the page of a list.

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::Deserialize;

use super::reader::Mode;
use super::refusal::Refusal;

/// The longest search.
const SEARCH: usize = 100;

/// The last page of a list that can be asked for.
const PAGES: usize = 10_000;

/// The query of an address.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) mode: Mode,
    pub(crate) search: String,
    /// Counted from 1.
    pub(crate) page: usize,
    /// This is what an edit has led to.
    pub(crate) saved: bool,
}

#[derive(Deserialize)]
struct Raw {
    mode: Option<String>,
    q: Option<String>,
    page: Option<String>,
    saved: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let unreadable = || Refusal::bad("The part of the address after the question mark cannot be read.");
        let Query(raw) = Query::<Raw>::try_from_uri(&parts.uri).map_err(|_| unreadable())?;
        let mode = match raw.mode {
            None => Mode::default(),
            Some(word) => Mode::of(&word)
                .ok_or_else(|| Refusal::bad("There is no such mode: it is naive, dataloader or mastaba."))?,
        };
        let search = raw.q.unwrap_or_default().trim().to_owned();
        if !readable(&search) {
            return Err(unreadable());
        }
        if search.chars().count() > SEARCH {
            return Err(Refusal::bad("That is too long for a search: 100 characters are the most."));
        }
        let page = match raw.page {
            None => 1,
            Some(page) => page
                .parse()
                .ok()
                .filter(|page| (1..=PAGES).contains(page))
                .ok_or_else(|| Refusal::bad("The page of a list is a number from 1 to 10,000."))?,
        };
        Ok(Self { mode, search, page, saved: raw.saved.is_some() })
    }
}

/// Whether text is what somebody has typed on one line. What was not UTF-8 has become a replacement character,
/// and Postgres knows no text with a zero in it.
pub(crate) fn readable(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER)
}

/// The number in a path.
pub(crate) struct Number(pub(crate) i64);

impl<S: Send + Sync> FromRequestParts<S> for Number {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, state).await;
        let Path(word) = path.map_err(|_| Refusal::bad("This address cannot be read."))?;
        // digits alone: a number has one address
        let digits = word.bytes().all(|byte| byte.is_ascii_digit()) && !word.starts_with('0');
        word.parse().ok().filter(|_| digits).map(Self).ok_or_else(Refusal::nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn asked(address: &str) -> Result<Asked, Refusal> {
        let request = axum::http::Request::builder().uri(address).body(()).unwrap();
        Asked::from_request_parts(&mut request.into_parts().0, &()).await
    }

    #[tokio::test]
    async fn an_address_says_the_mode_the_search_and_the_page() {
        let found = asked("/?q=%20serde%20&page=2&mode=naive&utm=x").await.unwrap();
        assert_eq!((found.search.as_str(), found.page, found.mode), ("serde", 2, Mode::Naive));
        let found = asked("/").await.unwrap();
        assert_eq!((found.search.as_str(), found.page, found.mode), ("", 1, Mode::Mastaba));
    }

    #[tokio::test]
    async fn what_cannot_be_meant_is_refused() {
        let long = format!("/?q={}", "x".repeat(101));
        for address in
            ["/?mode=fast", "/?page=0", "/?page=-1", "/?page=x", "/?q=%FF", "/?q=%00", "/?q=a&q=b", &long]
        {
            assert!(asked(address).await.is_err(), "{address}");
        }
    }
}
