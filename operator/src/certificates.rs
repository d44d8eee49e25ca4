//! stub
pub use crate::build::KeyPair;
/// x
pub fn rollup_tls(_: &str, _: &[String], a: Option<&KeyPair>, _: Option<&KeyPair>, _: Option<&KeyPair>, _: jiff::Timestamp) -> Result<crate::build::RollupTls, String> {
 let k = a.cloned().unwrap_or(KeyPair{certificate:"x".into(),key:"y".into()});
 Ok(crate::build::RollupTls{authority:k.clone(),server:k.clone(),client:k}) }
