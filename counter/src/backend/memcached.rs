//! memcached clusters, over the meta protocol: best-effort counters, and the cache of checkpoints.
//!
//! A [`Cluster`] has replicas, each with all keys, and in each replica shards; a key's shard is found by rendezvous hashing over
//! their addresses, so that a change of shards moves only what it must. What is written goes to all replicas, the nearest that
//! answers is read, and what a replica lacks is given to it on the way. A server that failed is left alone until a probe is
//! answered.
//!
//! Calls wait in a queue for one of a few connections; whatever waits while an exchange is in flight goes out together as the
//! next one. A connection that is lost, and a server that has moved, are found again with the next exchange.
//!
//! What may have left this process is never sent twice: an add whose outcome is unknown says so and is not tried again.
//!
//! # What best-effort counters promise
//! - An add is acknowledged when one replica applied it, and a replica applies it at most once. A clear is acknowledged when all
//!   replicas did it; with one away it is refused, or its outcome is unknown.
//! - Of replicas that answer, one that forgot a counter (restarted, flushed, evicted it) answers what another knows: a miss is
//!   never taken for a new counter while another replica has it. A counter ends when its time to live since its creation has
//!   passed, on copies as well.
//! - A replica that was away gets the adds that it missed by copying, remembered by the process that made them, up to a limit and
//!   not beyond its end.
//! - Lost are counters that all replicas forgot; adds that went only to a replica that had forgotten the counter while the one
//!   that knew it was away; and, where a second replica misses adds before the first has been told what it missed, those of one of
//!   the two. While a counter is copied, an add of another process whose two legs lie on either side of it may
//!   be missing on the copy, or in it twice; a clear at that moment may be undone. Changing the list of shards loses the counters
//!   that move, unless another replica keeps them.

mod adding;
mod answer;
mod best_effort;
mod cache;
mod cluster;
mod connection;
mod copies;
mod debts;
mod encoding;
mod health;
mod repairing;
mod server;
mod stripes;

pub use best_effort::{BestEffort, BestEffortStatistics};
pub use cache::Cache;
pub use cluster::{Cluster, ServerStatus};
