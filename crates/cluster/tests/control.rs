//! Remote control without a broker: what a worker answers, does and tells.

use lapin::BasicProperties;
use manyhands_cluster::control::{Act, Control, Profile, REPLY_EXCHANGE, Scene, Seen, Stage, When};
use manyhands_cluster::message::{
    Content, ControlReply, ControlRequest, Event, Json, Limits, ReplyTo, TaskMessage,
};
use manyhands_cluster::outbox::Publication;

const NAME: &str = "w1@host";

fn control(tells_tasks: bool) -> Control {
    let profile = Profile {
        hostname: NAME.into(),
        pid: 7,
        kind: "process".into(),
        utc_offset: 0.0,
        began: 10.0,
        broker: "amqp://host:5672/shop".into(),
        queues: vec!["a".into(), "b".into()],
        slots: 2,
        tasks: vec!["shop.price".into()],
        accepts: vec![],
    };
    Control::new(profile, tells_tasks)
}

fn request(method: &str, arguments: &str) -> ControlRequest {
    ControlRequest {
        ticket: Some("t".into()),
        reply_to: Some(ReplyTo { exchange: REPLY_EXCHANGE.into(), routing_key: "me".into() }),
        ..ControlRequest::new(method, Json::parse(arguments).expect("JSON"))
    }
}

fn value(reply: &Publication) -> Json {
    let (ticket, replies) =
        ControlReply::parse(&reply.properties, &reply.body, &Limits::default()).expect("an answer");
    assert_eq!((ticket.as_deref(), replies[0].hostname.as_str()), (Some("t"), NAME));
    assert_eq!((reply.exchange.as_str(), reply.routing_key.as_str()), (REPLY_EXCHANGE, "me"));
    replies[0].value.clone()
}

fn answer(control: &mut Control, method: &str, arguments: &str) -> (String, Option<Act>) {
    let (reply, act) = control.hear(&request(method, arguments), &Scene::default());
    (value(&reply.expect("an answer")).as_str().to_owned(), act)
}

fn revokes(ids: &[&str], stops: bool) -> Option<Act> {
    Some(Act::Revoke { ids: ids.iter().map(ToString::to_string).collect(), stops })
}

