//! The paths of the server, and the connections to them.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, Response, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    routing::{get, post},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use meta_core::data::Preparation;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, oneshot, watch},
    time::{sleep, timeout, timeout_at},
};

use super::{
    counts::Counts,
    fault::{Fault, respond},
    limits::Limits,
    queue::Job,
    upload::{self, Upload},
};
use crate::use_trained::answer::Answer;

/// Connections that are open at a time; others wait for their turn.
const CONNECTIONS: usize = 512;
/// How long the head of a request may take, and a connection may wait for one.
const HEAD: Duration = Duration::from_secs(15);
/// Largest head of a request, in bytes.
const HEAD_BYTES: usize = 1 << 16;
/// The page.
const PAGE: &str = include_str!("page.html");
/// What the page may do: nothing but what it has in it, and ask this server.
const PAGE_RULES: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src \
                          blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                          frame-ancestors 'none'";

/// What a server serves.
pub struct Service {
    /// What it allows.
    pub limits: Limits,
    /// How items become numbers.
    pub preparation: Preparation,
    /// What answers depend on, in each response.
    pub header: Value,
    /// What `/info` says beside that.
    pub about: Value,
    /// Classes that an answer names where a request does not say.
    pub top: usize,
    /// The names by which the server may be asked for; empty where any will do.
    pub hosts: Vec<String>,
    /// What it has done.
    pub counts: Arc<Counts>,
    /// The way to the model.
    pub jobs: SyncSender<Job>,
    /// Whether it is to stop.
    pub stop: watch::Receiver<bool>,
}

struct Shared {
    service: Service,
    places: Semaphore,
}

/// What a prediction comes to.
#[derive(Serialize)]
struct Found<'a> {
    header: &'a Value,
    answers: &'a [Answer],
}

/// Serves until it is to stop. What is accepted by then is answered.
///
/// # Errors
/// When the system gives no thread or no connections.
pub fn serve(listener: std::net::TcpListener, service: Service) -> std::io::Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(threads)
        .build()?;
    let outcome = runtime.block_on(async {
        listener.set_nonblocking(true)?;
        connections(TcpListener::from_std(listener)?, service).await;
        Ok(())
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn connections(listener: TcpListener, service: Service) {
    let mut stop = service.stop.clone();
    let counts = service.counts.clone();
    let patience = service.limits.time() + Duration::from_secs(1);
    let router = router(service);
    let open = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accept = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            _ = stop.wait_for(|is| *is) => break,
            accepted = accept => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // No file is left, say.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(
                TokioIo::new(stream),
                TowerToHyperService::new(router.clone()),
            );
        let connection = open.watch(connection);
        let counts = counts.clone();
        tokio::spawn(async move {
            counts.opened();
            // A client that breaks off is no fault of the server.
            let _ = connection.await;
            counts.closed();
            drop(place);
        });
    }
    drop(listener);
    let _ = timeout(patience, open.shutdown()).await;
}

fn router(service: Service) -> Router {
    let places = Semaphore::new(service.limits.max_requests as usize);
    let shared = Arc::new(Shared { service, places });
    let wrong_method = || async {
        let reason = "this path is not asked for in that way; GET /, /health, /info, /metrics, POST /predict";
        Fault::new(StatusCode::METHOD_NOT_ALLOWED, reason).response()
    };
    let unknown = || async {
        let reason = "there is no such path; there are /, /health, /info, /metrics, /predict";
        Fault::new(StatusCode::NOT_FOUND, reason).response()
    };
    Router::new()
        .route("/", get(page))
        .route("/health", get(health))
        .route("/info", get(info))
        .route("/metrics", get(metrics))
        .route("/predict", post(predict))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(shared.clone(), counted))
        // The limits are this server's own.
        .layer(DefaultBodyLimit::disable())
        .with_state(shared)
}

/// Counts requests, and answers only those that name this server: a page elsewhere could ask by a name of its
/// own that leads here.
async fn counted(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let service = &shared.service;
    let path = match request.uri().path() {
        "/" => "/",
        "/health" => "/health",
        "/info" => "/info",
        "/metrics" => "/metrics",
        "/predict" => "/predict",
        _ => "other",
    };
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let response = if is_known(host, &service.hosts) {
        next.run(request).await
    } else {
        let reason = format!(
            "this server is not called that; it is {}",
            service.hosts.join(", ")
        );
        Fault::new(StatusCode::MISDIRECTED_REQUEST, reason).response()
    };
    service.counts.request(path, response.status().as_u16());
    response
}

/// Whether a request's `Host` names a server of these names: an address of this machine's own always does.
fn is_known(host: &str, names: &[String]) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let is_own = || {
        address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
    };
    names.is_empty() || is_own() || names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

async fn page() -> Response<Body> {
    let mut response = respond(StatusCode::OK, "text/html; charset=utf-8", PAGE);
    let rules = HeaderValue::from_static(PAGE_RULES);
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, rules);
    response
}

