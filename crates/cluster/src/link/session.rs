//! The life of a link: connect, serve the connection until it is lost, try again.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered};
use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeleteOptions};
use lapin::protocol::AMQPErrorKind;
use lapin::types::ShortString;
use lapin::{Channel, Confirmation, Connection, ConnectionProperties, ConnectionStatus, ErrorKind};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::consumers::Consumers;
use super::{Command, ConsumerKey, Event, Options, Refusal, Subscription};
use crate::address::Address;
use crate::declaration::Declaration;
use crate::outbox::{Outbox, Publication, Token};

/// So long nothing is tried again after it has failed once; twice as long each further time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often to look whether a connection is still there, beside what it says itself.
const LOOK: Duration = Duration::from_millis(250);
/// How many of each kind are taken at a time, so that none keeps the others waiting.
const BATCH: usize = 512;
/// So many publications are on their way at a time: a broker confirms faster than that can be noticed.
const IN_FLIGHT: usize = 4096;

/// What is left of a link when its connection is lost, and all that it is asked for.
struct State {
    options: Options,
    inbox: UnboundedReceiver<Command>,
    /// What has been asked for and not begun. A step that is broken off takes nothing of it along.
    commands: VecDeque<Command>,
    listener: Box<dyn FnMut(Vec<Event>) + Send>,
    events: Vec<Event>,
    outbox: Outbox,
    declarations: Vec<Declaration>,
    subscriptions: HashMap<ConsumerKey, Subscription>,
    generation: u64,
    /// Until when to wait for the outbox, once the link closes.
    closes_at: Option<Instant>,
}

/// Runs a link until it is closed.
pub(super) async fn run(
    options: Options,
    inbox: UnboundedReceiver<Command>,
    listener: Box<dyn FnMut(Vec<Event>) + Send>,
) {
    let mut state = State {
        options,
        inbox,
        commands: VecDeque::new(),
        listener,
        events: Vec::new(),
        outbox: Outbox::default(),
        declarations: Vec::new(),
        subscriptions: HashMap::new(),
        generation: 0,
        closes_at: None,
    };
    let mut pauses = Pauses::default();
    while !state.is_over() {
        let loss = match connect(&state.options).await {
            Ok(connection) => {
                pauses = Pauses::default();
                Session::serve(&mut state, connection).await
            }
            Err(error) => Some(error),
        };
        state.outbox.connection_lost();
        if let Some(error) = loss {
            let is_permanent = is_permanent(&error);
            state.events.push(Event::Lost { reason: words_of(&error), is_permanent });
            state.tell();
            state.wait(pauses.next()).await;
        }
    }
    state.events.push(Event::Closed { unconfirmed: state.outbox.len() });
    state.tell();
}

impl State {
    /// Whether the link closes and has nothing left to wait for.
    fn is_over(&self) -> bool {
        self.closes_at.is_some_and(|end| self.outbox.is_empty() || Instant::now() >= end)
    }

    fn tell(&mut self) {
        if !self.events.is_empty() {
            (self.listener)(std::mem::take(&mut self.events));
        }
    }

    /// Takes commands while there is no connection.
    async fn wait(&mut self, pause: Duration) {
        let end = Instant::now() + pause;
        while !self.is_over() {
            while let Some(command) = self.commands.pop_front() {
                self.note(&command);
                if let Command::Publish(token, publication) = command {
                    self.outbox.add(token, publication);
                }
            }
            self.tell();
            tokio::select! {
                command = self.inbox.recv() => self.take(command),
                () = sleep_until(self.closes_at.map_or(end, |closes_at| closes_at.min(end))) => return,
            }
        }
    }

    /// Takes a command, and what else has come; none comes any more once nobody has the link.
    fn take(&mut self, command: Option<Command>) {
        match command {
            Some(command) => self.commands.push_back(command),
            None => self.closes_at = Some(Instant::now()),
        }
        while self.commands.len() < BATCH
            && let Ok(command) = self.inbox.try_recv()
        {
            self.commands.push_back(command);
        }
    }

