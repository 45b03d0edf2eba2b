//! Task messages: what comes back as it went, and what is refused with which word.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use manyhands_cluster::message::{
    Content, Embed, Json, Limits, Moment, Signature, TaskMessage, TimeLimits, Unreadable,
};
use proptest::prelude::*;

fn json(text: &str) -> Json {
    Json::parse(text).expect("JSON")
}

fn a_task() -> TaskMessage {
    TaskMessage::new("shop.price", "7d0c", Content::json(json("[2]"), Json::EMPTY_OBJECT))
}

/// A message of a task, changed; its headers, properties and body.
fn changed(
    change: impl FnOnce(&mut FieldTable, &mut BasicProperties, &mut Vec<u8>),
) -> Result<TaskMessage, Unreadable> {
    let (mut properties, mut body) = a_task().to_amqp(Moment(0));
    let mut table = properties.headers().clone().expect("it has headers");
    change(&mut table, &mut properties, &mut body);
    TaskMessage::parse(&properties.with_headers(table), &body, &Limits { body: 1 << 20 })
}

fn with_header(name: &str, value: AMQPValue) -> Result<TaskMessage, Unreadable> {
    changed(|table, _, _| {
        table.insert(name.into(), value);
    })
}

fn with_body(text: &str) -> Result<TaskMessage, Unreadable> {
    changed(|_, _, body| *body = text.as_bytes().to_vec())
}

fn without(table: &mut FieldTable, name: &str) {
    let mut rest = table.inner().clone();
    rest.remove(name);
    *table = rest.into();
}

fn word(parsed: Result<TaskMessage, Unreadable>) -> &'static str {
    let error = parsed.expect_err("it is poison");
    assert!(!error.to_string().is_empty());
    error.word()
}

