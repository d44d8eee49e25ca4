//! A durable event and rollup store inside this process, on one directory: fjall below, one group committer above it.
//!
//! ```text
//! callers ──encode──▶ queue (bounded) ──▶ committer thread: validate, stage ──▶ one journal batch, one fdatasync ──▶ answers
//!    │                                                                                  │
//!    └───────────── reads: straight from the tables, which hold only what is synced ◀───┘
//! ```
//!
//! - Every write goes through the one committer, so merging a row and checking a token need no lock and no transaction.
//! - fjall shows a batch to readers only after it is synced: what a read returns is durable, acknowledged or not.
//! - Commits are numbered, and the last one synced is written down (`sequence`), because fjall's recovery ends quietly at
//!   the first damaged record: an open that finds less than was acknowledged (`journal`) refuses and changes nothing.
//! - After a failed sync nothing is known about the file's pages any more: the database takes no further write
//!   ([`Database::health`]).
//!
//! Nothing here reads a clock.

mod committer;
mod database;
mod dataset;
mod directory;
mod error;
mod events;
mod journal;
mod keys;
mod queue;
mod recent;
mod rollups;
mod sequence;
mod tables;
mod values;

pub use database::Database;
pub use dataset::Dataset;
pub use error::OpenError;
