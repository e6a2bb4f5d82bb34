//! `COPY … FROM STDIN`: rows that the client sends.
//!
//! ```text
//! Query, Execute ─► CopyInResponse ◄─ CopyData … CopyDone ─► reader ─► Load ─► CommandComplete
//! ```
//!
//! **Invariant:** what is not ended by CopyDone writes nothing.

use std::fmt::Debug;
use std::sync::Arc;

use futures::channel::oneshot;
use futures::{Sink, SinkExt};
use pgwire::api::query::send_execution_response;
use pgwire::api::results::Tag;
use pgwire::api::{ClientInfo, PgWireConnectionState};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::copy::CopyInResponse;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use tokio::sync::Mutex;

mod binary_reader;
mod line_end;
mod text_reader;

use self::binary_reader::BinaryReader;
pub(super) use self::binary_reader::SIGNATURE;
use self::text_reader::TextReader;
use super::reply::wire_error;
use super::wire_handlers::{Wire, cancel_handle};
use crate::error::{Error, ErrorKind, Result};
use crate::session::{Load, LoadedRows, Session, Statement};
use crate::sql::{CopyIn, CopyKind};

/// Bytes of rows that are cast at once.
const CAST_BYTES: usize = 4 << 20;

/// The COPY of a connection, while the client sends its rows.
#[derive(Debug, Default)]
struct Copying(Mutex<Option<Box<CopiedRows>>>);

/// A COPY that has begun.
#[derive(Debug)]
struct CopiedRows {
    load: Load,
    reader: Reader,
    /// Statements behind it in the text of a simple query; none in the extended protocol.
    rest: Option<Vec<Statement>>,
    cancelled: Option<oneshot::Receiver<()>>,
}

/// Reads the bytes of the client.
#[derive(Debug)]
enum Reader {
    Text(TextReader),
    Binary(BinaryReader),
}

impl Wire {
    /// Begins a COPY and asks the client for its rows. `rest` are the statements behind it in the
    /// text of a simple query.
    pub(super) async fn begin_copy<C>(
        &self,
        client: &mut C,
        session: &Session,
        statement: &Statement,
        copy: &CopyIn,
        rest: Option<Vec<Statement>>,
    ) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let load = session.load(statement, copy).await.map_err(wire_error)?;
        let columns = load.columns();
        let is_binary = copy.format.kind == CopyKind::Binary;
        let (code, count) = (i8::from(is_binary), columns.len());
        let width = i16::try_from(count).map_err(|_| {
            wire_error(Error::unsupported("COPY of so many columns is not supported"))
        })?;
        let reader = match is_binary {
            true => Reader::Binary(BinaryReader::new(columns).map_err(wire_error)?),
            false => Reader::Text(TextReader::new(copy.format.clone(), load.table(), columns)),
        };
        let cancelled = match cancel_handle(client) {
            Some(handle) => Some(handle.start_query().await),
            None => None,
        };
        let is_extended = rest.is_none();
        let rows = CopiedRows { load, reader, rest, cancelled };
        *copying(client).0.lock().await = Some(Box::new(rows));
        client.set_state(PgWireConnectionState::CopyInProgress(is_extended));
        let response = CopyInResponse::new(code, width, vec![i16::from(code); count]);
        client.send(PgWireBackendMessage::CopyInResponse(response)).await?;
        Ok(())
    }

    /// Takes a message of a client that sends rows. An error ends the COPY.
    pub(super) async fn take_copied<C>(
        &self,
        client: &mut C,
        message: PgWireFrontendMessage,
    ) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let copying = copying(client);
        let Some(mut rows) = copying.0.lock().await.take() else {
            return Err(wire_error(Error::internal("no COPY has begun")));
        };
        if rows.is_cancelled() {
            return Err(PgWireError::QueryCanceled);
        }
        match message {
            PgWireFrontendMessage::CopyData(data) => {
                rows.push(&data.data).await.map_err(wire_error)?;
                *copying.0.lock().await = Some(rows);
                Ok(())
            }
            PgWireFrontendMessage::CopyDone(_) => {
                let rest = rows.rest.take();
                let count = rows.finish().await.map_err(wire_error)?;
                self.session(client).lock().await.note_write();
                send_execution_response(client, Tag::new("COPY").with_rows(count)).await?;
                client.set_state(PgWireConnectionState::ReadyForQuery);
                let Some(rest) = rest else { return Ok(()) };
                self.answer_all(client, rest).await
            }
            PgWireFrontendMessage::CopyFail(fail) => {
                let message = format!("COPY from stdin failed: {}", fail.message);
                Err(wire_error(Error::new(ErrorKind::Cancelled, message)))
            }
            // As in PostgreSQL: clients send them before they know that this is a COPY.
            PgWireFrontendMessage::Flush(_) | PgWireFrontendMessage::Sync(_) => {
                *copying.0.lock().await = Some(rows);
                Ok(())
            }
            _ => {
                let message = "unexpected message during COPY from stdin";
                Err(wire_error(Error::new(ErrorKind::ProtocolViolation, message)))
            }
        }
    }
}

/// The COPY of a connection.
fn copying(client: &impl ClientInfo) -> Arc<Copying> {
    client.session_extensions().get_or_insert_with(Copying::default)
}

impl CopiedRows {
    fn is_cancelled(&mut self) -> bool {
        let cancelled = self.cancelled.as_mut().map(oneshot::Receiver::try_recv);
        matches!(cancelled, Some(Ok(Some(()))))
    }

    /// Reads bytes; casts the rows that are read once they are many.
    async fn push(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.reader {
            Reader::Text(reader) => reader.push(bytes)?,
            Reader::Binary(reader) => {
                let read = reader.push(bytes);
                read.map_err(|error| placed(error, &self.load, reader))?;
            }
        }
        match self.reader.bytes() {
            waiting if waiting < CAST_BYTES => self.load.hold(waiting),
            _ => self.cast().await,
        }
    }

    async fn cast(&mut self) -> Result<()> {
        let rows = self.reader.take();
        self.load.push(rows, self.reader.bytes()).await
    }

    /// Writes all rows and tells how many they are.
    async fn finish(mut self) -> Result<usize> {
        match &mut self.reader {
            Reader::Text(reader) => reader.finish()?,
            Reader::Binary(reader) => {
                reader.finish().map_err(|error| placed(error, &self.load, reader))?;
            }
        }
        self.cast().await?;
        self.load.finish().await
    }
}

/// An error of the binary format with its row.
fn placed(error: Error, load: &Load, reader: &BinaryReader) -> Error {
    error.within(format!("COPY {}, line {}", load.table(), reader.line()))
}

impl Reader {
    fn bytes(&self) -> usize {
        match self {
            Self::Text(reader) => reader.bytes(),
            Self::Binary(reader) => reader.bytes(),
        }
    }

    fn take(&mut self) -> LoadedRows {
        match self {
            Self::Text(reader) => reader.take(),
            Self::Binary(reader) => reader.take(),
        }
    }
}
