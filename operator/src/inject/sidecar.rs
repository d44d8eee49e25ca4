//! The container that is injected, and its volumes.

use aws_lc_rs::digest;
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapProjection, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource,
    ExecAction, HTTPGetAction, KeyToPath, Lifecycle, LifecycleHandler, ObjectFieldSelector, Probe,
    ProjectedVolumeSource, ResourceRequirements, SeccompProfile, SecretProjection, SecurityContext, Volume,
    VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::Settings;
use super::request::{self, Refusal, Request};
use crate::names;

const NAMESPACES_VOLUME: &str = "tallyman-namespaces";
const SECRETS_VOLUME: &str = "tallyman-secrets";
const NO_TOKEN_VOLUME: &str = "tallyman-no-token";
/// The volumes that are injected.
pub(super) const VOLUMES: [&str; 3] = [NAMESPACES_VOLUME, SECRETS_VOLUME, NO_TOKEN_VOLUME];

const TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const ADMIN_PORT_NAME: &str = "tallyman-admin";
/// A user that is nobody's, as distroless images have it.
const USER: i64 = 65_532;
/// The sidecar may run as another user than the files' owner, and only it mounts them.
const READABLE: i32 = 0o444;

/// A sidecar, rendered.
pub(super) struct Sidecar {
    container: Value,
    volumes: Vec<Value>,
    stamp: String,
}

impl Sidecar {
    /// The one that is asked for.
    ///
    /// # Errors
    /// If what the pod asks for and the settings do not go together.
    pub fn new(request: &Request, settings: &Settings) -> Result<Self, Refusal> {
        let image = request.image.as_ref().unwrap_or(&settings.image);
        let container = container(image, request.readiness, resources(request, &settings.resources)?);
        let (container, volumes) = (json!(container), volumes(request).iter().map(|volume| json!(volume)).collect());
        // The image, for people and for status; the digest, for all else that this or another release may change.
        let stamp = format!("{image} {}", fingerprint(&container, &volumes));
        Ok(Self { container, volumes, stamp })
    }

    pub fn container(&self) -> Value {
        self.container.clone()
    }

    pub fn volumes(&self) -> &[Value] {
        &self.volumes
    }

    /// The value of annotation `tallyman.dev/injected`: the image and a digest.
    pub fn stamp(&self) -> &str {
        &self.stamp
    }
}

/// The first 64 bits of the SHA-256 of what is injected.
fn fingerprint(container: &Value, volumes: &Vec<Value>) -> String {
    let digest = digest::digest(&digest::SHA256, canonical(&json!([container, volumes])).as_bytes());
    digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// JSON with its keys in order. What order `serde_json` keeps is up to what else is linked, which differs between binaries.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            let fields: Vec<_> =
                fields.into_iter().map(|(name, value)| format!("{}:{}", json!(name), canonical(value))).collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        scalar => scalar.to_string(),
    }
}

