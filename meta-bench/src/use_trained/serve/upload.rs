//! From the body of a request to rows of numbers: pictures, or JSON.

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Multipart},
    http::{HeaderMap, Request, StatusCode, header},
};
use http_body_util::BodyExt;
use meta_core::{
    data::{Preparation, picture_size},
    device::contained,
};
use serde::Deserialize;

use super::{fault::Fault, limits::Limits};

/// What is read of a body beyond its limit before it is refused, so that the reason arrives: in bodies.
const DRAINED: usize = 4;
/// Letters of an item's name that are kept.
const NAME: usize = 200;

/// A body that is understood, with its pictures still packed.
pub enum Upload {
    /// Files of pictures by name.
    Pictures(Vec<(String, Bytes)>),
    /// A text in JSON.
    Json(Bytes),
}

/// Items of a request.
#[derive(Debug, PartialEq)]
pub struct Items {
    /// Their names.
    pub names: Vec<String>,
    /// `[items, f]`, row-major.
    pub rows: Vec<f32>,
}

/// Rows with names.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    rows: Vec<Vec<f32>>,
    items: Option<Vec<String>>,
}

/// Reads a body up to the limit.
///
/// # Errors
/// 413 for a larger one, 400 for one that breaks off.
pub async fn read(mut body: Body, limits: &Limits) -> Result<Bytes, Fault> {
    let most = limits.body_bytes();
    let mut read = Vec::new();
    let mut count = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Fault::malformed(format!("the body breaks off: {error}")))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        count = count.saturating_add(data.len());
        if count <= most {
            read.extend_from_slice(data);
        } else {
            // Read on for a while: a client that is still sending would not see the response.
            read = Vec::new();
            if count > most.saturating_mul(DRAINED) {
                break;
            }
        }
    }
    if count > most {
        return Err(Fault::too_large(format!(
            "the body has more than {most} bytes"
        )));
    }
    Ok(read.into())
}

/// Takes a body apart, by its type.
///
/// # Errors
/// 415 for a type that is not read, 400 for a form that is damaged.
pub async fn unpack(headers: &HeaderMap, body: Bytes, limits: &Limits) -> Result<Upload, Fault> {
    if body.is_empty() {
        return Err(Fault::malformed(
            "the body is empty; expected a picture, a form with pictures, or JSON",
        ));
    }
    let given = headers.get(header::CONTENT_TYPE);
    let given = given
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let kind = given
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let one = |body| Ok(Upload::Pictures(vec![("upload".to_owned(), body)]));
    match kind.as_str() {
        "application/json" => Ok(Upload::Json(body)),
        "multipart/form-data" => form(headers, body, limits).await,
        kind if kind.starts_with("image/") => one(body),
        // What programs say that were told nothing.
        "" | "application/octet-stream" | "application/x-www-form-urlencoded" => {
            let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
            match first {
                Some(b'[' | b'{') => Ok(Upload::Json(body)),
                _ => one(body),
            }
        }
        _ => Err(Fault::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!(
                "bodies of the type `{kind}` are not read; expected image/…, multipart/form-data or \
                 application/json"
            ),
        )),
    }
}

async fn form(headers: &HeaderMap, body: Bytes, limits: &Limits) -> Result<Upload, Fault> {
    let damaged =
        |error: &dyn std::fmt::Display| Fault::malformed(format!("the form is damaged: {error}"));
    let mut request = Request::new(Body::from(body));
    *request.headers_mut() = headers.clone();
    let form = Multipart::from_request(request, &()).await;
    let mut form = form.map_err(|error| damaged(&error.body_text()))?;
    let mut files = Vec::new();
    while let Some(field) = form
        .next_field()
        .await
        .map_err(|error| damaged(&error.body_text()))?
    {
        let (name, file) = (
            field.name().unwrap_or_default().to_owned(),
            field.file_name(),
        );
        let Some(file) = file.map(str::to_owned) else {
            let message = format!("the field `{}` is no file", clipped(&name));
            return Err(Fault::malformed(message));
        };
        if files.len() as u64 == limits.max_items {
            return Err(too_many(limits));
        }
        let bytes = field
            .bytes()
            .await
            .map_err(|error| damaged(&error.body_text()))?;
        let name = if file.is_empty() { name } else { file };
        files.push((clipped(&name), bytes));
    }
    if files.is_empty() {
        return Err(Fault::malformed("the form has no file"));
    }
    Ok(Upload::Pictures(files))
}

fn too_many(limits: &Limits) -> Fault {
    Fault::too_large(format!("a request has at most {} items", limits.max_items))
}

fn clipped(name: &str) -> String {
    name.chars().take(NAME).collect()
}

