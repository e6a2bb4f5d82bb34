//! Tests of the reader's thread.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use frazil_connector_api::{
    ChangeBatch, Decoded, Position, Positions, Result, Source, SourceBatch, SourcePoll,
    SourceReader, SplitId,
};
use object_store::memory::InMemory;

use super::{ReaderConfig, SourceEvent, SourceHandle};
use crate::env::Env;

/// Two splits, read from their ends at first.
#[derive(Debug)]
struct Silent {
    panics: bool,
}

fn offsets(of: &[(&str, i64)]) -> Positions {
    of.iter().map(|(split, offset)| (SplitId((*split).into()), Position::Number(*offset))).collect()
}

impl Source for Silent {
    fn splits(&self) -> Result<Vec<SplitId>> {
        Ok(offsets(&[("0", 0), ("1", 0)]).into_keys().collect())
    }

    fn start_positions(&self) -> Result<Positions> {
        Ok(offsets(&[("0", 7), ("1", 9)]))
    }

    fn open(&self, _: &Positions) -> Result<Box<dyn SourceReader>> {
        assert!(!self.panics, "asked to panic");
        Ok(Box::new(Nothing))
    }
}

struct Nothing;

impl SourceReader for Nothing {
    fn poll(&mut self, _: usize, timeout: Duration) -> Result<SourcePoll> {
        std::thread::sleep(timeout);
        Ok(SourcePoll::Idle)
    }
}

fn first_event(panics: bool, stored: Positions, is_known: bool) -> SourceEvent {
    let config = ReaderConfig { worker: 0, peers: 1, batch_rows: 1, channel_batches: 4, is_known };
    let env = Env::real(Arc::new(InMemory::new())).unwrap();
    let source = Arc::new(Silent { panics });
    let thread = std::thread::current();
    let mut handle = SourceHandle::spawn(source, stored, config, env, thread).unwrap();
    loop {
        match handle.try_next() {
            Some(SourceEvent::Held) => handle.release(1),
            Some(event) => return event,
            None => std::thread::park_timeout(Duration::from_millis(5)),
        }
    }
}

