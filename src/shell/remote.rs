//! [`RemoteClient`]: a server behind the Postgres wire.

use async_trait::async_trait;
use futures::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, NoTls, SimpleQueryMessage};

use super::{Client, ClientReply, Failure, Table};

/// Notices that may wait to be shown.
const NOTICES_MAX: usize = 1024;

/// Runs statements on a server.
#[derive(Debug)]
pub struct RemoteClient {
    client: tokio_postgres::Client,
    notices: mpsc::Receiver<String>,
}

impl RemoteClient {
    /// Connects to `postgres://user@host:port/database`.
    ///
    /// # Errors
    /// That the address is wrong or the server out of reach.
    pub async fn connect(url: &str) -> Result<Self, Failure> {
        let (client, mut connection) =
            tokio_postgres::connect(url, NoTls).await.map_err(|error| failure(&error))?;
        let (sender, notices) = mpsc::channel(NOTICES_MAX);
        tokio::spawn(async move {
            let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notice(notice) = message {
                    // A client that shows none loses what is beyond the bound.
                    let _ = sender.try_send(notice.message().to_string());
                }
            }
        });
        Ok(Self { client, notices })
    }
}

fn failure(error: &tokio_postgres::Error) -> Failure {
    let Some(told) = error.as_db_error() else {
        let message = match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        return Failure { code: "08006".to_string(), message, ..Failure::default() };
    };
    let position = match told.position() {
        Some(tokio_postgres::error::ErrorPosition::Original(position)) => {
            usize::try_from(*position).ok()
        }
        _ => None,
    };
    Failure {
        code: told.code().code().to_string(),
        message: told.message().to_string(),
        detail: told.detail().map(str::to_string),
        hint: told.hint().map(str::to_string),
        position,
    }
}

/// The wire's reader drops the tag's words and keeps its count, so the words come from the text.
fn tag(statement: &str, count: u64) -> String {
    let mut words = statement.split_whitespace().map(str::to_uppercase);
    let first = words.next().unwrap_or_default();
    match first.as_str() {
        "INSERT" => format!("INSERT 0 {count}"),
        "UPDATE" | "DELETE" => format!("{first} {count}"),
        "CREATE" | "DROP" => {
            let rest = words.find(|word| word != "OR" && word != "REPLACE").unwrap_or_default();
            let view = if rest == "MATERIALIZED" { " VIEW" } else { "" };
            format!("{first} {}{view}", rest.trim_end_matches(';'))
        }
        _ => first.trim_end_matches(';').to_string(),
    }
}

#[async_trait]
impl Client for RemoteClient {
    async fn run(&mut self, statement: &str) -> Result<ClientReply, Failure> {
        let result = self.client.simple_query(statement).await;
        let mut reply = ClientReply::default();
        while let Ok(notice) = self.notices.try_recv() {
            reply.notices.push(notice);
        }
        let mut table: Option<Table> = None;
        for message in result.map_err(|error| failure(&error))? {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    let columns = columns.iter().map(|column| column.name().to_string()).collect();
                    table = Some(Table { columns, rows: Vec::new() });
                }
                SimpleQueryMessage::Row(row) => {
                    let values = (0..row.len()).map(|index| row.get(index).map(str::to_string));
                    if let Some(table) = &mut table {
                        table.rows.push(values.collect());
                    }
                }
                SimpleQueryMessage::CommandComplete(count) => reply.tag = tag(statement, count),
                _ => {}
            }
        }
        reply.table = table;
        Ok(reply)
    }

    async fn cancel(&mut self) {
        // The statement may have ended meanwhile, and a lost cancel is only a slow statement.
        let _ = self.client.cancel_token().cancel_query(NoTls).await;
    }

    async fn names(&mut self) -> Vec<String> {
        const NAMES: &str = "SELECT relname FROM pg_catalog.pg_class WHERE relnamespace <> 11 \
            UNION SELECT attname FROM pg_catalog.pg_attribute ORDER BY 1";
        let rows = self.run(NAMES).await.ok().and_then(|reply| reply.table);
        rows.map(|table| table.rows.into_iter().flatten().flatten().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_rebuilt_from_the_text() {
        assert_eq!(tag("insert into t values (1)", 1), "INSERT 0 1");
        assert_eq!(tag("UPDATE t SET a = 1", 3), "UPDATE 3");
        assert_eq!(tag("create materialized view v as select 1", 0), "CREATE MATERIALIZED VIEW");
        assert_eq!(tag("DROP TABLE t", 0), "DROP TABLE");
        assert_eq!(tag("FLUSH;", 0), "FLUSH");
    }
}
