//! Every piece of the user's code panics in turn, beside innocent sources in the same batch: it costs its own keys alone.

mod calls;
mod fuse;
mod records;
mod sore;
mod turns;
mod twice;
