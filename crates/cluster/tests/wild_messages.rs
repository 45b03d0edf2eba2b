//! Messages of stock Celery, damaged in all ways: none of them makes anything panic.

mod wild;

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;

/// The captured messages, as they are on the wire.
static CAPTURED: LazyLock<Vec<Vec<u8>>> = LazyLock::new(captured);

fn captured() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cluster/golden");
    let unhex = |text: &str| -> Vec<u8> {
        let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits");
        (0..text.len()).step_by(2).map(digit).collect()
    };
    let mut messages = Vec::new();
    for kind in ["tasks", "replies", "events", "control"] {
        let text = std::fs::read_to_string(folder.join(format!("{kind}.json"))).expect("it was captured");
        let captured: serde_json::Value = serde_json::from_str(&text).expect("as the capture writes it");
        for message in captured.as_object().expect("an object").values() {
            let mut bytes = unhex(message["properties"].as_str().expect("digits"));
            match &message["body"] {
                serde_json::Value::String(text) => bytes.extend_from_slice(text.as_bytes()),
                body => bytes.extend(unhex(body["hex"].as_str().expect("digits"))),
            }
            messages.push(bytes);
        }
    }
    messages
}

fn pieces() -> impl Strategy<Value = &'static [u8]> {
    prop::sample::select(vec![
        &b"null"[..],
        b"{}",
        b"[]",
        b"[",
        b"\"",
        b"NaN",
        b"{\"task\": \"t\"}",
        b"\xff",
        b"-1",
        b"1e999",
        b"\\ud800",
        b", ",
        b"\x00",
        b"V",
        b"I\xff\xff\xff\xff",
        b"9999-12-31T23:59:59-23:59",
    ])
}

/// Where a value of JSON stands in bytes, and how long it is.
fn values(bytes: &[u8]) -> Vec<(usize, usize)> {
    let words = [&b"{}"[..], b"[]", b"null", b"false"];
    let at =
        |at: usize| words.into_iter().find(|word| bytes[at..].starts_with(word)).map(|word| (at, word.len()));
    (0..bytes.len()).filter_map(at).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_messages_are_taken_or_refused(
        which: Index,
        changes in prop::collection::vec((any::<Index>(), 0_usize..12, pieces()), 0..4),
    ) {
        let mut bytes = which.get(&CAPTURED).clone();
        for (at, length, piece) in changes {
            let at = at.index(bytes.len() + 1);
            let end = bytes.len().min(at + length);
            bytes.splice(at..end, piece.iter().copied());
        }
        wild::run(&bytes);
    }

    #[test]
    fn messages_with_other_values_are_taken_or_refused(
        which: Index,
        changes in prop::collection::vec((any::<Index>(), prop::sample::select(vec!["5", "[]", "{}", "null", "\"x\""])), 1..3),
    ) {
        let mut bytes = which.get(&CAPTURED).clone();
        for (at, value) in changes {
            let values = values(&bytes);
            prop_assume!(!values.is_empty());
            let (at, length) = *at.get(&values);
            bytes.splice(at..at + length, value.bytes());
        }
        wild::run(&bytes);
    }
}
