//! Events to columns.

use std::sync::Arc;

use ::nexmark::event::{Auction, Bid, Event, Person};
use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use frazil_connector_api::{ConnectorError, Result};

/// Events of one kind.
pub(crate) enum Events {
    People(Vec<Person>),
    Auctions(Vec<Auction>),
    Bids(Vec<Bid>),
}

impl Events {
    /// Sorts `events`, which are all of one kind, into their list.
    pub(crate) fn collect(events: impl Iterator<Item = Event>) -> Self {
        let (mut people, mut auctions, mut bids) = (Vec::new(), Vec::new(), Vec::new());
        for event in events {
            match event {
                Event::Person(person) => people.push(person),
                Event::Auction(auction) => auctions.push(auction),
                Event::Bid(bid) => bids.push(bid),
            }
        }
        match (people.is_empty(), auctions.is_empty()) {
            (false, _) => Self::People(people),
            (true, false) => Self::Auctions(auctions),
            (true, true) => Self::Bids(bids),
        }
    }

    /// One column of them.
    pub(crate) fn column(&self, name: &str) -> Result<ArrayRef> {
        let column = match self {
            Self::People(people) => person_column(people, name),
            Self::Auctions(auctions) => auction_column(auctions, name),
            Self::Bids(bids) => bid_column(bids, name),
        };
        column.ok_or_else(|| ConnectorError::internal(format!("no nexmark column \"{name}\"")))
    }
}

fn person_column(people: &[Person], name: &str) -> Option<ArrayRef> {
    Some(match name {
        "id" => ints(people, |person| person.id),
        "name" => texts(people, |person| &person.name),
        "email_address" => texts(people, |person| &person.email_address),
        "credit_card" => texts(people, |person| &person.credit_card),
        "city" => texts(people, |person| &person.city),
        "state" => texts(people, |person| &person.state),
        "date_time" => times(people, |person| person.date_time),
        "extra" => texts(people, |person| &person.extra),
        _ => return None,
    })
}

fn auction_column(auctions: &[Auction], name: &str) -> Option<ArrayRef> {
    Some(match name {
        "id" => ints(auctions, |auction| auction.id),
        "item_name" => texts(auctions, |auction| &auction.item_name),
        "description" => texts(auctions, |auction| &auction.description),
        "initial_bid" => ints(auctions, |auction| auction.initial_bid),
        "reserve" => ints(auctions, |auction| auction.reserve),
        "date_time" => times(auctions, |auction| auction.date_time),
        "expires" => times(auctions, |auction| auction.expires),
        "seller" => ints(auctions, |auction| auction.seller),
        "category" => ints(auctions, |auction| auction.category),
        "extra" => texts(auctions, |auction| &auction.extra),
        _ => return None,
    })
}

fn bid_column(bids: &[Bid], name: &str) -> Option<ArrayRef> {
    Some(match name {
        "auction" => ints(bids, |bid| bid.auction),
        "bidder" => ints(bids, |bid| bid.bidder),
        "price" => ints(bids, |bid| bid.price),
        "channel" => texts(bids, |bid| &bid.channel),
        "url" => texts(bids, |bid| &bid.url),
        "date_time" => times(bids, |bid| bid.date_time),
        "extra" => texts(bids, |bid| &bid.extra),
        _ => return None,
    })
}

fn ints<T>(events: &[T], get: impl Fn(&T) -> usize) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(events.iter().map(|event| get(event) as i64)))
}

fn texts<T>(events: &[T], get: impl Fn(&T) -> &str) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(events.iter().map(get)))
}

/// Milliseconds to microseconds.
fn times<T>(events: &[T], get: impl Fn(&T) -> u64) -> ArrayRef {
    let times = events.iter().map(|event| get(event) as i64 * 1_000);
    Arc::new(TimestampMicrosecondArray::from_iter_values(times))
}
