//! Reads manifests without a cluster, by the rules an API server would apply: the same schema, the same defaults, the
//! same CEL rules. `tallyman standalone` takes the YAML that `kubectl apply` takes.
//!
//! Stricter in one point: a field that the schema does not know is an error here, not silently dropped.

use std::collections::BTreeMap;
use std::fmt;

use kube::core::cel::{ErrorKind, ValidationError, Validator};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::structural::{self, Problem};
use crate::{CounterClass, CounterNamespace, GROUP, VERSION, generate};

const NAMESPACE: &str = "CounterNamespace";
const CLASS: &str = "CounterClass";

/// The resources of a text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Manifests {
    /// Its CounterNamespaces, in order.
    pub namespaces: Vec<CounterNamespace>,
    /// Its CounterClasses, in order.
    pub classes: Vec<CounterClass>,
}

/// Why a manifest was refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The text is not YAML.
    #[error("{file}: not valid YAML: {message}")]
    Yaml {
        /// The name of the text, as the caller gave it.
        file: String,
        /// What and where.
        message: String,
    },
    /// Documents are not what they should be. All problems of all documents, not just the first.
    #[error("{}", Lines(.0))]
    Invalid(Vec<InvalidField>),
    /// The crate's own schema could not be generated.
    #[error(transparent)]
    Schema(#[from] generate::Error),
}

/// A field of a document that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidField {
    /// The name of the text, as the caller gave it.
    pub file: String,
    /// Which document of the text, counted from 1; empty documents are not counted.
    pub document: usize,
    /// `metadata.name` of the document where it has one.
    pub name: Option<String>,
    /// The field, its value and what is allowed.
    pub problem: Problem,
}

impl fmt::Display for InvalidField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: document {}", self.file, self.document)?;
        if let Some(name) = &self.name {
            write!(f, " ({name})")?;
        }
        let Problem { path, value, message } = &self.problem;
        write!(f, ": {path}: ")?;
        if !value.is_empty() {
            write!(f, "{value}: ")?;
        }
        f.write_str(message)
    }
}

struct Lines<'a>(&'a [InvalidField]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, field) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{field}")?;
        }
        Ok(())
    }
}

/// Reads all CounterNamespaces of a YAML text, with defaults filled in. `source` names the text in errors.
///
/// A text without documents gives an empty list. The names of one Kubernetes namespace must be unique in the text;
/// over several texts that is for the caller to check.
///
/// # Errors
/// A text that is not YAML, a document that is no CounterNamespace of `tallyman.dev/v1alpha1`, an unknown field, a
/// value that the schema or a CEL rule does not allow, a name that comes twice.
pub fn read_counter_namespaces(text: &str, source: &str) -> Result<Vec<CounterNamespace>, ManifestError> {
    read(text, source, &[NAMESPACE]).map(|manifests| manifests.namespaces)
}

/// Reads all CounterNamespaces and CounterClasses of a YAML text, as [`read_counter_namespaces`] does.
///
/// # Errors
/// As there; a document of any other kind, too.
pub fn read_manifests(text: &str, source: &str) -> Result<Manifests, ManifestError> {
    read(text, source, &[NAMESPACE, CLASS])
}

/// Reads all CounterClasses of a YAML text, as [`read_counter_namespaces`] does.
///
/// # Errors
/// As there; a document of any other kind, too.
pub fn read_counter_classes(text: &str, source: &str) -> Result<Vec<CounterClass>, ManifestError> {
    read(text, source, &[CLASS]).map(|manifests| manifests.classes)
}

