//! Mastaba in axum and any tower service.
