//! A plan that is kept gives what a new plan gives.

use std::collections::BTreeMap;

use arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::config::Config;
use crate::env::Env;
use crate::job::Engine;
use crate::session::{Outcome, Sessions};

const SETUP: &str = "CREATE TABLE t (k BIGINT PRIMARY KEY, v BIGINT, s TEXT, n NUMERIC(12,2),
     f DOUBLE PRECISION);
     CREATE MATERIALIZED VIEW w AS SELECT v, count(*) AS n FROM t GROUP BY v;
     CREATE TABLE u (k BIGINT PRIMARY KEY, v BIGINT);";

const STATEMENTS: [&str; 26] = [
    "INSERT INTO t VALUES ($1, $2, $3, $4, $5)",
    "INSERT INTO t (k, v) VALUES ($1, $2)",
    "INSERT INTO t (v, k) VALUES ($2 + 1, $1)",
    "INSERT INTO t (k, f) VALUES ($1, $5), (3, $5)",
    "INSERT INTO t SELECT k, v + $1, s, n, f FROM t WHERE k = $2",
    "UPDATE t SET v = v + $1 WHERE k = $2",
    "UPDATE t SET v = $2, f = f * $5 WHERE k BETWEEN $1 AND $2",
    "UPDATE t SET v = 10 / $2 WHERE k = $1",
    "UPDATE t SET n = $2, s = $3 WHERE NOT k = $1",
    "UPDATE t SET k = $2 WHERE k = $1",
    "DELETE FROM t WHERE k = $1",
    "DELETE FROM t WHERE v IN ($1, $2) AND s = $3",
    "SELECT * FROM t WHERE k = $1",
    "SELECT k, $1 AS a, v > $1 AS b, -v FROM t WHERE f > $2 ORDER BY k",
    "SELECT k, $1 FROM t WHERE n = $1 OR n > $2 OR s IS NULL ORDER BY k DESC LIMIT 3",
    "SELECT k, upper(s) AS u FROM t WHERE s = $1",
    "SELECT n / $1, f / $2 FROM t WHERE k = $2 AND $2 <> 0",
    "SELECT n FROM w WHERE v = $1",
    "SELECT count(*) FROM t WHERE k < $1",
    "SELECT v FROM u WHERE k = $1",
    "INSERT INTO u VALUES ($1, $2)",
    "SELECT a.k FROM t a JOIN u b ON a.k = b.k WHERE a.k = $1",
    "INSERT INTO u SELECT g, $1 FROM generate_series(1, 3) AS g WHERE g > $1",
    "INSERT INTO t (k, v) VALUES ($1, $2) RETURNING *, k * 2, $2 AS two",
    "UPDATE t SET v = v + $1 WHERE k = $2 RETURNING v, k AS v, s",
    "DELETE FROM t WHERE k = $1 RETURNING t.*, v / $2",
];

fn value(random: &mut StdRng, common: DataType) -> ScalarValue {
    let number = random.random_range(0..5_i64);
    let value = match random.random_range(0..20) {
        0 => ScalarValue::Int32(Some(number as i32)),
        1 => ScalarValue::Decimal128(Some(i128::from(number) * 50 + 25), 38, 2),
        2 => ScalarValue::Float64(Some(number as f64 + 0.5)),
        3 => ScalarValue::Utf8(Some(number.to_string())),
        4 => ScalarValue::Utf8(None),
        _ => ScalarValue::Int64(Some(number)).cast_to(&common).unwrap(),
    };
    match random.random_ratio(1, 12) {
        true => ScalarValue::try_new_null(&value.data_type()).unwrap(),
        false => value,
    }
}

/// What a statement says, its errors too.
async fn answer(sessions: &Sessions, text: &str, params: &[ScalarValue]) -> String {
    let mut session = sessions.open();
    let statement = session.parse(text).unwrap().pop().unwrap();
    let rows = match session.execute(&statement, params).await {
        Ok(Outcome::Command { tag, .. }) => return tag,
        Ok(Outcome::Rows { stream, .. }) => stream.try_collect::<Vec<_>>().await,
        Err(error) => return error.to_string(),
    };
    match rows {
        Ok(rows) => pretty_format_batches(&rows).unwrap().to_string(),
        Err(error) => query_error(error).to_string(),
    }
}

