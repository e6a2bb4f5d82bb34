//! A source that records the positions that are acknowledged to it.

use frazil_connector_api::{ConnectorError, Result, SourceReader, SplitId};

use super::*;

#[derive(Debug, Default)]
struct Listening {
    told: Mutex<Vec<Vec<(String, i64)>>>,
    fails: Mutex<bool>,
    is_deaf: bool,
}

impl Listening {
    fn take(&self) -> Vec<Vec<(String, i64)>> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

impl Source for Listening {
    fn splits(&self) -> Result<Vec<SplitId>> {
        Ok(Vec::new())
    }

    fn wants_acknowledgements(&self) -> bool {
        !self.is_deaf
    }

    fn acknowledge(&self, positions: &Positions) -> Result<()> {
        if *self.fails.lock().unwrap() {
            return Err(ConnectorError::unavailable("out of reach"));
        }
        let told = positions.iter().map(|(split, at)| (split.0.clone(), at.number().unwrap()));
        self.told.lock().unwrap().push(told.collect());
        Ok(())
    }

    fn open(&self, _: &Positions) -> Result<Box<dyn SourceReader>> {
        Err(ConnectorError::internal("not read here"))
    }
}

const TOPIC: RelationId = RelationId(1);

/// Offsets of one reader of the topic for each list of places.
fn readers(readers: &[&[(&str, i64)]]) -> SourceOffsets {
    let positions = |places: &&[(&str, i64)]| {
        let places = places.iter();
        let places = places.map(|(split, at)| (SplitId((*split).to_string()), (*at).into()));
        BTreeMap::from([(TOPIC, places.collect())])
    };
    (10..).map(RelationId).zip(readers.iter().map(positions)).collect()
}

fn told(pairs: &[(&str, i64)]) -> Vec<(String, i64)> {
    pairs.iter().map(|(split, at)| ((*split).to_string(), *at)).collect()
}

#[test]
fn a_source_is_told_how_far_its_slowest_reader_is() {
    let source = Arc::new(Listening::default());
    let build = |_| Some(Arc::clone(&source) as Arc<dyn Source>);
    let mut acknowledged = Acknowledged::default();
    acknowledged.tell(&readers(&[&[("a", 5), ("b", 2)]]), build);
    assert_eq!(source.take(), [told(&[("a", 5), ("b", 2)])]);
    // What has not changed is not told again.
    acknowledged.tell(&readers(&[&[("a", 5), ("b", 3)]]), build);
    acknowledged.tell(&readers(&[&[("a", 5), ("b", 3)]]), build);
    assert_eq!(source.take(), [told(&[("b", 3)])]);
    // A second reader has not begun to read b.
    acknowledged.tell(&readers(&[&[("a", 9), ("b", 9)], &[("a", 7)]]), build);
    assert_eq!(source.take(), [told(&[("a", 7)])]);
    acknowledged.tell(&readers(&[&[("a", 9), ("b", 9)], &[("a", 9), ("b", 4)]]), build);
    assert_eq!(source.take(), [told(&[("a", 9), ("b", 4)])]);
}

#[test]
fn what_could_not_be_told_is_told_again() {
    let source = Arc::new(Listening::default());
    let build = |_| Some(Arc::clone(&source) as Arc<dyn Source>);
    let mut acknowledged = Acknowledged::default();
    *source.fails.lock().unwrap() = true;
    acknowledged.tell(&readers(&[&[("a", 5)]]), build);
    *source.fails.lock().unwrap() = false;
    acknowledged.tell(&readers(&[&[("a", 5)]]), build);
    assert_eq!(source.take(), [told(&[("a", 5)])]);
}

#[test]
fn a_dropped_source_is_let_go_and_one_that_does_not_listen_is_not_kept() {
    for is_deaf in [false, true] {
        let source = Arc::new(Listening { is_deaf, ..Listening::default() });
        let build = |_| Some(Arc::clone(&source) as Arc<dyn Source>);
        let mut acknowledged = Acknowledged::default();
        acknowledged.tell(&readers(&[&[("a", 5)]]), build);
        assert_eq!(Arc::strong_count(&source), if is_deaf { 1 } else { 2 });
        assert_eq!(source.take().len(), usize::from(!is_deaf));
        acknowledged.tell(&SourceOffsets::new(), build);
        assert_eq!(Arc::strong_count(&source), 1);
    }
}
