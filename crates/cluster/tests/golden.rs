//! Messages that stock Celery has sent (`tests/cluster/capture_golden.py`): read, and made again to the last byte.

use std::collections::BTreeMap;
use std::path::Path;

use lapin::BasicProperties;
use lapin::protocol::basic::parse_properties;
use manyhands_cluster::message::{
    Answer, Content, ControlReply, ControlRequest, Embed, Event, FollowUp, FollowUps, Json, Limits, Moment,
    Outcome, Raised, Reply, Route, Sender, State, TaskMessage, Teller, clock_of, follow_ups,
};
use serde::Deserialize;

/// When the capture says that it was.
const NOW: Moment = Moment(1_796_074_394_250);
/// The queue of the capture's answers.
const QUEUE_OF_OTHERS: &str = "answers";

#[derive(Deserialize)]
#[serde(untagged)]
enum Bytes {
    Text(String),
    Hex { hex: String },
}

impl Bytes {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.as_bytes().to_vec(),
            Self::Hex { hex } => unhex(hex),
        }
    }
}

#[derive(Deserialize)]
struct Captured {
    exchange: String,
    routing_key: String,
    properties: String,
    body: Bytes,
}

impl Captured {
    fn properties(&self) -> BasicProperties {
        let bytes = unhex(&self.properties);
        let (rest, properties) = parse_properties(bytes.as_slice()).expect("as py-amqp wrote them");
        assert!(rest.is_empty());
        properties
    }

    fn task(&self) -> TaskMessage {
        TaskMessage::parse(&self.properties(), &self.body.bytes(), &Limits::default()).expect("a task")
    }

    fn reply(&self) -> Reply {
        match Answer::parse(&self.properties(), &self.body.bytes(), &Limits::default()).expect("an answer") {
            (id, Answer::Reply(reply)) => {
                assert_eq!(id, reply.task_id);
                reply
            }
            (_, Answer::Opaque(_)) => panic!("it is JSON"),
        }
    }

    fn assert_is(&self, name: &str, (properties, body): (BasicProperties, Vec<u8>)) {
        let expected = self.body.bytes();
        assert_eq!(String::from_utf8_lossy(&body), String::from_utf8_lossy(&expected), "{name}");
        assert_eq!(properties, self.properties(), "{name}");
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits");
    (0..text.len()).step_by(2).map(digit).collect()
}

fn captured(kind: &str) -> BTreeMap<String, Captured> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cluster/golden");
    let text = std::fs::read_to_string(folder.join(format!("{kind}.json"))).expect("it was captured");
    serde_json::from_str(&text).expect("as the capture writes it")
}

/// The captured tasks, after each other those of producers, and those of a worker.
fn tasks() -> Vec<(String, Captured)> {
    let of_worker = captured("replies").into_iter().filter(|(_, message)| message.routing_key == "celery");
    captured("tasks").into_iter().chain(of_worker).collect()
}

