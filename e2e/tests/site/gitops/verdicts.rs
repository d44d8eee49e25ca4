//! What Argo CD, by our health check, and kstatus took a CounterNamespace for in each state that it was in.

use std::fmt;

use serde_json::Value;
use tallyman_cluster::Judge;
use tallyman_e2e::packaging::root;
use tallyman_e2e::site::{condition, version};

const HEALTH_CHECK: &str = "examples/gitops/argocd/health-counternamespace.lua";

/// A state, and what it was taken for.
pub struct Verdict {
    state: Value,
    argo: String,
    kstatus: String,
    message: String,
}

/// The verdicts on all of them.
pub fn on(states: &[Value]) -> Vec<Verdict> {
    let judge = Judge::new().unwrap();
    let by_argo = judge.argo(&root().join(HEALTH_CHECK), states).unwrap();
    let by_kstatus = judge.kstatus(states).unwrap();
    let both = by_argo.into_iter().zip(by_kstatus);
    let verdict = |(state, (argo, kstatus)): (&Value, (tallyman_cluster::Verdict, tallyman_cluster::Verdict))| {
        Verdict { state: state.clone(), argo: argo.health, kstatus: kstatus.health, message: argo.message }
    };
    states.iter().zip(both).map(verdict).collect()
}

impl Verdict {
    /// Of the CounterNamespace.
    pub fn generation(&self) -> i64 {
        self.state["metadata"]["generation"].as_i64().unwrap()
    }

    pub fn is_healthy(&self) -> bool {
        self.argo == "Healthy"
    }

    /// The number of rollup servers that the CounterNamespace asks for.
    pub fn replicas(&self) -> u64 {
        self.state["spec"]["rollup"]["replicas"].as_u64().unwrap()
    }

    fn is_ready(&self) -> bool {
        let generation = &self.state["metadata"]["generation"];
        let is_it = |ready: &Value| ready["status"] == "True" && ready["observedGeneration"] == *generation;
        condition(&self.state, "Ready").is_some_and(is_it)
    }

    /// Nothing was wrong: it may only be on its way, or be there. And who says that it is there is right.
    fn check(&self, rollup: &[Value]) {
        let is_deleted = !self.state["metadata"]["deletionTimestamp"].is_null();
        let expected = match (is_deleted, self.is_ready()) {
            (true, _) => ("Progressing", "Terminating"),
            (false, true) => ("Healthy", "Current"),
            (false, false) => ("Progressing", "InProgress"),
        };
        assert_eq!((&*self.argo, &*self.kstatus), expected, "{self}\n{}", self.state);
        if self.is_healthy() {
            self.check_rollup(rollup);
        }
    }

    /// What was healthy had its rollup servers by then, as many as it asked for, ready.
    fn check_rollup(&self, rollup: &[Value]) {
        let before: Vec<&Value> = rollup.iter().filter(|state| version(state) < version(&self.state)).collect();
        let last = before.last().unwrap_or_else(|| panic!("healthy before there was a rollup server: {self}"));
        assert_eq!(last["spec"]["replicas"], self.replicas(), "healthy with other rollup servers: {self}\n{last}");
        let is_same = |state: &&&Value| {
            ["uid", "generation"].iter().all(|field| state["metadata"][field] == last["metadata"][field])
        };
        let was_complete = before.iter().filter(is_same).any(|state| {
            let status = &state["status"];
            status["observedGeneration"] == state["metadata"]["generation"]
                && ["replicas", "readyReplicas", "updatedReplicas"].iter().all(|of| status[of] == self.replicas())
        });
        assert!(was_complete, "healthy before its rollup servers were: {self}\n{last}");
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state, argo, kstatus, message } = self;
        write!(f, "{} generation {}: {argo} {kstatus} ({message})", version(state), self.generation())
    }
}

/// Checks every one, beside all that the rollup servers' StatefulSet was.
pub fn check(verdicts: &[Verdict], rollup: &[Value]) {
    for verdict in verdicts {
        verdict.check(rollup);
    }
}

/// Checks that the newest generation was on its way at first, and got there.
pub fn arrived(verdicts: &[Verdict]) {
    let newest = verdicts.last().unwrap().generation();
    let of_newest: Vec<&Verdict> = verdicts.iter().filter(|verdict| verdict.generation() == newest).collect();
    let all = of_newest.iter().map(|verdict| format!("{verdict}\n")).collect::<String>();
    assert!(!of_newest[0].is_healthy() && of_newest.last().unwrap().is_healthy(), "{all}");
}
