//! The clients of a run: they add, clear and read, and send again what ended unknown, with the same token.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use tallyman_counter::clock::Clock;
use tallyman_counter::model::{EventItemKey, EventKey, Timestamp, Token};
use tallyman_counter::service::{Acknowledged, BatchAdd, ClientToken, Count, Error};
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::processes::Sidecar;
use super::{Run, reached};
use crate::breaks::Break;
use crate::clock::SimClock;
use crate::coverage::State;
use crate::history::{Outcome, Promise, Reply};
use crate::invariants::Invariant;
use crate::model::{ADDS_MAX, Kind};
use crate::random::Random;
use crate::world::SimTime;

/// The digit of the add that is left for the end of the run.
const DIGIT_OF_THE_END: u32 = ADDS_MAX - 1;

/// The digits that each counter's adds have not used yet.
pub struct Digits {
    next: Mutex<Vec<u32>>,
}

impl Digits {
    pub fn new(counters: usize) -> Arc<Self> {
        Arc::new(Self { next: Mutex::new(vec![0; counters]) })
    }

    fn take(&self, counter: usize) -> Option<u32> {
        let next = &mut self.next.lock().unwrap()[counter];
        let digit = *next;
        *next += 1;
        (digit < DIGIT_OF_THE_END).then_some(digit)
    }
}

/// A mutation as the client sends it.
#[derive(Clone)]
struct Sending {
    id: usize,
    counter: usize,
    kind: Kind,
    token: String,
    generation_time: Timestamp,
}

/// One client.
pub struct Client {
    run: Arc<Run>,
    index: usize,
    random: Random,
    clock: Arc<SimClock>,
    digits: Arc<Digits>,
    sent: usize,
    last_event_time: Option<Timestamp>,
}

impl Client {
    pub fn new(run: &Arc<Run>, index: usize, digits: &Arc<Digits>) -> Self {
        let mut random = Random::stream(run.plan.seed, "client", index);
        let limit = run.plan.generations[0].slices.accept_limit / 3;
        let clock = SimClock::new(&run.world, random.offset(limit), 0);
        Self { run: run.clone(), index, random, clock, digits: digits.clone(), sent: 0, last_event_time: None }
    }

    pub async fn run(mut self) {
        while !self.run.is_quiet() {
            let pause = self.random.millis(0, self.run.plan.client_pause_ms * 2);
            tokio::time::sleep(pause).await;
            match self.random.below(20) {
                0 => {
                    let sending = self.clear();
                    self.send(sending).await;
                }
                1..=8 => {
                    if let Some(sending) = self.add() {
                        self.send(sending).await;
                    }
                }
                9 | 10 => self.add_and_get().await,
                11 | 12 => self.batch().await,
                13 => self.batch_get().await,
                _ => self.get().await,
            }
        }
    }

    fn counter(&mut self) -> usize {
        // Some counters are hotter than others.
        let counters = self.run.plan.counters.len();
        self.random.below(counters).min(self.random.below(counters))
    }

    fn add(&mut self) -> Option<Sending> {
        let counter = self.counter();
        let digit = self.digits.take(counter)?;
        let negative = self.random.chance(0.3);
        Some(self.sending(counter, Kind::Add { digit, negative, reusable: false }))
    }

    fn clear(&mut self) -> Sending {
        let counter = self.counter();
        self.sending(counter, Kind::Clear)
    }

    fn sending(&mut self, counter: usize, kind: Kind) -> Sending {
        let accept_limit = self.run.plan.generations[0].slices.accept_limit;
        let now = self.clock.now();
        let generation_time = match self.random.below(20) {
            // At and beyond the limits of what is accepted.
            0 => Timestamp::from_micros(now.as_micros() + self.random.offset(accept_limit)),
            1 => Timestamp::from_micros(now.as_micros() + self.random.offset(accept_limit * 3)),
            // At the very time of another mutation.
            2 => self.last_event_time.unwrap_or(now),
            _ => now,
        };
        self.last_event_time = Some(generation_time);
        self.sent += 1;
        let token = format!("t{}-{}", self.index, self.sent);
        let event_item_key = if kind == Kind::Clear { EventItemKey::Clear } else { EventItemKey::Add };
        let event_id = Token::new(&token).expect("a short token");
        let key = EventKey { event_time: generation_time, event_id, event_item_key };
        let id = self.run.history.mutation(counter, key, kind);
        Sending { id, counter, kind, token, generation_time }
    }