fn read(text: &str, source: &str, kinds: &[&str]) -> Result<Manifests, ManifestError> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|error| ManifestError::Yaml { file: source.to_owned(), message: error.to_string() })?;
    let schemas = kinds.iter().map(|kind| schema(kind, kinds)).collect::<Result<Vec<_>, _>>()?;
    let mut manifests = Manifests::default();
    let mut invalid = Vec::new();
    let mut seen = BTreeMap::new();
    for (index, mut document) in documents.into_iter().enumerate() {
        let number = index + 1;
        let name = document["metadata"]["name"].as_str().map(str::to_owned);
        let kind = document["kind"].as_str().unwrap_or_default().to_owned();
        // Of another kind, its head says what is wrong, whichever schema it is held to.
        let position = kinds.iter().position(|known| *known == kind).unwrap_or(0);
        let checked = check(&schemas[position], &mut document, kinds).and_then(|()| {
            match kind.as_str() {
                CLASS => manifests.classes.push(deserialized(&document)?),
                _ => manifests.namespaces.push(deserialized(&document)?),
            }
            Ok(())
        });
        let mut problems = checked.err().unwrap_or_default();
        let key = (position, document["metadata"]["namespace"].as_str().map(str::to_owned), name.clone());
        if name.is_some()
            && let Some(earlier) = seen.insert(key, number)
        {
            let message = format!("comes twice; document {earlier} has this name too");
            problems.push(Problem::new("metadata.name", Some(&document["metadata"]["name"]), message));
        }
        invalid.extend(problems.into_iter().map(|problem| InvalidField {
            file: source.to_owned(),
            document: number,
            name: name.clone(),
            problem,
        }));
    }
    if invalid.is_empty() { Ok(manifests) } else { Err(ManifestError::Invalid(invalid)) }
}

/// The schema of a whole document, which is the CRD's and what the API server adds to it.
fn schema(kind: &str, kinds: &[&str]) -> Result<Value, generate::Error> {
    let mut schema = generate::schema_of(kind)?;
    let properties = &mut schema["properties"];
    properties["apiVersion"] = json!({"type": "string", "enum": [format!("{GROUP}/{VERSION}")]});
    properties["kind"] = json!({"type": "string", "enum": kinds});
    properties["metadata"] = generate::metadata_schema()?;
    schema["required"] = json!(["apiVersion", "kind", "metadata", "spec"]);
    Ok(schema)
}

fn check(schema: &Value, document: &mut Value, kinds: &[&str]) -> Result<(), Vec<Problem>> {
    // Of another resource, every field would be reported as unknown; its kind alone says what is wrong.
    let head_problems = head_problems(schema, document, kinds);
    if !head_problems.is_empty() {
        return Err(head_problems);
    }
    // A status is the operator's to write; the API server drops it from what a user applies.
    if let Some(fields) = document.as_object_mut() {
        fields.remove("status");
    }
    let problems = structural::complete(schema, document, "");
    // Rules may read fields that the schema has just refused.
    if !problems.is_empty() {
        return Err(problems);
    }
    match Validator::new().validate(schema, document, None) {
        Ok(()) => Ok(()),
        Err(errors) => Err(errors.into_vec().iter().map(|error| cel_problem(document, error)).collect()),
    }
}

fn deserialized<T: DeserializeOwned>(document: &Value) -> Result<T, Vec<Problem>> {
    serde_path_to_error::deserialize(document).map_err(|error| {
        let path = error.path().to_string();
        vec![Problem::new(&path, lookup(document, &path), error.inner().to_string())]
    })
}

fn head_problems(schema: &Value, document: &mut Value, kinds: &[&str]) -> Vec<Problem> {
    let kinds = kinds.join(" or ");
    if !document.is_object() {
        let message = format!("must be a {kinds}: fields apiVersion, kind, metadata and spec");
        return vec![Problem::new("document", Some(document), message)];
    }
    ["apiVersion", "kind"]
        .iter()
        .flat_map(|name| match document.get_mut(*name) {
            Some(value) => structural::complete(&schema["properties"][name], value, name),
            None => {
                let allowed = match *name {
                    "kind" => kinds.as_str(),
                    _ => schema["properties"][name]["enum"][0].as_str().unwrap_or_default(),
                };
                vec![Problem::new(name, None, format!("is required: {allowed}"))]
            }
        })
        .collect()
}

fn cel_problem(document: &Value, error: &ValidationError) -> Problem {
    let path = error.field_path.trim_start_matches('.');
    // Rules on the whole object carry no path, as the API server allows none there; they all speak of the name.
    let path = if path.is_empty() { "metadata.name" } else { path };
    let message = match error.kind {
        ErrorKind::ValidationFailure => error.message.clone(),
        _ => format!("cannot be checked by the rule {:?}: {}", error.rule, error.message),
    };
    Problem::new(path, lookup(document, path), message)
}

/// The value at a path such as `spec.cache.shards`; lists are not needed, as no rule is on their items.
fn lookup<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(document, |value, name| value.get(name))
}
