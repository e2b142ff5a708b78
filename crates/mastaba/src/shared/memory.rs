//! A backend in the memory of this process.
