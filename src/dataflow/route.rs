//! Splits batches by key, so that the exchange can send each part to its worker.

use std::ops::Range;

use frazil_connector_api::Decoded;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator as _;

use super::adapter::Packets;
use super::context::FragmentContext;
use super::packet::Packet;
use super::placement::Route;
use crate::change;
use crate::error::{Error, Result, caught};

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
            let keys = route.keys(changes.rows())?;
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

fn wrap<B>(parts: Vec<B>, data: impl Fn(B) -> Decoded) -> Vec<Packet> {
    let packets = parts.into_iter().zip(0..).map(|(part, target)| Packet::new(target, data(part)));
    packets.filter(|packet| packet.data.num_rows() > 0).collect()
}
