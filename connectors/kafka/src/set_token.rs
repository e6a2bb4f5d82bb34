//! [`set_token`]: gives a client its token for OAUTHBEARER.
//!
//! The `rdkafka` crate has a callback for it, which takes no extensions and is called only while
//! messages are polled for.

#![expect(unsafe_code, reason = "librdkafka's call for tokens has no safe wrapper")]

use std::ffi::{CStr, CString};
use std::time::{SystemTime, UNIX_EPOCH};

use frazil_connector_api::{ConnectorError, Result};
use rdkafka::bindings::{rd_kafka_oauthbearer_set_token, rd_kafka_resp_err_t};
use rdkafka::types::RDKafka;

use crate::token_endpoint::{Token, TokenEndpoint};

/// Lets a client log in with a token from now on.
///
/// # Errors
/// `Unavailable` if librdkafka does not take the token, with its reason.
pub(crate) fn set_token(
    client: *mut RDKafka,
    endpoint: &TokenEndpoint,
    token: &Token,
) -> Result<()> {
    let refused = |reason: String| {
        ConnectorError::unavailable("the token for the brokers is not usable").with_source(reason)
    };
    let text = |text: &str| CString::new(text).map_err(|error| refused(error.to_string()));
    let value = text(&token.value)?;
    let principal = text(endpoint.principal())?;
    let extensions = endpoint.extensions().iter().flat_map(|(name, value)| [name, value]);
    let extensions: Vec<CString> = extensions.map(|it| text(it)).collect::<Result<_>>()?;
    let mut extensions: Vec<_> = extensions.iter().map(|text| text.as_ptr()).collect();
    let ends = SystemTime::now() + token.lifetime;
    let ends = ends.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let mut reason = [0; 256];
    // SAFETY: `client` is a live handle, since its owner is borrowed by the caller for the whole
    // call. All texts and the array of extensions outlive the call, which copies them. The reason
    // is written with its end into the buffer, whose length is given.
    let (code, reason) = unsafe {
        let code = rd_kafka_oauthbearer_set_token(
            client,
            value.as_ptr(),
            i64::try_from(ends).unwrap_or(i64::MAX),
            principal.as_ptr(),
            extensions.as_mut_ptr(),
            extensions.len(),
            reason.as_mut_ptr(),
            reason.len(),
        );
        (code, CStr::from_ptr(reason.as_ptr()))
    };
    match code {
        rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        _ => Err(refused(reason.to_string_lossy().into_owned())),
    }
}
