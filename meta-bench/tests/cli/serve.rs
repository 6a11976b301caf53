//! `meta serve`, asked over real connections.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    answers::with_pets,
    workbench::{GLYPHS, Workbench},
};

/// A server that is ended with the test.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(bench: &Workbench, arguments: &str) -> Self {
        let mut child = bench
            .command(&format!("serve {arguments} --port 0"))
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let stdout = child.stdout.take().expect("piped");
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("a line of text");
        let address = line.trim().strip_prefix("http://").expect("an address");
        Server {
            address: address.to_owned(),
            child,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("a connection");
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .expect("a timeout");
        stream
    }

    /// One request on a connection of its own.
    fn ask(&self, head: &str, body: &[u8]) -> (u16, Value) {
        let mut stream = self.connect();
        send(&mut stream, head, body);
        read(&mut BufReader::new(stream)).expect("a response")
    }

    fn text(&self, path: &str) -> String {
        let mut stream = self.connect();
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("UTF-8");
        text
    }

    #[cfg(unix)]
    fn terminate(&self) {
        let id = self.child.id().to_string();
        let status = std::process::Command::new("kill")
            .args(["-TERM", &id])
            .status();
        assert!(status.expect("kill runs").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends `body` with the lines of `head`: method and path, then headers.
fn send(stream: &mut TcpStream, head: &str, body: &[u8]) {
    let mut lines = head.lines();
    let first = lines.next().expect("method and path");
    let mut request = format!("{first} HTTP/1.1\r\nhost: localhost\r\n").into_bytes();
    for line in lines {
        request.extend(format!("{line}\r\n").bytes());
    }
    request.extend(format!("content-length: {}\r\n\r\n", body.len()).bytes());
    request.extend(body);
    // The server may refuse before it has read all.
    let _ = stream.write_all(&request);
}

/// The status and the body of the next response, which is JSON; none where the connection ends.
fn read(stream: &mut impl BufRead) -> Option<(u16, Value)> {
    let mut line = String::new();
    stream
        .read_line(&mut line)
        .ok()
        .filter(|&count| count > 0)?;
    let status = line.split(' ').nth(1)?.parse().expect("a status");
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line).expect("a header");
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(number) = line.strip_prefix("content-length:") {
            length = number.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    Some((status, serde_json::from_slice(&body).expect("JSON")))
}

/// A form with these files.
fn form(files: &[(&str, &[u8])]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, bytes) in files {
        let head = format!(
            "--BORDER\r\ncontent-disposition: form-data; name=\"image\"; filename=\"{name}\"\r\n\
             content-type: image/png\r\n\r\n"
        );
        body.extend(head.bytes());
        body.extend(*bytes);
        body.extend(b"\r\n");
    }
    body.extend(b"--BORDER--\r\n");
    let head = "POST /predict\ncontent-type: multipart/form-data; boundary=BORDER".to_owned();
    (head, body)
}

fn fitted() -> Workbench {
    let bench = with_pets(GLYPHS);
    bench.run("run m.toml --dir run --quiet").ok();
    bench.run("fit run --support pets --out pets.meta").ok();
    bench
}

/// The same answers as `meta predict`, by every way of upload; what cannot be read is refused with the
/// reason.
#[test]
fn a_server_answers_as_predict_does() {
    let bench = fitted();
    let ran = bench.run("predict pets.meta --query new --json").ok();
    let expected: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let server = Server::start(&bench, "pets.meta");
    assert_eq!(
        server.ask("GET /health", b""),
        (200, json!({"status": "ok"}))
    );
    let (status, info) = server.ask("GET /info", b"");
    assert_eq!((status, &info["header"]), (200, &expected["header"]));
    assert_eq!(info["classes"], json!(["columns", "rows", "slopes"]));

    let answers = expected["answers"].as_array().expect("answers");
    let names: Vec<&str> = answers
        .iter()
        .map(|answer| answer["item"].as_str().expect("a name"))
        .collect();
    let files: Vec<Vec<u8>> = names
        .iter()
        .map(|name| bench.bytes(&format!("new/{name}")))
        .collect();
    let parts: Vec<(&str, &[u8])> = names
        .iter()
        .copied()
        .zip(files.iter().map(Vec::as_slice))
        .collect();
    let (head, body) = form(&parts);
    let (status, found) = server.ask(&head, &body);
    assert_eq!(status, 200, "{found}");
    assert_eq!(found, expected);
    let (status, one) = server.ask("POST /predict\ncontent-type: image/png", &files[3]);
    assert_eq!(status, 200, "{one}");
    assert_eq!(one["answers"][0]["probability"], answers[3]["probability"]);
    let (_, top) = server.ask("POST /predict?top=1\ncontent-type: image/png", &files[3]);
    assert_eq!(top["answers"][0].get("others"), None, "{top}");

    let width = info["features"].as_u64().expect("a number") as usize;
    let rows = json!({"rows": [vec![0.5; width]], "items": ["grey"]}).to_string();
    let (status, grey) = server.ask(
        "POST /predict\ncontent-type: application/json",
        rows.as_bytes(),
    );
    assert_eq!((status, &grey["answers"][0]["item"]), (200, &json!("grey")));

    let (damaged, body) = form(&[("a.png", &files[0]), ("b.png", b"no picture")]);
    for (head, body, expected, reason) in [
        ("GET /nowhere", &b""[..], 404, "no such path"),
        ("DELETE /predict", b"", 405, "POST /predict"),
        ("POST /predict", b"", 400, "empty"),
        (
            "POST /predict\ncontent-type: image/png",
            b"no picture",
            400,
            "upload",
        ),
        (
            "POST /predict\ncontent-type: image/png",
            &files[0][..40],
            400,
            "decoded",
        ),
        (&damaged, &body, 400, "`b.png`"),
        (&damaged, b"--BORD", 400, "the form is damaged"),
        (
            "POST /predict\ncontent-type: application/json",
            b"[[1, 2]]",
            400,
            "2 numbers",
        ),
        (
            "POST /predict\ncontent-type: application/json",
            b"[[1, ",
            400,
            "JSON",
        ),
        (
            "POST /predict\ncontent-type: text/html",
            b"<html>",
            415,
            "text/html",
        ),
        ("POST /predict?top=0", b"[1]", 400, "top"),
    ] {
        let (status, found) = server.ask(head, body);
        let error = found["error"].as_str().unwrap_or_default();
        assert_eq!(status, expected, "{head}: {error}");
        assert!(error.contains(reason), "{head}: {error}");
    }
    let mut stream = server.connect();
    let foreign = "GET /info HTTP/1.1\r\nhost: elsewhere.example\r\n\r\n";
    stream.write_all(foreign.as_bytes()).expect("sent");
    let (status, _) = read(&mut BufReader::new(stream)).expect("a response");
    assert_eq!(status, 421);

    let page = server.text("/");
    assert!(
        page.contains("content-security-policy") && page.contains("<textarea"),
        "{page}"
    );
    let metrics = server.text("/metrics");
    for line in [
        "meta_requests_total{path=\"/predict\",status=\"200\"} 4",
        "meta_requests_total{path=\"other\",status=\"404\"} 1",
        "meta_items_total 19",
        "meta_waiting_requests 0",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}\n{metrics}"
        );
    }
}

