//! The schema of datasets: what is wanted, what is there, and the statements between the two.
//!
//! Pure: [`cql`], [`tables`], [`datasets`] (from documents to what is wanted), [`plan`]. They touch nothing and know no driver
//! but for its values. With a session: [`ddl`] (runs one schema change at a time, the cluster's nodes agreeing before and after),
//! [`read`] (what is there), [`nodes`] (which nodes there are), `usable` (by any node yet), `first` (rows that the first one inserts), [`floors`] (up to when nothing of a deleted namespace
//! counts), [`removal`] (what is deleted), [`slices`] (records and tables of slices), [`provision`] (carries a plan out).
//!
//! Rules that hold throughout:
//! - Only what is missing is created, and only what Tallyman created is used or dropped: its tables carry a comment that begins
//!   with [`MARK`](tables::MARK), and an id that follows from keyspace and name. A repeated or late `CREATE` therefore makes
//!   the same table, never a second one.
//! - An existing keyspace's replication is never altered: raising it without a repair breaks quorums.
//! - A slice's record comes before its table, and its state before the table's end.

pub mod cql;
pub mod datasets;
pub mod ddl;
mod error;
mod first;
pub mod floors;
pub mod nodes;
mod patience;
pub mod plan;
pub mod provision;
mod query;
pub mod read;
pub mod removal;
pub mod roles;
pub mod slices;
pub mod tables;
mod usable;

pub use error::{Error, Result};
