//! A view that a row can fail, what follows it, and how they are mended.
//!
//! ```text
//! divisors ─► quotients (12 / d) ─► quotient_sums          INSERT (k, 0): both fail, nothing else
//!                                                          UPDATE, ALTER … RESUME: both are right
//! ```

use std::time::Duration;

use super::rows::{Checked, kept, sorted};
use super::schema::{DIVISORS, FOLLOWERS};
use super::tape::Tape;
use super::world::World;

const QUERIES: [&str; 2] = [
    "SELECT k, 12 / d AS q FROM divisors",
    "SELECT k % 3 AS g, sum(q) AS s FROM quotients GROUP BY 1",
];
/// The second one without the view.
const SUMS: &str = "SELECT k % 3 AS g, sum(12 / d) AS s FROM divisors GROUP BY 1";
const CREATE: &str = "CREATE TABLE divisors (k BIGINT PRIMARY KEY, d BIGINT)";

/// Time for a failure to be seen.
const WAIT: Duration = Duration::from_secs(20);

impl World<'_> {
    /// Makes table and views.
    pub(super) async fn create_failing(&mut self) -> Checked {
        self.run(CREATE).await?;
        for (name, query) in FOLLOWERS.iter().zip(QUERIES) {
            self.run(&format!("CREATE MATERIALIZED VIEW {name} AS {query}")).await?;
        }
        Ok(())
    }

    /// True if a relation has failed.
    pub(super) fn is_failed(&self, relation: &str) -> bool {
        self.is_broken && FOLLOWERS.contains(&relation)
    }

    /// Writes rows that fail nothing: some are new, some replaced, some deleted.
    pub(super) async fn divide(&mut self, numbers: &[u16]) -> Checked {
        let mut tape = Tape::new(numbers);
        let (key, divisor) = (tape.pick(9), 1 + tape.pick(12));
        let sql = match tape.pick(4) {
            0 => format!("DELETE FROM {DIVISORS} WHERE k = {key}"),
            _ => format!("INSERT INTO {DIVISORS} VALUES ({key}, {divisor}), ({}, 3)", key + 10),
        };
        self.run(&sql).await
    }

    /// Has the views fail by a row, or mends them.
    pub(super) async fn break_or_mend(&mut self) -> Checked {
        if self.is_broken {
            return self.mend().await;
        }
        // No other write has this key.
        self.run(&format!("INSERT INTO {DIVISORS} VALUES (100, 0)")).await?;
        self.is_broken = true;
        self.tally.lock().unwrap().broken += 1;
        let failed = async {
            while kept(&self.cluster.engine, FOLLOWERS[1]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(WAIT, failed).await.map_err(|_| "no view has failed".to_string())
    }

    /// Takes the row away and starts the views again.
    pub(super) async fn mend(&mut self) -> Checked {
        if !self.is_broken {
            return Ok(());
        }
        self.run(&format!("UPDATE {DIVISORS} SET d = 5 WHERE d = 0")).await?;
        self.run(&format!("ALTER MATERIALIZED VIEW {} RESUME", FOLLOWERS[0])).await?;
        self.is_broken = false;
        self.tally.lock().unwrap().mended += 1;
        self.check_failing().await
    }

    /// Each view is its query, or says that it has failed.
    pub(super) async fn check_failing(&self) -> Checked {
        for (name, query) in FOLLOWERS.iter().zip([QUERIES[0], SUMS]) {
            let view = kept(&self.cluster.engine, name).await;
            if self.is_broken {
                if let Ok(rows) = view {
                    return Err(format!("{name} has failed and shows {rows:?}"));
                }
                continue;
            }
            let batch = self.cluster.run(query).await;
            let batch = sorted(&batch.map_err(|error| format!("{query}\n{error:?}"))?);
            let view = view?;
            if view != batch {
                return Err(format!(
                    "{name} is not its query\n{query}\nview:  {view:?}\nbatch: {batch:?}"
                ));
            }
        }
        Ok(())
    }
}
