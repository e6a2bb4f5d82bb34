//! Splits batches by key, so that the exchange can send each part to its worker.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use datafusion::physical_plan::PhysicalExpr;
use frazil_connector_api::Decoded;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator as _;

use super::adapter::Packets;
use super::context::FragmentContext;
use super::packet::Packet;
use crate::change;
use crate::error::{Error, Result, caught};

/// Which worker takes a row.
#[derive(Clone)]
pub(crate) enum Route {
    /// One worker takes all.
    Single,
    /// By the hash of expressions over the row, among the first `workers` workers.
    Exprs {
        /// The key.
        exprs: Vec<Arc<dyn PhysicalExpr>>,
        /// Number of workers.
        workers: usize,
    },
    /// By the hash of columns, among the first `workers` workers.
    Columns {
        /// The key.
        columns: Vec<usize>,
        /// Number of workers.
        workers: usize,
    },
}

impl Route {
    fn workers(&self) -> usize {
        match self {
            Self::Single => 1,
            Self::Exprs { workers, .. } | Self::Columns { workers, .. } => *workers,
        }
    }
}

/// Adds the step that splits batches; the operator behind it takes its input as routed. `own` are
/// the workers of this process.
pub(crate) fn add_route<'scope>(
    stream: Packets<'scope>,
    route: Route,
    own: Range<u64>,
    context: FragmentContext,
) -> Packets<'scope> {
    stream.unary(Pipeline, "Route", move |_capability, _info| {
        move |input, output| {
            input.for_each(|capability, packets| {
                if context.has_failed() {
                    packets.clear();
                    return;
                }
                let mut session = output.session(&capability);
                for packet in packets.drain(..) {
                    match caught("Route", || split(packet, &route, &own)) {
                        Ok(parts) => session.give_iterator(parts.into_iter()),
                        Err(error) => context.fail(error.within("Route")),
                    }
                }
            });
        }
    })
}

fn split(packet: Packet, route: &Route, own: &Range<u64>) -> Result<Vec<Packet>> {
    let workers = route.workers();
    let parts = match (packet.data, route) {
        (data, _) if workers == 1 => vec![Packet::new(0, data)],
        (Decoded::Changes(changes), _) => {
            let keys = keys(changes.rows(), route)?;
            wrap(change::partition_by(&changes, &keys, workers)?, Decoded::Changes)
        }
        (Decoded::Upserts(upserts), Route::Columns { columns, .. }) => {
            wrap(change::partition_upserts(&upserts, columns, workers)?, Decoded::Upserts)
        }
        (Decoded::Upserts(_), _) => {
            return Err(Error::internal("upserts are routed by their key's columns"));
        }
    };
    parts.iter().filter(|part| !own.contains(&part.target)).try_for_each(Packet::encode)?;
    Ok(parts)
}

/// The rows that a route sends to a worker; `rows` begin with what came, as the route reads it.
pub(crate) fn own_rows(
    rows: &RecordBatch,
    came: &RecordBatch,
    route: &Route,
    worker: usize,
) -> Result<RecordBatch> {
    let workers = route.workers();
    if workers == 1 {
        return Ok(if worker == 0 { rows.clone() } else { rows.slice(0, 0) });
    }
    let hashes = change::hash_rows(&keys(came, route)?, rows.num_rows())?.into_iter();
    let mine = hashes.map(|hash| Some(change::part_of(hash, workers) == worker));
    Ok(arrow::compute::filter_record_batch(rows, &mine.collect())?)
}

fn wrap<B>(parts: Vec<B>, data: impl Fn(B) -> Decoded) -> Vec<Packet> {
    let packets = parts.into_iter().zip(0..).map(|(part, target)| Packet::new(target, data(part)));
    packets.filter(|packet| packet.data.num_rows() > 0).collect()
}

fn keys(rows: &RecordBatch, route: &Route) -> Result<Vec<ArrayRef>> {
    match route {
        Route::Single => Ok(Vec::new()),
        Route::Columns { columns, .. } => {
            Ok(columns.iter().map(|column| Arc::clone(rows.column(*column))).collect())
        }
        Route::Exprs { exprs, .. } => {
            exprs.iter().map(|expr| Ok(expr.evaluate(rows)?.into_array(rows.num_rows())?)).collect()
        }
    }
}
