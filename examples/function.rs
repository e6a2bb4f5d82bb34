//! A function of one's own: `masked('ann@example.org')` is `a***@example.org`.
//!
//! `cargo run --example function`

mod common;

use std::sync::Arc;

use arrow::array::{AsArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use frazil::config::Config;
use frazil::env::Env;
use frazil::error::Result;
use frazil::functions::add_scalar_functions;
use frazil::job::Engine;
use object_store::memory::InMemory;

fn masked(address: &str) -> String {
    match address.split_once('@') {
        Some((name, host)) => format!("{}***@{host}", &name.chars().take(1).collect::<String>()),
        None => "***".to_string(),
    }
}

/// Takes a column and gives a column. A view calls it with the changes of an epoch, and a row that
/// goes must give the value that it gave when it came: so it is `Immutable`.
fn masked_column(arguments: &[ColumnarValue]) -> datafusion::error::Result<ColumnarValue> {
    let columns = ColumnarValue::values_to_arrays(arguments)?;
    let addresses = columns[0].as_string::<i32>();
    let masked: StringArray = addresses.iter().map(|address| address.map(masked)).collect();
    Ok(ColumnarValue::Array(Arc::new(masked)))
}

#[tokio::main]
async fn main() -> Result<()> {
    let text = DataType::Utf8;
    let function = create_udf(
        "masked",
        vec![text.clone()],
        text,
        Volatility::Immutable,
        Arc::new(masked_column),
    );
    add_scalar_functions(vec![function])?;
    let env = Env::real(Arc::new(InMemory::new()))?;
    let engine = Engine::open(Config { workers: 1, ..Config::default() }, env).await?;
    let script = "
        CREATE TABLE customers (id BIGINT PRIMARY KEY, email TEXT);
        CREATE MATERIALIZED VIEW hosts AS
            SELECT masked(email) AS email, count(*) AS customers
            FROM customers GROUP BY masked(email);
        INSERT INTO customers VALUES (1, 'ann@example.org'), (2, 'al@example.org'), (3, 'bob');
        DELETE FROM customers WHERE id = 2;
        SELECT email, customers FROM hosts ORDER BY email";
    common::run(&engine, script).await?;
    engine.shutdown().await
}
