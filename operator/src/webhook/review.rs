//! AdmissionReview, `admission.k8s.io/v1`: what the API server asks and is answered.
//!
//! Objects stay JSON, so that a pod's patch is made for exactly what the API server has.

use json_patch::Patch;
use serde::Deserialize;
use serde_json::{Value, json};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";
/// The API server cuts warnings at this many characters.
const WARNING_LENGTH_MAX: usize = 256;

/// What the API server asks.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// To be repeated in the answer.
    pub uid: String,
    /// What is asked to be done.
    pub operation: Operation,
    /// The Kubernetes namespace.
    #[serde(default)]
    pub namespace: String,
    /// A part of the object alone, such as `status`.
    #[serde(default)]
    pub sub_resource: Option<String>,
    /// The object as it is to be.
    #[serde(default)]
    pub object: Value,
    /// The object as it is.
    #[serde(default)]
    pub old_object: Value,
    /// Whether nothing will come of it, and nothing may.
    #[serde(default)]
    pub dry_run: bool,
}

/// What is asked to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Operation {
    /// An object is to be made.
    Create,
    /// An object is to be changed.
    Update,
    /// An object is to be deleted.
    Delete,
    /// Something is to be connected to an object.
    Connect,
}

/// What is answered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// Why not, if not.
    pub denied: Option<String>,
    /// How the object is to be changed.
    pub patch: Option<Patch>,
    /// What who asked is told.
    pub warnings: Vec<String>,
}

/// Reads a request.
///
/// # Errors
/// What is wrong, in words, if it is none.
pub fn read(body: &[u8]) -> Result<Request, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Review {
        api_version: String,
        kind: String,
        request: Option<Request>,
    }
    let review: Review = serde_json::from_slice(body).map_err(|error| format!("this is no {KIND}: {error}"))?;
    if review.api_version != API_VERSION || review.kind != KIND {
        return Err(format!(
            "apiVersion and kind must be {API_VERSION} and {KIND}, not {} and {}",
            review.api_version, review.kind
        ));
    }
    review.request.ok_or_else(|| format!("the {KIND} has no request"))
}

/// Writes the answer to the request `uid`.
#[must_use]
pub fn write(uid: &str, answer: &Answer) -> Value {
    let mut response = json!({"uid": uid, "allowed": answer.denied.is_none()});
    if let Some(message) = &answer.denied {
        response["status"] = json!({"status": "Failure", "code": 422, "reason": "Invalid", "message": message});
    } else if let Some(patch) = &answer.patch {
        response["patchType"] = json!("JSONPatch");
        response["patch"] = json!(k8s_openapi::ByteString(json!(patch).to_string().into_bytes()));
    }
    if !answer.warnings.is_empty() {
        let short = |warning: &String| warning.chars().take(WARNING_LENGTH_MAX).collect::<String>();
        response["warnings"] = answer.warnings.iter().map(short).collect();
    }
    json!({"apiVersion": API_VERSION, "kind": KIND, "response": response})
}
