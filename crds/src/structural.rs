//! What an API server does to an object before its CEL rules: drop nulls, fill defaults in, and check the structural
//! schema. Pure; knows the keywords that our generated schemas use, and a test holds the schemas to those.

use regex::Regex;
use serde_json::{Map, Value};

use crate::{duration, quantity, resources};

/// A field that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field, such as `spec.eventStore.acceptLimit`.
    pub path: String,
    /// The value found there as JSON, cut short when long; empty where there is none.
    pub value: String,
    /// What is wrong with it and what is allowed.
    pub message: String,
}

impl Problem {
    /// A problem with the value at a path.
    pub(crate) fn new(path: &str, value: Option<&Value>, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), value: value.map(render).unwrap_or_default(), message: message.into() }
    }
}

const RENDERED_LENGTH_MAX: usize = 80;

fn render(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(RENDERED_LENGTH_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Fills defaults into `value` and returns everything in it that `schema` does not allow.
pub(crate) fn complete(schema: &Value, value: &mut Value, path: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    walk(schema, value, path, &mut problems);
    problems
}

fn walk(schema: &Value, value: &mut Value, path: &str, problems: &mut Vec<Problem>) {
    if !type_matches(schema, value) {
        problems.push(Problem::new(path, Some(value), format!("must be {}", type_text(schema))));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let allowed: Vec<String> = allowed.iter().map(|one| one.as_str().unwrap_or_default().to_owned()).collect();
        problems.push(Problem::new(path, Some(value), format!("must be one of {}", allowed.join(", "))));
        return;
    }
    match value {
        Value::Object(map) => walk_object(schema, map, path, problems),
        Value::Array(items) => {
            check_size(schema, "Items", items.len(), "items", path, problems);
            for (index, item) in items.iter_mut().enumerate() {
                walk(&schema["items"], item, &format!("{path}[{index}]"), problems);
            }
        }
        Value::String(text) => problems.extend(text_problem(schema, text, path)),
        Value::Number(_) => problems.extend(number_problem(schema, value, path)),
        Value::Bool(_) | Value::Null => {}
    }
}

fn walk_object(schema: &Value, map: &mut Map<String, Value>, path: &str, problems: &mut Vec<Problem>) {
    let no_properties = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&no_properties);
    let others = &schema["additionalProperties"];
    let is_free = properties.is_empty() && others.is_null();
    if is_free {
        return;
    }
    check_size(schema, "Properties", map.len(), "entries", path, problems);
    // `ttl:` without a value is a null, which the API server takes for absent.
    map.retain(|name, value| !value.is_null() || !(properties.contains_key(name) || others.is_object()));
    for (name, property) in properties {
        if let Some(default) = property.get("default") {
            map.entry(name.as_str()).or_insert_with(|| default.clone());
        }
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !map.contains_key(name) {
            let one = properties.get(name).unwrap_or(&Value::Null);
            problems.push(Problem::new(&join(path, name), None, format!("is required: {}", type_text(one))));
        }
    }
    for (name, value) in map {
        let path = join(path, name);
        match properties.get(name) {
            Some(property) => walk(property, value, &path, problems),
            None if others.is_object() => walk(others, value, &path, problems),
            None => problems.push(Problem::new(&path, Some(value), unknown_field_text(properties, name))),
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn unknown_field_text(properties: &Map<String, Value>, name: &str) -> String {
    let folded = |name: &str| name.replace(['_', '-'], "").to_ascii_lowercase();
    let meant = properties.keys().find(|known| folded(known) == folded(name));
    let known: Vec<&str> = properties.keys().map(String::as_str).collect();
    match meant {
        Some(meant) => format!("unknown field; did you mean {meant}?"),
        None => format!("unknown field; known here are {}", known.join(", ")),
    }
}

fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is_int_or_string(schema: &Value) -> bool {
    schema["x-kubernetes-int-or-string"] == Value::Bool(true)
}

fn type_matches(schema: &Value, value: &Value) -> bool {
    if is_int_or_string(schema) {
        return value.is_i64() || value.is_u64() || value.is_string();
    }
    let types = types(schema);
    types.is_empty()
        || types.iter().any(|one| match *one {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            _ => false,
        })
}

/// What a value of this schema may be, for people.
pub(crate) fn type_text(schema: &Value) -> String {
    if let Some(pattern) = schema["pattern"].as_str() {
        return pattern_text(pattern);
    }
    if let Some(allowed) = schema["enum"].as_array() {
        let allowed: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
        return format!("one of {}", allowed.join(", "));
    }
    match types(schema).first() {
        Some(&"object") => "an object (fields with values)".to_owned(),
        Some(&"array") => "a list".to_owned(),
        Some(&"integer") => format!("a whole number{}", range_text(schema)),
        Some(&"number") => format!("a number{}", range_text(schema)),
        Some(&"boolean") => "true or false".to_owned(),
        Some(&"string") => "a text".to_owned(),
        _ => "another type".to_owned(),
    }
}

fn pattern_text(pattern: &str) -> String {
    match pattern {
        duration::PATTERN => duration::ALLOWED.to_owned(),
        duration::PATTERN_WHOLE_SECONDS => duration::ALLOWED_WHOLE_SECONDS.to_owned(),
        quantity::PATTERN => quantity::ALLOWED.to_owned(),
        resources::PATTERN => resources::ALLOWED.to_owned(),
        _ => format!("a text that matches {pattern}"),
    }
}

fn range_text(schema: &Value) -> String {
    match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        (Some(min), Some(max)) => format!(" from {min} to {max}"),
        (Some(min), None) => format!(" not below {min}"),
        (None, Some(max)) => format!(" not above {max}"),
        (None, None) => String::new(),
    }
}

fn number_problem(schema: &Value, value: &Value, path: &str) -> Option<Problem> {
    let number = value.as_f64()?;
    let below = schema["minimum"].as_f64().is_some_and(|min| number < min);
    let above = schema["maximum"].as_f64().is_some_and(|max| number > max);
    (below || above).then(|| Problem::new(path, Some(value), format!("must be {}", type_text(schema))))
}

fn text_problem(schema: &Value, text: &str, path: &str) -> Option<Problem> {
    let problem = |message| Some(Problem::new(path, Some(&text.into()), message));
    // The API server counts characters, not bytes.
    let length = text.chars().count() as u64;
    if let Some(pattern) = schema["pattern"].as_str() {
        match Regex::new(pattern) {
            Ok(regex) if !regex.is_match(text) => {
                return problem(format!("must be {}", pattern_text(pattern)));
            }
            Ok(_) => {}
            // The tests compile every pattern there is.
            Err(error) => return problem(format!("cannot be checked: {error}")),
        }
    }
    if schema["maxLength"].as_u64().is_some_and(|max| length > max) {
        return problem(format!("must be at most {} characters long", schema["maxLength"]));
    }
    if schema["minLength"].as_u64().is_some_and(|min| length < min) {
        let allowed = schema["pattern"].as_str().map_or_else(String::new, |one| format!(": {}", pattern_text(one)));
        return problem(format!("must be at least {} characters long{allowed}", schema["minLength"]));
    }
    None
}

fn check_size(schema: &Value, what: &str, size: usize, unit: &str, path: &str, problems: &mut Vec<Problem>) {
    let bound = |side: &str| schema[format!("{side}{what}").as_str()].as_u64();
    let size = size as u64;
    if let Some(min) = bound("min").filter(|min| size < *min) {
        problems.push(Problem::new(path, None, format!("must have at least {min} {unit}, not {size}")));
    }
    if let Some(max) = bound("max").filter(|max| size > *max) {
        problems.push(Problem::new(path, None, format!("must have at most {max} {unit}, not {size}")));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What `walk` honours, and what needs nothing done.
    const KEYWORDS: [&str; 22] = [
        "additionalProperties",
        "default",
        "description",
        "enum",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "pattern",
        "properties",
        "required",
        "type",
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type",
        "x-kubernetes-validations",
    ];

    fn each_schema(schema: &Value, visit: &mut dyn FnMut(&Map<String, Value>)) {
        let Some(map) = schema.as_object() else {
            return;
        };
        visit(map);
        for property in map.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::values) {
            each_schema(property, visit);
        }
        for inner in ["items", "additionalProperties"].iter().filter_map(|name| map.get(*name)) {
            each_schema(inner, visit);
        }
    }

    fn schemas() -> Vec<Value> {
        let mut schemas: Vec<Value> = crate::generate::crds()
            .unwrap()
            .into_iter()
            .map(|crd| serde_json::to_value(&crd.spec.versions[0].schema).unwrap()["openAPIV3Schema"].clone())
            .collect();
        schemas.push(crate::generate::metadata_schema().unwrap());
        schemas
    }

    #[test]
    fn the_generated_schemas_use_no_keyword_that_is_not_honoured() {
        for schema in schemas() {
            each_schema(&schema, &mut |map| {
                for keyword in map.keys() {
                    assert!(KEYWORDS.contains(&keyword.as_str()), "{keyword} in {map:?}");
                }
            });
        }
    }

    #[test]
    fn every_pattern_compiles_and_every_number_of_a_spec_is_bounded() {
        for schema in schemas() {
            each_schema(&schema["properties"]["spec"], &mut |map| {
                if let Some(pattern) = map.get("pattern").and_then(Value::as_str) {
                    Regex::new(pattern).unwrap();
                }
                if map.get("type") == Some(&json!("integer")) {
                    assert!(map.contains_key("minimum") && map.contains_key("maximum"), "{map:?}");
                }
            });
        }
    }

    fn problems(schema: Value, mut value: Value) -> Vec<String> {
        complete(&schema, &mut value, "x").into_iter().map(|one| format!("{} {}", one.path, one.message)).collect()
    }

    #[test]
    fn each_keyword_refuses_what_it_must() {
        let cases = [
            (
                json!({"type": "integer", "minimum": 1.0, "maximum": 3.0}),
                json!(4),
                "x must be a whole number from 1 to 3",
            ),
            (
                json!({"type": "integer", "minimum": 1.0, "maximum": 3.0}),
                json!(0),
                "x must be a whole number from 1 to 3",
            ),
            (json!({"type": "integer"}), json!(1.5), "x must be a whole number"),
            (json!({"type": "boolean"}), json!("yes"), "x must be true or false"),
            (json!({"type": "string", "enum": ["A", "B"]}), json!("C"), "x must be one of A, B"),
            (json!({"type": "string", "maxLength": 2}), json!("äöü"), "x must be at most 2 characters long"),
            (json!({"type": "string", "minLength": 1}), json!(""), "x must be at least 1 characters long"),
            (json!({"type": "string", "pattern": "^a$"}), json!("b"), "x must be a text that matches ^a$"),
            (json!({"type": "array", "minItems": 1}), json!([]), "x must have at least 1 items, not 0"),
            (json!({"type": "array", "items": {"type": "string"}}), json!(["a", 1]), "x[1] must be a text"),
            (
                json!({"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 1}),
                json!({"a": "", "b": ""}),
                "x must have at most 1 entries, not 2",
            ),
            (
                json!({"type": "object", "properties": {"aB": {"type": "string"}}}),
                json!({"a_b": ""}),
                "x.a_b unknown field; did you mean aB?",
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}),
                json!({}),
                "x.a is required: a text",
            ),
            (json!({"x-kubernetes-int-or-string": true}), json!(1.5), "x must be another type"),
        ];
        for (schema, value, problem) in cases {
            assert_eq!(problems(schema, value), [problem]);
        }
    }

    #[test]
    fn defaults_are_filled_in_below_defaults_and_null_is_absent() {
        let schema = json!({"type": "object", "properties": {
            "a": {"type": "object", "default": {}, "properties": {"b": {"type": "integer", "default": 2}}},
            "c": {"type": "string"}}});
        for mut value in [json!({}), json!({"a": null}), json!({"a": {"b": null}}), json!({"c": null})] {
            assert_eq!(complete(&schema, &mut value, ""), []);
            assert_eq!(value, json!({"a": {"b": 2}}));
        }
    }
}
