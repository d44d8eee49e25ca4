//! What a pod asks for, by its label and its annotations.

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tallyman_crds::counter_namespace::NAME_LENGTH_MAX;

use crate::names;

/// Namespaces that one sidecar serves, at most: each has connections, and three sources of files.
pub const COUNTER_NAMESPACES_MAX: usize = 32;
const IMAGE_LENGTH_MAX: usize = 512;
const MILLICORES_MAX: u64 = 64_000;
const MEMORY_BYTES_MIN: u64 = 16 << 20;
const MEMORY_BYTES_MAX: u64 = 64 << 30;

const IMAGE: &str = "sidecar-image";
const READINESS: &str = "sidecar-readiness";
const CPU: &str = "sidecar-cpu";
const CPU_LIMIT: &str = "sidecar-cpu-limit";
const MEMORY: &str = "sidecar-memory";
/// The annotations about the sidecar, after `tallyman.dev/`.
const KNOWN: [&str; 5] = [IMAGE, READINESS, CPU, CPU_LIMIT, MEMORY];

/// Whether a pod asks for a sidecar.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// It does not.
    Nothing,
    /// It does, for this one.
    Sidecar(Request),
}

/// What a pod asks of its sidecar.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    /// The CounterNamespaces to serve; at least one.
    pub counter_namespaces: BTreeSet<String>,
    /// Another image than the usual one.
    pub image: Option<String>,
    /// Whether the pod is ready only while the sidecar is.
    pub readiness: bool,
    /// CPU to set aside, and the most it may use.
    pub cpu: Option<Cpu>,
    /// See `cpu`.
    pub cpu_limit: Option<Cpu>,
    /// Memory to set aside, which is also the most it may use.
    pub memory: Option<tallyman_crds::Quantity>,
    /// What its author should hear of, though it stops nothing.
    pub warnings: Vec<String>,
}

/// CPU in thousandths of a core, 1 to 64,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpu {
    millicores: u64,
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As the API server writes it, so that nothing differs from what is read back.
        if self.millicores.is_multiple_of(1000) {
            write!(f, "{}", self.millicores / 1000)
        } else {
            write!(f, "{}m", self.millicores)
        }
    }
}

/// What is wrong with what a pod asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The annotation that says what to serve is missing.
    #[error(
        "annotation {} is missing: name the CounterNamespaces that the sidecar is to serve, separated by commas, or remove label {}",
        names::COUNTER_NAMESPACES,
        names::INJECT
    )]
    NothingToServe,
    /// The label has a value that says neither yes nor no.
    #[error("label {}: {value:?} is neither \"true\" nor \"false\"", names::INJECT)]
    Label {
        /// The value.
        value: String,
    },
    /// The label is where labels are not.
    #[error("{} is an annotation here, which asks for nothing: make it a label of the pod template", names::INJECT)]
    LabelAsAnnotation,
    /// An annotation has a value that is not allowed.
    #[error("annotation {annotation}: {value:?} {problem}")]
    Annotation {
        /// The annotation.
        annotation: String,
        /// The part of its value that is wrong.
        value: String,
        /// What is wrong with it, and what is allowed.
        problem: String,
    },
    /// The object is not what Kubernetes takes for a pod.
    #[error("this is no pod as Kubernetes describes it: {message}")]
    NotAPod {
        /// What is wrong, and where.
        message: String,
    },
}

