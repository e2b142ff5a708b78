//! What the pages on writes change: accounts in PostgreSQL, under their number and their address.

use mastaba::{Keyed, Keys, LoadContext, Rows, Source};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

/// A row of `account`.
#[derive(Debug, sqlx::FromRow, Serialize, Deserialize)]
pub struct Account {
    /// Its number.
    pub id: i64,
    /// Its address, which no other one has.
    pub email: String,
    /// Its name.
    pub name: String,
}

impl Keyed for Account {
    fn keys(&self, keys: &mut Keys) {
        keys.add::<AccountById>(self.id);
        keys.add::<IdByEmail>(self.email.clone());
    }
}

/// Accounts by their number.
pub struct AccountById(pub PgPool);

impl Source for AccountById {
    type Key = i64;
    type Value = Account;
    type Error = sqlx::Error;
    const NAME: &'static str = "account.by_id";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[i64]) -> sqlx::Result<Rows<Self>> {
        let accounts = sqlx::query_as::<_, Account>("select * from account where id = any($1)").bind(ids);
        Ok(accounts.fetch_all(&self.0).await?.into_iter().map(|account| (account.id, account)).collect())
    }
}

/// The number of an account by its address.
pub struct IdByEmail(pub PgPool);

impl Source for IdByEmail {
    type Key = String;
    type Value = i64;
    type Error = sqlx::Error;
    const NAME: &'static str = "account.id_by_email";
    const REGION: &'static str = "objects";
    const SHOW_KEYS: bool = false;

    async fn load_many(&self, _: &LoadContext<'_>, emails: &[String]) -> sqlx::Result<Rows<Self>> {
        let ids = sqlx::query_as::<_, (String, i64)>("select email, id from account where email = any($1)");
        Ok(ids.bind(emails).fetch_all(&self.0).await?.into_iter().collect())
    }
}
