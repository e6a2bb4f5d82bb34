//! [`topic_id`]: the identity of a topic.
//!
//! A topic that is deleted and created again has the same name and other messages. Its id tells
//! them apart. The `rdkafka` crate does not wrap the request for it (DescribeTopics).

#![expect(unsafe_code, reason = "librdkafka's DescribeTopics has no safe wrapper")]

use std::ffi::{CStr, CString};
use std::time::Duration;

use rdkafka::bindings::{
    rd_kafka_AdminOptions_destroy, rd_kafka_AdminOptions_new, rd_kafka_AdminOptions_set_broker,
    rd_kafka_AdminOptions_set_request_timeout, rd_kafka_DescribeTopics,
    rd_kafka_DescribeTopics_result_topics, rd_kafka_TopicCollection_destroy,
    rd_kafka_TopicCollection_of_topic_names, rd_kafka_TopicDescription_error,
    rd_kafka_TopicDescription_topic_id, rd_kafka_Uuid_base64str,
    rd_kafka_Uuid_least_significant_bits, rd_kafka_Uuid_most_significant_bits, rd_kafka_admin_op_t,
    rd_kafka_error_code, rd_kafka_event_DescribeTopics_result, rd_kafka_event_destroy,
    rd_kafka_event_error, rd_kafka_event_t, rd_kafka_queue_destroy, rd_kafka_queue_new,
    rd_kafka_queue_poll, rd_kafka_resp_err_t,
};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::types::RDKafka;

/// Answers come before librdkafka's own time-out; this much later the call is given up.
const GRACE: Duration = Duration::from_secs(1);

/// The id of a topic, as Kafka's tools show it; `None` if the brokers are too old to have ids.
///
/// It asks `broker`, any that is up: librdkafka's default is the controller, which may be elected.
///
/// # Errors
/// What the brokers answer; `OperationTimedOut` without an answer.
pub(crate) fn topic_id(
    client: *mut RDKafka,
    topic: &str,
    broker: i32,
    timeout: Duration,
) -> Result<Option<String>, RDKafkaErrorCode> {
    let name = CString::new(topic).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
    let mut names = [name.as_ptr()];
    let timeout_ms = |timeout: Duration| i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let mut reason = [0; 256];
    // SAFETY: `client` is a live handle, since its owner is borrowed by the caller for the whole
    // call; `names` lives as long as the collection is made, which copies it. What is made here is
    // destroyed here once, after its last use, and nothing else refers to it.
    unsafe {
        let topics = rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let describe = rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = rd_kafka_AdminOptions_new(client, describe);
        // They refuse negative and overlong values only; then their defaults hold.
        let _ = rd_kafka_AdminOptions_set_request_timeout(
            options,
            timeout_ms(timeout),
            reason.as_mut_ptr(),
            reason.len(),
        );
        let _ =
            rd_kafka_AdminOptions_set_broker(options, broker, reason.as_mut_ptr(), reason.len());
        let queue = rd_kafka_queue_new(client);
        rd_kafka_DescribeTopics(client, topics, options, queue);
        let event = rd_kafka_queue_poll(queue, timeout_ms(timeout + GRACE));
        let id = if event.is_null() {
            Err(RDKafkaErrorCode::OperationTimedOut)
        } else {
            let id = id_of(event);
            rd_kafka_event_destroy(event);
            id
        };
        rd_kafka_queue_destroy(queue);
        rd_kafka_AdminOptions_destroy(options);
        rd_kafka_TopicCollection_destroy(topics);
        id
    }
}

/// The id in the answer to a DescribeTopics of one topic.
///
/// # Safety
/// `event` is a live event, and nobody else uses it during the call.
unsafe fn id_of(event: *mut rd_kafka_event_t) -> Result<Option<String>, RDKafkaErrorCode> {
    let check = |code: rd_kafka_resp_err_t| match code {
        rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(RDKafkaErrorCode::from(code)),
    };
    // SAFETY: all pointers are parts of the event, which outlives them. The result has `count`
    // topics, and the first is read only if there is one. The text of an id is a part of it.
    unsafe {
        check(rd_kafka_event_error(event))?;
        let result = rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err(RDKafkaErrorCode::Fail);
        }
        let mut count = 0;
        let topics = rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if count == 0 {
            return Err(RDKafkaErrorCode::UnknownTopic);
        }
        let topic = *topics;
        let error = rd_kafka_TopicDescription_error(topic);
        if !error.is_null() {
            check(rd_kafka_error_code(error))?;
        }
        let id = rd_kafka_TopicDescription_topic_id(topic);
        let bits =
            (rd_kafka_Uuid_most_significant_bits(id), rd_kafka_Uuid_least_significant_bits(id));
        if bits == (0, 0) {
            return Ok(None);
        }
        let text = rd_kafka_Uuid_base64str(id);
        Ok((!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned()))
    }
}