    /// What is remembered of a command beyond the connection, except what is published.
    fn note(&mut self, command: &Command) {
        match command {
            Command::Declare(declarations) => self.declarations.extend(declarations.iter().cloned()),
            Command::Consume(key, subscription) => {
                self.subscriptions.insert(*key, subscription.clone());
            }
            Command::Cancel(key) => {
                if self.subscriptions.remove(key).is_some() {
                    self.events.push(Event::ConsumerCancelled(*key));
                }
            }
            Command::DeleteQueue(name) => {
                self.declarations.retain(|declaration| declaration.name() != name);
                self.subscriptions.retain(|_, subscription| subscription.queue != *name);
            }
            Command::Close { within } => self.closes_at = Some(Instant::now() + *within),
            Command::Publish(..) | Command::Ack { .. } | Command::Reject { .. } => {}
        }
    }
}

/// How a publication has ended: the broker's word, or what went wrong on the way.
type Sent = (Token, lapin::Result<Confirmation>);

/// One connection, from its first step to its loss.
struct Session<'a> {
    state: &'a mut State,
    connection: Connection,
    news: BoxStream<'static, lapin::Event>,
    publishing: Channel,
    in_flight: FuturesUnordered<BoxFuture<'static, Sent>>,
    consumers: Consumers,
    /// Consumers to be opened again, and when.
    again: Vec<(Instant, ConsumerKey, Pauses)>,
}

impl<'a> Session<'a> {
    /// Serves a connection until it is lost (why), or until the link closes.
    async fn serve(state: &'a mut State, connection: Connection) -> Option<lapin::Error> {
        let news = connection.events_listener().boxed();
        let publishing = match confirming_channel(&connection).await {
            Ok(channel) => channel,
            Err(error) => return Some(error),
        };
        state.events.push(Event::Connected);
        let (in_flight, consumers) = (FuturesUnordered::new(), Consumers::new());
        let mut session =
            Session { state, connection, news, publishing, in_flight, consumers, again: Vec::new() };
        let status = session.connection.status().clone();
        // A connection that dies at the wrong moment answers nothing that was asked of it.
        let outcome = tokio::select! {
            outcome = session.work() => outcome,
            error = lost(status) => Err(error),
        };
        match outcome {
            Ok(()) => {
                let _ = session.connection.close(200, "closed".into()).await;
                None
            }
            Err(error) => Some(error),
        }
    }

    async fn work(&mut self) -> lapin::Result<()> {
        for declaration in self.state.declarations.clone() {
            self.declare(&declaration).await?;
        }
        for key in self.state.subscriptions.keys().copied().collect::<Vec<_>>() {
            self.consume(key, Pauses::default()).await?;
        }
        while !self.state.is_over() {
            self.publish();
            self.state.tell();
            self.turn().await?;
            self.check()?;
            self.reopen_publishing().await?;
        }
        Ok(())
    }

    /// Waits until something happens, and does all that has.
    async fn turn(&mut self) -> lapin::Result<()> {
        let retry = self.again.iter().map(|(at, ..)| *at).min();
        let wake = [retry, self.state.closes_at].into_iter().flatten().min();
        tokio::select! {
            biased;
            Some(sent) = self.in_flight.next() => self.settle(sent),
            Some(event) = self.consumers.next() => self.arrived(event),
            Some(news) = self.news.next() => self.hear(news)?,
            command = self.state.inbox.recv() => {
                self.state.take(command);
                self.obey().await?;
            }
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => self.retry().await?,
        }
        for _ in 0..BATCH {
            match self.in_flight.next().now_or_never() {
                Some(Some(sent)) => self.settle(sent),
                _ => break,
            }
        }
        for _ in 0..BATCH {
            match self.consumers.next().now_or_never() {
                Some(Some(event)) => self.arrived(event),
                _ => break,
            }
        }
        if let Ok(command) = self.state.inbox.try_recv() {
            self.state.take(Some(command));
            self.obey().await?;
        }
        Ok(())
    }

