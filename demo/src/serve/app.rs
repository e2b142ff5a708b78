//! The application: its routes, and what stands around all of them.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::FormRejection;
use axum::extract::{DefaultBodyLimit, Form, Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use mastaba::Cache;
use mastaba_axum::{CacheLayer, RequestCache};
use maud::Markup;

use super::asked::{Asked, Number};
use super::cost::{Costs, Gather, measured};
use super::edit::{self, AuthorForm, Edited, PackageForm};
use super::pages::{self, ENTRIES, Listing};
use super::reader::{Mode, Reader};
use super::refusal::Refusal;
use super::search::Search;
use super::views::{self, Frame};
use crate::Result;
use crate::database::Database;
use crate::sources::{AuthorId, LicenseId, PackageId};

/// The largest body of a request: a form.
const BODY: usize = 16 * 1024;

/// What all handlers share.
pub(crate) struct App {
    pub(crate) cache: Cache,
    pub(crate) database: Database,
    pub(crate) costs: Costs,
    /// What the pages are read from, in words.
    pub(crate) tiers: String,
}

/// The state of the routes.
#[derive(Clone)]
pub(crate) struct Shared(Arc<App>);

impl std::ops::Deref for Shared {
    type Target = App;

    fn deref(&self) -> &App {
        &self.0
    }
}

/// The routes.
pub(crate) fn router(app: App) -> Router {
    let cache = app.cache.clone();
    Router::new()
        .route("/", get(search))
        .route("/packages/{id}", get(package).post(edit_package))
        .route("/packages/{id}/edit", get(package_form))
        .route("/authors/{id}", get(author).post(edit_author))
        .route("/authors/{id}/edit", get(author_form))
        .route("/licences/{id}", get(license))
        .route("/healthz", get(health))
        .route("/style.css", get(style))
        .route("/favicon.svg", get(icon))
        .fallback(async || Refusal::nothing())
        .method_not_allowed_fallback(async || {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "This address does not take that method.")
        })
        .layer(DefaultBodyLimit::max(BODY))
        .layer(CacheLayer::new(cache))
        .layer(middleware::from_fn(guarded))
        .with_state(Shared(Arc::new(app)))
}

impl App {
    /// Gathers a page in the mode that was asked for, and remembers what that cost.
    async fn frame<'p, G: Gather>(
        &'p self,
        asked: &'p Asked,
        address: &'p str,
        request: &RequestCache,
        page: &G,
    ) -> Result<(G::Page, Frame<'p>), Refusal> {
        let (gathered, cost) = measured(page, asked.mode, &self.database, request).await?;
        let mut frame = self.plain(asked, address);
        frame.versus = Some(self.costs.record(address, asked.mode, cost.figures));
        frame.report = cost.report;
        Ok((gathered, frame))
    }

    /// The frame of a page that is not measured.
    fn plain<'p>(&'p self, asked: &'p Asked, address: &'p str) -> Frame<'p> {
        Frame {
            mode: asked.mode,
            search: &asked.search,
            address,
            tiers: &self.tiers,
            versus: None,
            report: None,
            saved: asked.saved,
        }
    }
}

/// The address of a page of a list, in the usual mode.
fn address(path: &str, asked: &Asked) -> String {
    let mut address = path.to_owned();
    let mut joint = '?';
    let mut add = |name: &str, value: &str| {
        address.push(joint);
        joint = '&';
        address.push_str(name);
        address.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => address.push(byte.into()),
                _ => address.push_str(&format!("%{byte:02X}")),
            }
        }
    };
    if !asked.search.is_empty() {
        add("q", &asked.search);
    }
    if asked.page > 1 {
        add("page", &asked.page.to_string());
    }
    address
}

async fn search(State(app): State<Shared>, request: RequestCache, asked: Asked) -> Result<Markup, Refusal> {
    let address = address("/", &asked);
    let search = Search::new(&app.database, &asked.search, asked.page);
    let (listing, frame) = app.frame(&asked, &address, &request, &search).await?;
    beyond(&asked, &listing)?;
    Ok(views::search(&frame, &listing, asked.page))
}

