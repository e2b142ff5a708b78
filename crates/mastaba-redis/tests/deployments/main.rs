//! Every way to deploy the servers, and every way to configure them: against real ones.

mod compare;
mod configuration;
mod identity;
mod imposter;
mod managed;
mod places;
mod rights;
#[path = "../rows/mod.rs"]
mod rows;
mod start;
mod support;
