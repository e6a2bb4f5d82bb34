//! [`Statement`]: what a client asked, not bound to any catalog yet.

use arrow::datatypes::DataType;
use frazil_connector_api::{Include, Options};
use sqlparser::ast;

/// One statement.
#[derive(Debug, Clone)]
pub struct Statement {
    /// What it asks.
    pub kind: StatementKind,
    /// Its own text, without `;` and without comments and blanks around it.
    pub text: String,
    /// Where its text begins in the input, in characters from 0.
    pub offset: usize,
}

/// A name of one part, folded as PostgreSQL does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The name.
    pub value: String,
    /// Character of its beginning in the input, from 1.
    pub position: usize,
}

/// What a statement asks.
#[derive(Debug, Clone)]
pub enum StatementKind {
    /// `SELECT`, `VALUES`, `WITH`.
    Query(Box<ast::Query>),
    /// `INSERT`.
    Insert(Box<ast::Insert>),
    /// `UPDATE`.
    Update(Box<ast::Update>),
    /// `DELETE`.
    Delete(Box<ast::Delete>),
    /// `TRUNCATE`.
    Truncate(Truncate),
    /// `CREATE TABLE`.
    CreateTable(Box<CreateRelation>),
    /// `CREATE TABLE … AS`.
    CreateTableAs(Box<CreateTableAs>),
    /// `CREATE SOURCE`.
    CreateSource(Box<CreateRelation>),
    /// `CREATE MATERIALIZED VIEW`.
    CreateMaterializedView(Box<CreateView>),
    /// `CREATE VIEW`.
    CreateView(Box<CreateView>),
    /// `CREATE SINK`.
    CreateSink(Box<CreateSink>),
    /// `CREATE PIPELINE`.
    CreatePipeline(Box<CreatePipeline>),
    /// `CREATE CATALOG`.
    CreateCatalog(CreateCatalog),
    /// `DROP`.
    Drop(Drop),
    /// `ALTER … name RESUME`.
    Resume(Resume),
    /// `EXPLAIN`.
    Explain(Box<Statement>),
    /// `SHOW`, `DESCRIBE`.
    Show(Show),
    /// `SET name = value, …`.
    Set {
        /// The variable.
        name: String,
        /// Its values; empty for `DEFAULT`.
        value: Vec<String>,
        /// `SET LOCAL`.
        local: bool,
    },
    /// `RESET name`, `RESET ALL`.
    Reset {
        /// The variable; `None` for all.
        name: Option<String>,
    },
    /// `FLUSH`.
    Flush,
    /// `RUN PIPELINE name`.
    RunPipeline {
        /// The pipeline.
        name: Name,
    },
    /// `COPY … TO STDOUT`.
    Copy(Box<Copy>),
    /// `COPY … FROM STDIN`.
    CopyIn(Box<CopyIn>),
    /// `BEGIN` and the like.
    Transaction(Transaction),
    /// `PREPARE name AS …`.
    Prepare(Box<Prepare>),
    /// `EXECUTE name (…)`.
    Execute(Execute),
    /// `DEALLOCATE name`, `DEALLOCATE ALL`.
    Deallocate {
        /// The prepared statement; `None` for all.
        name: Option<String>,
    },
    /// `DECLARE name CURSOR FOR …`.
    Declare(Box<Declare>),
    /// `FETCH …`, `MOVE …`.
    Fetch(Fetch),
    /// `CLOSE name`, `CLOSE ALL`.
    Close {
        /// The cursor; `None` for all.
        name: Option<String>,
    },
    /// `DISCARD ALL`, and `DISCARD` of what a session does not hold.
    Discard(Discard),
    /// `UNLISTEN *`.
    Unlisten,
    /// `VACUUM`, `CREATE INDEX` and the like.
    NoEffect(NoEffect),
}

/// `PREPARE name (types) AS statement`.
#[derive(Debug, Clone)]
pub struct Prepare {
    /// Name of the prepared statement.
    pub name: String,
    /// Types of `$1`, `$2` … as far as the text tells them; `None` for `unknown`.
    pub types: Vec<Option<DataType>>,
    /// A query or a write. Its text and its places are its own.
    pub statement: Statement,
}

/// `EXECUTE name (values)`.
#[derive(Debug, Clone)]
pub struct Execute {
    /// Name of the prepared statement.
    pub name: String,
    /// `VALUES (values)`; `None` without a list.
    pub values: Option<Box<Statement>>,
}

/// `DECLARE name [BINARY] [NO SCROLL] CURSOR [WITH HOLD] FOR query`.
#[derive(Debug, Clone)]
pub struct Declare {
    /// Name of the cursor.
    pub name: String,
    /// `BINARY`: values of the simple protocol are in binary form, too.
    pub is_binary: bool,
    /// `WITH HOLD`: it outlives the transaction.
    pub is_held: bool,
    /// The query. Its text and its places are its own.
    pub query: Statement,
}

