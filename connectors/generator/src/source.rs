//! [`GeneratorSource`]: a generated table as a source.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use frazil_connector_api::{
    ConnectorError, Format, Intake, OptionSpec, Options, Position, Positions, Result, Source,
    SourceConnector, SourceReader, SplitId,
};

use crate::dataset::{Dataset, Lane};
use crate::nexmark::Projection;
use crate::reader::{Feed, GeneratorReader, LaneReader};

/// What INCLUDE knows of messages.
pub const INCLUDES: &[&str] = &["key", "offset"];

/// The options of `connector = 'generator'`.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::required(
        "dataset",
        "`shop` (messages as Debezium writes them) or `nexmark` (rows, append-only)",
    ),
    OptionSpec::required(
        "table",
        "of `shop`: `customers`, `products`, `orders`, `order_lines`; of `nexmark`: `person`, \
         `auction`, `bid`",
    ),
    OptionSpec::optional(
        "rows",
        "number of messages, tombstones too (`shop`), or of events of all three kinds together \
         (`nexmark`); then the stream ends. Left out: it never ends",
    ),
    OptionSpec::with_default(
        "rate",
        "0",
        "messages or events per second, counted as `rows` are; 0: as fast as possible",
    ),
    OptionSpec::with_default(
        "splits",
        "1",
        "number of splits that share the stream; other numbers give other streams of `shop`",
    ),
    OptionSpec::with_default("seed", "0", "`shop` only: another shop"),
    OptionSpec::with_default("scale", "1", "`shop` only: multiplies the number of snapshot rows"),
];

/// `connector = 'generator'`.
#[derive(Debug)]
pub struct Generator;

impl SourceConnector for Generator {
    fn name(&self) -> &str {
        "generator"
    }

    fn options(&self) -> &[OptionSpec] {
        OPTIONS
    }

    fn includes(&self) -> &[&str] {
        INCLUDES
    }

    fn build(
        &self,
        options: Options,
        schema: SchemaRef,
        format: Option<Arc<dyn Format>>,
    ) -> Result<Arc<dyn Source>> {
        build_generator(options, schema, format)
    }
}

/// Makes the source that the options of a WITH clause describe.
///
/// `schema` holds the declared columns, in any order, matched by name. `shop` needs a `format`
/// that decodes Debezium's JSON; `nexmark` makes rows and takes none.
///
/// # Errors
/// `Config` for a wrong option, a column that the table does not have or whose type does not fit,
/// and a format that is missing or not wanted.
pub fn build_generator(
    mut options: Options,
    schema: SchemaRef,
    format: Option<Arc<dyn Format>>,
) -> Result<Arc<dyn Source>> {
    options.take("connector");
    let dataset = Dataset::take(&mut options)?;
    let rows = options.take("rows").map(|text| parse_rows(&text)).transpose()?;
    let rate = parse_rate(options.parse("rate", 0.0)?)?;
    let lanes = options.parse("splits", 1)?;
    options.finish(OPTIONS)?;
    if lanes == 0 || lanes > dataset.splits_max() {
        return Err(ConnectorError::config(format!(
            "option \"splits\" is {lanes}, not between 1 and {}",
            dataset.splits_max()
        )));
    }
    let output = Output::new(&dataset, &schema, format)?;
    Ok(Arc::new(GeneratorSource { dataset, lanes, rows, rate, output }))
}

/// The columns of the table that the options name, for a source declared without columns.
///
/// # Errors
/// `Config` if the options name no table.
pub fn generator_columns(options: &Options) -> Result<SchemaRef> {
    Ok(Dataset::take(&mut options.clone())?.columns())
}

fn parse_rows(text: &str) -> Result<u64> {
    text.parse()
        .map_err(|_| ConnectorError::config(format!("option \"rows\" has a bad value \"{text}\"")))
}

fn parse_rate(rate: f64) -> Result<Option<f64>> {
    if !rate.is_finite() || rate < 0.0 {
        return Err(ConnectorError::config(format!("option \"rate\" has a bad value \"{rate}\"")));
    }
    Ok((rate > 0.0).then_some(rate))
}

