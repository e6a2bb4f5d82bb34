//! The engine inside another program: a table, a view over it, and what the view holds. `common`
//! shows how a program runs statements and reads their rows.
//!
//! `cargo run --example embed`

mod common;

use std::sync::Arc;

use frazil::config::Config;
use frazil::env::Env;
use frazil::error::Result;
use frazil::job::Engine;
use object_store::memory::InMemory;

#[tokio::main]
async fn main() -> Result<()> {
    // State and checkpoints in memory; with `Env::local(folder)` they outlive the program.
    let env = Env::real(Arc::new(InMemory::new()))?;
    let engine = Engine::open(Config { workers: 2, ..Config::default() }, env).await?;
    let script = "
        CREATE TABLE orders (id BIGINT PRIMARY KEY, customer TEXT, amount BIGINT);
        CREATE MATERIALIZED VIEW revenue AS
            SELECT customer, sum(amount) AS total FROM orders GROUP BY customer;
        INSERT INTO orders VALUES (1, 'ada', 30), (2, 'bob', 5), (3, 'ada', 12);
        UPDATE orders SET amount = 50 WHERE id = 2;
        SELECT customer, total FROM revenue ORDER BY customer";
    common::run(&engine, script).await?;
    engine.shutdown().await
}