fn assigned(stored: Positions, is_known: bool) -> Positions {
    match first_event(false, stored, is_known) {
        SourceEvent::Assigned(offsets) => offsets,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_worker_learns_where_splits_begin_before_any_message() {
    assert_eq!(assigned(Positions::new(), false), offsets(&[("0", 7), ("1", 9)]));
}

#[test]
fn a_split_that_came_while_the_engine_was_down_is_read_whole() {
    assert_eq!(assigned(offsets(&[("0", 8)]), true), offsets(&[("0", 8), ("1", 0)]));
    // This worker had none, another one had.
    assert_eq!(assigned(Positions::new(), true), offsets(&[("0", 0), ("1", 0)]));
}

#[test]
fn a_thread_that_panics_is_told() {
    let event = first_event(true, offsets(&[("0", 8)]), true);
    assert!(matches!(event, SourceEvent::Failed(_)), "{event:?}");
}

/// With and without a split of its own.
#[test]
fn a_reader_that_has_nothing_to_send_ends_with_its_handle() {
    let env = Env::real(Arc::new(InMemory::new())).unwrap();
    for peers in [1, 64] {
        let source = Arc::new(Silent { panics: false });
        let worker = peers - 1;
        let config =
            ReaderConfig { worker, peers, batch_rows: 1, channel_batches: 4, is_known: true };
        let (read, thread) = (Arc::clone(&source), std::thread::current());
        let mut handle =
            SourceHandle::spawn(read, Positions::new(), config, env.clone(), thread).unwrap();
        while handle.try_next().is_none() {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        assert!(Arc::strong_count(&source) > 1);
        drop(handle);
        let mut waited = 0;
        while Arc::strong_count(&source) > 1 {
            std::thread::sleep(Duration::from_millis(10));
            waited += 1;
            assert!(waited < 1000, "the reader of {peers} peers still runs");
        }
    }
}

/// The position after n messages: a text, whose order its source alone knows.
fn message(number: i64) -> Position {
    Position::Text(format!("after {number}"))
}

fn number_of(position: &Position) -> i64 {
    position.to_string().trim_start_matches("after ").parse().unwrap()
}

/// Splits with a number of messages each, which tests add while it is read.
#[derive(Debug, Clone, Default)]
struct Growing {
    ends: Arc<Mutex<BTreeMap<SplitId, i64>>>,
    /// Held by a test: a look for splits waits.
    gate: Arc<Mutex<()>>,
}

impl Growing {
    fn set(&self, split: &str, messages: i64) {
        self.ends.lock().unwrap().insert(SplitId(split.into()), messages);
    }

    fn ends(&self) -> Positions {
        let ends = self.ends.lock().unwrap();
        ends.iter().map(|(split, end)| (split.clone(), message(*end))).collect()
    }
}

impl Source for Growing {
    fn splits(&self) -> Result<Vec<SplitId>> {
        let _open = self.gate.lock().unwrap();
        Ok(self.ends().into_keys().collect())
    }

    fn first_positions(&self, splits: &[SplitId]) -> Result<Positions> {
        Ok(splits.iter().map(|split| (split.clone(), message(0))).collect())
    }

    fn end_positions(&self) -> Result<Option<Positions>> {
        Ok(Some(self.ends()))
    }

    fn is_past(&self, _: &SplitId, at: &Position, end: &Position) -> bool {
        number_of(at) >= number_of(end)
    }

    fn open(&self, splits: &Positions) -> Result<Box<dyn SourceReader>> {
        Ok(Box::new(GrowingReader { source: self.clone(), positions: splits.clone() }))
    }
}

struct GrowingReader {
    source: Growing,
    positions: Positions,
}

impl SourceReader for GrowingReader {
    fn poll(&mut self, _: usize, timeout: Duration) -> Result<SourcePoll> {
        let ends = self.source.ends();
        for (split, position) in &mut self.positions {
            let next = number_of(position) + 1;
            if next <= number_of(&ends[split]) {
                *position = message(next);
                let rows: ArrayRef = Arc::new(Int64Array::from(vec![next]));
                let rows = RecordBatch::try_from_iter([("k", rows)]).unwrap();
                return Ok(SourcePoll::Batch(SourceBatch {
                    data: Decoded::Changes(ChangeBatch::inserts(rows)),
                    bad: Vec::new(),
                    schema_changes: Vec::new(),
                    positions: Positions::from([(split.clone(), position.clone())]),
                    bytes: 8,
                }));
            }
        }
        std::thread::sleep(timeout);
        Ok(SourcePoll::Idle)
    }
}

fn reading(source: &Growing) -> SourceHandle {
    let config =
        ReaderConfig { worker: 0, peers: 1, batch_rows: 1, channel_batches: 4, is_known: false };
    let env = Env::real(Arc::new(InMemory::new())).unwrap();
    let thread = std::thread::current();
    SourceHandle::spawn(Arc::new(source.clone()), Positions::new(), config, env, thread).unwrap()
}

/// Events up to one that `is_last`, as words: `a` for a batch of split a, `+a,b` for splits that
/// are read from now on.
fn words_until(handle: &mut SourceHandle, is_last: impl Fn(&SourceEvent) -> bool) -> Vec<String> {
    let names = |offsets: &Positions| {
        offsets.keys().map(|split| split.0.clone()).collect::<Vec<_>>().join(",")
    };
    let mut words = Vec::new();
    loop {
        let Some(event) = handle.try_next() else {
            std::thread::park_timeout(Duration::from_millis(5));
            continue;
        };
        match &event {
            SourceEvent::Batch(batch) => words.push(names(&batch.positions)),
            SourceEvent::Assigned(splits) => words.push(format!("+{}", names(splits))),
            SourceEvent::Held => words.push("held".to_string()),
            SourceEvent::Flushed(_) => {}
            other => panic!("{other:?}"),
        }
        if is_last(&event) {
            return words;
        }
    }
}

fn is_flushed(event: &SourceEvent) -> bool {
    matches!(event, SourceEvent::Flushed(_))
}

#[test]
fn a_split_that_appears_later_is_held_back_until_its_release() {
    let source = Growing::default();
    source.set("b", 1);
    let mut handle = reading(&source);
    handle.flush(1);
    assert_eq!(words_until(&mut handle, is_flushed), ["+b", "b"]);
    source.set("a", 2);
    handle.flush(2);
    assert_eq!(words_until(&mut handle, is_flushed), ["held"]);
    // A flush that was asked for before the split was found says nothing of what was read then.
    handle.release(2);
    source.set("b", 2);
    handle.flush(3);
    assert_eq!(words_until(&mut handle, is_flushed), ["b"]);
    // One that appears meanwhile is found later.
    source.set("c", 1);
    handle.flush(4);
    assert_eq!(words_until(&mut handle, is_flushed), [""; 0]);
    handle.release(3);
    handle.flush(5);
    let mut words = words_until(&mut handle, is_flushed);
    words.sort();
    assert_eq!(words, ["+a,b", "a", "a", "held"]);
    handle.flush(6);
    assert_eq!(words_until(&mut handle, is_flushed), [""; 0]);
    handle.release(6);
    let is_batch = |event: &SourceEvent| matches!(event, SourceEvent::Batch(_));
    assert_eq!(words_until(&mut handle, is_batch), ["+a,b,c", "c"]);
}

#[test]
fn a_slow_look_for_splits_does_not_stop_the_reading() {
    let source = Growing::default();
    source.set("a", 1);
    let mut handle = reading(&source);
    handle.flush(1);
    words_until(&mut handle, is_flushed);
    let slow = source.gate.lock().unwrap();
    handle.flush(2);
    for messages in 2..5 {
        source.set("a", messages);
        words_until(&mut handle, |event| matches!(event, SourceEvent::Batch(_)));
    }
    drop(slow);
    words_until(&mut handle, is_flushed);
}

#[test]
fn a_flush_covers_every_message_and_split_that_existed_when_it_was_called() {
    let source = Growing::default();
    source.set("a", 1);
    let mut handle = reading(&source);
    let mut read = Positions::new();
    let (mut flush, mut held_since) = (0, None);
    for number in 1..=20_i32 {
        // A new split and more messages, right before the flush.
        source.set(&format!("split {number}"), i64::from(number % 3));
        source.set("a", i64::from(number));
        let ends = source.ends();
        flush += 1;
        handle.flush(flush);
        loop {
            match handle.try_next() {
                Some(SourceEvent::Held) => held_since = Some(flush),
                // As the coordinator does it: splits are released by a flush that was asked for
                // after they had been found, and then another one covers them.
                Some(SourceEvent::Flushed(number)) if number == flush => {
                    let Some(since) = held_since else { break };
                    if since < flush {
                        held_since = None;
                        handle.release(flush);
                    }
                    flush += 1;
                    handle.flush(flush);
                }
                Some(SourceEvent::Batch(batch)) => read.extend(batch.positions),
                Some(SourceEvent::Assigned(splits)) => {
                    splits.into_iter().for_each(|(split, offset)| {
                        read.entry(split).or_insert(offset);
                    });
                }
                Some(other) => panic!("{other:?}"),
                None => std::thread::park_timeout(Duration::from_millis(5)),
            }
        }
        assert_eq!(read, ends, "flush {number}");
    }
}