#[test]
fn limits_hold() {
    let bench = fitted();
    bench.write("large.png", blank(1500));
    let limits = "--max-body 1 --max-pixels 1 --max-items 2 --timeout 1";
    let server = Server::start(&bench, &format!("pets.meta {limits}"));
    let large = vec![b'x'; 1_000_001];
    let (status, found) = server.ask("POST /predict\ncontent-type: image/png", &large);
    assert_eq!(status, 413, "{found}");
    let picture = bench.bytes("large.png");
    let (status, found) = server.ask("POST /predict\ncontent-type: image/png", &picture);
    assert_eq!(status, 413, "{found}");
    assert!(
        found["error"]
            .as_str()
            .unwrap_or_default()
            .contains("1500×1500"),
        "{found}"
    );
    let (head, body) = form(&[("a", b"x"), ("b", b"x"), ("c", b"x")]);
    assert_eq!(server.ask(&head, &body).0, 413);
    // A body that does not come.
    let mut stream = server.connect();
    let head = "POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nabc";
    stream.write_all(head.as_bytes()).expect("sent");
    let (status, _) = read(&mut BufReader::new(stream)).expect("a response");
    assert_eq!(status, 408);
    // Still well.
    assert_eq!(server.ask("GET /health", b"").0, 200);

    let other = bench.run(&format!(
        "serve pets.meta --port {}",
        server.address.rsplit(':').next().expect("a port")
    ));
    let message = other.mistake();
    assert!(
        message.contains(&server.address) && message.contains("--port"),
        "{message}"
    );
    let message = bench.run("serve run --port 0").mistake();
    assert!(message.contains("--support"), "{message}");
}

/// A white picture of so many pixels a side.
fn blank(side: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().expect("a header");
    let pixels = vec![255; (side * side) as usize];
    writer.write_image_data(&pixels).expect("pixels");
    writer.finish().expect("an end");
    bytes
}

