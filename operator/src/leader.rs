//! Leadership: a Lease that one operator holds, taken and renewed with a `resourceVersion` precondition, so that of two who
//! try at once the API server lets one win.
//!
//! How long others wait is counted from when *they* saw the Lease change, by their own monotonic clock; a holder stops a good
//! while earlier, by its own. Wall clocks, which may disagree, are written for people only. Before each change of a schema the
//! Lease is looked at again ([`Permit`]): a process that was stopped for longer than its lease finds that out before it changes
//! anything more.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tallyman_counter::backend::cassandra::schema::ddl::Permit;
use tokio::sync::watch;
use tokio::time::Instant;

/// The Lease's name, in the operator's Kubernetes namespace.
pub const LEASE: &str = "tallyman-operator";

/// What a holder knows of its own lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Term {
    /// Until when it is ours whatever happens, by this process's clock.
    until: Instant,
}

/// One candidate.
#[derive(Clone)]
pub struct Leadership {
    leases: Api<Lease>,
    identity: Arc<str>,
    lease_duration: Duration,
    term: Arc<watch::Sender<Option<Term>>>,
}

/// What a candidate saw of a Lease that another holds.
struct Seen {
    resource_version: String,
    at: Instant,
    /// How long its holder may go without renewing it.
    lasts: Duration,
}

impl Leadership {
    /// A candidate of this name, which no other may have.
    #[must_use]
    pub fn new(client: Client, kubernetes_namespace: &str, identity: &str, lease_duration: Duration) -> Self {
        Self {
            leases: Api::namespaced(client, kubernetes_namespace),
            identity: identity.into(),
            lease_duration,
            term: Arc::new(watch::Sender::new(None)),
        }
    }

    /// Whether the lease is held now, by what is known without asking.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.term.borrow().as_ref().is_some_and(|term| Instant::now() < term.until)
    }

    /// Waits until the lease is held.
    pub async fn taken(&self) {
        let mut term = self.term.subscribe();
        // The sender lives as long as `self`.
        let _ = term.wait_for(Option::is_some).await;
    }

    /// Waits until the lease is not held any more.
    pub async fn lost(&self) {
        let mut changes = self.term.subscribe();
        loop {
            let term = *changes.borrow_and_update();
            let Some(term) = term else { return };
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep_until(term.until) => self.expire(),
            }
        }
    }

    /// Forgets a term that is over, so that nobody takes it for one that has just begun.
    fn expire(&self) {
        self.term.send_if_modified(|term| {
            let is_over = term.as_ref().is_some_and(|term| Instant::now() >= term.until);
            if is_over {
                *term = None;
                tracing::warn!(identity = %self.identity, "no longer the leader");
            }
            is_over
        });
    }

    /// Takes the lease when it is free, and renews it. Ends never; dropped, it leaves the lease to run out, unless
    /// [`Leadership::resign`] gives it up.
    pub async fn campaign(&self) {
        let mut seen: Option<Seen> = None;
        let retry = self.lease_duration / 5;
        loop {
            // An answer that never comes must not be waited for: the next attempt is made over a new connection.
            match tokio::time::timeout(self.lease_duration, self.attempt(&mut seen)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, lease = LEASE, "the Lease could not be looked at or renewed"),
                Err(_) => {
                    tracing::warn!(lease = LEASE, limit = ?self.lease_duration, "the Lease could not be looked at or renewed in time");
                }
            }
            self.expire();
            tokio::time::sleep(retry).await;
        }
    }

    /// Gives the lease up, so that another need not wait for its end. To be called once nothing is under way any more.
    ///
    /// It goes by what the Lease says, not by what is known here: a renewal whose answer nobody waited for may have been made, or be
    /// made yet.
    pub async fn resign(&self) {
        self.term.send_replace(None);
        loop {
            match self.give_up().await {
                Ok(()) => return,
                // That renewal was quicker.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => {
                    tracing::warn!(%error, lease = LEASE, "the Lease could not be given up; it runs out");
                    return;
                }
            }
        }
    }

    async fn give_up(&self) -> kube::Result<()> {
        let Some(held) = self.leases.get_opt(LEASE).await? else { return Ok(()) };
        let holder = held.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
        if holder != Some(&*self.identity) {
            return Ok(());
        }
        let mut free = self.written(held.spec.as_ref());
        free.metadata.resource_version = held.metadata.resource_version;
        if let Some(spec) = &mut free.spec {
            spec.holder_identity = None;
        }
        self.leases.replace(LEASE, &PostParams::default(), &free).await.map(|_| ())
    }

    async fn attempt(&self, seen: &mut Option<Seen>) -> kube::Result<()> {
        // Before the request: from its end on would be too late by as long as it took.
        let asked = Instant::now();
        let Some(lease) = self.leases.get_opt(LEASE).await? else {
            let lease = self.written(None);
            return self.write(asked, self.leases.create(&PostParams::default(), &lease).await);
        };
        let resource_version = lease.metadata.resource_version.clone().unwrap_or_default();
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().filter(|holder| !holder.is_empty());
        match holder {
            // Also after a restart under the same name: who has it now is this process.
            Some(holder) if *holder == *self.identity => {}
            Some(_) => {
                // Whatever is left of a term of ours: another holds it by now.
                self.term.send_replace(None);
                let now = Instant::now();
                let lasts = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
                let known = match seen.take() {
                    Some(known) if known.resource_version == resource_version => known,
                    _ => Seen {
                        resource_version: resource_version.clone(),
                        at: now,
                        lasts: lasts.map_or(self.lease_duration, Duration::from_secs),
                    },
                };
                let is_over = now.duration_since(known.at) > known.lasts;
                *seen = Some(known);
                if !is_over {
                    return Ok(());
                }
            }
            None => {}
        }
        let mut renewed = self.written(Some(&spec));
        renewed.metadata.resource_version = Some(resource_version);
        let asked = Instant::now();
        self.write(asked, self.leases.replace(LEASE, &PostParams::default(), &renewed).await)
    }

    /// What becomes of an answer to a write that was begun at `asked`.
    fn write(&self, asked: Instant, answer: kube::Result<Lease>) -> kube::Result<()> {
        match answer {
            Ok(_) => {
                let term = Term {
                    // A third less than others wait: what was begun before the end has this long to arrive.
                    until: asked + self.lease_duration * 2 / 3,
                };
                if self.term.send_replace(Some(term)).is_none() {
                    tracing::info!(identity = %self.identity, "leading");
                }
                Ok(())
            }
            // Somebody else was quicker.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                self.term.send_replace(None);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The Lease as this candidate writes it over `before`.
    fn written(&self, before: Option<&LeaseSpec>) -> Lease {
        let now = Some(MicroTime(Timestamp::now()));
        let is_renewal = before.is_some_and(|before| before.holder_identity.as_deref() == Some(&*self.identity));
        let transitions = before.and_then(|before| before.lease_transitions).unwrap_or(0);
        Lease {
            metadata: ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.to_string()),
                lease_duration_seconds: i32::try_from(self.lease_duration.as_secs().max(1)).ok(),
                acquire_time: if is_renewal {
                    before.and_then(|before| before.acquire_time.clone())
                } else {
                    now.clone()
                },
                renew_time: now,
                lease_transitions: Some(if is_renewal || before.is_none() { transitions } else { transitions + 1 }),
                ..LeaseSpec::default()
            }),
        }
    }
}