    /// Sends what waits, as much as may be on its way.
    fn publish(&mut self) {
        while self.in_flight.len() < IN_FLIGHT {
            let Some((token, publication)) = self.state.outbox.next() else { break };
            let short = |name: &str| ShortString::try_new(name.to_owned());
            let (exchange, key) = (short(&publication.exchange), short(&publication.routing_key));
            let (Ok(exchange), Ok(key)) = (exchange, key) else {
                let why = "names of exchanges and queues have 255 bytes at most";
                self.conclude(token, Some(Refusal::Error(why.to_owned())));
                continue;
            };
            let channel = self.publishing.clone();
            let mut sending = async move {
                let Publication { properties, body, mandatory, .. } = &*publication;
                let options = BasicPublishOptions { mandatory: *mandatory, immediate: false };
                let sent = channel.basic_publish(exchange, key, options, body, properties.clone()).await;
                match sent {
                    Ok(confirm) => (token, confirm.await),
                    Err(error) => (token, Err(error)),
                }
            }
            .boxed();
            // The first step hands it to the connection: here, so that the order is that of the outbox.
            match (&mut sending).now_or_never() {
                Some(sent) => self.settle(sent),
                None => self.in_flight.push(sending),
            }
        }
    }

    fn settle(&mut self, (token, outcome): Sent) {
        let why = match outcome {
            Ok(Confirmation::Ack(None) | Confirmation::NotRequested) => None,
            Ok(Confirmation::Ack(Some(_))) => Some(Refusal::Unroutable),
            Ok(Confirmation::Nack(_)) => Some(Refusal::Nacked),
            Err(error) if matches!(error.kind(), ErrorKind::SerialisationError(_)) => {
                Some(Refusal::Error(words_of(&error)))
            }
            // The channel or the connection has ended: the outbox knows what was sent.
            Err(_) => return,
        };
        self.conclude(token, why);
    }

    fn conclude(&mut self, token: Token, why: Option<Refusal>) {
        let Some(times_sent) = self.state.outbox.settled(token) else { return };
        self.state.events.push(match why {
            None => Event::Confirmed { token, times_sent },
            Some(why) => Event::Refused { token, why },
        });
    }

    fn arrived(&mut self, event: Event) {
        if let Event::ConsumerLost { consumer, .. } = &event {
            let mut pauses = Pauses::default();
            self.again.push((Instant::now() + pauses.next(), *consumer, pauses));
        }
        self.state.events.push(event);
    }

    fn hear(&mut self, news: lapin::Event) -> lapin::Result<()> {
        match news {
            lapin::Event::ConnectionBlocked(reason) => self.state.events.push(Event::Blocked(reason)),
            lapin::Event::ConnectionUnblocked => self.state.events.push(Event::Unblocked),
            lapin::Event::Error(error) if !self.connection.status().connected() => return Err(error),
            _ => {}
        }
        Ok(())
    }

    async fn obey(&mut self) -> lapin::Result<()> {
        while let Some(command) = self.state.commands.pop_front() {
            match command {
                Command::Publish(token, publication) => self.state.outbox.add(token, publication),
                Command::Ack { tag, multiple } => self.consumers.ack(tag, multiple),
                Command::Reject { tag, requeue } => self.consumers.reject(tag, requeue).await,
                Command::Cancel(key) => {
                    self.state.note(&command);
                    self.consumers.cancel(key).await;
                }
                Command::Close { .. } => self.state.note(&command),
                Command::DeleteQueue(ref name) => {
                    self.state.note(&command);
                    let deleting = self.connection.create_channel().await?;
                    let _ = deleting.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await;
                }
                Command::Declare(ref declarations) => {
                    // What was given before goes first: it may be meant for something else.
                    self.publish();
                    self.state.note(&command);
                    for declaration in declarations {
                        self.declare(declaration).await?;
                    }
                }
                Command::Consume(key, _) => {
                    self.state.note(&command);
                    self.consume(key, Pauses::default()).await?;
                }
            }
        }
        self.consumers.flush().await;
        Ok(())
    }

