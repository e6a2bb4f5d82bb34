//! A mock cluster behind the contract.
//!
//! The cluster is librdkafka's own: one batch a fetch, no transactions, no admin requests.

use std::time::{Duration, Instant};

use frazil_connector_api::conformance::{TextFormat, assert_restartable, read_all};
use frazil_connector_api::{ConnectorErrorKind, Position, Retry, SourcePoll};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::{ClientConfig, TopicPartitionList};

use super::*;
use crate::client::split_of;

type Cluster = MockCluster<'static, DefaultProducerContext>;

const TOPIC: &str = "shop.public.orders";
const LONG: Duration = Duration::from_secs(20);

fn cluster(partitions: i32) -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, partitions, 1).unwrap();
    cluster
}

fn source_with(cluster: &Cluster, more: &[(&str, &str)]) -> Arc<dyn Source> {
    let servers = cluster.bootstrap_servers();
    let fixed = [
        ("connector", "kafka"),
        ("topic", TOPIC),
        ("properties.bootstrap.server", servers.as_str()),
        ("timeout.ms", "3000"),
    ];
    // Of two options with one name the later counts.
    let options = fixed.iter().chain(more);
    let options = options.map(|(name, value)| (name.to_string(), value.to_string()));
    build_kafka(Options::new(options), Arc::new(TextFormat)).unwrap()
}

fn source(cluster: &Cluster) -> Arc<dyn Source> {
    source_with(cluster, &[])
}

/// Sends `key:value` texts; `key:` alone is a tombstone.
fn send(cluster: &Cluster, partition: i32, messages: &[&str]) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("linger.ms", "0")
        .create()
        .unwrap();
    for message in messages {
        let (key, value) = message.split_once(':').unwrap();
        let record = BaseRecord::to(TOPIC).partition(partition).key(key);
        let record = if value.is_empty() { record } else { record.payload(value) };
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(LONG).unwrap();
}

/// A partition's split without the topic's identity.
fn split(partition: i32) -> SplitId {
    split_of(partition, None)
}

/// Positions without the topic's identity.
fn bare(offsets: &Positions) -> Positions {
    let bare =
        offsets.iter().map(|(it, offset)| (split(partition_of(it).unwrap()), offset.clone()));
    bare.collect()
}

fn at(places: &[(i32, i64)]) -> Positions {
    places
        .iter()
        .map(|(partition, offset)| (split(*partition), Position::Number(*offset)))
        .collect()
}

/// Polls until the reader is idle; rows and the last offsets.
fn drain(reader: &mut dyn SourceReader) -> (usize, Positions) {
    let (mut rows, mut offsets) = (0, Positions::new());
    loop {
        match reader.poll(1_000, LONG).unwrap() {
            SourcePoll::Batch(batch) => {
                rows += batch.data.num_rows();
                offsets.extend(batch.positions);
            }
            SourcePoll::Idle => return (rows, offsets),
            SourcePoll::End => panic!("a topic does not end"),
        }
    }
}

#[test]
fn partitions_read_on_from_every_offset() {
    let cluster = cluster(3);
    send(&cluster, 0, &["a:1", "b:2", "a:", "c:bad", "d:3"]);
    send(&cluster, 2, &["x:1", "y:2", "x:"]);
    assert_restartable(source(&cluster).as_ref(), 8);
}

#[test]
fn tombstones_and_bad_messages_keep_their_place() {
    let cluster = cluster(1);
    send(&cluster, 0, &["a:1", "a:", "b:bad", "c:3"]);
    let reading = read_all(source(&cluster).as_ref(), &split(0), Position::Number(0), 100);
    assert_eq!(reading.rows, ["+1 a,1", "+1 a,NULL", "+1 c,3"]);
    assert_eq!(reading.bad, ["0 2 Some(\"bad\") the value begins with \"bad\""]);
}

#[test]
fn several_partitions_are_read_together_and_resumed() {
    let cluster = cluster(4);
    let messages: Vec<String> = (0..250).map(|at| format!("{at}:value {at}")).collect();
    let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
    for partition in 0..4 {
        send(&cluster, partition, &messages);
    }
    let source = source(&cluster);
    let starts = source.start_positions().unwrap();
    assert_eq!(bare(&starts), at(&[(0, 0), (1, 0), (2, 0), (3, 0)]));
    let (rows, offsets) = drain(source.open(&starts).unwrap().as_mut());
    assert_eq!(rows, 1_000);
    assert_eq!(Some(&offsets), source.end_positions().unwrap().as_ref());
    let middle = at(&[(0, 250), (1, 200), (2, 0), (3, 249)]);
    let (rows, _) = drain(source.open(&middle).unwrap().as_mut());
    assert_eq!(rows, 50 + 250 + 1);
    send(&cluster, 1, &["z:late"]);
    let (rows, offsets) = drain(source.open(&offsets).unwrap().as_mut());
    assert_eq!((rows, bare(&offsets)), (1, at(&[(1, 251)])));
}