    fn any_sidecar(&mut self) -> Arc<Sidecar> {
        self.run.sidecar(self.random.below(self.run.sidecar_count()))
    }

    fn patience(&mut self) -> Duration {
        self.random.millis(150, 3_000)
    }

    /// Sends until it is acknowledged or refused for certain, or patience ends; sometimes twice, and sometimes once more later.
    async fn send(&mut self, mut sending: Sending) {
        let mut sidecar = self.any_sidecar();
        let attempts = 1 + self.random.below(4);
        let mut outcome = Outcome::Unknown;
        for attempt in 0..attempts {
            if attempt > 0 {
                let pause = self.random.millis(0, 300);
                tokio::time::sleep(pause).await;
                if self.random.chance(0.5) {
                    sidecar = self.any_sidecar();
                }
                if self.run.broken == Some(Break::RetryWithNewToken) {
                    sending.token.push('r');
                }
            }
            let patience = self.patience();
            let run = self.run.clone();
            let call = attempt_once(&run, &sidecar, &sending, 1, patience);
            outcome = if self.random.chance(0.1) {
                let hedge = (self.any_sidecar(), self.random.millis(0, 50), self.patience());
                let hedged = async {
                    tokio::time::sleep(hedge.1).await;
                    attempt_once(&run, &hedge.0, &sending, 1, hedge.2).await
                };
                let (one, other) = futures::join!(call, hedged);
                if one == Outcome::Unknown { other } else { one }
            } else {
                call.await
            };
            if outcome != Outcome::Unknown {
                break;
            }
        }
        if outcome == Outcome::Acknowledged {
            self.send_again(sending, sidecar);
        }
    }

    /// A late duplicate, or the same token with another delta.
    fn send_again(&mut self, sending: Sending, same: Arc<Sidecar>) {
        let reused = matches!(sending.kind, Kind::Add { .. }) && self.random.chance(0.04);
        if !reused && !self.random.chance(0.12) {
            return;
        }
        let sidecar = if self.random.chance(0.5) { same } else { self.any_sidecar() };
        let (delay, patience, run) = (self.random.millis(0, 4_000), self.patience(), self.run.clone());
        if reused {
            run.history.reused(sending.id);
        }
        spawn_local(async move {
            tokio::time::sleep(delay).await;
            attempt_once(&run, &sidecar, &sending, if reused { 2 } else { 1 }, patience).await;
        });
    }

    async fn add_and_get(&mut self) {
        let Some(sending) = self.add() else { return };
        let sidecar = self.any_sidecar();
        let patience = self.patience();
        let (began, attempt) = (self.run.world.now(), self.run.history.attempt(sending.id, &sidecar.base.process));
        let counter = &self.run.plan.counters[sending.counter];
        let (namespace, name) = (counter.namespace.as_str(), counter.name.as_str());
        let token = token_of(&sending);
        let deadline = Some(Instant::now() + patience);
        let call = sidecar.service.add_and_get_count(namespace, name, sending.kind.delta(), token, deadline);
        let result = tokio::time::timeout(patience + GRACE, call).await;
        let outcome = match &result {
            Ok(result) => outcome_of(&self.run, result.as_ref()),
            Err(_) => Outcome::Unknown,
        };
        self.run.history.answered(sending.id, attempt, &sidecar.base.process, outcome);
        if let Ok(Ok((count, _))) = result {
            replied(&self.run, &sidecar, sending.counter, None, began, count, Some(sending.id));
        }
    }