#[async_trait]
impl Permit for Leadership {
    async fn may_change_schema(&self) -> Result<(), String> {
        let term = *self.term.borrow();
        let Some(term) = term.filter(|term| Instant::now() < term.until) else {
            return Err("this operator is not the leader".to_owned());
        };
        // A renewal of our own may come in between; the name is what counts.
        let lease = tokio::time::timeout_at(term.until, self.leases.get(LEASE)).await;
        let lease = lease.map_err(|_| "the lease ran out while it was looked at".to_owned())?;
        let lease = lease.map_err(|error| format!("whether this operator still leads is not known: {error}"))?;
        let holder = lease.spec.and_then(|spec| spec.holder_identity);
        if holder.as_deref() != Some(&*self.identity) {
            self.term.send_replace(None);
            return Err(format!("the leader is {} by now", holder.as_deref().unwrap_or("nobody")));
        }
        // The answer may have taken its time.
        if self.is_held() { Ok(()) } else { Err("the lease has run out".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use http::{Method, Request, Response, StatusCode};
    use http_body_util::BodyExt;
    use kube::client::Body;
    use serde_json::{Value, json};
    use tower::service_fn;

    use super::*;

    const LASTS: Duration = Duration::from_secs(15);

    /// An API server that has one Lease, or fails.
    #[derive(Clone, Default)]
    struct Server(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        lease: Option<Lease>,
        version: u64,
        fails: bool,
        /// Whether its holder's renewal, sent a while ago, arrives before the next write.
        is_renewed_first: bool,
    }

    impl State {
        fn put(&mut self, mut written: Lease) {
            self.version += 1;
            written.metadata.resource_version = Some(self.version.to_string());
            self.lease = Some(written);
        }
    }

    impl Server {
        fn candidate(&self, identity: &str) -> Leadership {
            let server = self.clone();
            let service = service_fn(move |request: Request<Body>| {
                let server = server.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let (status, answer) = server.answer(&head.method, &body);
                    let answer = Response::builder().status(status).body(Body::from(answer.to_string().into_bytes()));
                    Ok::<_, std::convert::Infallible>(answer.unwrap())
                }
            });
            Leadership::new(Client::new(service, "default"), "default", identity, LASTS)
        }

        fn answer(&self, method: &Method, body: &[u8]) -> (StatusCode, Value) {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let failure = |status: StatusCode, reason: &str| {
                (
                    status,
                    json!({"kind": "Status", "status": "Failure", "code": status.as_u16(), "reason": reason, "message": ""}),
                )
            };
            if state.fails {
                return failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError");
            }
            if *method == Method::GET {
                return state.lease.as_ref().map_or_else(
                    || failure(StatusCode::NOT_FOUND, "NotFound"),
                    |lease| (StatusCode::OK, json!(lease)),
                );
            }
            if let (true, Some(held)) = (std::mem::take(&mut state.is_renewed_first), state.lease.clone()) {
                state.put(held);
            }
            let written: Lease = serde_json::from_slice(body).unwrap();
            let there = state.lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
            if written.metadata.resource_version != there {
                return failure(StatusCode::CONFLICT, "Conflict");
            }
            state.put(written);
            (StatusCode::OK, json!(state.lease))
        }

        fn set_failing(&self, fails: bool) {
            self.0.lock().unwrap().fails = fails;
        }
    }

    async fn attempt(candidate: &Leadership) {
        candidate.attempt(&mut None).await.unwrap();
    }

    /// Has looked for longer than the lease of the other lasts.
    async fn take_over(candidate: &Leadership) {
        let mut seen = None;
        candidate.attempt(&mut seen).await.unwrap();
        tokio::time::advance(LASTS + Duration::from_secs(1)).await;
        candidate.attempt(&mut seen).await.unwrap();
        assert!(candidate.is_held());
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_one_leads_and_the_other_waits_until_its_lease_has_not_changed_for_as_long_as_it_lasts() {
        let server = Server::default();
        let (first, second) = (server.candidate("a"), server.candidate("b"));
        attempt(&first).await;
        assert!(first.is_held());
        let mut seen = None;
        for _ in 0..10 {
            tokio::time::advance(LASTS / 2).await;
            attempt(&first).await;
            second.attempt(&mut seen).await.unwrap();
            assert!(first.is_held() && !second.is_held());
        }
        tokio::time::advance(LASTS + Duration::from_secs(1)).await;
        second.attempt(&mut seen).await.unwrap();
        assert!(second.is_held() && !first.is_held());
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_may_change_schemas_until_its_term_ends() {
        let leader = Server::default().candidate("a");
        assert_eq!(leader.may_change_schema().await, Err("this operator is not the leader".to_owned()));
        attempt(&leader).await;
        assert_eq!(leader.may_change_schema().await, Ok(()));
        tokio::time::advance(LASTS * 2 / 3).await;
        assert_eq!(leader.may_change_schema().await, Err("this operator is not the leader".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_itself_for_the_leader_asks_before_it_changes_a_schema_and_finds_out() {
        let server = Server::default();
        let (first, second) = (server.candidate("a"), server.candidate("b"));
        attempt(&first).await;
        take_over(&second).await;
        // A clock that stood still while the process did.
        let until = Instant::now() + LASTS;
        first.term.send_replace(Some(Term { until }));
        assert!(first.is_held());
        assert_eq!(first.may_change_schema().await, Err("the leader is b by now".to_owned()));
        assert!(!first.is_held());
        assert_eq!(second.may_change_schema().await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_answer_of_the_api_server_no_schema_is_changed() {
        let server = Server::default();
        let leader = server.candidate("a");
        attempt(&leader).await;
        server.set_failing(true);
        assert!(leader.may_change_schema().await.is_err());
        server.set_failing(false);
        assert_eq!(leader.may_change_schema().await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_given_up_is_taken_at_once_and_not_by_two() {
        let server = Server::default();
        let (first, second, third) = (server.candidate("a"), server.candidate("b"), server.candidate("c"));
        attempt(&first).await;
        first.resign().await;
        tokio::join!(attempt(&second), attempt(&third));
        assert!(!first.is_held() && (second.is_held() ^ third.is_held()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_given_up_although_a_renewal_was_under_way() {
        // Made, but its answer was not waited for: known to the API server alone.
        let server = Server::default();
        let (first, second) = (server.candidate("a"), server.candidate("b"));
        attempt(&first).await;
        attempt(&server.candidate("a")).await;
        first.resign().await;
        attempt(&second).await;
        assert!(second.is_held());

        // It arrives between the look and the write.
        let server = Server::default();
        let (first, second) = (server.candidate("a"), server.candidate("b"));
        attempt(&first).await;
        server.0.lock().unwrap().is_renewed_first = true;
        first.resign().await;
        attempt(&second).await;
        assert!(second.is_held());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_hold_the_lease_leaves_it_to_its_holder() {
        let server = Server::default();
        let (first, second) = (server.candidate("a"), server.candidate("b"));
        attempt(&first).await;
        second.resign().await;
        attempt(&second).await;
        assert!(first.is_held() && !second.is_held());
        assert_eq!(first.may_change_schema().await, Ok(()));
    }
}