#[test]
fn poison_has_a_word() {
    assert_eq!(word(changed(|table, _, _| without(table, "id"))), "no-id");
    assert_eq!(word(changed(|table, _, _| without(table, "task"))), "no-task");
    assert_eq!(word(changed(|table, _, _| *table = FieldTable::default())), "no-task");
    assert_eq!(word(with_body("[[], {}]")), "body-length");
    assert_eq!(word(with_body("[[], {}, {}, 1]")), "body-length");
    assert_eq!(word(with_body("[[], {}, {}")), "bad-json");
    assert_eq!(word(with_body("")), "bad-json");
    assert_eq!(word(with_body("{}")), "bad-json");
    assert_eq!(word(with_body("[{}, {}, {}]")), "bad-json");
    assert_eq!(word(with_body("[[], [], {}]")), "bad-json");
    assert_eq!(word(with_body("[[], {}, 1]")), "bad-json");
    assert_eq!(word(with_body(r#"[[], {}, {"chain": [{"args": []}]}]"#)), "bad-signature");
    assert_eq!(word(with_body(r#"[[], {}, {"chain": 1}]"#)), "bad-json");
    assert_eq!(word(changed(|_, _, body| body[1] = 0xff)), "not-utf-8");
    assert_eq!(word(changed(|_, _, body| *body = vec![b' '; (1 << 20) + 1])), "too-large");
    let set = |kind: &'static str, encoding: &'static str| {
        changed(|_, properties, _| {
            *properties =
                properties.clone().with_content_type(kind.into()).with_content_encoding(encoding.into());
        })
    };
    assert_eq!(word(set("text/plain", "utf-8")), "content-type");
    assert_eq!(word(set("application/json", "utf-16")), "content-encoding");
    assert_eq!(set("application/json", "binary"), Ok(a_task()));
    assert_eq!(word(with_header("compression", "application/zstd".into_value())), "compression");
    assert_eq!(word(with_header("compression", "zlib".into_value())), "damaged");
    assert_eq!(word(with_header("id", "x".repeat(256).as_str().into_value())), "too-large");
    for (name, value) in [
        ("id", AMQPValue::LongInt(1)),
        ("task", AMQPValue::Boolean(true)),
        ("task", AMQPValue::LongString(b"\xff".as_slice().into())),
        ("eta", "tomorrow".into_value()),
        ("expires", AMQPValue::LongInt(7)),
        ("retries", "1".into_value()),
        ("retries", AMQPValue::LongInt(-1)),
        ("timelimit", AMQPValue::FieldArray(vec![AMQPValue::Void].into())),
        ("timelimit", AMQPValue::FieldArray(vec![AMQPValue::Void, AMQPValue::Double(f64::NAN)].into())),
        ("ignore_result", AMQPValue::LongInt(1)),
        ("stamped_headers", AMQPValue::FieldArray(vec![AMQPValue::Void].into())),
        ("stamps", AMQPValue::Boolean(true)),
        ("mh-deliveries", AMQPValue::Boolean(true)),
    ] {
        assert_eq!(word(with_header(name, value.clone())), "bad-header", "{name} {value:?}");
    }
}

/// A text as a header.
trait IntoValue {
    fn into_value(self) -> AMQPValue;
}

impl IntoValue for &str {
    fn into_value(self) -> AMQPValue {
        AMQPValue::LongString(self.into())
    }
}

#[test]
fn what_python_writes_and_json_does_not_know_is_taken() {
    let parsed = with_body(r#"[[NaN, "\ud800"], {"x": -Infinity}, null]"#).expect("Python's JSON");
    let Content::Json { args, kwargs, .. } = parsed.content else { panic!("it is JSON") };
    assert_eq!((args.as_str(), kwargs.as_str()), (r#"[NaN, "\ud800"]"#, r#"{"x": -Infinity}"#));
}

#[test]
fn compressed_bodies_are_read_and_bombs_are_not() {
    let compressed = |bytes: &[u8]| {
        changed(|table, _, body| {
            table.insert("compression".into(), "application/x-gzip".into_value());
            *body = miniz_oxide::deflate::compress_to_vec_zlib(bytes, 6);
        })
    };
    let (_, plain) = a_task().to_amqp(Moment(0));
    assert_eq!(compressed(&plain), Ok(a_task()));
    assert_eq!(word(compressed(&vec![b' '; 2 << 20])), "too-large");
}

#[test]
fn protocol_1_is_read_from_its_body() {
    let parse = |body: &str| {
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into())
            .with_reply_to("answers".into());
        TaskMessage::parse(&properties, body.as_bytes(), &Limits::default())
    };
    let task = parse(
        r#"{"task": "shop.price", "id": "7d0c", "args": [2], "kwargs": {}, "retries": 1, "eta": "2026-11-30T00:00:00+00:00",
            "expires": null, "utc": true, "callbacks": [{"task": "log"}], "errbacks": null, "timelimit": [60, null],
            "taskset": "g", "chord": null}"#,
    )
    .expect("protocol 1");
    assert_eq!((task.task.as_str(), task.id.as_str(), task.retries), ("shop.price", "7d0c", 1));
    assert_eq!(task.group.as_deref(), Some("g"));
    assert_eq!(task.reply_to.as_deref(), Some("answers"));
    assert_eq!(task.eta, Moment::parse("2026-11-30"));
    assert_eq!(task.time_limits, TimeLimits { hard: Some(60.0), soft: None });
    assert_eq!(task.embed().expect("JSON").callbacks[0].task(), "log");
    assert_eq!(word(parse(r#"{"task": "shop.price"}"#)), "no-id");
    assert_eq!(word(parse(r#"{"id": "7d0c"}"#)), "no-task");
    assert_eq!(word(parse("[[], {}, {}]")), "no-task");
    assert_eq!(word(parse("[[], {}, {}")), "bad-json");
    assert_eq!(word(parse(r#"{"task": "t", "id": "i", "args": 1}"#)), "bad-json");
    assert_eq!(word(parse(r#"{"task": "t", "id": "i", "retries": -1}"#)), "bad-json");
    assert_eq!(word(parse(r#"{"task": "t", "id": "i", "eta": "soon"}"#)), "bad-json");
}

#[test]
fn pickle_goes_on_as_bytes() {
    let task = TaskMessage::new("shop.price", "7d0c", Content::pickle(b"\x80\x04]\x94.".to_vec()));
    let (properties, body) = task.to_amqp(Moment(0));
    let parsed = TaskMessage::parse(&properties, &body, &Limits::default()).expect("it is pickle");
    assert!(parsed.content.is_opaque());
    assert_eq!((parsed.content.serializer(), parsed.embed()), ("pickle", None));
    assert_eq!(parsed, task);
}

#[test]
fn what_brokers_add_is_read_and_not_sent_again() {
    let task = changed(|table, _, _| {
        table.insert("x-delivery-count".into(), AMQPValue::LongLongInt(3));
        table.insert("x-death".into(), AMQPValue::FieldArray(FieldArray::default()));
        table.insert("x-mine".into(), AMQPValue::LongInt(1));
        table.insert("mh-deliveries".into(), AMQPValue::LongInt(2));
    })
    .expect("a task");
    assert_eq!((task.returns(), task.deliveries), (Some(3), 2));
    let (properties, _) = task.redelivered().to_amqp(Moment(0));
    let table = properties.headers().clone().expect("headers");
    assert!(!table.contains_key("x-delivery-count") && !table.contains_key("x-death"));
    assert!(table.contains_key("x-mine"));
    assert_eq!(table.inner().get("mh-deliveries"), Some(&AMQPValue::LongInt(3)));
}

#[test]
fn what_expires_says_so_to_the_broker() {
    let task = TaskMessage { expires: Some(Moment(5_000)), ..a_task() };
    let expiration = |now| task.to_amqp(Moment(now)).0.expiration().clone().map(|text| text.to_string());
    assert_eq!(expiration(1_000).as_deref(), Some("4000"));
    assert_eq!(expiration(9_000).as_deref(), Some("0"));
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        any::<Option<i64>>().prop_map(Json::from),
        any::<bool>().prop_map(Json::from),
        any::<String>().prop_map(|text| Json::from(text.as_str())),
        Just(json("NaN")),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::array),
            prop::collection::vec((any::<String>(), inner), 0..4).prop_map(Json::object),
        ]
    })
}

fn any_signature() -> impl Strategy<Value = Signature> {
    let options = prop::collection::vec(("[a-z_]{1,8}", any_json()), 0..3);
    ("[a-z.]{1,12}", prop::collection::vec(any_json(), 0..3), options, any::<bool>()).prop_map(
        |(task, args, options, immutable)| {
            Signature::new(&task, Json::array(args), Json::EMPTY_OBJECT, options, immutable)
        },
    )
}

fn any_embed() -> impl Strategy<Value = Embed> {
    let some = || prop::collection::vec(any_signature(), 0..3);
    (some(), some(), some(), prop::option::of(any_signature()))
        .prop_map(|(callbacks, errbacks, chain, chord)| Embed { callbacks, errbacks, chain, chord })
}

prop_compose! {
    fn any_task()(
        (task, id, args, kwargs, embed) in (
            ".{1,40}", "[!-~]{1,40}", prop::collection::vec(any_json(), 0..3),
            prop::collection::vec((any::<String>(), any_json()), 0..3), any_embed(),
        ),
        (root_id, parent_id, group, group_index) in any::<(String, Option<u8>, Option<u8>, Option<u16>)>(),
        (eta, expires, hard, soft) in any::<(Option<u32>, Option<u32>, Option<u32>, Option<f32>)>(),
        (retries, deliveries, priority, ignore_result) in any::<(u16, u16, u8, Option<bool>)>(),
        (reply_to, stamps) in ("[a-z]{0,9}", any::<Option<Vec<String>>>()),
    ) -> TaskMessage {
        let id_of = |number: Option<u8>| number.map(|number| format!("id-{number}"));
        TaskMessage {
            root_id: Some(root_id.chars().take(60).collect()),
            parent_id: id_of(parent_id),
            group: id_of(group),
            group_index: group_index.map(u32::from),
            retries: retries.into(),
            eta: eta.map(|eta| Moment(eta.into())),
            expires: expires.map(|expires| Moment(expires.into())),
            time_limits: TimeLimits { hard: hard.map(f64::from), soft: soft.map(|soft| f64::from(soft.abs())).filter(|soft| soft.is_finite()) },
            ignore_result,
            reply_to: Some(reply_to).filter(|reply_to| !reply_to.is_empty()),
            priority,
            origin: Some("gen1@host".to_owned()),
            argsrepr: Some("(…)".to_owned()),
            stamped_headers: stamps,
            deliveries: deliveries.into(),
            ..TaskMessage::new(&task, &id, Content::Json { args: Json::array(args), kwargs: Json::object(kwargs), embed })
        }
    }
}

proptest! {
    #[test]
    fn tasks_come_back(task in any_task()) {
        let (properties, body) = task.to_amqp(Moment(0));
        prop_assert_eq!(TaskMessage::parse(&properties, &body, &Limits::default()), Ok(task));
    }
}
