//! The operator, from outside: its binary against a real Kubernetes API server and a real Cassandra that asks for passwords.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod first;
mod isolation;
mod leadership;