/// `FETCH direction FROM name`, `MOVE direction FROM name`.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// Name of the cursor.
    pub cursor: String,
    /// Which rows.
    pub direction: Direction,
    /// `MOVE`: the rows are passed over.
    pub is_move: bool,
}

/// Which rows FETCH gives. A number below zero goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The next `n`.
    Forward(i64),
    /// All that are left.
    ForwardAll,
    /// The `n`-th from the current one.
    Relative(i64),
    /// The `n`-th of all; from the end if `n` is below zero.
    Absolute(i64),
}

/// A statement that PostgreSQL needs and this engine does not.
#[derive(Debug, Clone)]
pub struct NoEffect {
    /// Its command tag.
    pub tag: &'static str,
    /// Relations that it names, which must exist.
    pub relations: Vec<Name>,
    /// Why it has no effect.
    pub reason: &'static str,
}

/// What DISCARD lets go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// `ALL`.
    All,
    /// `PLANS`.
    Plans,
    /// `SEQUENCES`.
    Sequences,
    /// `TEMP`.
    Temp,
}

/// Statements of transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transaction {
    /// `BEGIN`, `START TRANSACTION`.
    Begin,
    /// `COMMIT`, `END`.
    Commit,
    /// `ROLLBACK`, `ABORT`.
    Rollback,
    /// `SAVEPOINT name`.
    Savepoint(String),
    /// `RELEASE name`.
    Release(String),
    /// `ROLLBACK TO name`.
    RollbackTo(String),
    /// `SET TRANSACTION …`, `SET SESSION CHARACTERISTICS …`.
    SetCharacteristics,
    /// `SET CONSTRAINTS …`: none can be deferred.
    SetConstraints,
}

/// `COPY … TO STDOUT`.
#[derive(Debug, Clone)]
pub struct Copy {
    /// What is copied: always a query.
    pub query: Statement,
    /// How its rows are written.
    pub format: CopyFormat,
}

/// `COPY table (columns) FROM STDIN`.
#[derive(Debug, Clone)]
pub struct CopyIn {
    /// The table.
    pub table: ast::ObjectName,
    /// Columns that the rows have; all without a list.
    pub columns: Vec<ast::ObjectName>,
    /// How the rows are written.
    pub format: CopyFormat,
}

/// How COPY writes rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyKind {
    /// Lines, with backslashes where needed.
    Text,
    /// Lines, with quotes where needed.
    Csv,
    /// The protocol's binary values.
    Binary,
}

/// The format of COPY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyFormat {
    /// Which of them.
    pub kind: CopyKind,
    /// A first line with the columns' names.
    pub header: bool,
    /// Between values.
    pub delimiter: char,
    /// What NULL looks like.
    pub null: String,
    /// Quotes of CSV.
    pub quote: char,
    /// What stands before a quote within quotes.
    pub escape: char,
}

/// Columns and constraints in parentheses.
#[derive(Debug, Clone, Default)]
pub struct ColumnList {
    /// Columns.
    pub columns: Vec<ast::ColumnDef>,
    /// Constraints of the table.
    pub constraints: Vec<ast::TableConstraint>,
}

/// `FORMAT … ENCODE … (…)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatClause {
    /// Format, in capitals.
    pub format: String,
    /// Encoding, in capitals.
    pub encode: String,
    /// Options in parentheses.
    pub options: Options,
}

/// `CREATE TABLE`, `CREATE SOURCE`.
#[derive(Debug, Clone)]
pub struct CreateRelation {
    /// Name.
    pub name: Name,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// Columns; `None` if there is no list.
    pub columns: Option<ColumnList>,
    /// `INCLUDE …`: columns behind those of the list.
    pub includes: Vec<IncludeClause>,
    /// `APPEND ONLY`.
    pub append_only: bool,
    /// `WITH (…)`; empty if there is none.
    pub options: Options,
    /// `FORMAT … ENCODE …`.
    pub format: Option<FormatClause>,
    /// PostgreSQL's storage parameters in WITH, which have no effect.
    pub storage: Vec<String>,
}

/// `TRUNCATE name, … [RESTART IDENTITY]`.
#[derive(Debug, Clone)]
pub struct Truncate {
    /// Names.
    pub names: Vec<Name>,
    /// `RESTART IDENTITY`.
    pub restarts: bool,
}

/// `CREATE TABLE name [(column, …)] AS query [WITH [NO] DATA]`.
#[derive(Debug, Clone)]
pub struct CreateTableAs {
    /// Name.
    pub name: Name,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// Names of its columns, if given.
    pub columns: Vec<Name>,
    /// The query.
    pub query: Box<ast::Query>,
    /// False for `WITH NO DATA`.
    pub with_data: bool,
}

