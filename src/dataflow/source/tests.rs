//! Tests of the reader's thread, over a source that never has a message.

use std::sync::Arc;
use std::time::Duration;

use frazil_connector_api::{Offset, Offsets, Result, Source, SourcePoll, SourceReader, SplitId};
use object_store::memory::InMemory;

use super::{ReaderConfig, SourceEvent, SourceHandle};
use crate::env::Env;

/// Two splits, read from their ends at first.
#[derive(Debug)]
struct Silent {
    panics: bool,
}

fn offsets(of: &[(&str, i64)]) -> Offsets {
    of.iter().map(|(split, offset)| (SplitId((*split).into()), Offset(*offset))).collect()
}

impl Source for Silent {
    fn splits(&self) -> Result<Vec<SplitId>> {
        Ok(offsets(&[("0", 0), ("1", 0)]).into_keys().collect())
    }

    fn start_offsets(&self) -> Result<Offsets> {
        Ok(offsets(&[("0", 7), ("1", 9)]))
    }

    fn open(&self, _: &Offsets) -> Result<Box<dyn SourceReader>> {
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

fn first_event(panics: bool, stored: Offsets, is_known: bool) -> SourceEvent {
    let config = ReaderConfig { worker: 0, peers: 1, batch_rows: 1, channel_batches: 4, is_known };
    let env = Env::real(Arc::new(InMemory::new())).unwrap();
    let source = Arc::new(Silent { panics });
    let thread = std::thread::current();
    let mut handle = SourceHandle::spawn(source, stored, config, env, thread).unwrap();
    loop {
        if let Some(event) = handle.try_next() {
            return event;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn assigned(stored: Offsets, is_known: bool) -> Offsets {
    match first_event(false, stored, is_known) {
        SourceEvent::Assigned(offsets) => offsets,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_worker_learns_where_splits_begin_before_any_message() {
    assert_eq!(assigned(Offsets::new(), false), offsets(&[("0", 7), ("1", 9)]));
}

#[test]
fn a_split_that_came_while_the_engine_was_down_is_read_whole() {
    assert_eq!(assigned(offsets(&[("0", 8)]), true), offsets(&[("0", 8), ("1", 0)]));
    // This worker had none, another one had.
    assert_eq!(assigned(Offsets::new(), true), offsets(&[("0", 0), ("1", 0)]));
}

#[test]
fn a_thread_that_panics_is_told() {
    let event = first_event(true, offsets(&[("0", 8)]), true);
    assert!(matches!(event, SourceEvent::Failed(_)), "{event:?}");
}
