//! The response body, which the scope of the request lives as long as.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, MessageBody};
use actix_web::web::Bytes;
use mastaba::{Scope, ScopeEnd};
use pin_project_lite::pin_project;

pin_project! {
    /// A response body that closes the request's cache when it has ended or is dropped.
    ///
    /// It is polled inside of the request's span, so that what a stream reads is logged as a part of its
    /// request.
    #[derive(Debug)]
    pub struct ScopedBody<B> {
        // dropped before the scope: the stream may hold the request
        #[pin]
        inner: B,
        scope: Option<Scope>,
        // Bytes that are to come and have not been asked for. After the last one a server drops the body without asking
        // whether there is more.
        left: Option<u64>,
    }
}

impl<B: MessageBody> ScopedBody<B> {
    /// `unread`: whatever body there is, nobody is going to read it.
    pub(crate) fn new(inner: B, mut scope: Option<Scope>, unread: bool) -> Self {
        let left = match inner.size() {
            _ if unread => Some(0),
            BodySize::None => Some(0),
            BodySize::Sized(size) => Some(size),
            BodySize::Stream => None,
        };
        if let Some(scope) = &mut scope {
            scope.set_end(if left == Some(0) { ScopeEnd::Complete } else { ScopeEnd::CutOff });
        }
        Self { inner, scope, left }
    }
}

impl<B: MessageBody> MessageBody for ScopedBody<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.inner.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, B::Error>>> {
        let this = self.project();
        let polled = {
            let _inside = this.scope.as_ref().map(|scope| scope.span().enter());
            this.inner.poll_next(cx)
        };
        let chunk = ready!(polled);
        if let (Some(left), Some(Ok(chunk))) = (&mut *this.left, &chunk) {
            *left = left.saturating_sub(chunk.len() as u64);
        }
        let ended = match &chunk {
            Some(Err(_)) => ScopeEnd::Failed,
            Some(Ok(_)) if *this.left != Some(0) => ScopeEnd::CutOff,
            Some(Ok(_)) | None => ScopeEnd::Complete,
        };
        if let Some(scope) = this.scope {
            scope.set_end(ended);
        }
        if !matches!(chunk, Some(Ok(_))) {
            drop(this.scope.take());
        }
        Poll::Ready(chunk)
    }
}