/// `INCLUDE timestamp AS name`: what a message tells besides its value.
#[derive(Debug, Clone)]
pub struct IncludeClause {
    /// What is included.
    pub include: Include,
    /// Name of the column.
    pub name: Name,
}

/// `CREATE [MATERIALIZED] VIEW`.
#[derive(Debug, Clone)]
pub struct CreateView {
    /// Name.
    pub name: Name,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// Names of its columns, if given.
    pub columns: Vec<Name>,
    /// `WITH (…)`.
    pub options: Options,
    /// The query.
    pub query: Box<ast::Query>,
    /// The query's text.
    pub query_text: String,
}

/// What a sink reads.
#[derive(Debug, Clone)]
pub enum SinkSource {
    /// `FROM name`.
    Relation(Name),
    /// `AS SELECT …`.
    Query(Box<ast::Query>),
}

/// `CREATE SINK`.
#[derive(Debug, Clone)]
pub struct CreateSink {
    /// Name.
    pub name: Name,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// What it reads.
    pub source: SinkSource,
    /// `WITH (…)`.
    pub options: Options,
    /// `FORMAT … ENCODE …`.
    pub format: Option<FormatClause>,
}

/// `CREATE PIPELINE name SCHEDULE 'cron' AS INSERT INTO target query`.
#[derive(Debug, Clone)]
pub struct CreatePipeline {
    /// Name.
    pub name: Name,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// Cron expression.
    pub schedule: String,
    /// Character of the cron expression in the input, from 1.
    pub schedule_position: usize,
    /// Catalog, database and table.
    pub target: Vec<Name>,
    /// `WITH (…)`: further options of the target.
    pub options: Options,
    /// The query.
    pub query: Box<ast::Query>,
}

/// `CREATE CATALOG name WITH (…)`.
#[derive(Debug, Clone)]
pub struct CreateCatalog {
    /// Name.
    pub name: Name,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// `WITH (…)`.
    pub options: Options,
}

/// What a DROP or ALTER says that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// `TABLE`.
    Table,
    /// `SOURCE`.
    Source,
    /// `MATERIALIZED VIEW`.
    MaterializedView,
    /// `VIEW`.
    View,
    /// `SINK`.
    Sink,
    /// `PIPELINE`.
    Pipeline,
    /// `CATALOG`.
    Catalog,
}

/// `ALTER … name RESUME`: a job that has failed is started again.
#[derive(Debug, Clone)]
pub struct Resume {
    /// What it says that it resumes.
    pub kind: ObjectKind,
    /// Its name.
    pub name: Name,
}

/// `DROP … [IF EXISTS] name, … [CASCADE]`.
#[derive(Debug, Clone)]
pub struct Drop {
    /// What it says that it drops.
    pub kind: ObjectKind,
    /// `IF EXISTS`.
    pub if_exists: bool,
    /// Names.
    pub names: Vec<Name>,
    /// `CASCADE`.
    pub cascade: bool,
}

/// `SHOW …`, `DESCRIBE name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Show {
    /// `SHOW JOBS`.
    Jobs,
    /// `SHOW MEMORY`: who holds how many bytes of the process.
    Memory,
    /// `SHOW WORKERS`: when each of them has reported last.
    Workers,
    /// `SHOW TABLES`.
    Tables,
    /// `SHOW SOURCES`.
    Sources,
    /// `SHOW SINKS`.
    Sinks,
    /// `SHOW MATERIALIZED VIEWS`.
    MaterializedViews,
    /// `SHOW VIEWS`.
    Views,
    /// `SHOW PIPELINES`.
    Pipelines,
    /// `SHOW PIPELINE RUNS`.
    PipelineRuns,
    /// `SHOW CATALOGS`.
    Catalogs,
    /// `SHOW CREATE TABLE name` and the like.
    Create {
        /// The relation.
        name: Name,
    },
    /// `SHOW COLUMNS FROM name`, `DESCRIBE name`.
    Columns {
        /// The relation.
        name: Name,
    },
    /// `SHOW name`.
    Variable(String),
    /// `SHOW ALL`.
    All,
}

impl ObjectKind {
    /// Its name in messages.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Source => "source",
            Self::MaterializedView => "materialized view",
            Self::View => "view",
            Self::Sink => "sink",
            Self::Pipeline => "pipeline",
            Self::Catalog => "catalog",
        }
    }
}

