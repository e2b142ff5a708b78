//! Accounts in PostgreSQL, by diesel-async. `DATABASE_URL=postgres://.. cargo run -p diesel-example`
//!
//! What there is to see: a source is one `eq_any`; a write is a transaction by diesel's own transaction manager, whose
//! COMMIT goes through [`Write::commit_unless`](mastaba::Write::commit_unless).

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::pooled_connection::bb8;
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, RunQueryDsl, TransactionManager};
use mastaba::{BoxError, Cache, CommitError, LoadContext, Region, RequestCache, Rows, Source};
use mastaba_axum::CacheLayer;
use serde::{Deserialize, Serialize};

use crate::schema::account;

/// A pool that looks at each connection that comes back, and closes one whose transaction is still open.
pub type Pool = bb8::Pool<AsyncPgConnection>;

#[allow(missing_docs)]
mod schema {
    diesel::table! {
        account (id) {
            id -> BigInt,
            name -> Text,
            email -> Text,
        }
    }
}

/// A row.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Serialize, Deserialize)]
#[diesel(table_name = account, check_for_backend(diesel::pg::Pg))]
pub struct Account {
    /// Its key.
    pub id: i64,
    /// Of the person.
    pub name: String,
    /// Unique, which the database checks at COMMIT.
    pub email: String,
}

/// Accounts by their id.
pub struct AccountById(pub Pool);

impl Source for AccountById {
    type Key = i64;
    type Value = Account;
    type Error = BoxError;
    const NAME: &'static str = "account.by_id";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[i64]) -> Result<Rows<Self>, BoxError> {
        let mut connection = self.0.get().await?;
        // where id = any($1): one prepared statement, however many there are
        let select = account::table.filter(account::id.eq_any(ids)).select(Account::as_select());
        let rows = select.load(&mut *connection).await?;
        Ok(rows.into_iter().map(|row| (row.id, row)).collect())
    }
}

/// Reads one. Those that are awaited together are one statement.
///
/// # Errors
/// If it does not exist, or cannot be loaded.
pub async fn read(cache: RequestCache, Path(id): Path<i64>) -> Result<Json<Account>, Failed> {
    let account = cache.get::<AccountById>(id).await?.ok_or(Failed::NotFound)?;
    Ok(Json((*account).clone()))
}

/// What may be changed.
#[derive(Deserialize)]
pub struct Edit {
    /// Of the person.
    pub name: String,
    /// Unique.
    pub email: String,
}

/// Changes one, in a transaction.
///
/// Any `?` may leave it before the commit: the connection goes back to the pool with its transaction open, and the pool
/// closes it, which rolls back. A client that goes away does the same. From its first poll on the commit goes to its end.
///
/// # Errors
/// If it does not exist, or another one has that e-mail address, or the database says no.
pub async fn edit(
    cache: RequestCache,
    State(pool): State<Pool>,
    Path(id): Path<i64>,
    Json(edit): Json<Edit>,
) -> Result<StatusCode, Failed> {
    // not `get`: what is committed in a task of its own has to own its connection
    let mut connection = pool.get_owned().await?;
    AnsiTransactionManager::begin_transaction(&mut *connection).await?;
    let changes = (account::name.eq(edit.name), account::email.eq(edit.email));
    let update = diesel::update(account::table.find(id)).set(changes);
    if update.execute(&mut *connection).await? == 0 {
        return Err(Failed::NotFound);
    }
    let write = cache.write();
    write.invalidate::<AccountById>([id]).await?;
    let commit = async move { AnsiTransactionManager::commit_transaction(&mut *connection).await };
    write.commit_unless(commit, is_rolled_back).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether this error of COMMIT says for certain that nothing was committed: a constraint that is checked there, or a
/// transaction that lost against another one. Of any other error, a lost connection for one, nobody knows.
fn is_rolled_back(error: &DieselError) -> bool {
    use DatabaseErrorKind as Kind;
    matches!(
        error,
        DieselError::DatabaseError(
            Kind::UniqueViolation
                | Kind::ForeignKeyViolation
                | Kind::NotNullViolation
                | Kind::CheckViolation
                | Kind::SerializationFailure
                | Kind::ReadOnlyTransaction,
            _
        )
    )
}

/// A cache over the accounts.
///
/// # Errors
/// As [`CacheBuilder::build`](mastaba::CacheBuilder::build).
pub async fn cache(pool: Pool) -> Result<Cache, mastaba::Error> {
    Cache::builder().region("objects", Region::memory()).source(AccountById(pool)).build().await
}

/// The service.
pub fn app(cache: Cache, pool: Pool) -> Router {
    Router::new().route("/account/{id}", get(read).put(edit)).with_state(pool).layer(CacheLayer::new(cache))
}

/// What goes wrong in a handler.
#[derive(Debug)]
pub enum Failed {
    /// There is no such account.
    NotFound,
    /// The database refused the change.
    Conflict(DieselError),
    /// Anything else.
    Internal(BoxError),
}

impl<E: Into<BoxError>> From<E> for Failed {
    fn from(error: E) -> Self {
        match error.into().downcast::<CommitError<DieselError>>().map(|error| *error) {
            Ok(CommitError::RolledBack(error)) => Self::Conflict(error),
            Ok(error) => Self::Internal(error.into()),
            Err(error) => Self::Internal(error),
        }
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND.into_response(),
            Self::Conflict(error) => (StatusCode::CONFLICT, error.to_string()).into_response(),
            Self::Internal(error) => {
                eprintln!("{error}");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}