async fn open() -> Engine {
    let env = Env::real(Arc::new(InMemory::new())).unwrap();
    let engine = Engine::open(Config { workers: 1, ..Config::default() }, env).await.unwrap();
    let sessions = Sessions::new(engine.clone());
    for statement in sessions.open().parse(SETUP).unwrap() {
        answer(&sessions, &statement.text, &[]).await;
    }
    engine
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_is_kept_gives_what_a_new_plan_gives() {
    let (engine, other) = (open().await, open().await);
    let keeping = Sessions::new(engine.clone());
    let mut random = StdRng::seed_from_u64(3);
    let mut kept = BTreeMap::<&str, usize>::new();
    let mut answered = 0;
    for step in 0..600 {
        let common = [DataType::Int64, DataType::Int64, DataType::Utf8];
        let common = common.into_iter().chain([DataType::Decimal128(12, 2), DataType::Float64]);
        let params: Vec<ScalarValue> = common.map(|it| value(&mut random, it)).collect();
        let text = STATEMENTS[random.random_range(0..STATEMENTS.len())];
        let count = (1..=5).rev().find(|number| text.contains(&format!("${number}"))).unwrap();
        let params = &params[..count];
        let is_kept = keeping.plans().get(&engine.catalog(), text, params).is_some();
        *kept.entry(text).or_default() += usize::from(is_kept);
        let said = answer(&keeping, text, params).await;
        let planned = answer(&Sessions::new(other.clone()), text, params).await;
        assert_eq!(said, planned, "step {step}, kept {is_kept}: {text} with {params:?}");
        answered += usize::from(is_kept && !said.contains("rror"));
        if step % 150 == 149 {
            // What has the same name is another table afterwards.
            let data_type = ["TEXT", "BIGINT", "DOUBLE PRECISION"][step / 150 % 3];
            let again = format!("CREATE TABLE u (k BIGINT PRIMARY KEY, v {data_type})");
            for sql in ["DROP TABLE u", &again] {
                for engine in [&engine, &other] {
                    answer(&Sessions::new(engine.clone()), sql, &[]).await;
                }
            }
        }
        let all = "SELECT * FROM t ORDER BY k";
        let rows = answer(&keeping, all, &[]).await;
        assert_eq!(rows, answer(&Sessions::new(other.clone()), all, &[]).await, "step {step}");
    }
    assert!(answered > 150, "{answered} of {kept:?}");
    let never: Vec<&str> = STATEMENTS.into_iter().filter(|it| kept.get(it) == Some(&0)).collect();
    assert_eq!(
        never,
        [
            // A cell that is computed, a function, an aggregate, a join, a table function.
            STATEMENTS[2],
            STATEMENTS[15],
            STATEMENTS[18],
            STATEMENTS[21],
            STATEMENTS[22],
        ]
    );
}

#[test]
fn plans_of_an_older_catalog_are_given_up() {
    let (plans, params) = (CachedPlans::default(), [ScalarValue::Int64(Some(1))]);
    let catalog = Arc::new(Catalog::default());
    let plan = || Some(CachedPlan { asked: Asked::Query, plan: LogicalPlan::default() });
    plans.keep(&catalog, "a", &params, plan);
    assert!(plans.get(&catalog, "a", &params).is_some());
    assert!(plans.get(&catalog, "a", &[ScalarValue::Int32(Some(1))]).is_none());
    assert!(plans.get(&catalog, "b", &params).is_none());
    let newer = Arc::new(Catalog::default());
    assert!(plans.get(&newer, "a", &params).is_none());
    plans.keep(&newer, "b", &params, plan);
    plans.keep(&newer, "b", &params, || panic!("it is kept"));
    plans.keep(&newer, "c", &params, || None);
    plans.keep(&newer, "c", &params, || panic!("it cannot be kept"));
    assert!(plans.get(&newer, "c", &params).is_none());
    assert!(plans.get(&catalog, "a", &params).is_none());
    for text in 0..2 * PLANS_MAX {
        plans.keep(&newer, &text.to_string(), &params, plan);
        assert!(plans.lock().by_text.len() <= PLANS_MAX);
    }
}
