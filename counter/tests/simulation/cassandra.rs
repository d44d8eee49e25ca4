//! Cassandra, modelled honestly: three replicas, quorums of two, per-cell timestamps, read repair, lost messages, hints,
//! and timeouts that say nothing about what was applied. Here: the coordinator. The traits are in [`store`].

pub mod cells;
pub mod faults;
pub mod replica;
pub mod store;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tallyman_counter::model::{Checkpoint, CounterKey, EventKey, SliceRecord, Timestamp};
use tallyman_counter::store::{Error, Result};
use tokio::sync::oneshot;

use crate::coverage::State;
use crate::history::History;
use crate::process::Process;
use crate::random::Random;
use crate::world::World;
use faults::Faults;
use replica::{Applied, Replica, Write};

pub const REPLICAS: usize = 3;
const QUORUM: usize = 2;

struct Nodes {
    replicas: [Replica; REPLICAS],
    /// Records that a Paxos round chose; at most one for a start, forever.
    chosen: BTreeMap<Timestamp, SliceRecord>,
    faults: Faults,
    clock_offsets_us: [i64; REPLICAS],
    down_until: [u64; REPLICAS],
}

/// The servers. Processes reach them through their own [`store::Handle`]s.
pub struct Cluster {
    world: Arc<World>,
    history: Arc<History>,
    nodes: Mutex<Nodes>,
}

/// What a coordinator waits for. It answers once; replicas that answer later change nothing.
struct Acks {
    applied: usize,
    answer: Option<oneshot::Sender<()>>,
}

/// What a coordinator has read so far, by replica.
struct Found<T> {
    seen: Vec<(usize, T)>,
    answer: Option<oneshot::Sender<Vec<(usize, T)>>>,
}

