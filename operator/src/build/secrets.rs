//! The Secrets: the dataset's credentials and the certificates of the rollup streams, for each side what it needs.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::context::Context;
use super::{Error, KeyPair, Object, RollupTls};
use crate::names::{self, Component};

/// None for what has no content.
pub fn build(context: &Context<'_>) -> Result<Vec<Object>, Error> {
    if !context.is_durable() {
        return Ok(Vec::new());
    }
    let tls = context.secrets.rollup_tls.as_ref();
    let RollupTls { authority, server, client } =
        tls.ok_or(Error::SecretMissing("the authority for rollup streams"))?;
    let dataset = dataset(context)?;
    let with = |pair: &KeyPair| {
        let mut data = dataset.clone();
        let values = [&authority.certificate, &pair.certificate, &pair.key].map(bytes);
        data.extend(names::rollup_tls_keys(context.name).into_iter().zip(values));
        data
    };
    let authority_data = [("ca.crt", &authority.certificate), ("ca.key", &authority.key)];
    let authority_data = authority_data.map(|(key, value)| (key.to_owned(), bytes(value)));
    Ok(vec![
        secret(context, names::sidecar_secret(context.name), Component::Configuration, with(client)),
        secret(context, names::rollup_secret(context.name), Component::Rollup, with(server)),
        secret(context, names::rollup_authority(context.name), Component::Rollup, authority_data.into()),
    ])
}

/// What gives access to the dataset.
fn dataset(context: &Context<'_>) -> Result<BTreeMap<String, ByteString>, Error> {
    let (class, dataset) = (&context.class.cassandra, &context.dataset);
    let mut data = BTreeMap::new();
    match &context.secrets.password {
        Some(password) => {
            let credentials = format!("username={}\npassword={password}\n", names::role(dataset));
            data.insert(names::credentials_key(dataset), bytes(&credentials));
        }
        None if class.admin_credentials_secret_name.is_some() => {
            return Err(Error::SecretMissing("the password of the dataset's role"));
        }
        None => {}
    }
    if class.tls.is_some() {
        let ca = context.secrets.cassandra_ca.as_ref();
        let ca = ca.ok_or(Error::SecretMissing("ca.crt of cassandra.tls.caSecretName of the CounterClass"))?;
        data.insert(names::cassandra_ca_key(dataset), bytes(ca));
    }
    Ok(data)
}

fn secret(context: &Context<'_>, name: String, component: Component, data: BTreeMap<String, ByteString>) -> Object {
    Object::Secret(Box::new(Secret {
        metadata: context.metadata(name, component),
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    }))
}

fn bytes(text: impl AsRef<str>) -> ByteString {
    ByteString(text.as_ref().as_bytes().to_vec())
}
