//! A backend that keeps nothing.
