//! Direct writes as a contender: callers on one session of the driver.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::TryStreamExt;
use futures::future::{BoxFuture, try_join_all};
use scylla::client::session::Session;

use super::statements::{Kind, Statements};
use super::{Keyspace, Node};
use crate::counters::{Acknowledged, Counters};
use crate::measurement::{self, Caller, Contender, Measurement, Span};
use crate::tokens::Tokens;
use crate::usage::Process;

/// Direct writers of one kind.
pub struct Peer {
    kind: Kind,
    statements: Statements,
    node: Vec<Process>,
    session: Arc<Session>,
    keyspace: String,
    counters: Counters,
    callers: Vec<Writer>,
}

impl Peer {
    /// Makes the tables and the callers.
    pub async fn prepare(
        kind: Kind,
        node: &Node,
        keyspace: &Keyspace,
        callers: usize,
        counters: &Counters,
    ) -> Result<Self> {
        let statements = Statements::prepare(kind, keyspace).await?;
        let writer = |caller| Writer {
            session: keyspace.session().clone(),
            statements: statements.clone(),
            tokens: Tokens::new(),
            acknowledged: counters.acknowledged(caller),
        };
        Ok(Self {
            kind,
            callers: (0..callers).map(writer).collect(),
            statements,
            node: node.processes(),
            session: keyspace.session().clone(),
            keyspace: keyspace.name().to_owned(),
            counters: counters.clone(),
        })
    }

    /// What the table holds of each counter.
    async fn counted(&self) -> Result<HashMap<String, i64>> {
        let (table, columns) = self.statements.counted();
        let select = self.session.prepare(format!("SELECT {columns} FROM {}.{table}", self.keyspace)).await?;
        let mut rows = self.session.execute_iter(select, ()).await?.rows_stream::<(String, i64)>()?;
        let mut counted: HashMap<String, i64> = HashMap::with_capacity(self.counters.len());
        while let Some((name, count)) = rows.try_next().await? {
            *counted.entry(name).or_default() += count;
        }
        Ok(counted)
    }
}

impl Contender for Peer {
    fn name(&self) -> String {
        self.kind.name().to_owned()
    }

    fn measure(&mut self, span: Span) -> BoxFuture<'_, Result<Measurement>> {
        Box::pin(async move {
            let measured = measurement::measure(&mut self.callers, span, &self.node).await?;
            // What the node compacts is not to be on the next one's bill.
            try_join_all(self.node.iter().map(|process| process.until_idle(Duration::ZERO))).await?;
            Ok(measured)
        })
    }

    fn verify(&mut self) -> BoxFuture<'_, Result<()>> {
        let expected = Acknowledged::sum(self.callers.iter().map(|caller| &caller.acknowledged));
        Box::pin(async move {
            let counted = self.counted().await?;
            for (name, expected) in self.counters.names().zip(expected) {
                let count = counted.get(name).copied().unwrap_or_default();
                ensure!(
                    u64::try_from(count) == Ok(expected),
                    "{name}: {expected} were acknowledged, the table has {count}"
                );
            }
            Ok(())
        })
    }
}

struct Writer {
    session: Arc<Session>,
    statements: Statements,
    tokens: Tokens,
    acknowledged: Acknowledged,
}

impl Caller for Writer {
    async fn call(&mut self) -> Result<u64> {
        let (index, name) = self.acknowledged.next();
        self.statements.add(&self.session, name, &mut self.tokens).await?;
        self.acknowledged.record(index);
        Ok(1)
    }
}
