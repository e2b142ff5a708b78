//! The response body, which the scope of the request lives as long as.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, MessageBody};
use actix_web::web::Bytes;
use mastaba::Scope;
use pin_project_lite::pin_project;

pin_project! {
    /// A response body that closes the request's cache when it has ended or is dropped.
    ///
    /// It is polled inside of the request's span, so that what a stream reads is told as a part of its
    /// request.
    #[derive(Debug)]
    pub struct ScopedBody<B> {
        // dropped before the scope: the stream may hold the request
        #[pin]
        inner: B,
        scope: Option<Scope>,
    }
}

impl<B> ScopedBody<B> {
    pub(crate) fn new(inner: B, scope: Option<Scope>) -> Self {
        Self { inner, scope }
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
        if !matches!(chunk, Some(Ok(_))) {
            drop(this.scope.take());
        }
        Poll::Ready(chunk)
    }
}
