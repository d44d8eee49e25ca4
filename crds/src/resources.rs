//! CPU and memory of a container, as Kubernetes writes them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as KubernetesQuantity;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// What Kubernetes lets through as a quantity.
pub const PATTERN: &str = r"^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$";
/// What is allowed, for messages.
pub const ALLOWED: &str = "a Kubernetes quantity such as 500m, 2 or 256Mi";

/// CPU and memory that a container asks for and may use.
///
/// Kubernetes' own type also has `claims`, which nothing here would honour, and refuses a bare number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// What is set aside for the container, by resource name, such as cpu: 500m or memory: 256Mi.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub requests: BTreeMap<String, Amount>,
    /// What the container may use at most, by resource name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub limits: BTreeMap<String, Amount>,
}

/// One amount, kept as the text Kubernetes reads; a bare number is taken too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Amount(pub String);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum IntOrString {
            Int(i64),
            String(String),
        }
        Ok(Self(match IntOrString::deserialize(deserializer)? {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(text) => text,
        }))
    }
}

impl JsonSchema for Amount {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-int-or-string": true, "pattern": PATTERN, "maxLength": 32})
    }
}

impl From<&Resources> for ResourceRequirements {
    fn from(resources: &Resources) -> Self {
        let amounts = |amounts: &BTreeMap<String, Amount>| {
            (!amounts.is_empty()).then(|| {
                amounts.iter().map(|(name, amount)| (name.clone(), KubernetesQuantity(amount.0.clone()))).collect()
            })
        };
        Self { claims: None, limits: amounts(&resources.limits), requests: amounts(&resources.requests) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_taken_as_text_and_as_numbers() {
        let resources: Resources =
            serde_json::from_value(serde_json::json!({"requests": {"cpu": 2, "memory": "256Mi"}})).unwrap();
        let kubernetes = ResourceRequirements::from(&resources);
        let requests = kubernetes.requests.unwrap();
        assert_eq!(requests["cpu"].0, "2");
        assert_eq!(requests["memory"].0, "256Mi");
        assert_eq!(kubernetes.limits, None);
    }
}
