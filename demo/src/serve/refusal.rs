//! What is answered instead of a page: to what cannot be meant, and where the database is out.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mastaba::BoxError;

use super::views;

/// A page that says why there is no other.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    sentence: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, sentence: impl Into<String>) -> Self {
        Self { status, sentence: sentence.into() }
    }

    /// A request that cannot be meant.
    pub(crate) fn bad(sentence: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, sentence)
    }

    /// Nothing is at this address.
    pub(crate) fn nothing() -> Self {
        Self::new(StatusCode::NOT_FOUND, "There is nothing at this address.")
    }
}

/// The database or the cache could not do it. Why is for the operator, not for the reader.
impl From<BoxError> for Refusal {
    fn from(error: BoxError) -> Self {
        anstream::eprintln!("demo: {error}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "The database does not answer. Try again in a moment.")
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        BoxError::from(error).into()
    }
}

impl From<mastaba::Error> for Refusal {
    fn from(error: mastaba::Error) -> Self {
        BoxError::from(error).into()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, views::refusal(self.status, &self.sentence)).into_response()
    }
}