    async fn batch(&mut self) {
        let counter = self.counter();
        let namespace = self.run.plan.counters[counter].namespace.clone();
        let adds: Vec<Sending> = (0..1 + self.random.below(6)).filter_map(|_| self.add()).collect();
        let adds: Vec<Sending> =
            adds.into_iter().filter(|add| self.run.plan.counters[add.counter].namespace == namespace).collect();
        let sidecar = self.any_sidecar();
        let patience = self.patience();
        let process = &sidecar.base.process;
        let attempts: Vec<usize> = adds.iter().map(|add| self.run.history.attempt(add.id, process)).collect();
        let item = |add: &Sending| BatchAdd {
            counter_name: self.run.plan.counters[add.counter].name.as_str().to_owned(),
            delta: add.kind.delta(),
            token: token_of(add),
        };
        let items = adds.iter().map(item).collect();
        let call = sidecar.service.batch_add_count(namespace.as_str(), items, Some(Instant::now() + patience));
        let result = tokio::time::timeout(patience + GRACE, call).await;
        for (index, (add, attempt)) in adds.iter().zip(attempts).enumerate() {
            let outcome = match &result {
                Ok(Ok((results, _))) => outcome_of(&self.run, results[index].as_ref()),
                Ok(Err(error)) => outcome_of::<()>(&self.run, Err(error)),
                Err(_) => Outcome::Unknown,
            };
            self.run.history.answered(add.id, attempt, process, outcome);
        }
    }

    async fn get(&mut self) {
        let (counter, sidecar) = (self.counter(), self.any_sidecar());
        let max_staleness = self.random.chance(0.3).then(|| self.random.millis(0, 8_000));
        read_once(&self.run, &sidecar, counter, max_staleness).await;
    }

    async fn batch_get(&mut self) {
        let sidecar = self.any_sidecar();
        let counter = self.counter();
        let namespace = self.run.plan.counters[counter].namespace.clone();
        let of_namespace = |counter: &usize| self.run.plan.counters[*counter].namespace == namespace;
        let counters: Vec<usize> = (0..self.run.plan.counters.len()).filter(of_namespace).collect();
        let names: Vec<String> =
            counters.iter().map(|counter| self.run.plan.counters[*counter].name.as_str().to_owned()).collect();
        let began = self.run.world.now();
        let patience = self.patience();
        let call = sidecar.service.batch_get_count(namespace.as_str(), &names, Some(Instant::now() + patience));
        if let Ok(Ok(results)) = tokio::time::timeout(patience + GRACE, call).await {
            for (counter, result) in counters.into_iter().zip(results) {
                if let Ok(count) = result {
                    replied(&self.run, &sidecar, counter, None, began, count, None);
                }
            }
        }
    }
}

/// One add, by a client without fault, after all others.
pub async fn add_once(run: &Run, sidecar: &Sidecar, counter: usize) -> Outcome {
    let kind = Kind::Add { digit: DIGIT_OF_THE_END, negative: false, reusable: false };
    let (token, generation_time) = (format!("end-{counter}"), run.world.now().timestamp());
    let event_id = Token::new(&token).expect("a short token");
    let key = EventKey { event_time: generation_time, event_id, event_item_key: EventItemKey::Add };
    let id = run.history.mutation(counter, key, kind);
    let sending = Sending { id, counter, kind, token, generation_time };
    attempt_once(run, sidecar, &sending, 1, Duration::from_secs(3)).await
}

/// How much longer than its deadline a client waits for a sidecar, which may be gone.
const GRACE: Duration = Duration::from_millis(200);

fn token_of(sending: &Sending) -> ClientToken {
    ClientToken { token: Some(sending.token.clone()), generation_time: Some(sending.generation_time) }
}

/// One attempt, with the delta taken `times`.
async fn attempt_once(run: &Run, sidecar: &Sidecar, sending: &Sending, times: i64, patience: Duration) -> Outcome {
    let attempt = run.history.attempt(sending.id, &sidecar.base.process);
    let counter = &run.plan.counters[sending.counter];
    let (namespace, name) = (counter.namespace.as_str(), counter.name.as_str());
    let deadline = Some(Instant::now() + patience);
    let call = async {
        match sending.kind {
            Kind::Add { .. } => {
                let delta = sending.kind.delta() * times;
                sidecar.service.add_count(namespace, name, delta, token_of(sending), deadline).await
            }
            Kind::Clear => sidecar.service.clear_count(namespace, name, token_of(sending), deadline).await,
        }
    };
    let outcome = match tokio::time::timeout(patience + GRACE, call).await {
        Ok(result) => outcome_of::<Acknowledged>(run, result.as_ref()),
        Err(_) => Outcome::Unknown,
    };
    run.history.answered(sending.id, attempt, &sidecar.base.process, outcome);
    outcome
}