async fn package(
    State(app): State<Shared>,
    request: RequestCache,
    Number(id): Number,
    asked: Asked,
) -> Result<Markup, Refusal> {
    let address = format!("/packages/{id}");
    let (page, frame) = app.frame(&asked, &address, &request, &OnePackage(PackageId(id))).await?;
    Ok(views::package(&frame, &page.ok_or_else(Refusal::nothing)?))
}

async fn author(
    State(app): State<Shared>,
    request: RequestCache,
    Number(id): Number,
    asked: Asked,
) -> Result<Markup, Refusal> {
    let address = address(&format!("/authors/{id}"), &asked);
    let page = OneAuthor(AuthorId(id), asked.page);
    let (page, frame) = app.frame(&asked, &address, &request, &page).await?;
    let (author, listing) = page.ok_or_else(Refusal::nothing)?;
    beyond(&asked, &listing)?;
    Ok(views::author(&frame, &author, &listing, asked.page))
}

async fn license(
    State(app): State<Shared>,
    request: RequestCache,
    Number(id): Number,
    asked: Asked,
) -> Result<Markup, Refusal> {
    let address = address(&format!("/licences/{id}"), &asked);
    let page = OneLicense(LicenseId(id), asked.page);
    let (page, frame) = app.frame(&asked, &address, &request, &page).await?;
    let (license, listing) = page.ok_or_else(Refusal::nothing)?;
    beyond(&asked, &listing)?;
    Ok(views::license(&frame, &license, &listing, asked.page))
}

async fn package_form(
    State(app): State<Shared>,
    request: RequestCache,
    Number(id): Number,
    asked: Asked,
) -> Result<Markup, Refusal> {
    // a form shows what is in the database now
    let (package, keywords) = fresh(&request, PackageId(id)).await?;
    let address = format!("/packages/{id}/edit");
    let form = PackageForm::of(&package, &keywords);
    Ok(views::package_form(&app.plain(&asked, &address), &package, &form, &[]))
}

async fn edit_package(
    State(app): State<Shared>,
    request: RequestCache,
    Number(id): Number,
    asked: Asked,
    form: Result<Form<PackageForm>, FormRejection>,
) -> Result<Response, Refusal> {
    let Form(mut form) = form.map_err(|why| unusable(&why))?;
    let problems = form.check();
    if !problems.is_empty() {
        let (package, _) = fresh(&request, PackageId(id)).await?;
        let address = format!("/packages/{id}/edit");
        let view = views::package_form(&app.plain(&asked, &address), &package, &form, &problems);
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, view).into_response());
    }
    match edit::package(app.database.clone(), request.clone(), PackageId(id), form).await? {
        Edited::Done => Ok(seen(asked.mode, &format!("/packages/{id}"))),
        Edited::Nothing | Edited::Taken => Err(Refusal::nothing()),
    }
}

async fn author_form(
    State(app): State<Shared>,
    request: RequestCache,
    Number(id): Number,
    asked: Asked,
) -> Result<Markup, Refusal> {
    let author = fresh_author(&request, AuthorId(id)).await?;
    let address = format!("/authors/{id}/edit");
    Ok(views::author_form(&app.plain(&asked, &address), &author, &AuthorForm::of(&author), &[]))
}

async fn edit_author(
    State(app): State<Shared>,
    request: RequestCache,
    Number(id): Number,
    asked: Asked,
    form: Result<Form<AuthorForm>, FormRejection>,
) -> Result<Response, Refusal> {
    let Form(mut form) = form.map_err(|why| unusable(&why))?;
    let mut problems = form.check();
    if problems.is_empty() {
        let written = AuthorForm { name: form.name.clone() };
        match edit::author(app.database.clone(), request.clone(), AuthorId(id), written).await? {
            Edited::Done => return Ok(seen(asked.mode, &format!("/authors/{id}"))),
            Edited::Nothing => return Err(Refusal::nothing()),
            Edited::Taken => problems.push("Another author has this name.".to_owned()),
        }
    }
    let author = fresh_author(&request, AuthorId(id)).await?;
    let address = format!("/authors/{id}/edit");
    let view = views::author_form(&app.plain(&asked, &address), &author, &form, &problems);
    Ok((StatusCode::UNPROCESSABLE_ENTITY, view).into_response())
}

