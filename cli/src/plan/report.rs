//! What `tallyman plan` prints: comments, YAML and CQL to read, or one object per CounterNamespace for programs.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};
use tallyman_counter::backend::cassandra::schema::plan::{Plan as SchemaPlan, Wanted};
use tallyman_operator::build::Object;

use super::difference::{Change, Changed};
use super::planned::{PLACEHOLDER, Planned};
use crate::failure::Failure;
use crate::output::Format;

/// The statements for a dataset.
pub struct Schema {
    pub wanted: Wanted,
    pub plan: SchemaPlan,
    /// With what is there; otherwise with an empty Cassandra.
    pub is_compared: bool,
}

pub struct Report<'a> {
    pub planned: &'a Planned,
    /// With what runs, if that was looked at.
    pub differences: Option<&'a [Changed]>,
    /// `None` where another CounterNamespace showed it already, or there is none.
    pub schema: Option<&'a Schema>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ForPrograms<'a> {
    name: &'a str,
    kubernetes_namespace: &'a str,
    class_name: &'a str,
    class_is_made_up: bool,
    settings: Vec<Value>,
    notes: &'a [String],
    objects: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    differences: Option<Vec<Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<Value>,
}

impl Report<'_> {
    pub fn print(&self, format: Format) -> Result<(), Failure> {
        let text = self.text()?;
        format.print(text.trim_end(), &self.for_programs())
    }

    fn name(&self) -> (&str, &str) {
        let metadata = &self.planned.namespace.metadata;
        (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
    }

    /// Comments, then the objects as one stream of YAML, then the CQL in comments of YAML: all of it can be read as YAML.
    pub fn text(&self) -> Result<String, Failure> {
        let mut text = String::new();
        let planned = self.planned;
        let (kubernetes_namespace, name) = self.name();
        // Writing into a String does not fail.
        let _ = writeln!(
            text,
            "# CounterNamespace {kubernetes_namespace}/{name}, {:?}; CounterClass {}{}",
            planned.namespace.spec.counter_type,
            planned.class_name,
            if planned.class_is_made_up { ", which is made up: name a file with --class-file" } else { "" }
        );
        let lines = planned.plan.lines();
        let width = lines.iter().map(|line| line.setting.len()).max().unwrap_or_default();
        for line in &lines {
            let _ = writeln!(text, "#   {:width$}  {}", line.setting, line.value);
            let _ = writeln!(text, "#   {:width$}    {}: {}", "", line.origin, line.reason);
        }
        for note in &planned.notes {
            let _ = writeln!(text, "# note: {note}");
        }
        match self.differences {
            Some(changed) => text.push_str(&differences_text(changed)),
            None => {
                for object in &planned.built.objects {
                    let yaml = serde_saphyr::to_string(&shown(object));
                    let yaml = yaml.map_err(|error| Failure::local(format!("cannot show an object: {error}")))?;
                    let _ = write!(text, "---\n{yaml}");
                }
            }
        }
        if let Some(schema) = self.schema {
            text.push_str(&schema_text(schema));
        }
        Ok(text)
    }

    fn for_programs(&self) -> ForPrograms<'_> {
        let planned = self.planned;
        let (kubernetes_namespace, name) = self.name();
        let lines = planned.plan.lines().into_iter();
        ForPrograms {
            name,
            kubernetes_namespace,
            class_name: &planned.class_name,
            class_is_made_up: planned.class_is_made_up,
            settings: lines
                .map(|line| {
                    let origin = line.origin.to_string();
                    json!({"setting": line.setting, "value": line.value, "origin": origin, "reason": line.reason})
                })
                .collect(),
            notes: &planned.notes,
            objects: planned.built.objects.iter().map(shown).collect(),
            differences: self.differences.map(|changed| changed.iter().map(difference_value).collect()),
            schema: self.schema.map(schema_value),
        }
    }
}

/// An object with a placeholder for each secret. Every value of a Secret is one, made up or not.
fn shown(object: &Object) -> Value {
    let mut value = object.to_value();
    if let (Object::Secret(secret), Some(fields)) = (object, value.as_object_mut()) {
        let keys = secret.data.iter().flatten().map(|(key, _)| key.clone());
        fields.remove("data");
        fields.insert("stringData".to_owned(), keys.map(|key| (key, Value::from(PLACEHOLDER))).collect());
    }
    value
}

fn differences_text(changed: &[Changed]) -> String {
    let mut text = "# objects:\n".to_owned();
    if changed.is_empty() {
        text.push_str("#   nothing to change\n");
    }
    for Changed { kind, name, change } in changed {
        let what = match change {
            Change::Create => "create",
            Change::Update(_) => "change",
            Change::Delete => "delete",
            Change::Conflict => "left alone, for it is not this CounterNamespace's:",
        };
        let _ = writeln!(text, "#   {what} {kind} {name}");
        if let Change::Update(found) = change {
            for one in found {
                let _ = writeln!(text, "#     {}: {} → {}", one.path, short(&one.live), short(&one.desired));
            }
        }
    }
    text
}

/// Documents and long lists would bury the rest.
const SHOWN_LENGTH_MAX: usize = 120;

fn short(value: &Value) -> String {
    let text = match value {
        Value::Null => "nothing".to_owned(),
        value => value.to_string(),
    };
    match text.char_indices().nth(SHOWN_LENGTH_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn difference_value(changed: &Changed) -> Value {
    let Changed { kind, name, change } = changed;
    let (change, fields) = match change {
        Change::Create => ("create", None),
        Change::Delete => ("delete", None),
        Change::Conflict => ("conflict", None),
        Change::Update(found) => ("change", Some(found)),
    };
    let fields = fields.into_iter().flatten();
    let fields: Vec<_> =
        fields.map(|one| json!({"path": one.path, "live": one.live, "desired": one.desired})).collect();
    json!({"kind": kind, "name": name, "change": change, "fields": fields})
}

fn schema_text(schema: &Schema) -> String {
    let Schema { wanted, plan, is_compared } = schema;
    let compared = if *is_compared { "what is missing in" } else { "for an empty" };
    let mut text = format!("# CQL of dataset {}, {compared} Cassandra:\n", wanted.dataset.keyspace);
    for note in &plan.notes {
        let _ = writeln!(text, "# note: {note}");
    }
    if plan.is_empty() {
        text.push_str("#   nothing to do\n");
    }
    for step in plan.steps() {
        let _ = writeln!(text, "#   -- {}", step.why.replace('\n', " "));
        for line in format!("{};", step.cql).lines() {
            let _ = writeln!(text, "#   {line}");
        }
    }
    text
}

fn schema_value(schema: &Schema) -> Value {
    let steps: Vec<_> = schema
        .plan
        .steps()
        .map(|step| json!({"action": step.action.name(), "cql": step.cql.to_string(), "why": step.why}))
        .collect();
    json!({"dataset": schema.wanted.dataset.keyspace, "compared": schema.is_compared, "steps": steps, "notes": schema.plan.notes})
}
