//! What a team that works by GitOps has: a Git repository that is served, where somebody commits; and Argo CD's engine, which keeps a
//! cluster as the repository says.

mod agent;
mod repository;

pub use self::agent::{Agent, Sync};
pub use self::repository::Repository;