fn container(image: &str, readiness: bool, resources: ResourceRequirements) -> Container {
    Container {
        name: names::SIDECAR_CONTAINER.to_owned(),
        image: Some(image.to_owned()),
        args: Some(vec![
            format!("--namespaces-dir={}", names::NAMESPACES_DIR),
            // Whoever can reach the API can count: nobody outside of the pod.
            format!("--listen=127.0.0.1:{}", names::API_PORT),
            // The kubelet and Prometheus are outside.
            format!("--admin=0.0.0.0:{}", names::SIDECAR_ADMIN_PORT),
            "--log-format=json".to_owned(),
        ]),
        env: Some(vec![EnvVar {
            name: "POD_NAME".to_owned(),
            value: None,
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector { api_version: None, field_path: "metadata.name".to_owned() }),
                ..EnvVarSource::default()
            }),
        }]),
        ports: Some(vec![ContainerPort {
            name: Some(ADMIN_PORT_NAME.to_owned()),
            container_port: names::SIDECAR_ADMIN_PORT,
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        // A native sidecar: up before the application, and ended after it.
        restart_policy: Some("Always".to_owned()),
        // The application starts once this ends. A startup probe would say the same a second or two later: the kubelet asks
        // once a second, the first time before the container is there.
        lifecycle: Some(Lifecycle {
            post_start: Some(LifecycleHandler {
                exec: Some(ExecAction { command: Some(wait_until_live()) }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        // Only a process that is stuck for a minute gets none through; a busy one is not killed on top.
        liveness_probe: Some(probe("/livez", 10, 5, 6)),
        // A store's hiccup must not take every application out of service, unless that is what one wants.
        readiness_probe: readiness.then(|| probe("/readyz", 5, 2, 3)),
        resources: Some(resources),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
            privileged: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_group: Some(USER),
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..SecurityContext::default()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(vec![
            mount(NAMESPACES_VOLUME, names::NAMESPACES_DIR),
            mount(SECRETS_VOLUME, names::SECRETS_DIR),
            // The API server mounts the token into every container that has nothing there.
            mount(NO_TOKEN_VOLUME, TOKEN_DIR),
        ]),
        ..Container::default()
    }
}

/// What every sidecar's image can do from this release on. It gives up after a minute.
fn wait_until_live() -> Vec<String> {
    let admin = format!("--admin=127.0.0.1:{}", names::SIDECAR_ADMIN_PORT);
    ["tallyman-sidecar", "wait", &admin].map(str::to_owned).to_vec()
}

fn probe(path: &str, period_seconds: i32, timeout_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(names::SIDECAR_ADMIN_PORT),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(timeout_seconds),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}

fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

/// Volumes of what is there now or later: no order of apply is wrong, and what changes arrives.
fn volumes(request: &Request) -> [Volume; 3] {
    let config_maps = request.counter_namespaces.iter().map(|namespace| {
        let key = names::document_key(namespace);
        VolumeProjection {
            config_map: Some(ConfigMapProjection {
                name: names::config_map(namespace),
                items: Some(vec![KeyToPath { path: key.clone(), key, mode: None }]),
                optional: Some(true),
            }),
            ..VolumeProjection::default()
        }
    });
    // All keys: which dataset a namespace belongs to is not known here.
    let secrets = request.counter_namespaces.iter().map(|namespace| VolumeProjection {
        secret: Some(SecretProjection { name: names::sidecar_secret(namespace), items: None, optional: Some(true) }),
        ..VolumeProjection::default()
    });
    [
        projected(NAMESPACES_VOLUME, config_maps.collect()),
        projected(SECRETS_VOLUME, secrets.collect()),
        Volume {
            name: NO_TOKEN_VOLUME.to_owned(),
            // In memory: the cluster autoscaler takes any other for data that would be lost with the node.
            empty_dir: Some(EmptyDirVolumeSource { medium: Some("Memory".to_owned()), size_limit: None }),
            ..Volume::default()
        },
    ]
}

fn projected(name: &str, sources: Vec<VolumeProjection>) -> Volume {
    Volume {
        name: name.to_owned(),
        projected: Some(ProjectedVolumeSource { default_mode: Some(READABLE), sources: Some(sources) }),
        ..Volume::default()
    }
}

/// What is asked for goes before the settings.
fn resources(request: &Request, settings: &ResourceRequirements) -> Result<ResourceRequirements, Refusal> {
    let mut requests = settings.requests.clone().unwrap_or_default();
    let mut limits = settings.limits.clone().unwrap_or_default();
    if let Some(cpu) = request.cpu {
        requests.insert("cpu".to_owned(), Quantity(cpu.to_string()));
    }
    if let Some(limit) = request.cpu_limit {
        limits.insert("cpu".to_owned(), Quantity(limit.to_string()));
    }
    if let Some(memory) = request.memory {
        for amounts in [&mut requests, &mut limits] {
            amounts.insert("memory".to_owned(), Quantity(memory.to_string()));
        }
    }
    if let (Some(cpu), Some(limit)) = (requests.get("cpu"), limits.get("cpu"))
        && request::is_more_cpu(&cpu.0, &limit.0)
    {
        // The API server would refuse it too, in words about a container that its author never wrote.
        match (request.cpu, request.cpu_limit) {
            // The usual request gives way to a limit that is asked for.
            (None, Some(_)) => {
                let limit = limit.clone();
                requests.insert("cpu".to_owned(), limit);
            }
            (Some(_), _) => return Err(request::beyond_cpu_limit(&cpu.0, &limit.0)),
            (None, None) => {}
        }
    }
    let some = |amounts: std::collections::BTreeMap<_, _>| (!amounts.is_empty()).then_some(amounts);
    Ok(ResourceRequirements { claims: None, limits: some(limits), requests: some(requests) })
}