/// Reads what the pod with this metadata asks for.
///
/// # Errors
/// A value that is not allowed.
pub fn read(metadata: &ObjectMeta) -> Result<Asked, Refusal> {
    let label = metadata.labels.as_ref().and_then(|labels| labels.get(names::INJECT));
    match label.map(String::as_str) {
        Some("true") => {}
        Some("false") => return Ok(Asked::Nothing),
        Some(value) => return Err(Refusal::Label { value: value.to_owned() }),
        None => {
            let annotated = metadata.annotations.as_ref().and_then(|annotations| annotations.get(names::INJECT));
            let mistaken = annotated.is_some_and(|value| value == "true");
            return if mistaken { Err(Refusal::LabelAsAnnotation) } else { Ok(Asked::Nothing) };
        }
    }
    let annotation = |name: &str| metadata.annotations.as_ref()?.get(name).map(String::as_str);
    let about_sidecar = |name: &str| annotation(&format!("tallyman.dev/{name}"));
    let namespaces = annotation(names::COUNTER_NAMESPACES).ok_or(Refusal::NothingToServe)?;
    let request = Request {
        counter_namespaces: counter_namespaces(namespaces)?,
        image: about_sidecar(IMAGE).map(image).transpose()?,
        readiness: about_sidecar(READINESS).map(|value| yes_or_no(READINESS, value)).transpose()?.unwrap_or_default(),
        cpu: about_sidecar(CPU).map(|value| cpu(CPU, value)).transpose()?,
        cpu_limit: about_sidecar(CPU_LIMIT).map(|value| cpu(CPU_LIMIT, value)).transpose()?,
        memory: about_sidecar(MEMORY).map(memory).transpose()?,
        warnings: unknown(metadata),
    };
    Ok(Asked::Sidecar(request))
}

fn refused(name: &str, value: &str, problem: impl Into<String>) -> Refusal {
    let annotation = if name.contains('/') { name.to_owned() } else { format!("tallyman.dev/{name}") };
    // A value may be as long as 256 KiB; its beginning says enough.
    let value = value.chars().take(80).collect();
    Refusal::Annotation { annotation, value, problem: problem.into() }
}

/// That this much CPU cannot be had, as the limit is `limit`.
pub(super) fn beyond_cpu_limit(cpu: &str, limit: &str) -> Refusal {
    refused(CPU, cpu, format!("is more than the limit, which is {limit}: raise tallyman.dev/{CPU_LIMIT}"))
}

/// Whether one amount of CPU is more than another, as far as both can be read; the API server judges the rest.
pub(super) fn is_more_cpu(cpu: &str, limit: &str) -> bool {
    millicores(cpu).zip(millicores(limit)).is_some_and(|(cpu, limit)| cpu > limit)
}

fn counter_namespaces(value: &str) -> Result<BTreeSet<String>, Refusal> {
    let refused = |value: &str, problem: String| Err(refused(names::COUNTER_NAMESPACES, value, problem));
    if value.trim().is_empty() {
        return refused(value, "names no CounterNamespace: name at least one, separated by commas".to_owned());
    }
    let mut found = BTreeSet::new();
    for name in value.split(',').map(str::trim) {
        if !is_name(name) {
            return refused(
                name,
                format!(
                    "is not the name of a CounterNamespace: 1 to {NAME_LENGTH_MAX} lower-case letters, digits and '-', beginning with a letter, ending with a letter or digit; several are separated by commas"
                ),
            );
        }
        if !found.insert(name.to_owned()) {
            return refused(name, "comes twice: name each CounterNamespace once".to_owned());
        }
        if found.len() > COUNTER_NAMESPACES_MAX {
            return refused(value, format!("names more than {COUNTER_NAMESPACES_MAX} CounterNamespaces"));
        }
    }
    Ok(found)
}

/// As the schema of CounterNamespaces has it.
fn is_name(text: &str) -> bool {
    let letter_or_digit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= NAME_LENGTH_MAX
        && text.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
        && text.bytes().last().is_some_and(letter_or_digit)
        && text.bytes().all(|byte| letter_or_digit(byte) || byte == b'-')
}

fn image(value: &str) -> Result<String, Refusal> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/@".contains(&byte);
    if value.is_empty() || value.len() > IMAGE_LENGTH_MAX || !value.bytes().all(allowed) {
        let problem = format!(
            "is not the name of an image: 1 to {IMAGE_LENGTH_MAX} letters, digits and any of ._-:/@, such as registry.example.com/tallyman-sidecar:0.1.0"
        );
        return Err(refused(IMAGE, value, problem));
    }
    Ok(value.to_owned())
}