#[test]
fn tasks_are_read_and_made_again() {
    for (name, message) in tasks() {
        let task = message.task();
        match name.as_str() {
            // Not sent by us.
            "zlib" => assert_eq!(task.content, captured("tasks")["plain"].task().content),
            "protocol-1" => assert_eq!((task.id.as_str(), task.task.as_str()), ("protocol-1", "golden.add")),
            // What is left of the chain is an empty list here, and `null` elsewhere.
            "chain-3" => {
                let (properties, body) = task.to_amqp(NOW);
                assert_eq!(properties, message.properties());
                let text =
                    String::from_utf8(body).expect("JSON").replace(r#""chain": null"#, r#""chain": []"#);
                assert_eq!(text.as_bytes(), message.body.bytes());
            }
            _ => message.assert_is(&name, task.to_amqp(NOW)),
        }
    }
}

#[test]
fn tasks_are_understood() {
    let captured = captured("tasks");
    let options = captured["options"].task();
    assert_eq!((options.retries, options.priority, options.ignore_result), (2, 7, Some(true)));
    assert_eq!((options.time_limits.hard, options.time_limits.soft), (Some(60.0), Some(1.5)));
    assert_eq!(options.reply_to.as_deref(), Some(QUEUE_OF_OTHERS));
    assert_eq!((options.root_id.as_deref(), options.parent_id.as_deref()), (Some("root"), Some("parent")));
    assert!(options.headers.contains_key("tenant"));
    assert_eq!(captured["options"].routing_key, "fast");
    assert_eq!(captured["by-name"].task().ignore_result, None);
    assert_eq!(captured["countdown"].task().eta, Some(Moment(NOW.0 + 90_000)));
    assert_eq!(captured["expires"].task().expires, Some(Moment(NOW.0 + 90_000)));
    let member = captured["group-2"].task();
    assert_eq!((member.group.as_deref(), member.group_index), (Some("group"), Some(1)));
    assert_eq!(captured["stamped"].task().stamped_headers.map(|names| names.len()), Some(2));
    assert_eq!(captured["pickle"].task().content.serializer(), "pickle");
    let embed = captured["links"].task().embed().cloned().expect("JSON");
    assert_eq!((embed.callbacks.len(), embed.errbacks.len()), (2, 1));
    let chain = captured["chain-1"].task().embed().map(|embed| embed.chain.len());
    assert_eq!(chain, Some(2));
}

#[test]
fn a_task_of_ones_own_is_as_stock_celery_sends_it() {
    let expected = &captured("tasks")["plain"];
    let args = Json::parse("[2, 3]").expect("JSON");
    let task = TaskMessage {
        reply_to: expected.task().reply_to,
        origin: Some("gen7@golden".to_owned()),
        argsrepr: Some("(2, 3)".to_owned()),
        kwargsrepr: Some("{}".to_owned()),
        ..TaskMessage::new("golden.add", "plain", Content::json(args, Json::EMPTY_OBJECT))
    };
    expected.assert_is("plain", task.to_amqp(NOW));
}

#[test]
fn answers_are_read_and_made_again() {
    for (name, message) in
        captured("replies").into_iter().filter(|(_, message)| message.routing_key.len() > 6)
    {
        assert_eq!(message.exchange, "");
        let reply = message.reply();
        message.assert_is(&name, reply.to_amqp(&reply.task_id));
    }
}

#[test]
fn answers_are_made_as_stock_workers_do() {
    let captured = captured("replies");
    let with_parent = |reply| Reply { parent_id: Some("parent".to_owned()), ..reply };
    let success = with_parent(Reply::success("s", Json::from(5), NOW));
    captured["success"].assert_is("success", success.to_amqp("s"));
    let pid = captured["started"].reply().result.members().expect("an object")[0].1.integer();
    let started = Reply::started("s", u32::try_from(pid.expect("a number")).expect("a pid"), "w@golden");
    captured["started"].assert_is("started", with_parent(started).to_amqp("s"));
    captured["revoked"].assert_is("revoked", Reply::revoked("v", "revoked", NOW).to_amqp("v"));
    let traceback = captured["failure"].reply().traceback;
    let failure = Reply::failure("f", &too_small(), traceback, NOW);
    captured["failure"].assert_is("failure", failure.to_amqp("f"));
    let raised = Raised::new("builtins", "OSError", Json::array(["not yet".into()]));
    let retry = Reply::retry("r", &raised, captured["retry"].reply().traceback);
    captured["retry"].assert_is("retry", retry.to_amqp("r"));
    assert_eq!(captured["extended"].reply().others.len(), 6);
}

fn too_small() -> Raised {
    Raised::new("builtins", "ValueError", Json::array(["too small".into(), 3.into()]))
}

/// What must be sent after a captured task.
fn after(task: &TaskMessage, outcome: &Outcome<'_>) -> FollowUps {
    let mut sender = Sender {
        origin: "gen7@golden",
        reply_to: Some("own"),
        priority: None,
        now: NOW,
        new_id: &mut || "new".to_owned(),
    };
    follow_ups(task, task.embed().expect("JSON"), outcome, &mut sender).expect("what can be sent")
}

/// Checks that tasks are those that stock Celery's worker has sent, but for what it invents: the ids of groups, its own queue.
///
/// That worker knows its tasks, and whether somebody waits for them: we leave that to whoever runs them. It also has Python, to show arguments.
fn assert_sends(sent: &[FollowUp], names: &[&str]) {
    assert_eq!(sent.len(), names.len());
    let captured = captured("replies");
    let own = captured["callback"].task().reply_to.expect("a worker has one");
    for (follow_up, name) in sent.iter().zip(names) {
        let FollowUp::Task(task, route) = follow_up else { panic!("{name} is a task") };
        let expected = captured[*name].task();
        let group = expected.group.as_ref().map(|_| "new".to_owned());
        let reply_to = expected.reply_to.map(|queue| if queue == own { "own".to_owned() } else { queue });
        let argsrepr = task.argsrepr.clone();
        let expected = TaskMessage { ignore_result: None, group, reply_to, argsrepr, ..expected };
        assert_eq!(**task, expected, "{name}");
        match captured[*name].routing_key.as_str() {
            "celery" => assert_eq!(*route, Route::Default),
            queue => assert_eq!(*route, Route::Queue(queue.to_owned())),
        }
    }
}

#[test]
fn a_task_that_has_returned_is_followed_as_by_stock_workers() {
    let captured = captured("replies");
    let after = |name: &str, result: i64| {
        let task = captured[name].task();
        after(&task, &Outcome::Success(&Json::from(result)))
    };
    let one = after("with-callback", 5);
    assert_sends(&one.sent, &["callback"]);
    assert_eq!(one.children, captured["with-callback-success"].reply().children);
    let several = after("with-callbacks", 5);
    assert_sends(&several.sent, &["callback-1", "callback-2"]);
    assert_eq!(
        several.children.as_str(),
        r#"[[["new", null], [[["c-1", null], null], [["c-2", null], null]]]]"#
    );
    let next = after("chain-1", 3);
    assert_sends(&next.sent, &["chain-2"]);
    assert_eq!(next.children, captured["chain-1-success"].reply().children);
    assert_sends(&after("chain-2", 6).sent, &["chain-3"]);
    assert_sends(&after("chain-3", 0).sent, &[]);
}

#[test]
fn a_task_that_has_raised_is_followed_as_by_stock_workers() {
    let captured = captured("replies");
    let raised = too_small();
    let with_errback = after(&captured["with-errback"].task(), &Outcome::Failure(&raised, None));
    assert_sends(&with_errback.sent, &["errback"]);
    let traceback = captured["broken-chain-3"].reply().traceback;
    let broken = after(&captured["broken-chain-1"].task(), &Outcome::Failure(&raised, traceback.as_deref()));
    let names = ["broken-chain-3", "broken-chain-2"];
    assert_eq!(broken.sent.len(), names.len());
    for (follow_up, name) in broken.sent.iter().zip(names) {
        let FollowUp::Reply { reply_to, reply } = follow_up else { panic!("{name} is an answer") };
        assert_eq!(*reply_to, captured[name].routing_key);
        captured[name].assert_is(name, reply.to_amqp(&reply.task_id));
    }
    let revoked = after(&captured["broken-chain-1"].task(), &Outcome::Revoked(&raised));
    let states = revoked.sent.iter().map(|follow_up| match follow_up {
        FollowUp::Reply { reply, .. } => reply.state.clone(),
        _ => panic!("these are answers"),
    });
    assert_eq!(states.collect::<Vec<_>>(), [State::Revoked, State::Revoked]);
}

#[test]
fn a_revoked_task_calls_no_errbacks_but_ours() {
    let task = captured("replies")["with-errback"].task();
    let raised = Raised::new("celery.exceptions", "TaskRevokedError", Json::array(["revoked".into()]));
    assert_eq!(after(&task, &Outcome::Revoked(&raised)).sent, []);
    let embed = r#"{"errbacks": [{"task": "golden.note"}, {"task": "manyhands.chord_part"}]}"#;
    let embed = Embed::parse(&Json::parse(embed).expect("JSON")).expect("errbacks");
    let content = Content::Json { args: Json::EMPTY_ARRAY, kwargs: Json::EMPTY_OBJECT, embed };
    let sent = after(&TaskMessage { content, ..task }, &Outcome::Revoked(&raised)).sent;
    let [FollowUp::Task(ours, _)] = &sent[..] else { panic!("ours only") };
    assert_eq!(ours.task, "manyhands.chord_part");
}

#[test]
fn a_retry_is_as_that_of_stock_celery() {
    let retried = captured("replies")["retried"].task();
    let first = TaskMessage { retries: 0, parent_id: None, eta: None, ..retried.clone() };
    captured("replies")["retried"].assert_is("retried", first.retried(retried.eta).to_amqp(NOW));
}

#[test]
fn events_are_read_and_made_again() {
    for (name, message) in captured("events") {
        assert_eq!(message.exchange, manyhands_cluster::message::EVENT_EXCHANGE);
        let properties = message.properties();
        let events =
            Event::parse_all(&properties, &message.body.bytes(), &Limits::default()).expect("events");
        let hostname = events[0].field("hostname").and_then(Json::text).expect("each has one");
        if name == "task-multi" {
            assert_eq!(message.routing_key, "task.multi");
            message.assert_is(&name, Event::tasks_to_amqp(&events, &hostname));
        } else {
            assert_eq!((message.routing_key, events[0].kind()), (events[0].routing_key(), name.clone()));
        }
        for event in events {
            assert_eq!(made_again(&event), event);
        }
    }
}

/// The same event, made from what it says.
fn made_again(event: &Event) -> Event {
    let members = event.to_json().members().expect("an object");
    let number = |name| event.field(name).and_then(Json::number).expect("a number");
    let integer = |name| event.field(name).and_then(Json::integer).expect("an integer");
    let hostname = event.field("hostname").and_then(Json::text).expect("a text");
    let teller = Teller {
        hostname: &hostname,
        pid: u32::try_from(integer("pid")).expect("a pid"),
        utc_offset: number("utcoffset"),
        timestamp: number("timestamp"),
    };
    let own =
        members[4..members.len() - 2].iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    Event::new(&event.kind(), &teller, u64::try_from(integer("clock")).expect("a clock"), own)
}

#[test]
fn remote_control_is_read_and_made_again() {
    for (name, message) in captured("control") {
        let (properties, body) = (message.properties(), message.body.bytes());
        if message.exchange == "celery.pidbox" {
            let request = ControlRequest::parse(&properties, &body, &Limits::default()).expect("a request");
            message.assert_is(&name, request.to_amqp(request.clock, request.expires));
            assert_eq!(request.is_for("w@other", |_, _| false), name == "revoke");
            assert!(request.is_for("w@golden", |pattern, matcher| (pattern, matcher) == ("w@*", "glob")));
            continue;
        }
        let (ticket, replies) =
            ControlReply::parse(&properties, &body, &Limits::default()).expect("an answer");
        let again = replies[0].to_amqp(&ticket.expect("it has a ticket"), clock_of(&properties));
        message.assert_is(&name, again);
    }
    let answers = captured("control");
    let error = ControlReply::error("w@golden", "KeyError('fly')").to_amqp("", 0).1;
    assert_eq!(error, answers["unknown-answer"].body.bytes());
}

#[test]
fn what_is_more_than_tasks_is_left_to_those_who_know_canvases() {
    let embed = |text| Embed::parse(&Json::parse(text).expect("JSON")).expect("what follows");
    let task = captured("tasks")["plain"].task();
    let sent = |embed: &Embed| {
        let mut sender = Sender {
            origin: "gen7@golden",
            reply_to: None,
            priority: Some(4),
            now: NOW,
            new_id: &mut || "new".into(),
        };
        follow_ups(&task, embed, &Outcome::Success(&Json::from(5)), &mut sender)
            .expect("what can be sent")
            .sent
    };
    let chord = embed(
        r#"{"chain": [{"task": "last"}, {"task": "celery.chord", "subtask_type": "chord", "kwargs": {"header": []}}]}"#,
    );
    let [FollowUp::Canvas { signature, args, chain, .. }] = &sent(&chord)[..] else {
        panic!("it is a chord")
    };
    assert_eq!((signature.task(), args.as_slice(), chain.len()), ("celery.chord", &[Json::from(5)][..], 1));
    let group = embed(
        r#"{"chain": [{"task": "celery.group", "subtask_type": "group", "options": {"task_id": "g", "queue": "fast"},
            "kwargs": {"tasks": [{"task": "a", "args": [1]}, {"task": "b", "immutable": true, "options": {"group_id": "own"}}]}}]}"#,
    );
    let [FollowUp::Task(first, _), FollowUp::Task(second, _)] = &sent(&group)[..] else {
        panic!("two tasks")
    };
    assert_eq!((first.group.as_deref(), first.group_index, first.priority), (Some("g"), Some(0), 4));
    assert_eq!((second.group.as_deref(), second.group_index), (Some("own"), Some(1)));
    let args = |task: &TaskMessage| match &task.content {
        Content::Json { args, .. } => args.as_str().to_owned(),
        Content::Opaque { .. } => panic!("it is JSON"),
    };
    assert_eq!((args(first), args(second)), ("[5, 1]".to_owned(), "[]".to_owned()));
}
