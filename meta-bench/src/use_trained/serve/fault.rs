//! Why a request has no answer: a status and the reason, as JSON.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use serde_json::json;

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The status of the response.
    pub status: StatusCode,
    /// What is wrong, and what was expected.
    pub reason: String,
}

impl Fault {
    /// A fault of this status.
    pub fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Fault {
            status,
            reason: reason.into(),
        }
    }

    /// A request that is not as expected (400).
    pub fn malformed(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }

    /// A request beyond a limit (413).
    pub fn too_large(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, reason)
    }

    /// A server that cannot answer now (503).
    pub fn busy(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, reason)
    }

    /// The response: `{"error": "…"}`.
    pub fn response(self) -> Response<Body> {
        let body = format!("{}\n", json!({ "error": self.reason }));
        let mut response = respond(self.status, "application/json", body);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// A response with a body of this type, which nobody keeps.
pub fn respond(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
