//! Mastaba in actix-web.
