//! The operator, from outside: its binary against a real Kubernetes API server and a real Cassandra that asks for passwords.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod chart;
mod credentials;
mod deletion;
mod first;
mod isolation;
mod leadership;
mod lifecycle;
mod manifests;
mod metrics;
mod permissions;
mod plan;
mod quiet;
mod scale;
mod statuses;
mod upgrades;
mod webhook;