/// Makes rows of numbers of an upload, as training had them. May take long.
///
/// # Errors
/// 400 and 413 with what is wrong with which item.
pub fn items(upload: Upload, preparation: &Preparation, limits: &Limits) -> Result<Items, Fault> {
    match upload {
        Upload::Json(text) => numbers(&text, preparation.features(), limits),
        Upload::Pictures(files) => {
            let mut names = Vec::with_capacity(files.len());
            let mut rows = Vec::new();
            for (name, file) in files {
                rows.extend(picture(&name, &file, preparation, limits)?);
                names.push(name);
            }
            Ok(Items { names, rows })
        }
    }
}

fn picture(
    name: &str,
    file: &[u8],
    preparation: &Preparation,
    limits: &Limits,
) -> Result<Vec<f32>, Fault> {
    let named = |reason: String| format!("`{name}` {reason}");
    let decoded = contained(|| {
        if preparation.is_picture() {
            let (width, height) =
                picture_size(file).map_err(|reason| Fault::malformed(named(reason)))?;
            let most = limits.pixels();
            if u64::from(width) * u64::from(height) > most {
                let reason = format!("has {width}×{height} pixels; at most {most} are read");
                return Err(Fault::too_large(named(reason)));
            }
        }
        preparation
            .picture(file)
            .map_err(|reason| Fault::malformed(named(reason)))
    });
    decoded.unwrap_or_else(|reason| {
        Err(Fault::malformed(named(format!(
            "cannot be decoded: {reason}"
        ))))
    })
}

/// Rows in JSON: `[…]`, `[[…], …]` or `{"rows": [[…], …], "items": ["…", …]}`.
fn numbers(text: &[u8], width: usize, limits: &Limits) -> Result<Items, Fault> {
    let refused = |error: serde_json::Error| {
        Fault::malformed(format!(
            "the JSON is not as expected: {error}; expected a row of {width} numbers, a list of rows, or \
             {{\"rows\": [[…], …], \"items\": [\"…\", …]}}"
        ))
    };
    let mut letters = text.iter().filter(|byte| !byte.is_ascii_whitespace());
    let (rows, names) = match (letters.next(), letters.next()) {
        (Some(b'{'), _) => {
            let named: Named = serde_json::from_slice(text).map_err(refused)?;
            (named.rows, named.items)
        }
        (_, Some(b'[')) => (serde_json::from_slice(text).map_err(refused)?, None),
        _ => (vec![serde_json::from_slice(text).map_err(refused)?], None),
    };
    if rows.is_empty() {
        return Err(Fault::malformed("there are no rows"));
    }
    if rows.len() as u64 > limits.max_items {
        return Err(too_many(limits));
    }
    for (row, numbers) in rows.iter().enumerate() {
        if numbers.len() != width {
            let found = numbers.len();
            let message =
                format!("row {row} has {found} numbers, and the learner was trained on {width}");
            return Err(Fault::malformed(message));
        }
    }
    let names = match names {
        Some(names) if names.len() != rows.len() => {
            let (found, expected) = (names.len(), rows.len());
            let message = format!("there are {found} `items` for {expected} rows");
            return Err(Fault::malformed(message));
        }
        Some(names) => names.iter().map(|name| clipped(name)).collect(),
        None => (0..rows.len()).map(|row| row.to_string()).collect(),
    };
    Ok(Items {
        names,
        rows: rows.concat(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            max_body: 1,
            max_pixels: 1,
            max_items: 2,
            max_requests: 1,
            timeout: 1,
        }
    }

    #[test]
    fn rows_come_in_three_forms() {
        let found = |text: &str| numbers(text.as_bytes(), 2, &limits());
        let plain = found(" [1, 2.5]").unwrap();
        assert_eq!(
            (plain.names, plain.rows),
            (vec!["0".to_owned()], vec![1.0, 2.5])
        );
        assert_eq!(found("[ [1,2], [3,4]]").unwrap().rows, [1.0, 2.0, 3.0, 4.0]);
        let named = found(r#"{"rows": [[1, 2]], "items": ["x"]}"#).unwrap();
        assert_eq!(named.names, ["x"]);
        for (text, expected) in [
            ("[1]", "row 0 has 1 numbers"),
            ("[[1,2],[1,2,3]]", "row 1 has 3 numbers"),
            ("[[1,2],[1,2],[1,2]]", "at most 2 items"),
            ("[1, 1e39]", "number out of range"),
            ("[]", "row 0 has 0 numbers"),
            ("[[]]", "row 0 has 0 numbers"),
            ("{\"rows\": []}", "no rows"),
            (
                "{\"rows\": [[1, 2]], \"items\": []}",
                "0 `items` for 1 rows",
            ),
            ("{\"row\": 1}", "unknown field `row`"),
            ("[1, \"x\"]", "expected f32"),
            ("", "expected"),
            ("[[1,2]", "line 1 column 6"),
        ] {
            let fault = found(text).unwrap_err();
            assert!(fault.reason.contains(expected), "{text}: {}", fault.reason);
            assert!(fault.status.is_client_error());
        }
    }
}
