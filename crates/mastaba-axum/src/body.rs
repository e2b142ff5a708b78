//! The response body, which the scope of the request lives as long as.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use mastaba::{Scope, ScopeEnd};
use pin_project_lite::pin_project;

pin_project! {
    /// A response body that closes the request's cache when it has ended or is dropped.
    ///
    /// Data, trailers, errors and the size are those of the body inside. It is polled inside of the request's
    /// span, so that what a stream reads is logged as a part of its request.
    #[derive(Debug)]
    pub struct ScopedBody<B> {
        // dropped before the scope: the stream may hold the request
        #[pin]
        inner: B,
        scope: Option<Scope>,
        // Bytes that the head of the response has announced and that have not been asked for. After the last one a server
        // drops the body without asking whether there is more.
        left: Option<u64>,
    }
}

impl<B: Body> ScopedBody<B> {
    /// `left`: as many bytes as are to come; `None`: it ends by itself.
    pub(crate) fn new(inner: B, mut scope: Option<Scope>, left: Option<u64>) -> Self {
        if let Some(scope) = &mut scope {
            let done = inner.is_end_stream() || left == Some(0);
            scope.set_end(if done { ScopeEnd::Complete } else { ScopeEnd::CutOff });
        }
        Self { inner, scope, left }
    }
}

impl<B: Body> Body for ScopedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let polled = {
            let _inside = this.scope.as_ref().map(|scope| scope.span().enter());
            this.inner.as_mut().poll_frame(cx)
        };
        let frame = ready!(polled);
        let data = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Buf::remaining) as u64,
            _ => 0,
        };
        if let Some(left) = this.left {
            *left = left.saturating_sub(data);
        }
        let ended = match &frame {
            Some(Err(_)) => Some(ScopeEnd::Failed),
            None => Some(ScopeEnd::Complete),
            Some(Ok(_)) if this.inner.is_end_stream() => Some(ScopeEnd::Complete),
            Some(Ok(_)) => None,
        };
        if let Some(scope) = this.scope {
            scope.set_end(ended.unwrap_or(if *this.left == Some(0) {
                ScopeEnd::Complete
            } else {
                ScopeEnd::CutOff
            }));
        }
        if ended.is_some() {
            drop(this.scope.take());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