/// How messages become columns.
#[derive(Debug, Clone)]
enum Output {
    Messages(Arc<dyn Format>),
    Rows(Projection),
}

impl Output {
    fn new(dataset: &Dataset, schema: &SchemaRef, format: Option<Arc<dyn Format>>) -> Result<Self> {
        let columns = dataset.columns();
        for field in schema.fields() {
            if columns.index_of(field.name()).is_err() {
                let names: Vec<_> = columns.fields().iter().map(|field| field.name()).collect();
                return Err(ConnectorError::config(format!(
                    "the generated table has no column \"{}\"",
                    field.name()
                ))
                .with_hint(format!("its columns are {names:?}")));
            }
        }
        match (dataset, format) {
            (Dataset::Shop { .. }, Some(format)) => Ok(Self::Messages(format)),
            (Dataset::Shop { .. }, None) => {
                Err(ConnectorError::config("dataset \"shop\" needs a format")
                    .with_hint("add FORMAT DEBEZIUM ENCODE JSON"))
            }
            (Dataset::Nexmark { table }, None) => {
                Ok(Self::Rows(Projection::try_new(*table, schema)?))
            }
            (Dataset::Nexmark { .. }, Some(_)) => {
                Err(ConnectorError::config("dataset \"nexmark\" gives rows and takes no format")
                    .with_hint("leave out the FORMAT clause"))
            }
        }
    }
}

#[derive(Debug)]
struct GeneratorSource {
    dataset: Dataset,
    lanes: u64,
    rows: Option<u64>,
    rate: Option<f64>,
    output: Output,
}

impl GeneratorSource {
    fn lane(&self, lane: u64) -> Lane {
        Lane { dataset: self.dataset, lane, lanes: self.lanes }
    }

    fn lane_reader(&self, split: &SplitId, position: &Position) -> Result<LaneReader> {
        let lane = split.0.parse().ok().filter(|lane| *lane < self.lanes);
        let lane = lane.ok_or_else(|| gone(format!("there is no split \"{}\"", split.0)))?;
        let lane = self.lane(lane);
        let end = self.rows.map(|rows| lane.count(rows));
        let at = position.number().and_then(|at| u64::try_from(at).ok());
        let at = at.filter(|at| end.is_none_or(|end| *at <= end));
        let at = at.ok_or_else(|| {
            gone(format!("position {position} is outside the generated stream"))
                .with_hint("option \"rows\" must not be made smaller")
        })?;
        let feed = match &self.output {
            Output::Messages(_) => Feed::shop(lane)?,
            Output::Rows(projection) => Feed::nexmark(lane, at, projection.clone())?,
        };
        Ok(LaneReader::new(split.clone(), lane, at, end, feed))
    }
}

fn gone(message: String) -> ConnectorError {
    ConnectorError::new(frazil_connector_api::ConnectorErrorKind::Target, message)
}

impl Source for GeneratorSource {
    fn splits(&self) -> Result<Vec<SplitId>> {
        Ok((0..self.lanes).map(|lane| SplitId(lane.to_string())).collect())
    }

    fn end_positions(&self) -> Result<Option<Positions>> {
        let Some(rows) = self.rows else { return Ok(None) };
        let end =
            |lane| Position::Number(i64::try_from(self.lane(lane).count(rows)).unwrap_or(i64::MAX));
        Ok(Some((0..self.lanes).map(|lane| (SplitId(lane.to_string()), end(lane))).collect()))
    }

    fn open(&self, splits: &Positions) -> Result<Box<dyn SourceReader>> {
        let lanes: Result<_> =
            splits.iter().map(|(split, position)| self.lane_reader(split, position)).collect();
        let intake = match &self.output {
            Output::Messages(format) => Some(Intake::new(format.as_ref())?),
            Output::Rows(_) => None,
        };
        Ok(Box::new(GeneratorReader::new(lanes?, intake, self.rate)))
    }
}

#[cfg(test)]
mod tests;