/// 32 clients, garbage among their requests, connections that break off: each request has its own answer.
#[test]
fn many_clients_lose_no_answer() {
    crowd(10);
}

/// The same with ten thousand requests; the memory of the server stays.
#[test]
#[ignore = "a minute"]
fn many_clients_for_long() {
    crowd(313);
}

fn crowd(each: usize) {
    let bench = fitted();
    let ran = bench.run("predict pets.meta --query new --json").ok();
    let expected: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let expected = expected["answers"].as_array().expect("answers").clone();
    let files: Vec<Vec<u8>> = expected
        .iter()
        .map(|answer| bench.bytes(&format!("new/{}", answer["item"].as_str().expect("a name"))))
        .collect();
    let server = Server::start(&bench, "pets.meta");
    let answered = AtomicUsize::new(0);
    let ask_all = |client: usize, requests: usize| {
        let mut stream = BufReader::new(server.connect());
        for request in 0..requests {
            let item = (7 * client + request) % files.len();
            match (client + request) % 5 {
                3 => {
                    let garbage: &[u8] =
                        [&b"\x89PNG\r\n\x1a\n"[..], b"[[1,", b"\0\xff\0"][request % 3];
                    send(stream.get_mut(), "POST /predict", garbage);
                    let (status, found) = read(&mut stream).expect("a response");
                    assert_eq!(status, 400, "{found}");
                }
                4 => {
                    // No HTTP, or half a request: the connection is lost, the server is not.
                    let mut other = server.connect();
                    let half: &[u8] = match request % 2 {
                        0 => b"\0\x01\x02 garbage\r\n\r\n",
                        _ => b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\nabc",
                    };
                    let _ = other.write_all(half);
                }
                _ => {
                    send(
                        stream.get_mut(),
                        "POST /predict\ncontent-type: image/png",
                        &files[item],
                    );
                    let (status, found) = read(&mut stream).expect("a response");
                    assert_eq!(status, 200, "{found}");
                    let (found, expected) = (&found["answers"][0], &expected[item]);
                    for key in ["label", "probability", "score", "others"] {
                        assert_eq!(found[key], expected[key], "{key}");
                    }
                }
            }
            answered.fetch_add(1, Ordering::Relaxed);
        }
    };
    let run = |requests: usize| {
        std::thread::scope(|scope| {
            for client in 0..32 {
                scope.spawn(move || ask_all(client, requests));
            }
        });
    };
    run(each.min(10));
    let before = resident(&server);
    if each > 10 {
        run(each);
    }
    let after = resident(&server);
    // Buffers of the allocator; 10 000 pictures kept would be more.
    if let (Some(before), Some(after)) = (before, after) {
        assert!(after < before + (32 << 20), "{before} bytes, then {after}");
    }
    let all = 32 * (each.min(10) + if each > 10 { each } else { 0 });
    assert_eq!(answered.load(Ordering::Relaxed), all);
    assert_eq!(server.ask("GET /health", b"").0, 200);
}

/// Bytes of memory of the server, where the system says.
fn resident(server: &Server) -> Option<u64> {
    let path = format!("/proc/{}/status", server.child.id());
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(1024 * kilobytes)
}

/// What is accepted when the signal comes is answered; then the server ends with 0.
#[cfg(unix)]
#[test]
fn a_server_stops_gracefully() {
    let bench = fitted();
    let mut server = Server::start(&bench, "pets.meta");
    let picture = bench.bytes("new/rows/5.png");
    // Idle, kept alive.
    let mut idle = BufReader::new(server.connect());
    send(idle.get_mut(), "GET /health", b"");
    assert_eq!(read(&mut idle).expect("a response").0, 200);
    // In the middle of its body.
    let mut stream = server.connect();
    let head = format!(
        "POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\ncontent-length: {}\r\n\r\n",
        picture.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    let (first, rest) = picture.split_at(picture.len() / 2);
    stream.write_all(first).expect("sent");
    std::thread::sleep(Duration::from_millis(300));
    server.terminate();
    // No new connections, and the idle one is closed.
    assert_eq!(read(&mut idle), None);
    let refused = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        TcpStream::connect(&server.address).is_err()
    });
    assert!(refused, "new connections are refused");
    stream.write_all(rest).expect("sent");
    let (status, found) = read(&mut BufReader::new(stream)).expect("a response");
    assert_eq!(status, 200, "{found}");
    assert!(found["answers"][0]["label"].is_string(), "{found}");
    let start = Instant::now();
    let ended = loop {
        match server.child.try_wait().expect("a child") {
            Some(status) => break status,
            None if start.elapsed() > Duration::from_secs(20) => panic!("the server does not end"),
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    assert_eq!(ended.code(), Some(0));
}
