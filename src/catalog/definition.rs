//! [`Definition`]: what a CREATE statement says, bound.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::{Expr, LogicalPlan};
use frazil_connector_api::{Include, Options, SinkMode};
use std::sync::Arc;

use crate::error::Error;

/// A column of a table or source.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnDef {
    /// Name, folded as PostgreSQL does.
    pub name: String,
    /// Arrow type.
    pub data_type: DataType,
    /// Fraction digits that the declaration of a time gives, as the 3 of `TIMESTAMP(3)`: tells how
    /// a source writes its values.
    pub precision: Option<u8>,
    /// Whether NULL may be stored.
    pub nullable: bool,
    /// `DEFAULT`, of the column's type: what an INSERT that leaves the column out stores; NULL if
    /// there is none.
    pub default: Option<Expr>,
    /// What of a message it is, if it is none of the columns of its value. Such columns are last.
    pub include: Option<Include>,
}

/// `FORMAT … ENCODE … (…)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatDef {
    /// `PLAIN`, `DEBEZIUM`, in capitals.
    pub format: String,
    /// `JSON`, in capitals.
    pub encode: String,
    /// Options in parentheses.
    pub options: Options,
}

/// `CREATE TABLE`: rows that are kept; own (DML) or fed by a connector.
#[derive(Debug, Clone)]
pub struct TableDef {
    /// Columns; a table without primary key that is not fed by a connector has none hidden.
    pub columns: Vec<ColumnDef>,
    /// Indexes of the primary key; empty for none.
    pub primary_key: Vec<usize>,
    /// `APPEND ONLY`: no UPDATE or DELETE.
    pub append_only: bool,
    /// `WITH (connector = …)`; `None` for an own table.
    pub connector: Option<Options>,
    /// Format of the connector's messages.
    pub format: Option<FormatDef>,
}

/// `CREATE SOURCE`: an append-only stream that is not kept. Every view over it reads it from the
/// start.
#[derive(Debug, Clone)]
pub struct SourceDef {
    /// Columns.
    pub columns: Vec<ColumnDef>,
    /// `WITH (connector = …)`.
    pub connector: Options,
    /// Format of the connector's messages; none for generators of rows.
    pub format: Option<FormatDef>,
}

/// `CREATE MATERIALIZED VIEW`.
#[derive(Debug, Clone)]
pub struct ViewDef {
    /// The query, bound.
    pub plan: Arc<LogicalPlan>,
    /// Text of the query, for `SHOW CREATE` and `pg_get_viewdef`.
    pub query: String,
}

/// `CREATE VIEW`: a name for a query, put in its place wherever it is read. Nothing runs for it.
#[derive(Debug, Clone)]
pub struct LogicalViewDef {
    /// The query.
    pub plan: Arc<LogicalPlan>,
    /// Text of the query.
    pub query: String,
}

/// `CREATE SINK`.
#[derive(Debug, Clone)]
pub struct SinkDef {
    /// Append-only, or upsert by key.
    pub mode: SinkMode,
    /// `WITH (connector = …)`, as given.
    pub connector: Options,
    /// Least time between two commits, in milliseconds.
    pub commit_interval_ms: u64,
}

/// `CREATE PIPELINE … SCHEDULE … AS INSERT INTO …`.
#[derive(Debug, Clone)]
pub struct PipelineDef {
    /// Cron expression with five fields, in UTC.
    pub schedule: String,
    /// The query and its target; commits at firings only.
    pub sink: SinkDef,
}

/// `CREATE CATALOG name WITH (type = 'iceberg', …)`: tables of others, read by name.
#[derive(Debug, Clone)]
pub struct CatalogDef {
    /// Options.
    pub options: Options,
}

/// A stored CREATE statement that this program cannot bind.
#[derive(Debug, Clone)]
pub struct UnboundDef {
    /// What the statement makes, as [`Definition::noun`] says it.
    pub noun: &'static str,
    /// Why it cannot be bound.
    pub error: Error,
}

/// What a CREATE statement says, bound.
#[derive(Debug, Clone)]
pub enum Definition {
    /// A kept table.
    Table(TableDef),
    /// An append-only stream.
    Source(SourceDef),
    /// A live view.
    View(ViewDef),
    /// A name for a query.
    LogicalView(LogicalViewDef),
    /// A target.
    Sink(SinkDef),
    /// A scheduled target.
    Pipeline(PipelineDef),
    /// Tables of others.
    Catalog(CatalogDef),
    /// Messages that the table or source of this name could not decode; made along with it.
    Errors,
    /// What an earlier program made and this one does not understand. It has failed, and can be
    /// dropped.
    Unbound(UnboundDef),
}

impl Definition {
    /// How it writes into a target, if it does.
    pub fn sink(&self) -> Option<&SinkDef> {
        match self {
            Self::Sink(sink) => Some(sink),
            Self::Pipeline(pipeline) => Some(&pipeline.sink),
            _ => None,
        }
    }

    /// What it is called in messages.
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Table(_) | Self::Errors => "table",
            Self::Source(_) => "source",
            Self::View(_) => "materialized view",
            Self::LogicalView(_) => "view",
            Self::Sink(_) => "sink",
            Self::Pipeline(_) => "pipeline",
            Self::Catalog(_) => "catalog",
            Self::Unbound(unbound) => unbound.noun,
        }
    }

    /// Whether it has rows that a query can read.
    pub fn is_readable(&self) -> bool {
        !matches!(self, Self::Sink(_) | Self::Pipeline(_) | Self::Catalog(_) | Self::Unbound(_))
    }

    /// Whether messages that cannot be decoded may arrive.
    pub fn has_errors(&self) -> bool {
        match self {
            Self::Table(table) => table.connector.is_some(),
            Self::Source(source) => source.format.is_some(),
            _ => false,
        }
    }
}

/// Schema of columns.
pub fn columns_schema(columns: &[ColumnDef]) -> SchemaRef {
    let fields = columns
        .iter()
        .map(|column| Field::new(&column.name, column.data_type.clone(), column.nullable));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
