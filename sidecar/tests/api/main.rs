//! The server as its clients see it: a real one on a free port, over an engine in memory, driven by a gRPC client and by bytes
//! on a socket.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod admin;
mod call;
mod faults;
mod json;
mod raw_http;
mod refusals;
mod stopping;
mod transports;
mod watching;
mod world;
