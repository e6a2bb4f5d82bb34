//! The law, over random scripts.

use std::sync::Mutex;
use std::time::Duration;

use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

use super::script::script;
use super::tally::Tally;
use super::world::play;

/// Scripts of a run, unless `PROPTEST_CASES` says otherwise.
const SCRIPTS: u32 = 24;

/// Time for one script: an engine that does not answer breaks the law, too.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(120);

/// Scripts to try for a smaller one that fails, and the time for it.
const SHRINKS: u32 = 400;
const SHRINKING_MS: u32 = 180_000;

fn config() -> Config {
    let told = Config::default();
    let is_told = |variable| std::env::var_os(variable).is_some();
    Config {
        cases: if is_told("PROPTEST_CASES") { told.cases } else { SCRIPTS },
        rng_seed: match told.rng_seed {
            RngSeed::Random => RngSeed::Fixed(1),
            told => told,
        },
        failure_persistence: None,
        max_shrink_iters: SHRINKS,
        max_shrink_time: match is_told("PROPTEST_MAX_SHRINK_TIME") {
            true => told.max_shrink_time,
            false => SHRINKING_MS,
        },
        ..told
    }
}

#[test]
fn views_of_random_plans_equal_their_queries_on_any_layout() {
    let mut building = tokio::runtime::Builder::new_multi_thread();
    let runtime = building.worker_threads(2).enable_all().build().unwrap();
    let tally = Mutex::new(Tally::default());
    let config = config();
    let is_whole = config.cases >= SCRIPTS;
    let outcome = TestRunner::new(config).run(&script(), |script| {
        let playing = async { tokio::time::timeout(SCRIPT_TIMEOUT, play(&script, &tally)).await };
        let played = runtime.block_on(playing).unwrap_or_else(|_| Err("no answer".to_string()));
        played.map_err(TestCaseError::fail)
    });
    // A failed engine may still wait for its workers.
    runtime.shutdown_background();
    let tally = tally.into_inner().unwrap();
    println!("{tally:?}");
    match outcome {
        Ok(()) if is_whole => tally.check(),
        Ok(()) => {}
        Err(TestError::Fail(reason, _)) => panic!("{reason}"),
        Err(TestError::Abort(reason)) => panic!("aborted: {reason}"),
    }
}
