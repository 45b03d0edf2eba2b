//! Whatever may come from a broker, as bytes: the properties as they are on the wire, and the body behind them.

use lapin::BasicProperties;
use lapin::protocol::basic::parse_properties;
use manyhands_cluster::message::{
    Answer, ControlReply, ControlRequest, Embed, Event, Json, Limits, Moment, Outcome, Raised, Sender,
    TaskMessage, follow_ups,
};

const LIMITS: Limits = Limits { body: 1 << 20 };
const NOW: Moment = Moment(1_796_074_394_250);

/// Reads a message as everything that it may be. What is a task is sent on the same from then on, and can be followed.
pub(crate) fn run(bytes: &[u8]) {
    let Ok((body, properties)) = parse_properties(bytes) else { return };
    let _ = Answer::parse(&properties, body, &LIMITS);
    let _ = ControlRequest::parse(&properties, body, &LIMITS);
    let _ = ControlReply::parse(&properties, body, &LIMITS);
    for event in Event::parse_all(&properties, body, &LIMITS).unwrap_or_default() {
        let _ = (event.kind(), event.routing_key(), event.to_amqp("w@host"));
    }
    match TaskMessage::parse(&properties, body, &LIMITS) {
        Ok(task) => run_task(&task),
        Err(error) => assert!(!error.word().is_empty() && !error.to_string().is_empty()),
    }
}

fn run_task(task: &TaskMessage) {
    let sent = again(task.to_amqp(NOW));
    assert_eq!(format!("{:?}", again(sent.to_amqp(NOW))), format!("{sent:?}"));
    let _ = (again(task.retried(Some(NOW)).to_amqp(NOW)), again(task.redelivered().to_amqp(NOW)));
    let nothing = Embed::default();
    let embed = task.embed().unwrap_or(&nothing);
    let raised = Raised::new("builtins", "ValueError", Json::EMPTY_ARRAY);
    for outcome in
        [Outcome::Success(&Json::NULL), Outcome::Failure(&raised, Some("here")), Outcome::Revoked(&raised)]
    {
        let mut sender = Sender {
            origin: "gen7@host",
            reply_to: Some("own"),
            priority: None,
            now: NOW,
            new_id: &mut || "new".to_owned(),
        };
        let _ = follow_ups(task, embed, &outcome, &mut sender);
    }
}

fn again((properties, body): (BasicProperties, Vec<u8>)) -> TaskMessage {
    TaskMessage::parse(&properties, &body, &Limits::default()).expect("what we send can be read")
}
