//! `tallyman inject`: sidecars for the pods of a file, as the webhook would give them.
//!
//! The parts: [`documents`] takes a YAML text apart and puts it together; [`workloads`] finds the pod templates of a resource.
//! What becomes of a pod is `tallyman_operator::inject`'s.

mod documents;
mod workloads;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;
use serde_json::Value;
use tallyman_operator::inject::{Outcome, Settings, inject};
use tallyman_operator::names;

use self::documents::Document;
use self::workloads::{Pods, pods};
use crate::failure::Failure;
use crate::output::{self, Format};

/// Write the resources of a file with a sidecar in their pods, as the webhook would inject it.
///
/// Pods with label tallyman.dev/inject: "true" get a sidecar: by themselves, and as the templates of Deployments, StatefulSets,
/// DaemonSets, ReplicaSets, ReplicationControllers, Jobs, CronJobs, PodTemplates, and within Lists. A sidecar that was injected
/// before is replaced if it is an old one. All other documents are written as they are.
///
/// A document that is changed is written anew: its comments are lost, but for those above it, and its keys are in order of the alphabet.
///
/// What is left without a sidecar, and why, is said on standard error. If an annotation is not allowed, nothing is written.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The resources: a YAML file of one or more documents; - reads standard input.
    #[arg(short, long, value_name = "FILE")]
    filename: PathBuf,

    /// The image of sidecars, where annotation tallyman.dev/sidecar-image says no other. By default that of this release.
    #[arg(long, value_name = "IMAGE", default_value = Settings::IMAGE_OF_RELEASE, env = "TALLYMAN_SIDECAR_IMAGE",
        value_parser = NonEmptyStringValueParser::new())]
    sidecar_image: String,
}

/// What is said of a resource on standard error.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Note {
    /// Where it is in the text.
    resource: String,
    /// What is to be known.
    note: String,
}

/// A text with its sidecars, or what is wrong with it.
struct Injected {
    text: String,
    notes: Vec<Note>,
    failures: Vec<Failure>,
}

