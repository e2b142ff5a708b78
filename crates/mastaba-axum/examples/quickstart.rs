//! The quickstart of the README: `curl http://127.0.0.1:3000/book/7`.

use axum::{Router, extract::Path, http::StatusCode, routing::get};
use mastaba::{Cache, LoadContext, Region, Rows, Source};
use mastaba_axum::{CacheLayer, RequestCache};

struct TitleById; // with a pool in it

impl Source for TitleById {
    type Key = u64;
    type Value = String;
    type Error = std::io::Error;
    const NAME: &'static str = "title.by_id";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, Self::Error> {
        // select id, title from book where id = any($1)
        Ok(ids.iter().filter(|id| **id < 1000).map(|id| (*id, format!("Book {id}"))).collect())
    }
}

async fn book(cache: RequestCache, Path(id): Path<u64>) -> Result<String, StatusCode> {
    // awaited together: one trip to the shared tier, one statement
    let titles = tokio::try_join!(cache.get::<TitleById>(id), cache.get::<TitleById>(id + 1));
    let (this, next) = titles.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let this = this.ok_or(StatusCode::NOT_FOUND)?;
    Ok(format!("{this}, and then {}", next.as_deref().map_or("nothing", String::as_str)))
}

/// Everything but the place to listen at.
pub async fn app() -> Result<Router, mastaba::Error> {
    let cache = Cache::builder().region("objects", Region::memory()).source(TitleById).build().await?;
    Ok(Router::new().route("/book/{id}", get(book)).layer(CacheLayer::new(cache)))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    Ok(axum::serve(listener, app().await?).await?)
}
