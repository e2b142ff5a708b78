//! What is cached, and how it is found.

use mastaba_sqlx::{Cached, Children};
use serde::{Deserialize, Serialize};
use sqlx::FromRow;

#[derive(FromRow, Serialize, Deserialize, Cached)]
#[cached(table = "team", key = "id", region = "blog")]
pub(crate) struct Team {
    pub(crate) id: i64,
    pub(crate) name: String,
}

#[derive(FromRow, Serialize, Deserialize, Cached)]
#[cached(table = "account", key = "id", region = "blog", index(email, unique, hidden))]
pub(crate) struct User {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) email: String,
    pub(crate) team_id: i64,
}

#[derive(FromRow, Serialize, Deserialize, Cached)]
#[cached(table = "post", key = "id", region = "blog")]
pub(crate) struct Post {
    pub(crate) id: i64,
    pub(crate) author_id: i64,
    pub(crate) title: String,
    #[sqlx(skip)]
    pub(crate) comments: Children<CommentIdsByPostId>,
}

/// Who said what: comments are kept with their post, up to a hundred.
#[derive(FromRow, Serialize, Deserialize, Cached)]
#[cached(table = "comment", key = "id", region = "blog", list(post_id, embed = "Post"))]
pub(crate) struct Comment {
    pub(crate) id: i64,
    pub(crate) post_id: i64,
    pub(crate) author_id: i64,
    pub(crate) text: String,
}
