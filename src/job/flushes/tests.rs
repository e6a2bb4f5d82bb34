//! What a flush waits for, and for how long.

use tokio::sync::oneshot;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const LAKE: RelationId = RelationId(1);
const OTHER: RelationId = RelationId(2);
/// A table that the lake's sink follows, and one that no sink follows.
const NEAR: RelationId = RelationId(3);
const FAR: RelationId = RelationId(4);

type Answer = oneshot::Receiver<crate::error::Result<Flushed>>;

fn start(flushes: &mut Flushes, only: Option<RelationId>) -> Answer {
    let (reply, answer) = oneshot::channel();
    let scope = match only {
        Some(only) => {
            FlushScope { only: Some(only), needed: [only, NEAR].into(), ..FlushScope::default() }
        }
        None => FlushScope { only: None, needed: [LAKE, OTHER, NEAR].into(), beside: [FAR].into() },
    };
    flushes.start(scope, reply, Duration::ZERO);
    answer
}

/// All readers catch up; the flushes are ready then.
fn catch_up(flushes: &mut Flushes, now: Duration) {
    for number in 1..=flushes.number {
        flushes.readers_done(0, (number, &[LAKE, OTHER, NEAR, FAR]), 1, |_| false);
    }
    flushes.settle(now, reading, free);
}

fn reading(_: RelationId) -> Readers {
    Readers::Reading
}

fn out_of_reach(relation: RelationId, attempts: u32) -> impl Fn(RelationId) -> Readers {
    move |it| match it == relation {
        true => Readers::OutOfReach(attempts, "no broker answers".to_string()),
        false => Readers::Reading,
    }
}

fn busy(relation: RelationId) -> impl Fn(RelationId) -> Option<Obstacle> {
    move |it| (it == relation).then(|| Obstacle::Busy("still at work".to_string()))
}

fn failed(_: RelationId) -> Option<Obstacle> {
    Some(Obstacle::Failed("division by zero".to_string()))
}

fn free(_: RelationId) -> Option<Obstacle> {
    None
}

/// The sinks that have something to commit, as the coordinator tells them.
fn lacking(sinks: &[RelationId]) -> impl Fn(Option<RelationId>) -> BTreeSet<RelationId> {
    let sinks: BTreeSet<RelationId> = sinks.iter().copied().collect();
    move |only| sinks.iter().copied().filter(|it| only.is_none_or(|only| only == *it)).collect()
}

fn committed(snapshot: &str) -> Option<CommitOutcome> {
    Some(CommitOutcome::Committed { snapshot: snapshot.to_string() })
}

fn kind(answer: &mut Answer) -> ErrorKind {
    answer.try_recv().unwrap().unwrap_err().kind
}

fn done(answer: &mut Answer) -> Flushed {
    answer.try_recv().unwrap().unwrap()
}

#[test]
fn a_flush_is_ready_when_every_reader_that_it_asked_has_caught_up() {
    let mut flushes = Flushes::default();
    let _lake = start(&mut flushes, Some(LAKE));
    let _all = start(&mut flushes, None);
    let taken = |flushes: &mut Flushes| {
        flushes.settle(SECOND, reading, free);
        flushes.begin_checkpoint(SECOND)
    };
    let done = |flushes: &mut Flushes, worker, number, relations: &[RelationId]| {
        flushes.readers_done(worker, (number, relations), 2, |_| false);
    };
    // Worker 1 of 2 has nothing of NEAR yet.
    done(&mut flushes, 0, 1, &[LAKE, NEAR]);
    done(&mut flushes, 1, 1, &[LAKE]);
    done(&mut flushes, 1, 2, &[LAKE, OTHER, NEAR, FAR]);
    assert!(taken(&mut flushes).is_empty());
    done(&mut flushes, 1, 1, &[NEAR]);
    assert_eq!(taken(&mut flushes), [Some(LAKE)]);
    done(&mut flushes, 0, 2, &[LAKE, OTHER, NEAR, FAR]);
    assert_eq!(taken(&mut flushes), [None]);
}

