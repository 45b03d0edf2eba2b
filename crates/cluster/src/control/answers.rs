//! What a worker tells when it is asked, in the form that `celery inspect` and Flower know.

use std::collections::BTreeMap;

use super::{Profile, Scene, Seen, Stage};
use crate::message::{Content, Json, TaskMessage};

pub(super) fn ok(text: &str) -> Json {
    Json::object([("ok", text.into())])
}

pub(super) fn texts<T: AsRef<str>>(texts: &[T]) -> Json {
    Json::array(texts.iter().map(|text| text.as_ref().into()))
}

/// Tasks at such a stage.
pub(super) fn tasks(
    profile: &Profile,
    scene: &Scene<'_>,
    is_meant: impl Fn(Stage) -> bool,
    safe: bool,
) -> Json {
    let meant = scene.tasks.iter().filter(|seen| is_meant(seen.stage));
    Json::array(meant.map(|seen| about(profile, seen, safe)))
}

/// Tasks that wait for their ETA.
pub(super) fn schedule(profile: &Profile, scene: &Scene<'_>) -> Json {
    let put_off = scene.tasks.iter().filter(|seen| seen.stage == Stage::PutOff);
    Json::array(put_off.map(|seen| {
        Json::object([
            ("eta", eta(seen.task)),
            ("priority", i64::from(seen.task.priority).into()),
            ("request", about(profile, seen, false)),
        ])
    }))
}

/// Where each of these tasks is; of those that are not here nothing.
pub(super) fn query(profile: &Profile, scene: &Scene<'_>, ids: &[String]) -> Json {
    let found = scene.tasks.iter().filter(|seen| ids.contains(&seen.task.id));
    Json::object(found.map(|seen| {
        let stage = match seen.stage {
            Stage::PutOff => "scheduled",
            Stage::Ready => "reserved",
            Stage::Running(_) => "active",
            Stage::Settling => "ready",
        };
        (seen.task.id.as_str(), Json::array([stage.into(), about(profile, seen, false)]))
    }))
}

/// What is said to a revocation; it comes to pass afterwards.
pub(super) fn revoked(ids: &[String], stops: bool, scene: &Scene<'_>) -> Json {
    if !stops {
        return ok(&format!("tasks {} flagged as revoked", ids.join(", ")));
    }
    let is_here = |id: &&String| scene.tasks.iter().any(|seen| seen.task.id == **id);
    let here: Vec<&str> = ids.iter().filter(is_here).map(String::as_str).collect();
    ok(&if here.is_empty() {
        "terminate: tasks unknown".to_owned()
    } else {
        format!("terminate: {}", here.join(", "))
    })
}

fn eta(task: &TaskMessage) -> Json {
    task.eta.map(|eta| eta.to_string()).as_deref().into()
}

/// A task, as those who look at workers know it; `safe`: its arguments as texts.
fn about(profile: &Profile, seen: &Seen<'_>, safe: bool) -> Json {
    let Seen { task, queue, stage } = seen;
    let (args, kwargs) = match &task.content {
        Content::Json { args, kwargs, .. } if !safe => (args.clone(), kwargs.clone()),
        _ => (task.argsrepr.as_deref().into(), task.kwargsrepr.as_deref().into()),
    };
    let since = match stage {
        Stage::Running(since) => Some(*since),
        _ => None,
    };
    let place = Json::object([
        ("exchange", "".into()),
        ("routing_key", (*queue).into()),
        ("priority", i64::from(task.priority).into()),
        ("redelivered", false.into()),
    ]);
    Json::object([
        ("id", task.id.as_str().into()),
        ("name", task.task.as_str().into()),
        ("args", args),
        ("kwargs", kwargs),
        ("type", task.task.as_str().into()),
        ("hostname", profile.hostname.as_str().into()),
        ("time_start", since.into()),
        ("acknowledged", false.into()),
        ("delivery_info", place),
        ("worker_pid", since.map(|_| i64::from(profile.pid)).into()),
    ])
}

pub(super) fn stats(
    profile: &Profile,
    totals: &BTreeMap<String, u64>,
    clock: u64,
    scene: &Scene<'_>,
) -> Json {
    let count = |count: u64| Json::from(i64::try_from(count).unwrap_or(i64::MAX));
    let slots = || Json::from(i64::from(profile.slots));
    let pool = Json::object([
        ("implementation", format!("manyhands:{}", profile.kind).as_str().into()),
        ("max-concurrency", slots()),
        ("processes", Json::array([i64::from(profile.pid).into()])),
    ]);
    let uptime = (scene.when.time - profile.began).max(0.0).floor();
    Json::object([
        ("total", Json::object(totals.iter().map(|(name, total)| (name, count(*total))))),
        ("pid", i64::from(profile.pid).into()),
        ("clock", clock.to_string().as_str().into()),
        ("uptime", uptime.into()),
        ("pool", pool),
        (
            "broker",
            Json::object([("transport", "amqp".into()), ("hostname", profile.broker.as_str().into())]),
        ),
        ("prefetch_count", slots()),
        ("rusage", "N/A".into()),
    ])
}

/// What it is told to be. No password is part of it.
pub(super) fn conf(profile: &Profile) -> Json {
    let accepts = std::iter::once("json").chain(profile.accepts.iter().map(String::as_str));
    Json::object([
        ("broker_url", profile.broker.as_str().into()),
        ("result_backend", "rpc://".into()),
        ("task_default_queue", profile.queues.first().map(String::as_str).into()),
        ("task_queues", texts(&profile.queues)),
        ("accept_content", Json::array(accepts.map(Json::from))),
        ("task_acks_late", true.into()),
        ("worker_pool", profile.kind.as_str().into()),
        ("worker_concurrency", i64::from(profile.slots).into()),
    ])
}

pub(super) fn report(profile: &Profile) -> Json {
    ok(&format!(
        "software -> manyhands:{}\nworker -> {}, {} tasks at a time ({})\nbroker -> {}\nqueues -> {}\n",
        env!("CARGO_PKG_VERSION"),
        profile.hostname,
        profile.slots,
        profile.kind,
        profile.broker,
        profile.queues.join(", "),
    ))
}

pub(super) fn queues(profile: &Profile) -> Json {
    Json::array(profile.queues.iter().map(|name| {
        let exchange = Json::object([
            ("name", "".into()),
            ("type", "direct".into()),
            ("durable", true.into()),
            ("auto_delete", false.into()),
        ]);
        Json::object([
            ("name", name.as_str().into()),
            ("exchange", exchange),
            ("routing_key", name.as_str().into()),
            ("queue_arguments", Json::NULL),
            ("binding_arguments", Json::NULL),
            ("consumer_arguments", Json::NULL),
            ("durable", true.into()),
            ("exclusive", false.into()),
            ("auto_delete", false.into()),
            ("no_ack", false.into()),
            ("alias", Json::NULL),
            ("bindings", Json::EMPTY_ARRAY),
        ])
    }))
}
