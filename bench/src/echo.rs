//! The bare gRPC call that unary calls are measured beside: the sidecar's server and client, with nothing between them.

mod client;
mod server;

pub use client::Echo;
pub use server::serve;

/// What is echoed: bytes, so that decoding costs next to nothing.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Payload {
    /// Whatever makes the message as long as it is to be.
    #[prost(bytes = "bytes", tag = "1")]
    pub bytes: prost::bytes::Bytes,
}

impl Payload {
    /// A payload whose message is `encoded_len` bytes long, which are at least 3; where no message is as long, one byte less.
    pub fn of_encoded_len(encoded_len: usize) -> Self {
        let mut bytes = vec![0; encoded_len];
        loop {
            let payload = Self { bytes: bytes.clone().into() };
            if prost::Message::encoded_len(&payload) <= encoded_len {
                return payload;
            }
            bytes.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_as_long_as_asked_for() {
        for len in [3, 100, 129, 1_000] {
            assert_eq!(prost::Message::encoded_len(&Payload::of_encoded_len(len)), len);
        }
    }
}
