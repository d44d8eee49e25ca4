//! The rollup servers: StatefulSet, headless Service, PodDisruptionBudget, NetworkPolicy.

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, Container, EnvVar, EnvVarSource, ObjectFieldSelector, PodSpec, ProjectedVolumeSource,
    SecretProjection, Volume, VolumeMount, VolumeProjection,
};

use super::context::Context;
use super::stateful_set::{self, Parts};
use super::{Error, Object, asked, disruption, network, pod, resources, service};
use crate::names::{self, Component};

/// Nobody, by the number that distroless images use.
const USER: i64 = 65_532;
/// Read by the user's group: files of volumes belong to root.
const SECRETS_MODE: i32 = 0o440;
/// The queues are rolled up once more, which takes ten seconds at most.
const GRACE_S: i64 = 30;

const NAMESPACES_VOLUME: &str = "namespaces";
const SECRETS_VOLUME: &str = "secrets";
const STREAM_PORT: &str = "rollup";
const ADMIN_PORT: &str = "admin";

pub fn build(context: &Context<'_>) -> Result<Vec<Object>, Error> {
    let plan = context.plan.rollup.as_ref();
    let plan = plan.ok_or(Error::Incomplete { field: "the plan of a durable CounterNamespace" })?;
    let name = names::rollup(context.name);
    let metadata = || context.metadata(name.clone(), Component::Rollup);
    let selector = names::selector(context.name, Component::Rollup);
    let ports = [(STREAM_PORT, names::ROLLUP_PORT), (ADMIN_PORT, names::ROLLUP_ADMIN_PORT)];
    let mut objects = vec![
        service::headless(metadata(), names::selector_labels(context.name, Component::Rollup), &ports),
        network::of_rollup(context),
    ];
    // One alone can be moved at any time: nothing is lost, and counts catch up.
    if plan.replicas.value > 1 {
        objects.push(disruption::one_at_a_time(metadata(), selector.clone()));
    }
    let mut pod = pod::base(USER, selector.clone());
    pod.termination_grace_period_seconds = Some(GRACE_S);
    pod.containers = vec![container(context, resources::of_rollup(context, plan))];
    objects.push(stateful_set::build(Parts {
        metadata: metadata(),
        asked: asked::of_rollup(context),
        replicas: plan.replicas.value,
        selector,
        pod: PodSpec { volumes: Some(volumes(context)), ..pod },
    }));
    Ok(objects)
}

fn container(context: &Context<'_>, resources: k8s_openapi::api::core::v1::ResourceRequirements) -> Container {
    Container {
        name: "rollup".to_owned(),
        image: Some(context.images.rollup.clone()),
        args: Some(arguments(context)),
        // Which of the rollup_endpoints it is.
        env: Some(vec![EnvVar {
            name: "POD_NAME".to_owned(),
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    api_version: Some("v1".to_owned()),
                    field_path: "metadata.name".to_owned(),
                }),
                ..EnvVarSource::default()
            }),
            ..EnvVar::default()
        }]),
        ports: Some(vec![pod::port(STREAM_PORT, names::ROLLUP_PORT), pod::port(ADMIN_PORT, names::ROLLUP_ADMIN_PORT)]),
        readiness_probe: Some(pod::http_probe("/readyz", ADMIN_PORT, 5)),
        liveness_probe: Some(pod::http_probe("/livez", ADMIN_PORT, 10)),
        resources: Some(resources),
        security_context: Some(pod::container_security()),
        volume_mounts: Some(vec![
            mount(NAMESPACES_VOLUME, names::NAMESPACES_DIR),
            mount(SECRETS_VOLUME, names::SECRETS_DIR),
        ]),
        ..Container::default()
    }
}

fn arguments(context: &Context<'_>) -> Vec<String> {
    let mut arguments = vec![
        format!("--namespaces-dir={}", names::NAMESPACES_DIR),
        format!("--listen=0.0.0.0:{}", names::ROLLUP_PORT),
        format!("--admin=0.0.0.0:{}", names::ROLLUP_ADMIN_PORT),
        "--log-format=json".to_owned(),
    ];
    let flags = ["--tls-ca-file", "--tls-cert-file", "--tls-key-file"];
    let files = names::rollup_tls_keys(context.name);
    let tls = flags.iter().zip(files).map(|(flag, key)| format!("{flag}={}", names::secret_file(&key)));
    arguments.extend(tls);
    arguments
}

fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

/// Optional, so that any order of creation works; without subPath, so that changes arrive.
fn volumes(context: &Context<'_>) -> Vec<Volume> {
    let config_map = ConfigMapProjection {
        name: names::config_map(context.name),
        optional: Some(true),
        ..ConfigMapProjection::default()
    };
    let secret = SecretProjection {
        name: names::rollup_secret(context.name),
        optional: Some(true),
        ..SecretProjection::default()
    };
    let projected = |name: &str, mode, source| Volume {
        name: name.to_owned(),
        projected: Some(ProjectedVolumeSource { default_mode: mode, sources: Some(vec![source]) }),
        ..Volume::default()
    };
    vec![
        projected(
            NAMESPACES_VOLUME,
            None,
            VolumeProjection { config_map: Some(config_map), ..VolumeProjection::default() },
        ),
        projected(
            SECRETS_VOLUME,
            Some(SECRETS_MODE),
            VolumeProjection { secret: Some(secret), ..VolumeProjection::default() },
        ),
    ]
}