fn yes_or_no(name: &str, value: &str) -> Result<bool, Refusal> {
    value.parse().map_err(|_| refused(name, value, "is neither \"true\" nor \"false\""))
}

fn cpu(name: &str, value: &str) -> Result<Cpu, Refusal> {
    let found = millicores(value).filter(|millicores| (1..=MILLICORES_MAX).contains(millicores));
    found.map(|millicores| Cpu { millicores }).ok_or_else(|| {
        refused(
            name,
            value,
            format!("is not an amount of CPU such as 250m, 1 or 1.5, from 1m to {}", MILLICORES_MAX / 1000),
        )
    })
}

/// `250m`, `2`, `1.5`: no more than three digits after the point.
fn millicores(text: &str) -> Option<u64> {
    let number =
        |text: &str| (text.len() <= 6 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?;
    if let Some(thousandths) = text.strip_suffix('m') {
        return number(thousandths);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let scale = match fraction.len() {
        1 => 100,
        2 => 10,
        3 => 1,
        _ => return None,
    };
    let (whole, fraction): (u64, u64) = (number(whole)?, number(fraction)?);
    Some(whole * 1000 + fraction * scale)
}

fn memory(value: &str) -> Result<tallyman_crds::Quantity, Refusal> {
    let quantity = value.parse::<tallyman_crds::Quantity>().ok();
    let allowed = quantity.filter(|quantity| (MEMORY_BYTES_MIN..=MEMORY_BYTES_MAX).contains(&quantity.as_bytes()));
    allowed.ok_or_else(|| refused(MEMORY, value, "is not an amount of memory such as 128Mi or 1Gi, from 16Mi to 64Gi"))
}

/// A misspelt annotation asks for nothing, and nobody would tell.
fn unknown(metadata: &ObjectMeta) -> Vec<String> {
    let names = metadata.annotations.iter().flatten().map(|(name, _)| name);
    let about_sidecar = names.filter(|name| name.starts_with("tallyman.dev/sidecar-"));
    let unknown =
        about_sidecar.filter(|name| !KNOWN.iter().any(|known| name.strip_prefix("tallyman.dev/") == Some(known)));
    unknown
        .map(|name| format!("annotation {name} is not known and does nothing; known are {}", KNOWN.join(", ")))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn metadata(annotations: &[(&str, &str)]) -> ObjectMeta {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        ObjectMeta {
            labels: Some(BTreeMap::from([(names::INJECT.to_owned(), "true".to_owned())])),
            annotations: Some(annotations.iter().map(owned).collect()),
            ..ObjectMeta::default()
        }
    }

    fn asked(annotations: &[(&str, &str)]) -> Result<Request, String> {
        let mut all = vec![(names::COUNTER_NAMESPACES, "likes")];
        all.extend_from_slice(annotations);
        match read(&metadata(&all)) {
            Ok(Asked::Sidecar(request)) => Ok(request),
            Ok(Asked::Nothing) => panic!("the label asks for a sidecar"),
            Err(refusal) => Err(refusal.to_string()),
        }
    }

    #[test]
    fn namespaces_are_separated_by_commas_and_blanks_do_not_count() {
        let request = asked(&[(names::COUNTER_NAMESPACES, " video-plays ,likes")]).unwrap();
        assert_eq!(request.counter_namespaces.into_iter().collect::<Vec<_>>(), ["likes", "video-plays"]);
    }

    #[test]
    fn a_refused_name_is_named_with_its_annotation_and_what_is_allowed() {
        let long = "a".repeat(41);
        for name in ["Likes", "1likes", "likes-", "li.kes", "", long.as_str()] {
            let message = asked(&[(names::COUNTER_NAMESPACES, &format!("first,{name}"))]).unwrap_err();
            assert!(message.contains(names::COUNTER_NAMESPACES) && message.contains(&format!("{name:?}")), "{message}");
            assert!(message.contains("1 to 40"), "{message}");
        }
        assert!(asked(&[(names::COUNTER_NAMESPACES, &"a".repeat(40))]).is_ok());
    }

    #[test]
    fn none_twice_or_too_many_namespaces_are_refused() {
        assert!(asked(&[(names::COUNTER_NAMESPACES, "  ")]).unwrap_err().contains("at least one"));
        assert!(asked(&[(names::COUNTER_NAMESPACES, "a,b,a")]).unwrap_err().contains("\"a\" comes twice"));
        let names_of = |count: usize| (0..count).map(|number| format!("n{number}")).collect::<Vec<_>>().join(",");
        assert!(asked(&[(names::COUNTER_NAMESPACES, &names_of(32))]).is_ok());
        assert!(asked(&[(names::COUNTER_NAMESPACES, &names_of(33))]).unwrap_err().contains("more than 32"));
    }

    #[test]
    fn a_label_that_says_neither_yes_nor_no_is_refused() {
        let mut metadata = metadata(&[]);
        for (value, message) in [("yes", "\"yes\" is neither"), ("true", "is missing")] {
            metadata.labels = Some(BTreeMap::from([(names::INJECT.to_owned(), value.to_owned())]));
            assert!(read(&metadata).unwrap_err().to_string().contains(message));
        }
        metadata.labels = Some(BTreeMap::from([(names::INJECT.to_owned(), "false".to_owned())]));
        assert_eq!(read(&metadata), Ok(Asked::Nothing));
    }

    #[test]
    fn the_label_as_an_annotation_is_told_of_and_not_ignored() {
        let annotated = ObjectMeta { labels: None, ..metadata(&[(names::INJECT, "true")]) };
        assert_eq!(read(&annotated), Err(Refusal::LabelAsAnnotation));
        assert_eq!(read(&ObjectMeta::default()), Ok(Asked::Nothing));
    }

    #[test]
    fn cpu_is_read_as_kubernetes_reads_it_and_written_as_it_writes_it() {
        for (text, written) in
            [("250m", "250m"), ("1", "1"), ("1.5", "1500m"), ("0.25", "250m"), ("2000m", "2"), ("64", "64")]
        {
            assert_eq!(cpu(CPU, text).unwrap().to_string(), written);
        }
        for text in
            ["", "m", "0", "0m", "64001m", "65", "-1", "1.", ".5", "1.2345", "1e3", "1 ", "99999999999999999999"]
        {
            let message = cpu(CPU, text).unwrap_err().to_string();
            assert!(message.contains("tallyman.dev/sidecar-cpu") && message.contains("250m"), "{message}");
        }
    }

    #[test]
    fn memory_image_and_readiness_are_checked() {
        let request = asked(&[("tallyman.dev/sidecar-memory", "128Mi"), ("tallyman.dev/sidecar-readiness", "true")]);
        let request = request.unwrap();
        assert_eq!(request.memory.map(|memory| memory.as_bytes()), Some(128 << 20));
        assert!(request.readiness);
        for (name, value) in [
            ("sidecar-memory", "15Mi"),
            ("sidecar-memory", "65Gi"),
            ("sidecar-memory", "much"),
            ("sidecar-image", ""),
            ("sidecar-image", "two words"),
            ("sidecar-readiness", "True"),
        ] {
            let message = asked(&[(&format!("tallyman.dev/{name}"), value)]).unwrap_err();
            assert!(message.contains(name) && message.contains(&format!("{value:?}")), "{message}");
        }
    }

    #[test]
    fn a_misspelt_annotation_is_told_of() {
        let warnings = asked(&[("tallyman.dev/sidecar-memroy", "128Mi")]).unwrap().warnings;
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("sidecar-memroy") && warnings[0].contains("sidecar-memory"), "{warnings:?}");
    }
}
