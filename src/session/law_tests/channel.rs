//! [`Channel`]: a source whose messages are a list in memory, which outlives the engine.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use frazil_connector_api::{
    ConnectorError, Format, Intake, Message, OptionSpec, Options, Position, Positions, Result,
    Source, SourceConnector, SourcePoll, SourceReader, SplitId,
};

use super::expression::literal;
use super::schema::{Column, Relation, Type};
use super::tape::{Numbers, Tape};

/// The splits; a key's messages are all in one of them.
const SPLITS: usize = 2;
/// Messages of a batch at most, so that a few messages are spread over epochs.
const BATCH_MESSAGES_MAX: usize = 3;

/// The table that the channel feeds.
pub(super) const FED: &str = "fed";
const DDL: &str = "CREATE TABLE fed (k BIGINT PRIMARY KEY, a BIGINT, t TEXT, f BOOLEAN) \
    WITH (connector = 'channel') FORMAT DEBEZIUM ENCODE JSON";
const COLUMNS: [(&str, Type); 4] =
    [("k", Type::Int), ("a", Type::Int), ("t", Type::Text), ("f", Type::Bool)];

/// Changes by key as Debezium sends them, and the rows that they come to.
#[derive(Debug, Clone, Default)]
pub(super) struct Channel {
    splits: Arc<Mutex<[Vec<String>; SPLITS]>>,
    rows: Arc<Mutex<BTreeMap<usize, String>>>,
}

impl Channel {
    /// The statement that makes the table.
    pub(super) fn ddl() -> &'static str {
        DDL
    }

    /// The table as queries can read it.
    pub(super) fn relation() -> Relation {
        let column = |(name, ty): &(&str, Type)| Column { name: (*name).to_string(), ty: *ty };
        Relation {
            name: FED.to_string(),
            batch: String::new(),
            columns: COLUMNS.iter().map(column).collect(),
            rank: 1,
            leaves: 1,
            reads: std::collections::BTreeSet::new(),
        }
    }

    /// Sends random upserts, and deletes of existing keys; `numbers` choose them. Returns the
    /// messages.
    pub(super) fn send(&self, numbers: &Numbers) -> Vec<String> {
        let mut tape = Tape::new(numbers);
        let mut sent = Vec::new();
        for _ in 0..=tape.pick(9) {
            let key = tape.pick(9);
            let mut rows = self.rows.lock().unwrap();
            let message = match rows.remove(&key) {
                Some(_) if tape.chance(50) => {
                    let before = format!(r#"{{"k": {key}, "a": null, "t": null, "f": null}}"#);
                    format!(r#"{{"before": {before}, "after": null, "op": "d"}}"#)
                }
                _ => {
                    let (after, row) = row(&mut tape, key);
                    rows.insert(key, row);
                    format!(r#"{{"before": null, "after": {after}, "op": "c"}}"#)
                }
            };
            self.splits.lock().unwrap()[key % SPLITS].push(message.clone());
            sent.push(message);
        }
        sent
    }

    /// The rows as text, sorted.
    pub(super) fn rows(&self) -> Vec<String> {
        let mut rows: Vec<String> = self.rows.lock().unwrap().values().cloned().collect();
        rows.sort_unstable();
        rows
    }
}

/// A row as JSON and as text.
fn row(tape: &mut Tape<'_>, key: usize) -> (String, String) {
    let (mut json, mut text) = (vec![format!(r#""k": {key}"#)], vec![key.to_string()]);
    for (name, ty) in &COLUMNS[1..] {
        let value = match tape.chance(15) {
            true => "NULL".to_string(),
            false => literal(tape, *ty).trim_matches('\'').to_string(),
        };
        json.push(match (value.as_str(), ty) {
            ("NULL", _) => format!(r#""{name}": null"#),
            (value, Type::Text) => format!(r#""{name}": "{value}""#),
            (value, _) => format!(r#""{name}": {}"#, value.to_lowercase()),
        });
        text.push(match ty {
            Type::Bool if value != "NULL" => value.to_lowercase(),
            _ => value,
        });
    }
    (format!("{{{}}}", json.join(", ")), text.join(" | "))
}

impl SourceConnector for Channel {
    fn name(&self) -> &str {
        "channel"
    }

    fn options(&self) -> &[OptionSpec] {
        &[]
    }

    fn build(
        &self,
        mut options: Options,
        _schema: SchemaRef,
        format: Option<Arc<dyn Format>>,
    ) -> Result<Arc<dyn Source>> {
        options.take("connector");
        options.finish(&[])?;
        let format = format.ok_or_else(|| ConnectorError::needs_format(self.name()))?;
        Ok(Arc::new(ChannelSource { channel: self.clone(), format }))
    }
}

#[derive(Debug)]
struct ChannelSource {
    channel: Channel,
    format: Arc<dyn Format>,
}

impl Source for ChannelSource {
    fn splits(&self) -> Result<Vec<SplitId>> {
        Ok((0..SPLITS).map(|split| SplitId(split.to_string())).collect())
    }

    fn end_positions(&self) -> Result<Option<Positions>> {
        let splits = self.channel.splits.lock().unwrap();
        let ends = splits.iter().enumerate().map(|(split, messages)| {
            (SplitId(split.to_string()), Position::from(messages.len() as i64))
        });
        Ok(Some(ends.collect()))
    }

    fn open(&self, splits: &Positions) -> Result<Box<dyn SourceReader>> {
        let place = |(split, at): (&SplitId, &Position)| {
            let index: usize = split.0.parse().ok()?;
            Some((index, split.clone(), at.number()? as usize))
        };
        let places: Option<Vec<_>> = splits.iter().map(place).collect();
        let places = places.ok_or_else(|| ConnectorError::internal("not a split of ours"))?;
        let intake = Intake::new(self.format.as_ref())?;
        Ok(Box::new(ChannelReader { channel: self.channel.clone(), places, turn: 0, intake }))
    }
}

struct ChannelReader {
    channel: Channel,
    /// Number, name and place of each split.
    places: Vec<(usize, SplitId, usize)>,
    turn: usize,
    intake: Intake,
}

impl SourceReader for ChannelReader {
    fn poll(&mut self, _rows_max: usize, timeout: Duration) -> Result<SourcePoll> {
        for _ in 0..self.places.len() {
            self.turn = (self.turn + 1) % self.places.len();
            let (split, name, at) = &mut self.places[self.turn];
            let splits = self.channel.splits.lock().unwrap();
            let messages = splits[*split].iter().skip(*at).take(BATCH_MESSAGES_MAX);
            for message in messages {
                let message = Message { key: None, value: Some(message.as_bytes()) };
                self.intake.push(name, *at as i64, message)?;
                *at += 1;
            }
            if self.intake.message_count() > 0 {
                let positions = [(name.clone(), Position::from(*at as i64))].into();
                return Ok(SourcePoll::Batch(self.intake.take(positions)?));
            }
        }
        std::thread::sleep(timeout.min(Duration::from_millis(1)));
        Ok(SourcePoll::Idle)
    }
}
