//! What is cached, and how it is loaded.

use std::collections::HashMap;

use mastaba::{Keyed, Keys, LoadContext, Rows, Source};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgPool};

#[derive(FromRow, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) email: String,
    pub(crate) team_id: i64,
}

#[derive(FromRow, Serialize, Deserialize)]
pub(crate) struct Post {
    pub(crate) id: i64,
    pub(crate) author_id: i64,
    pub(crate) title: String,
}

/// A user stands under two keys: whoever changes the row voids both, of what it was and of what it is.
impl Keyed for User {
    fn keys(&self, keys: &mut Keys) {
        keys.add::<UserById>(self.id);
        keys.add::<UserByEmail>(self.email.clone());
    }
}

pub(crate) struct TeamById(pub(crate) PgPool);
pub(crate) struct UserById(pub(crate) PgPool);
pub(crate) struct UserByEmail(pub(crate) PgPool);
pub(crate) struct PostById(pub(crate) PgPool);
pub(crate) struct CommentsOfPost(pub(crate) PgPool);

impl Source for TeamById {
    type Key = i64;
    type Value = String;
    type Error = sqlx::Error;
    const NAME: &'static str = "team.by_id";
    const REGION: &'static str = "blog";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[i64]) -> sqlx::Result<Rows<Self>> {
        let names = sqlx::query_as::<_, (i64, String)>("select id, name from team where id = any($1)");
        Ok(names.bind(ids).fetch_all(&self.0).await?.into_iter().collect())
    }
}

impl Source for UserById {
    type Key = i64;
    type Value = User;
    type Error = sqlx::Error;
    const NAME: &'static str = "user.by_id";
    const REGION: &'static str = "blog";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[i64]) -> sqlx::Result<Rows<Self>> {
        let users = sqlx::query_as::<_, User>("select * from account where id = any($1)").bind(ids);
        Ok(users.fetch_all(&self.0).await?.into_iter().map(|user| (user.id, user)).collect())
    }
}

/// An index: it leads to the key alone, so that a row is cached once.
impl Source for UserByEmail {
    type Key = String;
    type Value = i64;
    type Error = sqlx::Error;
    const NAME: &'static str = "user.by_email";
    const REGION: &'static str = "blog";

    async fn load_many(&self, _: &LoadContext<'_>, emails: &[String]) -> sqlx::Result<Rows<Self>> {
        let ids = sqlx::query_as::<_, (String, i64)>("select email, id from account where email = any($1)");
        Ok(ids.bind(emails).fetch_all(&self.0).await?.into_iter().collect())
    }
}

impl Source for PostById {
    type Key = i64;
    type Value = Post;
    type Error = sqlx::Error;
    const NAME: &'static str = "post.by_id";
    const REGION: &'static str = "blog";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[i64]) -> sqlx::Result<Rows<Self>> {
        let posts = sqlx::query_as::<_, Post>("select * from post where id = any($1)").bind(ids);
        Ok(posts.fetch_all(&self.0).await?.into_iter().map(|post| (post.id, post)).collect())
    }
}

/// A list of who said what: a post without comments has an empty one.
impl Source for CommentsOfPost {
    type Key = i64;
    type Value = Vec<(i64, String)>;
    type Error = sqlx::Error;
    const NAME: &'static str = "comment.of_post";
    const REGION: &'static str = "blog";

    async fn load_many(&self, _: &LoadContext<'_>, posts: &[i64]) -> sqlx::Result<Rows<Self>> {
        let select = "select post_id, author_id, text from comment where post_id = any($1) order by id";
        let mut lists: HashMap<_, _> = posts.iter().map(|post| (*post, Vec::new())).collect();
        let comments = sqlx::query_as::<_, (i64, i64, String)>(select).bind(posts).fetch_all(&self.0);
        for (post, author, text) in comments.await? {
            lists.entry(post).or_default().push((author, text));
        }
        Ok(lists.into_iter().collect())
    }
}