#[test]
fn requests_are_obeyed() {
    let mut control = control(false);
    for (method, arguments, said, act) in [
        ("ping", "{}", r#"{"ok": "pong"}"#, None),
        ("revoke", r#"{"task_id": "a"}"#, r#"{"ok": "tasks a flagged as revoked"}"#, revokes(&["a"], false)),
        (
            "revoke",
            r#"{"task_id": ["a", "b"], "terminate": true, "signal": "SIGKILL"}"#,
            r#"{"ok": "terminate: tasks unknown"}"#,
            revokes(&["a", "b"], true),
        ),
        ("terminate", r#"{"task_id": "a"}"#, r#"{"ok": "terminate: tasks unknown"}"#, revokes(&["a"], true)),
        ("shutdown", "{}", r#"{"ok": "ends when its tasks have ended"}"#, Some(Act::ShutDown)),
        ("registered", "{}", r#"["shop.price"]"#, None),
        ("enable_events", "{}", r#"{"ok": "task events enabled"}"#, None),
        ("disable_events", "{}", r#"{"ok": "task events disabled"}"#, None),
        ("disable_events", "{}", r#"{"ok": "task events already disabled"}"#, None),
        ("fly", "{}", r#"{"error": "KeyError('fly')"}"#, None),
        ("revoke", "{}", r#"{"error": "task_id is missing"}"#, None),
        ("revoke", r#"{"task_id": [3]}"#, r#"{"error": "task_id must be a text or a list of texts"}"#, None),
    ] {
        assert_eq!(answer(&mut control, method, arguments), (said.to_owned(), act), "{method} {arguments}");
    }
}

#[test]
fn workers_tell_each_other_what_was_revoked() {
    let mut control = control(false);
    let scene = Scene { revoked: vec!["a"], ..Scene::default() };
    let mut greet = |arguments: &str| {
        let (reply, act) = control.hear(&request("hello", arguments), &scene);
        (value(&reply.expect("an answer")).members().unwrap_or_default(), act)
    };
    let (said, act) = greet(r#"{"from_node": "other@host", "revoked": ["b"]}"#);
    assert_eq!((said[0].0.as_str(), said[0].1.as_str()), ("revoked", r#"["a"]"#));
    assert_eq!(act, revokes(&["b"], false), "what runs goes on");
    let (_, act) = greet(r#"{"from_node": "other@host", "revoked": {"c": [1.5, "c"]}}"#);
    assert_eq!(act, revokes(&["c"], false), "as older ones say it");
    assert_eq!(greet(r#"{"from_node": "w1@host", "revoked": ["d"]}"#), (vec![], None), "it is itself");
}

#[test]
fn only_those_who_are_meant_answer_and_only_where_answers_go() {
    let mut control = control(false);
    let mut is_heard = |change: fn(&mut ControlRequest)| {
        let mut request = request("ping", "{}");
        change(&mut request);
        control.hear(&request, &Scene::default()).0.is_some()
    };
    assert!(is_heard(|_| ()));
    assert!(is_heard(|request| request.destination = Some(vec![NAME.into()])));
    assert!(!is_heard(|request| request.destination = Some(vec!["w2@host".into()])));
    assert!(is_heard(|request| request.pattern = Some(("w[1-3]@*".into(), "glob".into()))));
    assert!(!is_heard(|request| request.pattern = Some(("v*".into(), "glob".into()))));
    assert!(!is_heard(|request| request.pattern = Some((".*".into(), "pcre".into()))), "not offered");
    assert!(!is_heard(|request| request.reply_to = None));
    let elsewhere = |request: &mut ControlRequest| {
        request.reply_to = Some(ReplyTo { exchange: String::new(), routing_key: "celery".into() });
    };
    assert!(!is_heard(elsewhere), "a request could otherwise publish tasks");
}

#[test]
fn what_is_here_is_shown_by_how_far_it_is() {
    let mut control = control(false);
    let task = |id| TaskMessage {
        argsrepr: Some("(…)".into()),
        ..TaskMessage::new(
            "shop.price",
            id,
            Content::json(Json::parse("[2]").expect("JSON"), Json::EMPTY_OBJECT),
        )
    };
    let (running, ready, later) = (task("running"), task("ready"), task("later"));
    let seen = |task, stage| Seen { task, queue: "a", stage };
    let tasks =
        vec![seen(&running, Stage::Running(12.5)), seen(&ready, Stage::Ready), seen(&later, Stage::PutOff)];
    let scene = Scene { tasks, ..Scene::default() };
    let mut said = |method: &str, arguments: &str| {
        value(&control.hear(&request(method, arguments), &scene).0.expect("an answer"))
    };
    let active = said("active", "{}").elements().expect("a list");
    assert_eq!(active.len(), 1);
    for part in [r#""id": "running""#, r#""args": [2]"#, r#""time_start": 12.5"#, r#""routing_key": "a""#] {
        assert!(active[0].as_str().contains(part), "{part}");
    }
    assert!(said("active", r#"{"safe": true}"#).as_str().contains(r#""args": "("#));
    assert!(said("reserved", "{}").as_str().contains(r#""id": "ready""#));
    assert!(said("scheduled", "{}").as_str().contains(r#""id": "later""#));
    let places = said("query_task", r#"{"ids": ["running", "nobody"]}"#).members().expect("an object");
    assert_eq!((places.len(), places[0].0.as_str()), (1, "running"));
}

fn events(publication: &Publication) -> Vec<Event> {
    Event::parse_all(&publication.properties, &publication.body, &Limits::default()).expect("events")
}

fn at(now: u64) -> Scene<'static> {
    Scene { when: When { now, time: 100.0 }, ..Scene::default() }
}

#[test]
fn tasks_are_told_in_lists_and_workers_singly() {
    let mut control = control(true);
    let when = When { now: 1, time: 100.0 };
    control.tell("task-started", "early", vec![], when);
    assert_eq!((control.take(), control.next_tick()), (vec![], None), "nobody can hear it");
    control.connected(&at(0));
    let online = control.take();
    assert_eq!((online.len(), online[0].routing_key.as_str()), (1, "worker.online"));
    for number in 0..50 {
        control.tell("task-started", &number.to_string(), vec![], when);
    }
    let told = control.take();
    assert_eq!(told.iter().map(|each| events(each).len()).collect::<Vec<_>>(), [24, 24]);
    assert!(told.iter().all(|each| each.routing_key == "task.multi" && each.exchange == "celeryev"));
    assert_eq!(told[0].properties.delivery_mode(), &Some(1));
    let due = control.next_tick().expect("two wait for more");
    control.tick(&at(due));
    assert_eq!(events(&control.take()[0]).len(), 2);
    let beat = control.next_tick().expect("it says that it is there");
    control.tick(&at(beat));
    assert_eq!(control.take()[0].routing_key, "worker.heartbeat");
    control.tell("task-started", "last", vec![], when);
    control.leave(&at(beat));
    let keys: Vec<_> = control.take().into_iter().map(|each| each.routing_key).collect();
    assert_eq!(keys, ["task.multi", "worker.offline"]);
    assert_eq!(control.next_tick(), None);
}

#[test]
fn its_clock_follows_those_of_others() {
    let mut control = control(false);
    let later = ControlRequest { clock: 1000, ..request("ping", "{}") };
    let (reply, _) = control.hear(&later, &Scene::default());
    let properties: BasicProperties = reply.expect("an answer").properties;
    assert!(manyhands_cluster::message::clock_of(&properties) > 1000);
    let never = ControlRequest { clock: u64::MAX, ..request("ping", "{}") };
    assert!(control.hear(&never, &Scene::default()).0.is_some(), "no end of all clocks");
}