/// Splits that were held back when the flush began are covered by it.
#[test]
fn a_flush_asks_again_when_splits_are_released() {
    let mut flushes = Flushes::default();
    let _all = start(&mut flushes, None);
    let is_ready = |flushes: &mut Flushes| {
        flushes.settle(SECOND, reading, free);
        flushes.any_ready()
    };
    flushes.readers_done(0, (1, &[LAKE, OTHER, NEAR, FAR]), 1, |relation| relation == NEAR);
    assert!(!is_ready(&mut flushes));
    let number = flushes.next_number();
    assert!(!flushes.ask_again(FAR, number), "it has answered");
    assert!(flushes.ask_again(NEAR, number));
    // An answer to the old question says nothing of them.
    flushes.readers_done(0, (1, &[NEAR]), 1, |_| false);
    assert!(!is_ready(&mut flushes));
    flushes.readers_done(0, (number, &[NEAR]), 1, |_| false);
    assert!(is_ready(&mut flushes));
}

#[test]
fn a_busy_sink_delays_no_checkpoint_and_is_waited_for() {
    let mut flushes = Flushes::default();
    let mut lake = start(&mut flushes, Some(LAKE));
    let mut other = start(&mut flushes, Some(OTHER));
    catch_up(&mut flushes, SECOND);
    flushes.settle(SECOND, reading, busy(LAKE));
    assert_eq!(flushes.begin_checkpoint(SECOND), [Some(LAKE), Some(OTHER)]);
    flushes.begin_commits(CheckpointNumber(7), lacking(&[LAKE, OTHER]), SECOND);
    assert_eq!(flushes.wanted(), [LAKE, OTHER].into());
    flushes.committed(OTHER, CheckpointNumber(7), committed("7").as_ref(), SECOND);
    // The lake was at work on an older checkpoint.
    flushes.committed(LAKE, CheckpointNumber(6), committed("6").as_ref(), SECOND);
    flushes.settle(2 * SECOND, reading, busy(LAKE));
    assert_eq!(done(&mut other).snapshot.as_deref(), Some("7"));
    assert!(lake.try_recv().is_err(), "the commit of checkpoint 6 lacks what came at 7");
    flushes.committed(LAKE, CheckpointNumber(9), committed("9").as_ref(), 3 * SECOND);
    flushes.settle(3 * SECOND, reading, free);
    assert_eq!(done(&mut lake).snapshot.as_deref(), Some("9"));
    assert!(flushes.is_empty());
}

#[test]
fn commits_of_many_sinks_are_progress() {
    let mut flushes = Flushes::default();
    let mut all = start(&mut flushes, None);
    catch_up(&mut flushes, SECOND);
    flushes.begin_checkpoint(SECOND);
    flushes.begin_commits(CheckpointNumber(7), lacking(&[LAKE, OTHER]), Duration::ZERO);
    flushes.committed(OTHER, CheckpointNumber(7), committed("7").as_ref(), WAIT - SECOND);
    flushes.settle(WAIT, reading, busy(LAKE));
    assert!(all.try_recv().is_err());
    flushes.settle(WAIT + WAIT, reading, busy(LAKE));
    assert_eq!(kind(&mut all), ErrorKind::JobFailed);
}

#[test]
fn a_commit_that_does_not_end_gives_the_flush_up() {
    let mut flushes = Flushes::default();
    let mut answer = start(&mut flushes, None);
    catch_up(&mut flushes, Duration::ZERO);
    flushes.begin_checkpoint(SECOND);
    flushes.settle(WAIT * 2, reading, busy(LAKE));
    assert!(answer.try_recv().is_err(), "a checkpoint under way is not an obstacle");
    flushes.begin_commits(CheckpointNumber(3), lacking(&[LAKE]), WAIT * 2);
    flushes.settle(WAIT * 2 + SECOND, reading, busy(LAKE));
    assert!(answer.try_recv().is_err());
    flushes.settle(WAIT * 3, reading, busy(LAKE));
    assert_eq!(kind(&mut answer), ErrorKind::JobFailed);
}

#[test]
fn a_source_out_of_reach_gives_up_the_flush_of_a_sink_that_follows_it() {
    for only in [Some(LAKE), None] {
        let mut flushes = Flushes::default();
        let mut answer = start(&mut flushes, only);
        flushes.settle(WAIT - SECOND, out_of_reach(NEAR, 9), free);
        assert!(answer.try_recv().is_err());
        flushes.settle(WAIT, out_of_reach(NEAR, 9), free);
        assert_eq!(kind(&mut answer), ErrorKind::JobFailed);
        // Readers that are only slow are waited for.
        let mut answer = start(&mut flushes, only);
        flushes.settle(WAIT * 9, reading, free);
        assert!(answer.try_recv().is_err());
    }
}