#[test]
fn reader_goes_on_after_it_was_idle() {
    let cluster = cluster(2);
    send(&cluster, 0, &["a:1"]);
    let source = source(&cluster);
    let mut reader = source.open(&source.start_positions().unwrap()).unwrap();
    assert_eq!(drain(reader.as_mut()).0, 1);
    let idle = reader.poll(10, Duration::from_millis(1)).unwrap();
    assert!(matches!(idle, SourcePoll::Idle));
    send(&cluster, 1, &["b:2", "c:3"]);
    let SourcePoll::Batch(batch) = reader.poll(1, LONG).unwrap() else {
        panic!("a message has come")
    };
    assert_eq!((batch.data.num_rows(), bare(&batch.positions)), (1, at(&[(1, 1)])));
}

#[test]
fn latest_begins_at_the_end_and_new_splits_at_their_beginning() {
    let cluster = cluster(2);
    send(&cluster, 0, &["a:1", "b:2"]);
    let source = source_with(&cluster, &[("scan.startup.mode", "latest")]);
    let starts = source.start_positions().unwrap();
    assert!(source.starts_now());
    assert_eq!(bare(&starts), at(&[(0, 2), (1, 0)]));
    assert_eq!(source.first_positions(&[split(0)]).unwrap(), at(&[(0, 0)]));
    send(&cluster, 0, &["c:3"]);
    assert_eq!(drain(source.open(&starts).unwrap().as_mut()).0, 1);
}

#[test]
fn earliest_begins_at_the_first_message_that_is_kept() {
    let cluster = cluster(1);
    // The mock keeps 5 MB a partition.
    let large = format!("k:{}", "x".repeat(900_000));
    for _ in 0..8 {
        send(&cluster, 0, &[&large]);
    }
    let source = source(&cluster);
    let first = bare(&source.start_positions().unwrap())[&split(0)].number().unwrap();
    assert!(first > 0, "the cluster should have removed messages");
    let kept = drain(source.open(&at(&[(0, first)])).unwrap().as_mut()).0;
    assert_eq!(kept as i64, 8 - first);
    let error = until_error(source.open(&at(&[(0, 0)])).unwrap().as_mut());
    assert_eq!(error.kind, ConnectorErrorKind::Target);
    assert!(error.message.starts_with("offset 0 of topic"), "{}", error.message);
}

#[test]
fn offset_past_the_end_is_a_target_error() {
    let cluster = cluster(1);
    send(&cluster, 0, &["a:1"]);
    let error = until_error(source(&cluster).open(&at(&[(0, 7)])).unwrap().as_mut());
    assert_eq!((error.kind, error.retry), (ConnectorErrorKind::Target, Retry::Never));
    assert!(error.hint.is_some());
}

fn until_error(reader: &mut dyn SourceReader) -> frazil_connector_api::ConnectorError {
    let started = Instant::now();
    while started.elapsed() < LONG {
        match reader.poll(100, Duration::from_millis(100)) {
            Err(error) => return error,
            Ok(SourcePoll::Batch(batch)) => assert_eq!(batch.data.num_rows(), 0),
            Ok(_) => {}
        }
    }
    panic!("no error came");
}

