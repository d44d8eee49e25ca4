//! The counter engine: immutable events, lock-free rollups, checkpoints and the reads made from them.
//!
//! It knows no Kubernetes and no gRPC. It reads time only through [`clock::Clock`] and reaches stores only through the
//! traits of [`store`], so that whole scenarios run deterministically in virtual time (`counter/tests/simulation`).

pub mod aggregation;
pub mod backend;
pub mod clock;
pub mod configuration;
pub mod dataset;
pub mod forward;
pub mod metrics;
pub mod model;
pub mod namespace;
pub mod opening;
pub mod pipeline;
pub mod retention;
pub mod service;
pub mod store;