async fn health() -> &'static str {
    "ok\n"
}

async fn style() -> impl IntoResponse {
    let kind = (header::CONTENT_TYPE, "text/css; charset=utf-8");
    ([kind, (header::CACHE_CONTROL, "max-age=300")], include_str!("style.css"))
}

async fn icon() -> impl IntoResponse {
    let kind = (header::CONTENT_TYPE, "image/svg+xml");
    ([kind, (header::CACHE_CONTROL, "max-age=86400")], include_str!("favicon.svg"))
}

/// Post, redirect, get: to load the page again does not save again.
fn seen(mode: Mode, address: &str) -> Response {
    Redirect::to(&mode.link(&format!("{address}?saved=1"))).into_response()
}

/// A list has no such page.
fn beyond(asked: &Asked, listing: &Listing) -> Result<(), Refusal> {
    let none = asked.page > 1 && ENTRIES.saturating_mul(asked.page - 1) >= listing.all;
    if none { Err(Refusal::nothing()) } else { Ok(()) }
}

fn unusable(why: &FormRejection) -> Refusal {
    let status = why.status();
    let sentence = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "That is more than a form can hold.",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "This address takes a form, and that is something else.",
        _ => "The form does not hold what it should.",
    };
    Refusal::new(if status.is_client_error() { status } else { StatusCode::BAD_REQUEST }, sentence)
}

async fn fresh(
    request: &RequestCache,
    id: PackageId,
) -> Result<(Arc<crate::sources::Package>, Vec<String>), Refusal> {
    let past = request.with(mastaba::Force::PastShared);
    pages::package_form(&past, id).await?.ok_or_else(Refusal::nothing)
}

async fn fresh_author(request: &RequestCache, id: AuthorId) -> Result<Arc<crate::sources::Author>, Refusal> {
    let past = request.with(mastaba::Force::PastShared);
    past.get::<crate::sources::AuthorById>(id).await?.ok_or_else(Refusal::nothing)
}

/// Around every route: who may post, and what browsers may do with the answer.
///
/// There are no accounts here, and so no sessions that another site could abuse; but this server stands on the
/// machine of whoever runs it, and no page of the web should be able to write to it.
async fn guarded(request: Request, next: Next) -> Response {
    let reads = request.method().is_safe();
    let mut response = if reads || from_here(request.headers(), request.uri()) {
        next.run(request).await
    } else {
        Refusal::new(StatusCode::FORBIDDEN, "This form was sent from another site.").into_response()
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // a page that was kept could be older than an edit
    let kept: HeaderName = header::CACHE_CONTROL;
    headers.entry(kept).or_insert(HeaderValue::from_static("no-store"));
    response
}

const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// Whether a form was sent by a page of this server. Programs that are no browsers send no `Origin`.
fn from_here(headers: &HeaderMap, uri: &Uri) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| uri.authority().map(Authority::as_str));
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    matches!((origin, host), (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host))
}

struct OnePackage(PackageId);

impl Gather for OnePackage {
    type Page = Option<pages::PackagePage>;

    async fn gather<R: Reader>(&self, reader: &R) -> Result<Self::Page> {
        pages::package(reader, self.0).await
    }
}

struct OneAuthor(AuthorId, usize);

impl Gather for OneAuthor {
    type Page = Option<(Arc<crate::sources::Author>, Listing)>;

    async fn gather<R: Reader>(&self, reader: &R) -> Result<Self::Page> {
        pages::author(reader, self.0, self.1).await
    }
}

struct OneLicense(LicenseId, usize);

impl Gather for OneLicense {
    type Page = Option<(Arc<crate::sources::License>, Listing)>;

    async fn gather<R: Reader>(&self, reader: &R) -> Result<Self::Page> {
        pages::license(reader, self.0, self.1).await
    }
}