/// Writes the file with its sidecars.
pub fn run(arguments: &Arguments, format: Format) -> Result<ExitCode, Failure> {
    let (name, text) = read(&arguments.filename)?;
    let mut injected = inject_text(&name, &text, &Settings::new(arguments.sidecar_image.as_str()))?;
    for note in &injected.notes {
        match format {
            Format::Text | Format::Yaml => eprintln!("{}: {}", note.resource, note.note),
            Format::Json => eprintln!("{}", serde_json::json!(note)),
        }
    }
    // The last one is printed by who called, with the exit code.
    if let Some(last) = injected.failures.pop() {
        for failure in &injected.failures {
            failure.print(format);
        }
        return Err(last);
    }
    output::write(injected.text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<(String, String), Failure> {
    let (name, text) = if path == Path::new("-") {
        let mut text = String::new();
        ("standard input".to_owned(), std::io::stdin().read_to_string(&mut text).map(|_| text))
    } else {
        (path.display().to_string(), std::fs::read_to_string(path))
    };
    match text {
        Ok(text) => Ok((name, text)),
        Err(error) => Err(Failure::local(format!("cannot read {name}: {error}"))),
    }
}

/// `name` names the text in messages.
fn inject_text(name: &str, text: &str, settings: &Settings) -> Result<Injected, Failure> {
    let mut all = Injected { text: String::new(), notes: Vec::new(), failures: Vec::new() };
    let mut any_asked = false;
    let mut number = 1;
    for document in documents::split(text) {
        let place = format!("{name}: document {number}");
        let value = document.read().map_err(|error| Failure::local(format!("{place}: not valid YAML: {error}")))?;
        let Some(mut value) = value else {
            all.text.push_str(document.text());
            continue;
        };
        number += 1;
        let (mut changed, mut failed) = (false, false);
        for pods in pods(&mut value) {
            let resource = format!("{place} ({} {})", pods.kind, pods.name);
            any_asked |= asks(pods.template) || pods.is_mislabelled;
            match one(&pods, settings) {
                Ok((injected, notes)) => {
                    all.notes.extend(notes.into_iter().map(|note| Note { resource: resource.clone(), note }));
                    if let Some(injected) = injected {
                        *pods.template = injected;
                        changed = true;
                    }
                }
                Err(message) => {
                    all.failures.push(Failure::local(format!("{resource}: {message}")));
                    failed = true;
                }
            }
        }
        if changed && !failed {
            all.text.push_str(&written(&document, &value, &place)?);
        } else {
            all.text.push_str(document.text());
        }
    }
    if !any_asked && all.failures.is_empty() {
        let note = format!("no pod has label {}: \"true\"; nothing was injected", names::INJECT);
        all.notes.push(Note { resource: name.to_owned(), note });
    }
    Ok(all)
}

fn asks(template: &Value) -> bool {
    template["metadata"]["labels"][names::INJECT].is_string()
}

/// The template with a sidecar, if it gets one, and what is to be said; or why it is refused.
fn one(pods: &Pods<'_>, settings: &Settings) -> Result<(Option<Value>, Vec<String>), String> {
    match inject(pods.template, settings) {
        Outcome::Injected(injected) => Ok((Some(injected.pod), injected.warnings)),
        Outcome::Skipped(reason) => Ok((None, vec![format!("no sidecar was injected: {reason}")])),
        Outcome::Refused(refusal) => Err(refusal.to_string()),
        Outcome::AlreadyCurrent => Ok((None, Vec::new())),
        Outcome::NotAsked if pods.is_mislabelled => Ok((
            None,
            vec![format!(
                "no sidecar was injected: label {} is the {}'s own; it belongs to the pod template",
                names::INJECT,
                pods.kind
            )],
        )),
        Outcome::NotAsked => Ok((None, Vec::new())),
    }
}

fn written(document: &Document<'_>, value: &Value, place: &str) -> Result<String, Failure> {
    document.with(value).map_err(|error| Failure::local(format!("{place}: cannot be written: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFESTS: &str = include_str!("inject/manifests.yaml");

    fn injected(text: &str) -> Injected {
        inject_text("web.yaml", text, &Settings::new("sidecar:1")).unwrap()
    }

    fn values(text: &str) -> Vec<Value> {
        documents::split(text).filter_map(|document| document.read().unwrap()).collect()
    }

    #[test]
    fn documents_without_pods_that_ask_are_written_as_they_are_to_the_byte() {
        let Injected { text, notes, failures } = injected(MANIFESTS);
        assert!(failures.is_empty());
        let kept: Vec<&str> = MANIFESTS.split("---\n").filter(|part| !part.contains("injectme")).collect();
        assert!(kept.len() >= 4);
        for part in kept {
            assert!(text.contains(part), "{part}");
        }
        let all: Vec<String> = notes.iter().map(|note| format!("{}: {}", note.resource, note.note)).collect();
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(
            all[0].starts_with("web.yaml: document 7 (DaemonSet on-host): no sidecar")
                && all[0].contains("hostNetwork"),
            "{all:?}"
        );
        assert!(all[1].contains("(Deployment mislabelled)") && all[1].contains("pod template"), "{all:?}");
    }

    #[test]
    fn every_kind_of_workload_gets_its_sidecar_and_keeps_all_else() {
        let (before, after) = (values(MANIFESTS), values(&injected(MANIFESTS).text));
        assert_eq!(before.len(), after.len());
        let mut sidecars = 0;
        for (mut before, mut after) in before.into_iter().zip(after) {
            for pods in pods(&mut after) {
                let spec = &pods.template["spec"];
                sidecars += usize::from(spec["initContainers"][0]["name"] == names::SIDECAR_CONTAINER);
            }
            // The library's own tests hold that injection keeps what it is not about.
            for (before, after) in pods(&mut before).into_iter().zip(pods(&mut after)) {
                if let Outcome::Injected(injected) = inject(before.template, &Settings::new("sidecar:1")) {
                    *before.template = injected.pod;
                }
                assert_eq!(before.template, after.template);
            }
            assert_eq!(before, after);
        }
        assert_eq!(sidecars, 6);
    }

    #[test]
    fn a_text_that_was_injected_stays_as_it_is() {
        let once = injected(MANIFESTS).text;
        assert_eq!(injected(&once).text, once);
    }

    #[test]
    fn every_annotation_that_is_not_allowed_is_told_of_with_its_place() {
        let text = MANIFESTS.replace("video-plays, likes", "Likes");
        let failures = injected(&text).failures;
        assert!(failures.len() > 1);
        assert!(failures[0].message.starts_with("web.yaml: document 2 (Pod injectme): "), "{}", failures[0].message);
        assert!(failures[0].message.contains("\"Likes\""), "{}", failures[0].message);
    }

    #[test]
    fn a_text_in_which_nobody_asks_is_told_of() {
        let text = "kind: ConfigMap\n";
        let Injected { text: written, notes, .. } = injected(text);
        assert_eq!(written, text);
        assert!(notes[0].note.contains("no pod has label"));
    }

    #[test]
    fn what_is_no_yaml_is_told_of_with_its_place() {
        let Err(failure) = inject_text("web.yaml", "a: 1\n---\na: [\n", &Settings::default()) else {
            panic!("it is none")
        };
        assert!(failure.message.starts_with("web.yaml: document 2: not valid YAML"), "{}", failure.message);
    }
}
