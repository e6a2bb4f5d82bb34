//! The shop's stream, read as JSON by someone who knows nothing of how it was made.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;
use crate::shop::shop_truth;

struct Parsed {
    key: i64,
    value: Option<Value>,
}

fn stream(table: ShopTable, count: u64) -> Vec<Parsed> {
    let mut stream = ShopStream::new(table, 42, 1, 0, 1);
    let (mut key, mut value) = (Vec::new(), Vec::new());
    (0..count)
        .map(|at| {
            let has_value = stream.write(at, &mut key, &mut value);
            let key: Value = serde_json::from_slice(&key).unwrap();
            Parsed {
                key: key["id"].as_i64().unwrap(),
                value: has_value.then(|| serde_json::from_slice(&value).unwrap()),
            }
        })
        .collect()
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) if text.ends_with('Z') => {
            Some(text.replace('T', " ").replace('Z', "+00"))
        }
        Value::String(text) => Some(text.clone()),
        other => panic!("unexpected {other}"),
    }
}

/// Applies the stream by Debezium's rules, and checks that every message fits the table.
fn replay(table: ShopTable, count: u64) -> BTreeMap<i64, Vec<Option<String>>> {
    let columns = table.columns();
    let mut rows = BTreeMap::new();
    let mut deleted = BTreeSet::new();
    for (at, message) in stream(table, count).into_iter().enumerate() {
        let Some(value) = message.value else {
            assert!(deleted.contains(&message.key), "tombstone {at} without a delete");
            continue;
        };
        assert_eq!(value["source"]["table"], table.name());
        let row = || -> Vec<_> {
            assert_eq!(value["after"].as_object().unwrap().len(), columns.fields().len());
            columns.fields().iter().map(|field| text_of(&value["after"][field.name()])).collect()
        };
        match value["op"].as_str().unwrap() {
            "r" | "c" => {
                assert!(rows.insert(message.key, row()).is_none(), "{at} creates a row again");
            }
            "u" => {
                assert!(value["before"].is_null());
                assert!(rows.insert(message.key, row()).is_some(), "{at} updates no row");
            }
            "d" => {
                assert!(value["after"].is_null());
                assert_eq!(value["before"]["id"], message.key);
                assert!(rows.remove(&message.key).is_some(), "{at} deletes no row");
                deleted.insert(message.key);
            }
            other => panic!("unexpected op {other}"),
        }
    }
    rows
}

#[test]
fn messages_add_up_to_the_truth() {
    for table in ShopTable::ALL {
        for count in [10, 1_000, 2_050, 7_777] {
            assert_eq!(replay(table, count), shop_truth(table, 42, count), "{table:?} {count}");
        }
    }
}

#[test]
fn streams_hold_every_kind_of_change() {
    for table in ShopTable::ALL {
        let snapshot = table.snapshot_blocks(1) * BLOCK_ROWS;
        let messages = stream(table, snapshot + CYCLE);
        let ops = |messages: &[Parsed]| -> String {
            let op = |message: &Parsed| {
                message.value.as_ref().map_or("-".to_string(), |v| v["op"].as_str().unwrap().into())
            };
            messages.iter().map(op).collect()
        };
        let (snapshot, cycle) = messages.split_at(snapshot as usize);
        assert!(ops(snapshot).chars().all(|op| op == 'r'));
        let cycle_ops = ops(cycle);
        assert_eq!(cycle_ops.matches("d-").count(), 7);
        assert_eq!(cycle_ops.matches('c').count(), 41);
        assert_eq!(cycle_ops.matches('u').count(), 45);
        let moved = cycle_ops.find("d-cc").unwrap();
        assert_eq!(cycle[moved].key + RENUMBERED_BY, cycle[moved + 2].key);
    }
}

#[test]
fn references_hold_at_equal_offsets() {
    let [customers, products, orders, lines] =
        ShopTable::ALL.map(|table| shop_truth(table, 42, 9_000));
    let id = |row: &[Option<String>], at: usize| row[at].as_ref().unwrap().parse::<i64>().unwrap();
    assert!(orders.values().all(|row| customers.contains_key(&id(row, 1))));
    assert!(lines.values().all(|row| products.contains_key(&id(row, 2))));
    let held = lines.values().filter(|row| orders.contains_key(&id(row, 1))).count();
    assert_eq!(held, lines.len());
}

#[test]
fn lanes_own_different_rows() {
    let keys = |lane| -> BTreeSet<i64> {
        let mut stream = ShopStream::new(ShopTable::Products, 1, 1, lane, 2);
        let (mut key, mut value) = (Vec::new(), Vec::new());
        (0..1_000)
            .map(|at| {
                stream.write(at, &mut key, &mut value);
                serde_json::from_slice::<Value>(&key).unwrap()["id"].as_i64().unwrap()
            })
            .collect()
    };
    assert!(keys(0).is_disjoint(&keys(1)));
}
