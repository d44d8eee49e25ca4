//! Tallyman's counter API: the protobuf messages with their JSON mapping, the errors, and the Rust client.
//!
//! - [`proto`]: what is generated from `proto/tallyman/v1/counter.proto`, messages, server trait and stub alike.
//! - [`rollup`]: the same of the protocol between sidecars and rollup servers.
//! - [`status`]: the one place where error details are made and read, for gRPC and for JSON.
//! - [`time`]: timestamps and durations as the API carries them.
//! - [`client`]: a client that makes idempotency tokens, retries and hedges.
//!
//! This crate knows nothing of stores, namespaces' configurations or servers.

pub mod client;
mod codec;
mod json;
pub mod status;
pub mod time;

/// What prost generates; it expects packages to be modules.
#[allow(missing_docs, clippy::all)]
mod generated {
    pub mod google {
        pub mod rpc {
            include!(concat!(env!("OUT_DIR"), "/google.rpc.rs"));
        }
    }
    pub mod tallyman {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/tallyman.v1.rs"));
        }
        pub mod rollup {
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/tallyman.rollup.v1.rs"));
            }
        }
    }
}

/// Package `tallyman.v1`. Every message has serde impls in the proto3 JSON mapping.
pub use generated::tallyman::v1 as proto;

/// Package `tallyman.rollup.v1`: what sidecars and rollup servers say to one another.
pub use generated::tallyman::rollup::v1 as rollup;

/// The encoded `FileDescriptorSet` of the API with all it imports, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Response metadata (in HTTP a header) that says `true` or `false`: whether the namespace's mutations are idempotent by
/// their token. Best-effort namespaces say `false`. Servers set it on every reply, errors included, that concerns a
/// namespace they serve; the client decides by it whether a mutation may be sent again.
pub const TOKEN_HONOURED: &str = "tallyman-token-honoured";

/// The most items that one batch request may carry.
pub const BATCH_ITEMS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    #[test]
    fn the_descriptors_hold_the_service_and_all_that_it_imports() {
        let set = FileDescriptorSet::decode(super::FILE_DESCRIPTOR_SET).unwrap();
        let names: Vec<_> = set.file.iter().map(|file| file.name()).collect();
        for file in &set.file {
            assert!(file.dependency.iter().all(|import| names.contains(&import.as_str())), "{names:?}");
        }
        let api = set.file.iter().find(|file| file.package() == "tallyman.v1").unwrap();
        let methods: Vec<_> = api.service[0].method.iter().map(|method| method.name()).collect();
        assert_eq!(
            methods,
            ["AddCount", "AddAndGetCount", "GetCount", "ClearCount", "BatchAddCount", "BatchGetCount", "WatchCount"]
        );
        // Clients of reflection decode the details of errors with it.
        assert!(names.contains(&"google/rpc/error_details.proto"));
    }
}
