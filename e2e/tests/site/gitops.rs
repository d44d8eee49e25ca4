//! A team keeps its counters in Git. Argo CD's engine syncs what is committed, corrects what somebody changed by hand, and prunes what
//! was removed; in each state on the way, Argo CD and kstatus are right about the CounterNamespace's health.

mod verdicts;

use serde_json::Value;
use tallyman_e2e::convergence::{self, Counts};
use tallyman_e2e::gitops::{Agent, Repository, Sync};
use tallyman_e2e::now_micros;
use tallyman_e2e::site::{Area, History, Site};

use self::verdicts::Verdict;
use crate::application;

const NAME: &str = "plays";
const ROLLUP: &str = "plays-rollup";
const FILE: &str = "plays.yaml";

/// What is followed over the whole scenario.
struct Story<'a> {
    area: &'a Area<'a>,
    /// Outlasts the CounterNamespace, and a cluster may outlast us: another each time.
    dataset: String,
    repository: Repository,
    agent: Agent,
    counter_namespace: History<'a>,
    rollup: History<'a>,
}

impl<'a> Story<'a> {
    async fn begin(area: &'a Area<'a>) -> Self {
        let repository = Repository::serve();
        Self {
            counter_namespace: History::begin(area, "CounterNamespace", NAME).await,
            rollup: History::begin(area, "StatefulSet", ROLLUP).await,
            agent: Agent::follow(&repository, &area.site.kubeconfig, &area.name),
            dataset: format!("gitops_{}", now_micros()),
            repository,
            area,
        }
    }

    /// Commits the CounterNamespace, and has the engine sync it.
    async fn commit(&self, counter_type: &str, rollup: &str) -> Sync {
        let manifest = format!(
            "apiVersion: tallyman.dev/v1alpha1\nkind: CounterNamespace\nmetadata:\n  name: {NAME}\n  namespace: {}\n\
             spec:\n  counterType: {counter_type}\n  dataset: {}\n  rollup: {rollup}\n",
            self.area.name, self.dataset
        );
        self.repository.commit(FILE, &manifest);
        self.sync().await
    }

    /// Has the engine sync what is committed.
    async fn sync(&self) -> Sync {
        let number = self.agent.pull();
        self.area.wait_for("the engine to sync what is committed", async || self.agent.sync(number)).await
    }

    /// The CounterNamespace as it is now.
    async fn now(&self) -> Value {
        self.area.get("CounterNamespace", NAME).await.unwrap()
    }

    /// Waits until the CounterNamespace is ready with so many rollup servers, and checks what it was taken for on the way.
    async fn arrive(&self, replicas: u64) -> Vec<Verdict> {
        let what = format!("{replicas} rollup servers to be asked for");
        self.area
            .wait_for(&what, async || {
                let spec = self.now().await["spec"].clone();
                if spec["rollup"]["replicas"] == replicas { Ok(()) } else { Err(spec.to_string()) }
            })
            .await;
        self.area.wait_until_ready(NAME).await;
        assert_eq!(self.area.wait_for_rollout("StatefulSet", ROLLUP).await, replicas);
        self.checked().await
    }

    /// All verdicts until now, each of which is right.
    async fn checked(&self) -> Vec<Verdict> {
        let verdicts = verdicts::on(&self.counter_namespace.until_now().await);
        verdicts::check(&verdicts, &self.rollup.until_now().await);
        verdicts
    }
}

pub async fn argo_cds_engine_keeps_counters_as_git_says_and_their_health_is_told_right(site: &Site) {
    let area = site.area("gitops").await;
    let story = Story::begin(&area).await;

    // What is new is created, and is healthy once it is ready.
    let sync = story.commit("Eventual", "{replicas: 1}").await;
    assert!(sync.succeeded, "{}", sync.log);
    verdicts::arrived(&story.arrive(1).await);
    let counts = add(&area).await;

    // What is changed is rolled out, and is not healthy before that.
    let sync = story.commit("Eventual", "{replicas: 2, coalesce: 2s, numQueues: 16}").await;
    assert!(sync.succeeded, "{}", sync.log);
    verdicts::arrived(&story.arrive(2).await);
    assert_eq!(story.now().await["status"]["plan"]["numQueues"], 16);

    a_refused_commit_changes_nothing(&story).await;
    what_is_changed_by_hand_is_put_back(&story).await;
    let reader = application::reader(&area, NAME).await;
    convergence::to(&[reader.client()], NAME, &counts).await;
    drop(reader);

    // What is removed is pruned. Its counts are kept, for when it comes back.
    area.delete("Deployment", "reader").await;
    story.repository.remove(FILE);
    let sync = story.sync().await;
    assert!(sync.succeeded, "{}", sync.log);
    for (kind, name) in [("CounterNamespace", NAME), ("StatefulSet", ROLLUP)] {
        let gone = async || area.find(kind, name).await.map_or(Ok(()), |object| Err(object["metadata"].to_string()));
        area.wait_for(&format!("{kind} {name} to be pruned"), gone).await;
    }
    story.checked().await;
    story.repository.revert();
    let sync = story.sync().await;
    assert!(sync.succeeded, "{}", sync.log);
    verdicts::arrived(&story.arrive(2).await);
    let reader = application::reader(&area, NAME).await;
    convergence::to(&[reader.client()], NAME, &counts).await;
}

/// Counts something, and says what.
async fn add(area: &Area<'_>) -> Counts {
    let reader = application::reader(area, NAME).await;
    let client = reader.client();
    client.add(NAME, "intro", 7, None).await.unwrap();
    let counts = Counts::from([("intro".to_owned(), 7)]);
    convergence::to(&[client], NAME, &counts).await;
    counts
}

/// The engine tells which field is wrong; not even what is right of the commit is done, and what runs goes on.
async fn a_refused_commit_changes_nothing(story: &Story<'_>) {
    let before = story.now().await;
    let sync = story.commit("Accurate", "{replicas: 5}").await;
    assert!(!sync.succeeded, "{}", sync.log);
    assert!(sync.log.contains("spec.counterType: ") && sync.log.contains("counterType cannot change"), "{}", sync.log);
    let after = story.now().await;
    assert_eq!(before["spec"], after["spec"]);
    assert_eq!(before["metadata"]["generation"], after["metadata"]["generation"]);
    assert!(story.checked().await.last().unwrap().is_healthy());
    story.repository.revert();
    let sync = story.sync().await;
    assert!(sync.succeeded, "{}", sync.log);
    assert_eq!(before["metadata"]["generation"], story.now().await["metadata"]["generation"]);
}

/// What is in Git, by the engine; what follows from it, by the operator.
async fn what_is_changed_by_hand_is_put_back(story: &Story<'_>) {
    let area = story.area;
    let before = story.now().await;
    area.kubectl(&[
        "patch",
        "counternamespace",
        NAME,
        "--type=merge",
        "--patch",
        r#"{"spec":{"rollup":{"replicas":3}}}"#,
    ]);
    let verdicts = story.arrive(2).await;
    assert!(verdicts.iter().any(|verdict| verdict.replicas() == 3), "it was not changed by hand");
    verdicts::arrived(&verdicts);
    assert_eq!(before["spec"], story.now().await["spec"]);

    area.delete("StatefulSet", ROLLUP).await;
    area.wait_for("the operator to put the StatefulSet back", async || area.get("StatefulSet", ROLLUP).await).await;
    area.wait_for_rollout("StatefulSet", ROLLUP).await;
    story.arrive(2).await;
    assert_eq!(before["spec"], story.now().await["spec"]);
}
