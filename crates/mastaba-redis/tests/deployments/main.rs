//! Every way to deploy the servers, and every way to configure them: against real ones.

mod compare;
mod configuration;
mod imposter;
mod places;
mod rights;
mod start;
mod support;
