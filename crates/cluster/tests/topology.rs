//! What brokers of several versions take, and what not. Those of 3.10 were asked; of later ones it is what their notes say.

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use manyhands_cluster::declaration::Declaration;
use manyhands_cluster::topology::{
    Difference, Ladder, QueueKind, ServerProperties, Version, WorkQueue, refusals, reply_queue,
};

const VERSIONS: [Version; 4] = [Version(3, 10, 8), Version(3, 12, 14), Version(4, 0, 5), Version(4, 3, 4)];
/// A queue that outlives the broker, with nothing else to it.
const DURABLE: QueueDeclareOptions = QueueDeclareOptions {
    passive: false,
    durable: true,
    exclusive: false,
    auto_delete: false,
    nowait: false,
};

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn queue(options: QueueDeclareOptions, arguments: &[(&str, AMQPValue)]) -> Declaration {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert((*name).into(), value.clone());
    }
    Declaration::Queue { name: "q".to_owned(), options, arguments: table, any: false }
}

fn quorum(options: QueueDeclareOptions, argument: Option<(&str, AMQPValue)>) -> Declaration {
    let kind = ("x-queue-type", text("quorum"));
    queue(options, &std::iter::once(kind).chain(argument).collect::<Vec<_>>())
}

/// The codes with which the brokers of [`VERSIONS`] refuse a declaration; 0 where they take it.
fn codes(declaration: &Declaration) -> [u16; 4] {
    VERSIONS.map(|version| {
        let refusals = refusals(declaration, &ServerProperties::rabbitmq(version));
        refusals.last().map_or(0, |refusal| refusal.code)
    })
}

#[test]
fn what_brokers_refuse() {
    let transient = QueueDeclareOptions { durable: false, ..DURABLE };
    let one = AMQPValue::LongInt(1);
    let cases = [
        (queue(DURABLE, &[]), [0; 4]),
        (queue(transient, &[]), [0, 0, 0, 541]),
        (queue(QueueDeclareOptions { exclusive: true, ..transient }, &[]), [0; 4]),
        (queue(DURABLE, &[("x-max-priority", one.clone())]), [0; 4]),
        (queue(DURABLE, &[("x-delivery-limit", one.clone())]), [406; 4]),
        (queue(DURABLE, &[("x-dead-letter-strategy", text("at-least-once"))]), [406; 4]),
        (queue(DURABLE, &[("x-dead-letter-routing-key", text("k"))]), [406; 4]),
        (queue(DURABLE, &[("x-consumer-timeout", one.clone())]), [0; 4]),
        (quorum(DURABLE, None), [0; 4]),
        (quorum(DURABLE, Some(("x-delivery-limit", one.clone()))), [0; 4]),
        (quorum(DURABLE, Some(("x-message-ttl", one.clone()))), [0; 4]),
        (quorum(DURABLE, Some(("x-max-priority", one.clone()))), [406; 4]),
        (quorum(DURABLE, Some(("x-queue-mode", text("lazy")))), [406; 4]),
        (quorum(transient, None), [406, 406, 406, 541]),
        (quorum(QueueDeclareOptions { auto_delete: true, ..DURABLE }, None), [406; 4]),
        (quorum(QueueDeclareOptions { exclusive: true, ..DURABLE }, None), [406; 4]),
    ];
    for (declaration, expected) in cases {
        assert_eq!(codes(&declaration), expected, "{declaration:?}");
    }
    let ttl = quorum(DURABLE, Some(("x-message-ttl", one)));
    assert_eq!(refusals(&ttl, &ServerProperties::rabbitmq(Version(3, 9, 29))).len(), 1);
}

#[test]
fn what_we_declare_is_taken_by_all() {
    let mut declarations = vec![reply_queue("answers")];
    for kind in [QueueKind::Classic, QueueKind::Quorum] {
        let plain = WorkQueue { kind, ..WorkQueue::new("celery") };
        let of_kind = match kind {
            QueueKind::Classic => WorkQueue { most_priority: Some(9), ..plain.clone() },
            QueueKind::Quorum => WorkQueue {
                delivery_limit: Some(3),
                consumer_timeout: Some(60_000),
                keeps_dead_letters: true,
                ..plain.clone()
            },
        };
        declarations.extend(plain.declarations());
        declarations.extend(of_kind.declarations());
        declarations.push(of_kind.dead_letters());
    }
    for version in VERSIONS {
        let server = ServerProperties::rabbitmq(version);
        for declaration in declarations.iter().chain(&Ladder::of(&server).declarations()) {
            assert_eq!(refusals(declaration, &server), [], "{version}");
        }
    }
}

#[test]
fn a_queue_is_as_stock_celery_declares_it() {
    let declarations = WorkQueue::new("celery").declarations();
    let [
        Declaration::Exchange { kind, durable, .. },
        Declaration::Queue { options, arguments, any, .. },
        Declaration::Binding { queue, exchange, key },
    ] = &declarations[..]
    else {
        panic!("an exchange, a queue and a binding")
    };
    assert_eq!((kind, *durable), (&lapin::ExchangeKind::Direct, true));
    assert_eq!((*options, arguments, *any), (DURABLE, &FieldTable::default(), true));
    assert_eq!([queue, exchange, key], ["celery"; 3]);
}

#[test]
fn a_server_is_known_by_what_it_says() {
    let mut capabilities = FieldTable::default();
    capabilities.insert("basic.nack".into(), AMQPValue::Boolean(true));
    capabilities.insert("of.tomorrow".into(), AMQPValue::Boolean(false));
    let mut table = FieldTable::default();
    table.insert("product".into(), text("RabbitMQ"));
    table.insert("version".into(), text("3.10.8"));
    table.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    let server = ServerProperties::parse(&table);
    assert_eq!((server.product.as_str(), server.version), ("RabbitMQ", Version(3, 10, 8)));
    assert_eq!(server.capabilities.into_iter().collect::<Vec<_>>(), ["basic.nack"]);
    assert_eq!(ServerProperties::parse(&FieldTable::default()), ServerProperties::default());
    let all = VERSIONS.map(ServerProperties::rabbitmq);
    assert_eq!(all.each_ref().map(ServerProperties::quorum_priorities), [1, 1, 2, 32]);
    assert_eq!(
        all.each_ref().map(ServerProperties::default_delivery_limit),
        [None, None, Some(20), Some(20)]
    );
    assert_eq!(all.each_ref().map(ServerProperties::counts_only_failures), [false, false, false, true]);
    assert_eq!(all.each_ref().map(ServerProperties::has_consumer_timeouts), [false, true, true, true]);
    assert!(all.iter().all(ServerProperties::has_quorum_delays));
}

#[test]
fn a_refusal_says_what_differs() {
    // As RabbitMQ 3.10.8 has said it.
    for (text, argument, declared, there) in [
        (
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'",
            "durable",
            "'false'",
            "'true'",
        ),
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-max-priority' for queue 'q' in vhost '/': received '7' but current is '5'",
            "x-max-priority",
            "'7'",
            "'5'",
        ),
    ] {
        let difference = Difference::parse(text).expect("it names one");
        assert_eq!(
            [&difference.argument, &difference.name, &difference.declared, &difference.there],
            [argument, "q", declared, there]
        );
    }
    assert_eq!(Difference::parse("PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue 'q'"), None);
}
