//! An endpoint of a few lines, which keeps what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use super::*;

/// Answers one request; the thread gives the request's head and body.
fn endpoint(status: &str, answer: &str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", answer.len());
    let answer = head + answer;
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut request, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            request.push_str(&line);
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        request.push_str(std::str::from_utf8(&body).unwrap());
        stream.write_all(answer.as_bytes()).unwrap();
        request
    });
    (url, served)
}

fn take(url: &str) -> TokenEndpoint {
    let pairs = [
        ("sasl.oauthbearer.method", "oidc"),
        ("sasl.oauthbearer.token.endpoint.url", url),
        ("sasl.oauthbearer.client.id", "me"),
        ("sasl.oauthbearer.client.secret", "hunter2"),
        ("sasl.oauthbearer.scope", "kafka read"),
        ("sasl.oauthbearer.extensions", "logicalCluster=lkc-1, identityPoolId=pool-1"),
    ];
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string()));
    let mut pairs = pairs.collect();
    let endpoint = TokenEndpoint::take(&mut pairs).unwrap().unwrap();
    assert!(pairs.is_empty(), "{pairs:?}");
    endpoint
}

#[test]
fn a_token_is_asked_for_with_the_clients_credentials() {
    let (url, served) = endpoint("200 OK", r#"{"access_token":"abc.def","expires_in":1800}"#);
    let endpoint = take(&url);
    let token = endpoint.fetch(Duration::from_secs(20)).unwrap();
    assert_eq!((token.value.as_str(), token.lifetime.as_secs()), ("abc.def", 1800));
    let request = served.join().unwrap();
    // "me:hunter2"
    assert!(request.contains("authorization: Basic bWU6aHVudGVyMg=="), "{request}");
    assert!(request.ends_with("grant_type=client_credentials&scope=kafka+read"), "{request}");
    let extensions = [("logicalCluster", "lkc-1"), ("identityPoolId", "pool-1")];
    let extensions = extensions.map(|(name, value)| (name.to_string(), value.to_string()));
    assert_eq!(endpoint.extensions(), extensions);
}

#[test]
fn a_refusal_says_why_and_not_the_secret() {
    let why = r#"{"error":"invalid_client","error_description":"no such client"}"#;
    let (url, _served) = endpoint("401 Unauthorized", why);
    let endpoint = take(&url);
    let error = endpoint.fetch(Duration::from_secs(20)).err().unwrap();
    let text = error.with_next_step();
    assert!(text.contains("401 Unauthorized: invalid_client: no such client"), "{text}");
    assert!(!format!("{text} {error:?} {endpoint:?}").contains("hunter2"));
}

#[test]
fn an_endpoint_that_does_not_answer_is_unavailable() {
    let error = take("http://127.0.0.1:1/token").fetch(Duration::from_secs(5)).err().unwrap();
    assert!(error.to_string().contains("refused"), "{error}");
    assert_eq!(error.retry, frazil_connector_api::Retry::Backoff);
}

#[test]
fn what_is_missing_is_named() {
    let url = ("sasl.oauthbearer.token.endpoint.url", "https://h/t");
    let cases: [(&[(&str, &str)], &str); 3] = [
        (&[("sasl.oauthbearer.method", "oidc")], "token.endpoint.url"),
        (&[url], "client.id"),
        (&[url, ("sasl.oauthbearer.client.id", "me")], "client.secret"),
    ];
    for (pairs, name) in cases {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string()));
        let error = TokenEndpoint::take(&mut pairs.collect()).err().unwrap();
        assert!(error.message.contains(name), "{error}");
    }
    let unsecured = [("sasl.oauthbearer.config".to_string(), "principal=x".to_string())];
    assert!(TokenEndpoint::take(&mut unsecured.into()).unwrap().is_none());
}
