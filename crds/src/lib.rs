//! The Kubernetes resources of Tallyman, group `tallyman.dev`, version `v1alpha1`.
//!
//! [`CounterNamespace`] is what an application team writes: a set of counters with one configuration.
//! [`CounterClass`] is the platform team's side: the stores those counters live in.
//!
//! The types here are the one source of the CRDs: [`generate::crds`] renders them, `crds/yaml/` holds the
//! result, and [`manifest`] checks a file by the very same schema and CEL rules without a cluster. This
//! crate knows nothing of the engine, of a client, or of how a cluster is reached.

pub mod counter_class;
pub mod counter_namespace;
pub mod duration;
pub mod generate;
pub mod manifest;
pub mod quantity;
pub mod resources;
mod structural;

pub use counter_class::{CounterClass, CounterClassSpec, CounterClassStatus};
pub use counter_namespace::{CounterNamespace, CounterNamespaceSpec, CounterNamespaceStatus, CounterType};
pub use duration::Duration;
pub use quantity::Quantity;

/// The API group of every resource here.
pub const GROUP: &str = "tallyman.dev";
/// The version of every resource here.
pub const VERSION: &str = "v1alpha1";
