//! Serves accounts. The table must be there: `create table account (id bigint primary key, name text not null, email text
//! not null unique deferrable initially deferred)`

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_example::{Pool, app, cache};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DATABASE_URL")?;
    let pool = Pool::builder().build(AsyncDieselConnectionManager::<AsyncPgConnection>::new(url)).await?;
    let app = app(cache(pool.clone()).await?, pool);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    Ok(axum::serve(listener, app).await?)
}