impl Cluster {
    pub fn new(world: &Arc<World>, history: &Arc<History>, faults: Faults, random: &mut Random) -> Arc<Self> {
        let clock_offsets_us = std::array::from_fn(|_| random.offset(Duration::from_millis(2)));
        let nodes = Nodes {
            replicas: std::array::from_fn(|_| Replica::default()),
            chosen: BTreeMap::new(),
            faults,
            clock_offsets_us,
            down_until: [0; REPLICAS],
        };
        Arc::new(Self { world: world.clone(), history: history.clone(), nodes: Mutex::new(nodes) })
    }

    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        let mut nodes = self.nodes.lock().unwrap();
        let now = self.world.now().0;
        for index in 0..REPLICAS {
            nodes.replicas[index].down = nodes.down_until[index] > now;
        }
        nodes
    }

    pub fn set_faults(&self, faults: Faults) {
        self.nodes().faults = faults;
    }

    pub fn faults(&self) -> Faults {
        self.nodes().faults
    }

    /// Takes a replica down for `span`.
    pub fn take_down(&self, replica: usize, span: Duration) {
        self.nodes().down_until[replica] = self.world.now().plus(span).0;
    }

    /// Brings all replicas up.
    pub fn bring_up(&self) {
        self.nodes().down_until = [0; REPLICAS];
    }

    /// Reads the replicas as no process can: all of them at one instant.
    pub fn inspect<T>(&self, read: impl FnOnce(&[Replica; REPLICAS]) -> T) -> T {
        read(&self.nodes().replicas)
    }

    /// The time up to which any quorum is certain to know each counter as rolled up.
    pub fn certain_checkpoints(&self) -> BTreeMap<CounterKey, Timestamp> {
        self.inspect(|replicas| {
            let mut found: BTreeMap<CounterKey, Vec<Timestamp>> = BTreeMap::new();
            for (position, cells) in replicas.iter().flat_map(|replica| &replica.rows) {
                if let Some(checkpoint) = cells.decoded_checkpoint() {
                    found.entry(position.counter.clone()).or_default().push(checkpoint.last_rollup_ts);
                }
            }
            let second = |mut times: Vec<Timestamp>| {
                times.sort_unstable();
                times.len().checked_sub(QUORUM).map(|index| times[index])
            };
            found.into_iter().filter_map(|(counter, times)| Some((counter, second(times)?))).collect()
        })
    }

    fn apply(&self, replica: usize, write: &Write) -> Applied {
        let mut nodes = self.nodes();
        let before = match write {
            Write::Row { counter, .. } => nodes.replicas[replica].row(counter).and_then(|row| row.decoded_checkpoint()),
            _ => None,
        };
        let applied = nodes.replicas[replica].apply(write);
        let after = match write {
            Write::Row { counter, .. } => nodes.replicas[replica].row(counter).and_then(|row| row.decoded_checkpoint()),
            _ => None,
        };
        drop(nodes);
        if let (Write::Events { partition, cells }, Applied::Changed) = (write, applied) {
            for (key, _) in cells {
                self.history.event_stored(&partition.counter, key);
            }
        }
        if let Write::Row { counter, cells } = write
            && let Some(offered) = cells.decoded_checkpoint()
        {
            self.checkpoint_arrived(counter, before, offered, after);
        }
        applied
    }

    fn checkpoint_arrived(
        &self,
        counter: &CounterKey,
        before: Option<Checkpoint>,
        offered: Checkpoint,
        after: Option<Checkpoint>,
    ) {
        if before.is_some_and(|before| offered.last_rollup_ts < before.last_rollup_ts) && before == after {
            self.world.reached(State::LateCheckpointRejected);
        }
        self.history.checkpoint_stored(counter, before, after);
    }

    /// Sends `write` to one replica. Lost messages may become hints.
    fn send(self: &Arc<Self>, replica: usize, write: &Arc<Write>, random: &mut Random, acks: Option<Arc<Mutex<Acks>>>) {
        let faults = self.faults();
        let hint = random.chance(faults.hint).then(|| random.millis(faults.hint_delay_ms.0, faults.hint_delay_ms.1));
        let there = faults.latency(random);
        let back = faults.latency(random);
        if random.chance(faults.drop) {
            if let Some(delay) = hint {
                self.hint(replica, write.clone(), delay);
            }
            return;
        }
        let (cluster, write) = (self.clone(), write.clone());
        self.world.after(there, move || {
            if cluster.nodes().replicas[replica].down {
                cluster.world.reached(State::ReplicaDown);
                if let Some(delay) = hint {
                    cluster.hint(replica, write, delay);
                }
                return;
            }
            let applied = cluster.apply(replica, &write);
            let Some(acks) = acks.filter(|_| applied != Applied::NoTable) else { return };
            cluster.world.after(back, move || {
                let mut acks = acks.lock().unwrap();
                acks.applied += 1;
                if acks.applied >= QUORUM
                    && let Some(answer) = acks.answer.take()
                {
                    let _ = answer.send(());
                }
            });
        });
    }

    /// Sends `write` to one replica; the future ends when that has applied it, if ever.
    fn send_one(
        self: &Arc<Self>,
        replica: usize,
        write: Write,
        random: &mut Random,
    ) -> impl Future<Output = ()> + use<> {
        let (sender, receiver) = oneshot::channel();
        // One answer is all that is waited for.
        let acks = Acks { applied: QUORUM - 1, answer: Some(sender) };
        self.send(replica, &Arc::new(write), random, Some(Arc::new(Mutex::new(acks))));
        async move {
            if receiver.await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn hint(self: &Arc<Self>, replica: usize, write: Arc<Write>, delay: Duration) {
        let cluster = self.clone();
        self.world.after(delay, move || {
            if cluster.nodes().replicas[replica].down {
                cluster.hint(replica, write, Duration::from_secs(2));
                return;
            }
            if cluster.apply(replica, &write) == Applied::Changed {
                cluster.world.reached(State::HintDelivered);
                if let Write::Events { partition, cells } = write.as_ref() {
                    cluster.late_events(partition.slice_start, cells.iter().map(|(key, _)| key));
                }
            }
        });
    }

    fn late_events<'a>(&self, slice_start: Timestamp, keys: impl Iterator<Item = &'a EventKey>) {
        let now = self.world.now().timestamp();
        let lag = self.nodes().chosen.get(&slice_start).map(|record| record.settings.lag());
        for key in keys {
            if lag.is_some_and(|lag| key.event_time < now.minus(lag)) {
                self.world.reached(State::HintAfterBoundary);
            }
        }
    }

    /// Writes at a quorum.
    async fn write(self: &Arc<Self>, process: &Process, random: &Mutex<Random>, write: Write) -> Result<()> {
        if let Write::Events { partition, .. } = &write
            && !self.nodes().replicas.iter().any(|replica| replica.has_table(partition.slice_start))
        {
            // The coordinator knows the schema: nothing is sent.
            return Err(Error::MissingSlice { slice_start: partition.slice_start });
        }
        let (timeout, answer) = {
            let mut random = random.lock().unwrap();
            let faults = self.faults();
            let up = self.nodes().replicas.iter().filter(|replica| !replica.down).count();
            if random.chance(faults.unavailable) || (up < QUORUM && random.chance(0.7)) {
                self.world.reached(State::StoreUnavailable);
                return Err(unavailable("too few replicas are up"));
            }
            let timeout = Duration::from_millis(faults.request_timeout_ms) + random.millis(0, 20);
            let cut_off = process.is_cut_off();
            let ack_lost = random.chance(faults.ack_lost) || cut_off;
            if ack_lost && !cut_off {
                self.world.reached(State::AckLost);
            }
            let (sender, receiver) = oneshot::channel();
            let acks = Arc::new(Mutex::new(Acks { applied: 0, answer: Some(sender) }));
            let acks = (!ack_lost).then_some(acks);
            if !cut_off || random.chance(0.3) {
                let write = Arc::new(write);
                for replica in 0..REPLICAS {
                    self.send(replica, &write, &mut random, acks.clone());
                }
            }
            (timeout, async move {
                // Without a sender nobody will answer any more.
                if receiver.await.is_err() {
                    std::future::pending::<()>().await;
                }
            })
        };
        match tokio::time::timeout(timeout, answer).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::Timeout { reason: "too few replicas acknowledged".into() }),
        }
    }

    /// Reads two replicas, each at its own instant.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        process: &Process,
        random: &Mutex<Random>,
        look: impl Fn(&Replica) -> T + Send + Sync + 'static,
    ) -> Result<[(usize, T); QUORUM]> {
        let (timeout, receiver) = {
            let mut random = random.lock().unwrap();
            let faults = self.faults();
            let mut order = random.shuffled([0, 1, 2]);
            let nodes = self.nodes();
            // A coordinator mostly knows who is down.
            if random.chance(0.8) {
                order.sort_by_key(|replica| nodes.replicas[*replica].down);
            }
            let up = nodes.replicas.iter().filter(|replica| !replica.down).count();
            drop(nodes);
            if random.chance(faults.unavailable) || (up < QUORUM && random.chance(0.7)) {
                self.world.reached(State::StoreUnavailable);
                return Err(unavailable("too few replicas are up"));
            }
            let timeout = Duration::from_millis(faults.request_timeout_ms) + random.millis(0, 20);
            let asked = if random.chance(0.2) { REPLICAS } else { QUORUM };
            let (sender, receiver) = oneshot::channel();
            let found = Arc::new(Mutex::new(Found { seen: Vec::new(), answer: Some(sender) }));
            let look = Arc::new(look);
            for &replica in order.iter().take(asked) {
                let (there, back) = (faults.latency(&mut random), faults.latency(&mut random));
                if random.chance(faults.drop) || process.is_cut_off() {
                    continue;
                }
                let (cluster, look, found) = (self.clone(), look.clone(), found.clone());
                self.world.after(there, move || {
                    let nodes = cluster.nodes();
                    if nodes.replicas[replica].down {
                        return;
                    }
                    let seen = look(&nodes.replicas[replica]);
                    drop(nodes);
                    cluster.world.after(back, move || {
                        let mut found = found.lock().unwrap();
                        found.seen.push((replica, seen));
                        if found.seen.len() == QUORUM
                            && let Some(answer) = found.answer.take()
                        {
                            let _ = answer.send(std::mem::take(&mut found.seen));
                        }
                    });
                });
            }
            (timeout, receiver)
        };
        let waiting = async {
            match receiver.await {
                Ok(found) => found,
                Err(_) => std::future::pending().await,
            }
        };
        match tokio::time::timeout(timeout, waiting).await {
            Ok(found) => found.try_into().map_err(|_| unavailable("a quorum has two replicas")),
            Err(_) => Err(Error::Timeout { reason: "too few replicas answered".into() }),
        }
    }
}

fn unavailable(reason: &str) -> Error {
    Error::Unavailable { reason: reason.into() }
}