async fn health(State(shared): State<Arc<Shared>>) -> Response<Body> {
    let (status, word) = match *shared.service.stop.borrow() {
        false => (StatusCode::OK, "ok"),
        true => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
    };
    respond(
        status,
        "application/json",
        format!("{}\n", json!({ "status": word })),
    )
}

async fn info(State(shared): State<Arc<Shared>>) -> Response<Body> {
    let service = &shared.service;
    let mut value = json!({
        "header": service.header,
        "limits": service.limits,
        "preparation": service.preparation,
        "top": service.top,
    });
    if let (Some(all), Some(more)) = (value.as_object_mut(), service.about.as_object()) {
        all.extend(more.clone());
    }
    respond(StatusCode::OK, "application/json", format!("{value}\n"))
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response<Body> {
    let text = shared.service.counts.text();
    respond(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        text,
    )
}

async fn predict(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let start = Instant::now();
    let service = &shared.service;
    let response = match answers(&shared, request).await {
        Ok(answers) => {
            let found = Found {
                header: &service.header,
                answers: &answers,
            };
            let text = serde_json::to_string(&found).expect("answers serialise");
            respond(StatusCode::OK, "application/json", text + "\n")
        }
        Err(fault) => fault.response(),
    };
    service.counts.took(start.elapsed());
    response
}

async fn answers(shared: &Arc<Shared>, request: Request) -> Result<Vec<Answer>, Fault> {
    let service = &shared.service;
    let limits = &service.limits;
    let end = tokio::time::Instant::now() + limits.time();
    let late = |what: &str| format!("{what} within {} s", limits.timeout);
    let top = top(request.uri().query(), service.top)?;
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let most = limits.body_bytes();
    if length.is_some_and(|length| length / 4 > most) {
        return Err(Fault::too_large(format!(
            "the body has more than {most} bytes"
        )));
    }
    let _place = timeout_at(end, shared.places.acquire())
        .await
        .map_err(|_| {
            let requests = limits.max_requests;
            Fault::busy(late(&format!(
                "{requests} requests are being answered, and none was done"
            )))
        })?;
    let (head, body) = request.into_parts();
    let body = timeout_at(end, upload::read(body, limits))
        .await
        .map_err(|_| Fault::new(StatusCode::REQUEST_TIMEOUT, late("the body did not arrive")))??;
    let upload = upload::unpack(&head.headers, body, limits).await?;
    let items = match upload {
        // Short, and no thread is worth it.
        Upload::Json(text) if text.len() < 1 << 16 => {
            upload::items(Upload::Json(text), &service.preparation, limits)?
        }
        upload => {
            let own = shared.clone();
            let work = move || {
                let Service {
                    preparation,
                    limits,
                    ..
                } = &own.service;
                upload::items(upload, preparation, limits)
            };
            let done = timeout_at(end, tokio::task::spawn_blocking(work)).await;
            let done = done.map_err(|_| Fault::busy(late("the pictures were not decoded")))?;
            done.map_err(|_| stopped())??
        }
    };
    let (reply, answer) = oneshot::channel();
    let job = Job {
        names: items.names,
        rows: items.rows,
        top,
        reply,
    };
    service.counts.waits();
    service.jobs.try_send(job).map_err(|error| {
        service.counts.taken();
        match error {
            TrySendError::Full(_) => Fault::busy("too many requests wait for the model"),
            TrySendError::Disconnected(_) => stopped(),
        }
    })?;
    let answers = timeout_at(end, answer).await;
    let answers = answers.map_err(|_| Fault::busy(late("the model did not answer")))?;
    answers.map_err(|_| stopped())
}

fn stopped() -> Fault {
    Fault::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the model has stopped; the server's own output says why",
    )
}

/// `?top=N`: how many classes an answer names.
fn top(query: Option<&str>, usual: usize) -> Result<usize, Fault> {
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Ok(usual);
    };
    let number = query
        .strip_prefix("top=")
        .and_then(|number| number.parse().ok());
    number.filter(|&top| top >= 1).ok_or_else(|| {
        let found: String = query.chars().take(80).collect();
        Fault::malformed(format!(
            "`?{found}`: expected `?top=` and a number from 1 on, or nothing"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_this_server() {
        let names = vec!["localhost".to_owned(), "box.example".to_owned()];
        for host in [
            "localhost:80",
            "LOCALHOST",
            "127.0.0.1:8080",
            "127.9.9.9",
            "[::1]:80",
            "box.example:1",
        ] {
            assert!(is_known(host, &names), "{host}");
        }
        for host in [
            "",
            "elsewhere",
            "localhost.elsewhere:80",
            "10.0.0.1:80",
            "127.0.0.1.elsewhere",
        ] {
            assert!(!is_known(host, &names), "{host}");
        }
        assert!(is_known("anything", &[]));
    }

    #[test]
    fn a_request_says_how_many_classes() {
        assert_eq!(top(None, 3), Ok(3));
        assert_eq!(top(Some("top=7"), 3), Ok(7));
        for query in ["top=0", "top=x", "n=1", "top=99999999999999999999999"] {
            assert_eq!(top(Some(query), 3).unwrap_err().status, 400, "{query}");
        }
    }
}