#[test]
fn a_source_that_no_sink_follows_is_left_out_while_it_is_out_of_reach() {
    let mut flushes = Flushes::default();
    let mut lake = start(&mut flushes, Some(LAKE));
    let mut all = start(&mut flushes, None);
    flushes.readers_done(0, (1, &[LAKE, NEAR]), 1, |_| false);
    flushes.readers_done(0, (2, &[LAKE, OTHER, NEAR]), 1, |_| false);
    flushes.settle(SECOND, out_of_reach(FAR, 1), free);
    assert_eq!(flushes.begin_checkpoint(SECOND), [Some(LAKE)], "one failure may be an accident");
    flushes.settle(SECOND, out_of_reach(FAR, 3), free);
    assert_eq!(flushes.begin_checkpoint(SECOND), [None]);
    flushes.begin_commits(CheckpointNumber(1), lacking(&[]), SECOND);
    flushes.settle(SECOND, reading, free);
    assert_eq!(done(&mut lake), Flushed::default());
    assert_eq!(done(&mut all).left_out, ["no broker answers"]);
}

#[test]
fn a_relation_that_is_dropped_meanwhile_is_not_waited_for() {
    let mut flushes = Flushes::default();
    let _all = start(&mut flushes, None);
    flushes.settle(SECOND, |_| Readers::Gone, free);
    assert_eq!(flushes.begin_checkpoint(SECOND), [None]);
}

#[test]
fn a_failed_sink_is_not_nothing_new() {
    let mut flushes = Flushes::default();
    // It fails while readers catch up, and before its commit.
    let mut reading_on = start(&mut flushes, Some(LAKE));
    flushes.settle(SECOND, reading, failed);
    assert_eq!(kind(&mut reading_on), ErrorKind::JobFailed);
    let mut answer = start(&mut flushes, Some(LAKE));
    catch_up(&mut flushes, SECOND);
    flushes.begin_checkpoint(SECOND);
    flushes.begin_commits(CheckpointNumber(1), lacking(&[LAKE]), SECOND);
    flushes.settle(SECOND, reading, failed);
    assert_eq!(kind(&mut answer), ErrorKind::JobFailed);
}

#[test]
fn a_flush_of_all_tells_of_failed_sinks_once_the_others_have_committed() {
    let mut flushes = Flushes::default();
    let mut all = start(&mut flushes, None);
    catch_up(&mut flushes, SECOND);
    flushes.begin_checkpoint(SECOND);
    flushes.begin_commits(CheckpointNumber(1), lacking(&[LAKE, OTHER]), SECOND);
    let lake_failed = |it| if it == LAKE { failed(it) } else { None };
    flushes.settle(SECOND, reading, lake_failed);
    assert!(all.try_recv().is_err());
    assert_eq!(flushes.wanted(), [OTHER].into());
    flushes.committed(OTHER, CheckpointNumber(1), committed("1").as_ref(), SECOND);
    flushes.settle(SECOND, reading, lake_failed);
    let error = all.try_recv().unwrap().unwrap_err();
    assert_eq!(error.kind.sqlstate(), "55000");
    assert_eq!(error.message, "division by zero");
}

#[test]
fn a_sink_that_cannot_prepare_tells_why() {
    let mut flushes = Flushes::default();
    let mut asked = start(&mut flushes, Some(LAKE));
    let mut all = start(&mut flushes, None);
    let mut other = start(&mut flushes, Some(OTHER));
    catch_up(&mut flushes, SECOND);
    flushes.begin_checkpoint(SECOND);
    flushes.begin_commits(CheckpointNumber(1), lacking(&[LAKE]), SECOND);
    flushes.could_not_prepare(LAKE, "the disk is full");
    flushes.settle(SECOND, reading, free);
    for answer in [&mut asked, &mut all] {
        let error = answer.try_recv().unwrap().unwrap_err();
        assert_eq!((error.kind, error.retryable), (ErrorKind::JobFailed, true));
    }
    assert!(done(&mut other).snapshot.is_none());
}
