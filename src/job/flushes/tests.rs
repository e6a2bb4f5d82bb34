//! What a flush waits for, and for how long.

use tokio::sync::oneshot;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const LAKE: RelationId = RelationId(1);
const OTHER: RelationId = RelationId(2);

type Answer = oneshot::Receiver<crate::error::Result<Option<String>>>;

fn start(flushes: &mut Flushes, only: Option<RelationId>) -> Answer {
    let (reply, answer) = oneshot::channel();
    flushes.start(only, reply, Duration::ZERO);
    answer
}

fn busy(relation: RelationId) -> impl Fn(Option<RelationId>) -> Option<Obstacle> {
    move |only| match only {
        Some(only) if only != relation => None,
        _ => Some(Obstacle::Busy("still at work".to_string())),
    }
}

fn failed(only: Option<RelationId>) -> Option<Obstacle> {
    only.map(|_| Obstacle::Failed("division by zero".to_string()))
}

fn free(_: Option<RelationId>) -> Option<Obstacle> {
    None
}

fn kind(answer: &mut Answer) -> ErrorKind {
    answer.try_recv().unwrap().unwrap_err().kind
}

#[test]
fn a_later_flush_answers_for_those_before() {
    let mut flushes = Flushes::default();
    let taken = |flushes: &mut Flushes| flushes.begin_checkpoint(free, SECOND).len();
    let _answers = [start(&mut flushes, None), start(&mut flushes, None)];
    // Worker 0 was asked twice before it answered, worker 1 answered each.
    flushes.readers_done(0, 2, 2, SECOND);
    flushes.readers_done(1, 1, 2, SECOND);
    assert_eq!(taken(&mut flushes), 1);
    let _answer = start(&mut flushes, None);
    flushes.readers_done(1, 3, 2, SECOND);
    assert_eq!(taken(&mut flushes), 1);
    flushes.readers_done(0, 3, 2, SECOND);
    assert_eq!(taken(&mut flushes), 1);
}

#[test]
fn a_sink_at_work_keeps_only_those_that_asked_for_it() {
    let mut flushes = Flushes::default();
    let mut lake = start(&mut flushes, Some(LAKE));
    let mut other = start(&mut flushes, Some(OTHER));
    flushes.readers_done(0, 2, 1, SECOND);
    assert!(flushes.any_ready(busy(LAKE)));
    assert_eq!(flushes.begin_checkpoint(busy(LAKE), SECOND), [Some(OTHER)]);
    flushes.begin_commits(&[OTHER], &BTreeMap::new(), SECOND);
    flushes.settle(SECOND, || None, busy(LAKE));
    assert!(other.try_recv().is_err(), "its commit is not made yet");
    flushes.committed(OTHER, &CommitOutcome::Committed { snapshot: "7".to_string() });
    flushes.settle(2 * SECOND, || None, busy(LAKE));
    assert_eq!(other.try_recv().unwrap().unwrap().as_deref(), Some("7"));
    flushes.settle(SECOND + WAIT - SECOND / 2, || None, busy(LAKE));
    assert!(lake.try_recv().is_err(), "it has waited for less than a minute");
    flushes.settle(SECOND + WAIT, || None, busy(LAKE));
    assert_eq!(kind(&mut lake), ErrorKind::Unavailable);
    assert!(flushes.is_empty());
}

#[test]
fn a_commit_that_does_not_end_gives_the_flush_up() {
    let mut flushes = Flushes::default();
    let mut answer = start(&mut flushes, None);
    flushes.readers_done(0, 1, 1, SECOND);
    flushes.begin_checkpoint(free, SECOND);
    flushes.settle(WAIT * 2, || None, free);
    assert!(answer.try_recv().is_err(), "a checkpoint under way is not an obstacle");
    flushes.begin_commits(&[LAKE], &BTreeMap::new(), WAIT * 2);
    flushes.settle(WAIT * 2 + SECOND, || None, busy(LAKE));
    assert!(answer.try_recv().is_err());
    flushes.settle(WAIT * 3, || None, busy(LAKE));
    assert_eq!(kind(&mut answer), ErrorKind::Unavailable);
}

#[test]
fn a_source_out_of_reach_gives_the_flush_up() {
    let mut flushes = Flushes::default();
    let mut answer = start(&mut flushes, None);
    let away = || Some(Obstacle::Busy("no broker answers".to_string()));
    flushes.settle(WAIT - SECOND, away, free);
    assert!(answer.try_recv().is_err());
    flushes.settle(WAIT, away, free);
    assert_eq!(kind(&mut answer), ErrorKind::Unavailable);
    // Readers that are only slow are waited for.
    let mut answer = start(&mut flushes, None);
    flushes.settle(WAIT * 9, || None, free);
    assert!(answer.try_recv().is_err());
}

#[test]
fn a_failed_sink_is_not_nothing_new() {
    let mut flushes = Flushes::default();
    // It fails while readers catch up, and while the checkpoint is written.
    let mut reading = start(&mut flushes, Some(LAKE));
    flushes.settle(SECOND, || None, failed);
    assert_eq!(kind(&mut reading), ErrorKind::JobFailed);
    let mut writing = start(&mut flushes, Some(LAKE));
    flushes.readers_done(0, 2, 1, SECOND);
    flushes.begin_checkpoint(free, SECOND);
    flushes.begin_commits(&[], &BTreeMap::new(), SECOND);
    flushes.settle(SECOND, || None, failed);
    assert_eq!(kind(&mut writing), ErrorKind::JobFailed);
}

#[test]
fn a_sink_that_cannot_prepare_tells_why() {
    let mut flushes = Flushes::default();
    let mut asked = start(&mut flushes, Some(LAKE));
    let mut all = start(&mut flushes, None);
    let mut other = start(&mut flushes, Some(OTHER));
    flushes.readers_done(0, 3, 1, SECOND);
    flushes.begin_checkpoint(free, SECOND);
    let problems = BTreeMap::from([(LAKE, "the disk is full".to_string())]);
    flushes.begin_commits(&[], &problems, SECOND);
    flushes.settle(SECOND, || None, free);
    assert_eq!(kind(&mut asked), ErrorKind::Unavailable);
    assert_eq!(kind(&mut all), ErrorKind::Unavailable);
    assert!(other.try_recv().unwrap().unwrap().is_none());
}
