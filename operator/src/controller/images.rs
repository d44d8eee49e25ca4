//! Which images a namespace runs. Pure.
//!
//! What a class names is followed. What nobody names is this release's when the namespace is first provisioned, and stays that
//! through upgrades of the operator, until it is asked to follow the release.

use tallyman_crds::CounterClass;
use tallyman_crds::counter_namespace::ImagesStatus;

use crate::build::Images;

/// The images to run, and what this release would run instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// To be run.
    pub images: Images,
    /// `rollup a instead of b`, for each that the release would change.
    pub updates: Vec<String>,
}

/// Chooses.
#[must_use]
pub fn choose(class: &CounterClass, release: &Images, pinned: &ImagesStatus, follows_release: bool) -> Chosen {
    let asked = class.spec.images.clone().unwrap_or_default();
    let mut updates = Vec::new();
    let mut one = |name: &str, asked: Option<String>, pinned: &Option<String>, release: &str| match (asked, pinned) {
        (Some(asked), _) => asked,
        (None, Some(pinned)) if !follows_release => {
            if pinned != release {
                updates.push(format!("{name} {release} instead of {pinned}"));
            }
            pinned.clone()
        }
        (None, _) => release.to_owned(),
    };
    let images = Images {
        // Sidecars are injected into pods that start anyhow: they are the release's, and SidecarsCurrent tells of old ones.
        sidecar: asked.sidecar.unwrap_or_else(|| release.sidecar.clone()),
        rollup: one("rollup", asked.rollup, &pinned.rollup, &release.rollup),
        memcached: one("memcached", asked.memcached, &pinned.memcached, &release.memcached),
    };
    Chosen { images, updates }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(version: &str) -> Images {
        let image = |name: &str| format!("{name}:{version}");
        Images { sidecar: image("sidecar"), rollup: image("rollup"), memcached: image("memcached") }
    }

    fn class(images: serde_json::Value) -> CounterClass {
        let cassandra =
            serde_json::json!({"contactPoints": ["c:9042"], "localDatacenter": "dc1", "replication": {"dc1": 3}});
        let class = serde_json::json!({"apiVersion": "tallyman.dev/v1alpha1", "kind": "CounterClass", "metadata": {"name": "c"},
            "spec": {"cassandra": cassandra, "images": images}});
        serde_json::from_value(class).unwrap()
    }

    fn pinned(version: &str) -> ImagesStatus {
        let Images { sidecar, rollup, memcached } = images(version);
        ImagesStatus { sidecar: Some(sidecar), rollup: Some(rollup), memcached: Some(memcached) }
    }

    #[test]
    fn a_new_release_changes_nothing_unasked_and_says_what_it_would() {
        let chosen = choose(&class(serde_json::json!({})), &images("2"), &pinned("1"), false);
        assert_eq!((chosen.images.rollup.as_str(), chosen.images.memcached.as_str()), ("rollup:1", "memcached:1"));
        assert_eq!(
            chosen.updates,
            ["rollup rollup:2 instead of rollup:1", "memcached memcached:2 instead of memcached:1"]
        );
    }

    #[test]
    fn the_first_time_and_when_asked_to_follow_it_is_the_releases() {
        for (known, follows) in [(ImagesStatus::default(), false), (pinned("1"), true)] {
            let chosen = choose(&class(serde_json::json!({})), &images("2"), &known, follows);
            assert_eq!(chosen, Chosen { images: images("2"), updates: Vec::new() });
        }
    }

    #[test]
    fn what_the_class_names_is_followed() {
        let class = class(serde_json::json!({"rollup": "mirror/rollup:3"}));
        let chosen = choose(&class, &images("2"), &pinned("2"), false);
        assert_eq!((chosen.images.rollup.as_str(), chosen.updates.len()), ("mirror/rollup:3", 0));
    }
}
