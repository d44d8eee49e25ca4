//! The data plane's API server: the counter API of [`tallyman_counter::service::CounterService`] on localhost, by gRPC and by
//! HTTP/JSON on one port and optionally on a Unix socket, and the admin pages on a listener of their own.
//!
//! What a request goes through, in order:
//!
//! - [`listeners`]: the addresses, bound and checked;
//! - [`server`]: connections, and their end when the process stops;
//! - `dispatch`: gRPC straight to the generated server, everything else to HTTP/JSON;
//! - `grpc` and `http_json`: the two transports, which only translate;
//! - `methods`: the seven methods, the same for both, over the engine;
//! - `errors` and `fields`: what the engine's refusals and the request's fields mean on the wire.
//!
//! On the other side [`rollup_endpoint`]: where touched counters leave the process. Beside them [`metrics`] and [`traces`]; the
//! admin pages are [`tallyman_daemon::admin`]. This library opens no store and reads no configuration: whoever assembles a
//! process hands it a service, as the binary `tallyman-sidecar` and `tallyman standalone` do.

mod deadline;
mod dispatch;
mod errors;
mod fields;
mod grpc;
mod http_json;
pub mod listeners;
mod methods;
pub mod metrics;
pub mod rollup_endpoint;
pub mod server;
pub mod traces;