#[test]
fn unknown_topic_and_unreachable_broker_are_unavailable() {
    let cluster = MockCluster::new(1).unwrap();
    let nowhere = ("properties.bootstrap.server", "127.0.0.1:1");
    let options = [("topic", TOPIC), nowhere, ("timeout.ms", "300")];
    let options = options.map(|(name, value)| (name.to_string(), value.to_string()));
    let nowhere = build_kafka(Options::new(options), Arc::new(TextFormat)).unwrap();
    for (source, why) in [(source(&cluster), "does not exist"), (nowhere, "Connection refused")] {
        let error = source.splits().unwrap_err();
        assert_eq!((error.kind, error.retry), (ConnectorErrorKind::Unavailable, Retry::Backoff));
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn unknown_property_is_a_config_error() {
    let options = [("topic", "t"), ("properties.bootstrap.server", "h:1"), ("properties.a", "b")];
    let options = options.map(|(name, value)| (name.to_string(), value.to_string()));
    let error = build_kafka(Options::new(options), Arc::new(TextFormat)).unwrap_err();
    assert_eq!(error.kind, ConnectorErrorKind::Config);
}

#[test]
fn broker_that_is_down_is_unavailable_and_nothing_is_lost_when_it_is_back() {
    let cluster = cluster(1);
    send(&cluster, 0, &["a:1", "b:2"]);
    let source = source_with(&cluster, &[("timeout.ms", "500")]);
    let mut reader = source.open(&source.start_positions().unwrap()).unwrap();
    let (rows, offsets) = drain(reader.as_mut());
    assert_eq!(rows, 2);
    cluster.broker_down(1).unwrap();
    let error = until_error(reader.as_mut());
    assert_eq!((error.kind, error.retry), (ConnectorErrorKind::Unavailable, Retry::Backoff));
    drop(reader);
    cluster.broker_up(1).unwrap();
    send(&cluster, 0, &["c:3"]);
    let started = Instant::now();
    // The client's own pause before it connects again can be longer than the source's timeout.
    let mut reader = loop {
        match source.open(&offsets) {
            Ok(reader) => break reader,
            Err(error) => assert_eq!(error.retry, Retry::Backoff),
        }
        assert!(started.elapsed() < LONG, "the source did not open again");
    };
    assert_eq!(drain(reader.as_mut()).0, 1);
}

#[test]
fn short_outage_is_bridged_by_the_same_reader() {
    let cluster = cluster(1);
    send(&cluster, 0, &["a:1"]);
    let source = source_with(&cluster, &[("timeout.ms", "15000")]);
    let mut reader = source.open(&source.start_positions().unwrap()).unwrap();
    assert_eq!(drain(reader.as_mut()).0, 1);
    cluster.broker_down(1).unwrap();
    for _ in 0..5 {
        reader.poll(10, Duration::from_millis(20)).unwrap();
    }
    cluster.broker_up(1).unwrap();
    send(&cluster, 0, &["b:2"]);
    let started = Instant::now();
    let mut rows = 0;
    while rows == 0 && started.elapsed() < LONG {
        if let SourcePoll::Batch(batch) = reader.poll(10, LONG).unwrap() {
            rows += batch.data.num_rows();
        }
    }
    assert_eq!(rows, 1);
}

#[test]
fn a_topic_that_was_created_again_is_not_read_on() {
    let cluster = cluster(2);
    send(&cluster, 0, &["a:1", "b:2"]);
    let source = source(&cluster);
    let starts = source.start_positions().unwrap();
    let id = topic_of(starts.keys().next().unwrap()).unwrap().to_string();
    assert!(starts.keys().all(|split| topic_of(split) == Some(&id)));
    let old = Positions::from([(split_of(0, Some("older")), Position::Number(1))]);
    let mut both = starts.clone();
    both.extend(old.clone());
    for splits in [old, both] {
        let error = source.open(&splits).err().unwrap();
        assert_eq!((error.kind, error.retry), (ConnectorErrorKind::Target, Retry::Never));
        assert!(error.message.contains("its id was"), "{}", error.message);
        assert!(error.hint.unwrap().contains("create it again"));
    }
    assert_eq!(drain(source.open(&starts).unwrap().as_mut()).0, 2);
}

#[test]
fn partitions_without_a_leader_are_reported_while_others_are_read() {
    let cluster = cluster(3);
    send(&cluster, 0, &["a:1"]);
    let source = source(&cluster);
    assert_eq!(source.splits().unwrap().len(), 3);
    assert_eq!(source.problem(), None);
    cluster.partition_leader(TOPIC, 1, None).unwrap();
    assert_eq!(source.splits().unwrap().len(), 3);
    let problem = source.problem().unwrap();
    assert!(problem.ends_with("without a leader: 1; they are not read"), "{problem}");
    // A new table reads the others; a flush and a start at the end need all of them.
    assert_eq!(source.start_positions().unwrap().len(), 2);
    let error = source.end_positions().unwrap_err();
    assert!(error.message.ends_with("without a leader: 1"), "{error}");
    cluster.partition_leader(TOPIC, 1, Some(1)).unwrap();
    source.splits().unwrap();
    assert_eq!(source.problem(), None);
}

#[test]
fn no_secret_is_in_an_error() {
    let options = [
        ("topic", "t"),
        ("properties.bootstrap.server", "h:1"),
        ("properties.ssl.key.password", "hunter2"),
        ("properties.sasl.password", "hunter2"),
        ("properties.ssl.key.pem", "hunter2"),
    ];
    let options = options.map(|(name, value)| (name.to_string(), value.to_string()));
    let options = Options::new(options);
    let source = build_kafka(options.clone(), Arc::new(TextFormat));
    let text = match source {
        Ok(source) => format!("{source:?} {options:?}"),
        Err(error) => format!("{error} {error:?} {options:?}"),
    };
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn acknowledged_offsets_are_those_of_the_group() {
    let cluster = cluster(2);
    send(&cluster, 0, &["a:1", "b:2"]);
    let source = source(&cluster);
    let (_, read) = drain(source.open(&source.start_positions().unwrap()).unwrap().as_mut());
    assert!(source.wants_acknowledgements());
    let tool: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", format!("frazil-{TOPIC}"))
        .create()
        .unwrap();
    let mut asked = TopicPartitionList::new();
    asked.add_partition(TOPIC, 0);
    let started = Instant::now();
    loop {
        source.acknowledge(&read).unwrap();
        let found = tool.committed_offsets(asked.clone(), LONG).unwrap();
        if found.elements()[0].offset() == rdkafka::Offset::Offset(2) {
            break;
        }
        assert!(started.elapsed() < LONG, "{found:?}");
    }
}