    async fn declare(&mut self, declaration: &Declaration) -> lapin::Result<()> {
        if let Err(error) = declaration.declare(&self.connection).await {
            self.check()?;
            let name = declaration.name().to_owned();
            self.state.events.push(Event::NotDeclared { name, reason: words_of(&error) });
        }
        Ok(())
    }

    async fn consume(&mut self, key: ConsumerKey, mut pauses: Pauses) -> lapin::Result<()> {
        let Some(subscription) = self.state.subscriptions.get(&key) else { return Ok(()) };
        self.state.generation += 1;
        let generation = self.state.generation;
        match self.consumers.consume(&self.connection, key, generation, subscription).await {
            Ok(()) => self.state.events.push(Event::Consuming(key)),
            Err(error) => {
                self.check()?;
                let reason = words_of(&error);
                self.state.events.push(Event::ConsumerLost { consumer: key, reason });
                self.again.push((Instant::now() + pauses.next(), key, pauses));
            }
        }
        Ok(())
    }

    /// Opens consumers again whose time has come.
    async fn retry(&mut self) -> lapin::Result<()> {
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.again).into_iter().partition(|(at, ..)| *at <= now);
        self.again = later;
        for (_, key, pauses) in due {
            self.consume(key, pauses).await?;
        }
        Ok(())
    }

    /// Opens another channel to publish on, once all that was on its way on a closed one has come back.
    async fn reopen_publishing(&mut self) -> lapin::Result<()> {
        if self.publishing.status().connected() || !self.in_flight.is_empty() {
            return Ok(());
        }
        if let Some(token) = self.state.outbox.channel_closed() {
            let why = Refusal::Error("the broker closed the channel over it".into());
            self.state.events.push(Event::Refused { token, why });
        }
        self.publishing = confirming_channel(&self.connection).await?;
        Ok(())
    }

    /// Fails if the connection is gone, with its last word.
    fn check(&mut self) -> lapin::Result<()> {
        if self.connection.status().connected() {
            return Ok(());
        }
        while let Some(Some(news)) = self.news.next().now_or_never() {
            self.hear(news)?;
        }
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into())
    }
}

/// Waits until a connection is gone, and whoever works with it has had the time to notice.
async fn lost(status: ConnectionStatus) -> lapin::Error {
    let mut looks = 0;
    while looks < 2 {
        sleep(LOOK).await;
        looks = if status.connected() { 0 } else { looks + 1 };
    }
    std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into()
}

async fn confirming_channel(connection: &Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

pub(crate) async fn connect(options: &Options) -> lapin::Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name(options.name.as_str().into());
    let runtime = lapin::runtime::default_runtime()?;
    let Address { uri, tls } = options.address.clone();
    let connecting = Connection::connect_uri_with_config(uri, properties, tls, runtime);
    match timeout(options.connect_within, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

/// Whether it is of no use to try the same again: the broker knows who asks, and says no.
fn is_permanent(error: &lapin::Error) -> bool {
    use lapin::protocol::{AMQPHardError, AMQPSoftError};
    let ErrorKind::ProtocolError(error) = error.kind() else { return false };
    matches!(
        error.kind(),
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)
            | AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED | AMQPHardError::INVALIDPATH)
    )
}

/// What went wrong, in the words of the broker or the system.
pub(crate) fn words_of(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        ErrorKind::IOError(error) => error.to_string(),
        _ => error.to_string(),
    }
}

/// Longer and longer, and not the same for all who wait for one broker.
#[derive(Default)]
struct Pauses {
    failures: u32,
}

impl Pauses {
    fn next(&mut self) -> Duration {
        let pause = (FIRST_PAUSE * 2_u32.pow(self.failures.min(10))).min(LONGEST_PAUSE);
        self.failures += 1;
        // Half of it is by chance.
        let chance = RandomState::new().hash_one(self.failures) % 1000;
        pause / 2 + pause / 2 * u32::try_from(chance).unwrap_or(0) / 1000
    }
}