impl StatementKind {
    /// The name that a CREATE makes, and whether it says IF NOT EXISTS; `None` for others, and for
    /// CREATE TABLE AS, which is no definition that is kept.
    pub fn created(&self) -> Option<(&Name, bool)> {
        match self {
            Self::CreateTable(create) | Self::CreateSource(create) => {
                Some((&create.name, create.if_not_exists))
            }
            Self::CreateMaterializedView(create) | Self::CreateView(create) => {
                Some((&create.name, create.if_not_exists))
            }
            Self::CreateSink(create) => Some((&create.name, create.if_not_exists)),
            Self::CreatePipeline(create) => Some((&create.name, create.if_not_exists)),
            Self::CreateCatalog(create) => Some((&create.name, create.if_not_exists)),
            _ => None,
        }
    }

    /// True for every CREATE.
    pub fn is_creation(&self) -> bool {
        self.created().is_some()
    }

    /// True for what EXECUTE runs.
    pub fn is_preparable(&self) -> bool {
        matches!(
            self,
            Self::Query(_)
                | Self::Insert(_)
                | Self::Update(_)
                | Self::Delete(_)
                | Self::Explain(_)
                | Self::Show(_)
        )
    }

    /// The command tag that Postgres sends for it, without row counts.
    pub fn tag(&self) -> &'static str {
        match self {
            Self::Query(_) => "SELECT",
            Self::Insert(_) => "INSERT",
            Self::Update(_) => "UPDATE",
            Self::Delete(_) => "DELETE",
            Self::Truncate(_) => "TRUNCATE TABLE",
            Self::CreateTable(_) => "CREATE TABLE",
            Self::CreateTableAs(_) => "CREATE TABLE AS",
            Self::CreateSource(_) => "CREATE SOURCE",
            Self::CreateMaterializedView(_) => "CREATE MATERIALIZED VIEW",
            Self::CreateView(_) => "CREATE VIEW",
            Self::CreateSink(_) => "CREATE SINK",
            Self::CreatePipeline(_) => "CREATE PIPELINE",
            Self::CreateCatalog(_) => "CREATE CATALOG",
            Self::Drop(drop) => match drop.kind {
                ObjectKind::Table => "DROP TABLE",
                ObjectKind::Source => "DROP SOURCE",
                ObjectKind::MaterializedView => "DROP MATERIALIZED VIEW",
                ObjectKind::View => "DROP VIEW",
                ObjectKind::Sink => "DROP SINK",
                ObjectKind::Pipeline => "DROP PIPELINE",
                ObjectKind::Catalog => "DROP CATALOG",
            },
            Self::Resume(resume) => match resume.kind {
                ObjectKind::Table => "ALTER TABLE",
                ObjectKind::Source => "ALTER SOURCE",
                ObjectKind::MaterializedView => "ALTER MATERIALIZED VIEW",
                ObjectKind::View => "ALTER VIEW",
                ObjectKind::Sink => "ALTER SINK",
                ObjectKind::Pipeline => "ALTER PIPELINE",
                ObjectKind::Catalog => "ALTER CATALOG",
            },
            Self::Explain(_) => "EXPLAIN",
            Self::Show(_) => "SHOW",
            Self::Set { .. } | Self::Transaction(Transaction::SetCharacteristics) => "SET",
            Self::Reset { .. } => "RESET",
            Self::Flush => "FLUSH",
            Self::RunPipeline { .. } => "RUN PIPELINE",
            Self::Copy(_) | Self::CopyIn(_) => "COPY",
            Self::Transaction(Transaction::Begin) => "BEGIN",
            Self::Transaction(Transaction::Commit) => "COMMIT",
            Self::Transaction(Transaction::Rollback | Transaction::RollbackTo(_)) => "ROLLBACK",
            Self::Transaction(Transaction::SetConstraints) => "SET CONSTRAINTS",
            Self::Transaction(Transaction::Savepoint(_)) => "SAVEPOINT",
            Self::Transaction(Transaction::Release(_)) => "RELEASE",
            Self::Prepare(_) => "PREPARE",
            Self::Execute(_) => "EXECUTE",
            Self::Deallocate { name: Some(_) } => "DEALLOCATE",
            Self::Deallocate { name: None } => "DEALLOCATE ALL",
            Self::Declare(_) => "DECLARE CURSOR",
            Self::Fetch(Fetch { is_move: false, .. }) => "FETCH",
            Self::Fetch(Fetch { is_move: true, .. }) => "MOVE",
            Self::Close { name: Some(_) } => "CLOSE CURSOR",
            Self::Close { name: None } => "CLOSE CURSOR ALL",
            Self::Discard(Discard::All) => "DISCARD ALL",
            Self::Discard(Discard::Plans) => "DISCARD PLANS",
            Self::Discard(Discard::Sequences) => "DISCARD SEQUENCES",
            Self::Discard(Discard::Temp) => "DISCARD TEMP",
            Self::Unlisten => "UNLISTEN",
            Self::NoEffect(statement) => statement.tag,
        }
    }
}