fn outcome_of<T>(run: &Run, result: Result<&T, &Error>) -> Outcome {
    match result {
        Ok(_) => Outcome::Acknowledged,
        Err(Error::OutcomeUnknown { .. }) => Outcome::Unknown,
        Err(error) => {
            match error {
                Error::ClockSkew { .. } => reached(run, State::SkewRefused),
                Error::EventTimeOutOfRange { .. } => reached(run, State::EventTimeRefused),
                Error::TokenReused { .. } => reached(run, State::TokenReuseRefused),
                _ => {}
            }
            Outcome::Refused
        }
    }
}

/// One read; its reply, if there was one.
pub async fn read_once(
    run: &Arc<Run>,
    sidecar: &Sidecar,
    counter: usize,
    max_staleness: Option<Duration>,
) -> Option<Reply> {
    let (namespace, name) = {
        let counter = &run.plan.counters[counter];
        (counter.namespace.as_str(), counter.name.as_str())
    };
    let began = run.world.now();
    let patience = Duration::from_secs(3);
    let call = sidecar.service.get_count(namespace, name, max_staleness, Some(Instant::now() + patience));
    let count = tokio::time::timeout(patience + GRACE, call).await.ok()?.ok()?;
    Some(replied(run, sidecar, counter, max_staleness, began, count, None))
}

fn replied(
    run: &Run,
    sidecar: &Sidecar,
    counter: usize,
    max_staleness: Option<Duration>,
    began: SimTime,
    count: Count,
    own: Option<usize>,
) -> Reply {
    let accurate = run.plan.counters[counter].namespace.as_str() == "accurate";
    let promise = match max_staleness {
        _ if accurate => Promise::Accurate,
        None => Promise::Eventual,
        Some(max_staleness) => {
            // A trusted clock may be half of the skew allowed from true time.
            let skew = run.plan.generations.iter().map(|generation| generation.slices.max_clock_skew).max();
            let oldest = began.timestamp().minus(max_staleness).minus(skew.unwrap_or_default());
            Promise::Bounded { oldest }
        }
    };
    let reply = Reply {
        counter,
        process: sidecar.base.process.index,
        promise,
        began,
        ended: run.world.now(),
        count: count.count.into(),
        as_of: count.as_of.unwrap_or(Timestamp::MAX),
        own: own.filter(|_| accurate),
    };
    run.history.replied(reply.clone());
    reply
}

/// Watches one counter after the other; as_of never goes back within a stream.
pub async fn watch(run: Arc<Run>) {
    let mut random = Random::stream(run.plan.seed, "watch", 0);
    while !run.is_quiet() {
        let counter = random.below(run.plan.counters.len());
        let sidecar = run.sidecar(random.below(run.sidecar_count()));
        let key = &run.plan.counters[counter];
        let stream = sidecar.service.watch_count(key.namespace.as_str(), key.name.as_str());
        let mut stream = std::pin::pin!(stream.expect("the namespace is served"));
        let until = Instant::now() + random.millis(500, 5_000);
        let mut last: Option<Reply> = None;
        loop {
            let began = last.as_ref().map_or(run.world.now(), |last| last.ended);
            let Ok(Some(Ok(count))) = tokio::time::timeout_at(until, stream.next()).await else { break };
            // An accurate message was read at some moment since the last one.
            let reply = replied(&run, &sidecar, counter, None, began, count, None);
            if last.as_ref().is_some_and(|last| reply.as_of < last.as_of) {
                let evidence = format!("a watch of counter {counter} went back from {last:?} to {reply:?}");
                run.history.violated(Invariant::NoReplyLies, evidence);
            }
            last = Some(reply);
        }
        tokio::time::sleep(random.millis(10, 500)).await;
    }
}
