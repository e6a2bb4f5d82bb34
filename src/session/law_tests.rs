//! The law of the whole engine: incremental = batch, over random plans, on any layout.
//!
//! ```text
//! script ─┬─ views ── Grammar ──► SQL text ──► CREATE MATERIALIZED VIEW    the engine keeps it
//!         │                           └─ views as subqueries ──► SELECT    a batch over the tables
//!         └─ steps: INSERT, UPDATE, DELETE; messages of a source; CREATE and DROP; sinks, FLUSH,
//!                   pipelines; a row that fails a view, and RESUME; restarts, clean, after a
//!                   crash, and by a second process that takes over
//! ```
//!
//! **Invariant:** after every step each view holds, as a multiset, what its query gives over the
//! tables of the same snapshot; the table that a source feeds holds, after FLUSH, what the messages
//! come to; and a restart changes no other table, whatever the numbers of workers and processes
//! before and after it. After FLUSH the target of each sink has the rows of its relation, and the
//! table of a pipeline has those of its last firing. A failed view shows no rows.
//!
//! A crash is a copy of the object store, taken at that moment, which the next engine opens: what
//! `kill -9` would leave. A disk that fails during a write (it is full, fails once, or is gone) may
//! stop the engine; the next start has what was acknowledged. A failure prints the SQL of the
//! smallest script that fails.
//! `PROPTEST_CASES=n` runs more scripts, `PROPTEST_RNG_SEED=n` others.

mod cancelled;
mod channel;
mod cluster;
mod concurrent_writes;
mod dml;
mod expression;
mod failing;
mod found;
mod law;
mod layouts;
mod ledger;
mod query;
mod rows;
mod schema;
mod script;
mod sinks;
mod tally;
mod tape;
mod targets;
mod world;
