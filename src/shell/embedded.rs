//! [`EmbeddedClient`]: a session in this process.

use std::collections::BTreeSet;

use async_trait::async_trait;
use futures::StreamExt;

use super::{Client, ClientReply, Failure, Table};
use crate::error::{Error, Result};
use crate::job::Engine;
use crate::session::{Outcome, Session, query_error, text_rows};

/// Runs statements in a session of this process.
#[derive(Debug)]
pub struct EmbeddedClient {
    engine: Engine,
    session: Session,
}

impl EmbeddedClient {
    /// A client over an engine of this process.
    pub fn new(engine: Engine) -> Self {
        Self { session: Session::new(engine.clone()), engine }
    }

    async fn run_one(&mut self, text: &str) -> Result<ClientReply> {
        let mut reply = ClientReply::default();
        for statement in self.session.parse(text)? {
            match self.session.execute(&statement, &[]).await? {
                Outcome::Command { tag, notices } => {
                    reply.tag = tag;
                    reply.notices.extend(notices);
                }
                Outcome::Rows { schema, mut stream, .. } => {
                    let columns =
                        schema.fields().iter().map(|field| field.name().clone()).collect();
                    let mut table = Table { columns, rows: Vec::new() };
                    while let Some(batch) = stream.next().await {
                        table.rows.extend(text_rows(&batch.map_err(query_error)?)?);
                    }
                    reply.table = Some(table);
                }
            }
        }
        Ok(reply)
    }
}

#[async_trait]
impl Client for EmbeddedClient {
    async fn run(&mut self, statement: &str) -> std::result::Result<ClientReply, Failure> {
        self.run_one(statement).await.map_err(|error: Error| Failure::from(&error))
    }

    async fn cancel(&mut self) {}

    async fn names(&mut self) -> Vec<String> {
        let catalog = self.engine.catalog();
        let mut names = BTreeSet::new();
        for relation in catalog.iter() {
            names.insert(relation.name.clone());
            names.extend(relation.schema.fields().iter().map(|field| field.name().clone()));
        }
        names.into_iter().collect()
    }
}
