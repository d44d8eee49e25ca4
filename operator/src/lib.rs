//! The control plane of Tallyman: from CounterNamespaces to Cassandra tables, memcached and rollup servers.
//!
//! - [`process`], [`arguments`]: the binary;
//! - [`leader`]: who of several may change anything;
//! - [`controller`]: the five steps of a reconcile, what is watched, what statuses say;
//! - [`capacity`], [`build`], [`inject`], [`certificates`], [`compare`]: pure;
//! - [`cassandra`]: what is kept there, behind reconciles.

pub mod arguments;
pub mod backoff;
pub mod build;
pub mod capacity;
pub mod cassandra;
pub mod certificates;
pub mod compare;
pub mod controller;
pub mod inject;
pub mod leader;
pub mod metrics;
pub mod names;
pub mod passwords;
pub mod process;
pub mod webhook;
mod webhook_service;
