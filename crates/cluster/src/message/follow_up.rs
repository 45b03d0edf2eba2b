//! What follows the end of a task: the next of its chain, callbacks, errbacks, and answers for those that will never run.

use std::collections::VecDeque;

use super::content::{Content, Embed};
use super::iso_time::Moment;
use super::json::Json;
use super::options::{Members, Options, table};
use super::reply::{Raised, Reply, State, child};
use super::route::Route;
use super::signature::Signature;
use super::task::{TaskMessage, TimeLimits};
use super::unreadable::Unreadable;

/// The most characters of arguments for people, as Celery has it.
const LONGEST_REPR: usize = 1024;
/// How the names of this project's own tasks begin.
const OURS: &str = "manyhands.";
/// Options of a group that name itself, and not its members.
const NOT_PASSED_TO_MEMBERS: [&str; 2] = ["task_id", "group_id"];

/// How a task has ended.
#[derive(Clone, Debug)]
pub enum Outcome<'a> {
    /// It has returned this.
    Success(&'a Json),
    /// It has raised this, here, and does not run again.
    Failure(&'a Raised, Option<&'a str>),
    /// It was revoked.
    Revoked(&'a Raised),
}

/// What must be sent.
#[derive(Clone, Debug, PartialEq)]
pub enum FollowUp {
    /// A task.
    Task(Box<TaskMessage>, Route),
    /// The answer for a task that will never run, for the queue `reply_to`; its id is the correlation id.
    Reply {
        /// The queue.
        reply_to: String,
        /// The answer.
        reply: Box<Reply>,
    },
    /// A chain, a chord, or a group with such a one in it: only those who know canvases can send it.
    Canvas {
        /// What must be sent.
        signature: Box<Signature>,
        /// What goes before its own arguments, if it is not immutable.
        args: Vec<Json>,
        /// The chain that goes on behind it, the next one last.
        chain: Vec<Signature>,
        /// The task that sends it.
        parent_id: String,
        /// The first task of all.
        root_id: String,
    },
}

/// All that must be sent after a task has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct FollowUps {
    /// What must be sent, in this order.
    pub sent: Vec<FollowUp>,
    /// The tasks among it, for [`Reply::children`]; without what only those who know canvases can send.
    pub children: Json,
}

/// The worker that sends what follows.
pub struct Sender<'a> {
    /// Its name, as `gen<pid>@<host>`.
    pub origin: &'a str,
    /// Where answers go that nobody has named a queue for.
    pub reply_to: Option<&'a str>,
    /// The priority that what follows gets whatever it says itself; `None` leaves it.
    pub priority: Option<u8>,
    /// The time.
    pub now: Moment,
    /// Returns an id that nobody else has.
    pub new_id: &'a mut dyn FnMut() -> String,
}

/// Returns what must be sent after a task has ended, in the order in which Celery's own worker does: callbacks and the next of the chain
/// go before the task's answer, the others after it.
///
/// `embed` is what the message says, or what is left of it: errbacks that the worker has called itself are taken out before.
///
/// ```
/// use manyhands_cluster::message::{Content, Embed, FollowUp, Json, Moment, Outcome, Sender, TaskMessage, follow_ups};
///
/// let embed = Embed::parse(&Json::parse(r#"{"chain": [{"task": "show", "args": [1]}, {"task": "double", "options": {"task_id": "b"}}]}"#)?)?;
/// let task = TaskMessage::new("add", "a", Content::json(Json::EMPTY_ARRAY, Json::EMPTY_OBJECT));
/// let mut sender =
///     Sender { origin: "gen7@host", reply_to: None, priority: None, now: Moment(0), new_id: &mut || "new".to_owned() };
/// let follow_ups = follow_ups(&task, &embed, &Outcome::Success(&Json::from(4)), &mut sender)?;
/// assert_eq!(follow_ups.children.as_str(), r#"[[["b", null], null]]"#);
/// let [FollowUp::Task(next, _)] = follow_ups.sent.as_slice() else { panic!("one follows") };
/// assert_eq!((next.task.as_str(), next.id.as_str(), next.parent_id.as_deref()), ("double", "b", Some("a")));
/// assert_eq!(next.embed().map(|embed| embed.chain.len()), Some(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// A signature has options that cannot be.
pub fn follow_ups(
    task: &TaskMessage,
    embed: &Embed,
    outcome: &Outcome<'_>,
    sender: &mut Sender<'_>,
) -> Result<FollowUps, Unreadable> {
    let root_id = task.root_id.as_deref().unwrap_or(&task.id);
    let mut sending =
        Sending { sender, parent_id: &task.id, root_id, sent: Vec::new(), children: Vec::new() };
    match outcome {
        Outcome::Success(result) => {
            let result = [(*result).clone()];
            sending.callbacks(&embed.callbacks, &result)?;
            if let Some((next, rest)) = embed.chain.split_last() {
                sending.one(next, &result, rest, &Members::NONE)?;
            }
        }
        Outcome::Failure(raised, traceback) => {
            sending.fail_chain(&embed.chain, &State::Failure, raised, *traceback);
            sending.group(&embed.errbacks, &[Json::from(task.id.as_str())], None)?;
        }
        Outcome::Revoked(raised) => {
            // Celery's own worker sends nothing here, and whoever waits for the end of the chain does so forever.
            sending.fail_chain(&embed.chain, &State::Revoked, raised, None);
            // Users' errbacks are for failures; ours count for a chord that would wait forever, too.
            let ours: Vec<_> =
                embed.errbacks.iter().filter(|errback| errback.task().starts_with(OURS)).cloned().collect();
            sending.group(&ours, &[Json::from(task.id.as_str())], None)?;
        }
    }
    Ok(FollowUps { sent: sending.sent, children: Json::array(sending.children) })
}

struct Sending<'a, 'b> {
    sender: &'a mut Sender<'b>,
    parent_id: &'a str,
    root_id: &'a str,
    sent: Vec<FollowUp>,
    /// What was sent, as JSON.
    children: Vec<Json>,
}

impl Sending<'_, '_> {
    /// Sends callbacks: a single one by itself, several as groups.
    fn callbacks(&mut self, callbacks: &[Signature], result: &[Json]) -> Result<(), Unreadable> {
        if let [callback] = callbacks {
            return self.one(callback, result, &[], &Members::NONE);
        }
        let (groups, plain): (Vec<_>, Vec<_>) =
            callbacks.iter().cloned().partition(|callback| callback.kind().as_deref() == Some("group"));
        for group in &groups {
            self.one(group, result, &[], &Members::NONE)?;
        }
        self.group(&plain, result, None)
    }

    /// Sends signatures as a group.
    fn group(
        &mut self,
        members: &[Signature],
        args: &[Json],
        of: Option<&Signature>,
    ) -> Result<(), Unreadable> {
        if members.is_empty() {
            return Ok(());
        }
        let own = of.and_then(|group| group.option("task_id")).and_then(Json::text);
        let id = own.unwrap_or_else(|| (self.sender.new_id)());
        let options: Vec<_> = of
            .map(Signature::options)
            .unwrap_or_default()
            .iter()
            .filter(|(name, _)| !NOT_PASSED_TO_MEMBERS.contains(&name.as_str()))
            .cloned()
            .collect();
        let before = std::mem::take(&mut self.children);
        for (index, member) in members.iter().enumerate() {
            let index = u32::try_from(index).ok();
            self.one(member, args, &[], &Members { id: Some(&id), index, options: &options })?;
        }
        let members = std::mem::replace(&mut self.children, before);
        self.children.push(child(&id, Json::array(members)));
        Ok(())
    }

    /// Sends one signature, whatever it is.
    fn one(
        &mut self,
        signature: &Signature,
        args: &[Json],
        chain: &[Signature],
        of: &Members<'_>,
    ) -> Result<(), Unreadable> {
        let kind = signature.kind();
        if kind.as_deref() == Some("group")
            && chain.is_empty()
            && let Some(members) = plain_members(signature)?
        {
            return self.group(&members, args, Some(signature));
        }
        if is_plain(kind.as_deref()) && is_json(signature) {
            // What maps a task over a list takes nothing of what has come before.
            let args = if kind.is_some() { &[] } else { args };
            let task = self.task(signature, args, chain, of)?;
            self.children.push(child(&task.id, Json::NULL));
            self.sent.push(FollowUp::Task(Box::new(task), Route::of_options(signature)));
            return Ok(());
        }
        self.sent.push(FollowUp::Canvas {
            signature: Box::new(signature.clone()),
            args: args.to_vec(),
            chain: chain.to_vec(),
            parent_id: self.parent_id.to_owned(),
            root_id: self.root_id.to_owned(),
        });
        Ok(())
    }

    fn task(
        &mut self,
        signature: &Signature,
        before: &[Json],
        chain: &[Signature],
        of: &Members<'_>,
    ) -> Result<TaskMessage, Unreadable> {
        let options = Options { signature, of };
        let id = options.text("task_id")?.unwrap_or_else(|| (self.sender.new_id)());
        let before = if signature.is_immutable() { &[] } else { before };
        let own = signature.args().elements().map_err(Unreadable::json("args"))?;
        let args = Json::array(before.iter().cloned().chain(own));
        let kwargs = signature.kwargs();
        let (argsrepr, kwargsrepr) = (repr(&args, "(", ")"), repr(&kwargs, "{", "}"));
        let embed = Embed {
            callbacks: options.signatures("link")?,
            errbacks: options.signatures("link_error")?,
            chain: chain.to_vec(),
            chord: options.get("chord").map(|chord| Signature::parse(chord, "chord")).transpose()?,
        };
        let stamped_headers = options.texts("stamped_headers")?;
        let stamps =
            stamped_headers.iter().flatten().filter_map(|name| Some((name.as_str(), options.get(name)?)));
        let stamps = table(stamps)?;
        let users =
            options.get("headers").map(Json::members).transpose().map_err(Unreadable::json("headers"))?;
        let users = table(users.iter().flatten().map(|(name, value)| (name.as_str(), value)))?;
        Ok(TaskMessage {
            root_id: Some(self.root_id.to_owned()),
            parent_id: Some(self.parent_id.to_owned()),
            group: options.own("group_id").and_then(Json::text).or(of.id.map(str::to_owned)),
            group_index: options.count("group_index")?.or(of.index),
            retries: options.count("retries")?.unwrap_or(0),
            eta: options.delayed("eta", "countdown", self.sender.now)?,
            expires: options.delayed("expires", "expires", self.sender.now)?,
            time_limits: TimeLimits {
                hard: options.seconds("time_limit")?,
                soft: options.seconds("soft_time_limit")?,
            },
            ignore_result: options.get("ignore_result").and_then(Json::boolean),
            reply_to: options.text("reply_to")?.or(self.sender.reply_to.map(str::to_owned)),
            priority: match (self.sender.priority, options.count("priority")?) {
                (Some(priority), _) => priority,
                (None, priority) => priority.and_then(|priority| u8::try_from(priority).ok()).unwrap_or(0),
            },
            origin: Some(self.sender.origin.to_owned()),
            shadow: options.text("shadow")?,
            argsrepr: Some(argsrepr),
            kwargsrepr: Some(kwargsrepr),
            replaced_task_nesting: options.count("replaced_task_nesting")?.unwrap_or(0),
            stamped_headers,
            stamps,
            headers: users,
            ..TaskMessage::new(signature.task(), &id, Content::checked(args, kwargs, embed)?)
        })
    }

    /// Answers for all that will never run, as whoever waits for the last of them waits forever otherwise.
    ///
    /// What a chord's body is, is waited for instead of the chord.
    fn fail_chain(&mut self, chain: &[Signature], state: &State, raised: &Raised, traceback: Option<&str>) {
        let mut left: VecDeque<Signature> = chain.iter().cloned().collect();
        while let Some(element) = left.pop_front() {
            let option = |name| element.option(name).and_then(Json::text).filter(|text| !text.is_empty());
            if let (Some(id), Some(reply_to)) = (option("task_id"), option("reply_to")) {
                let reply = Reply {
                    traceback: traceback.map(str::to_owned),
                    date_done: Some(self.sender.now),
                    group_id: option("group_id"),
                    parent_id: option("parent_id"),
                    ..Reply::new(&id, state.clone(), raised.to_json())
                };
                self.sent.push(FollowUp::Reply { reply_to, reply: Box::new(reply) });
            }
            if element.kind().as_deref() == Some("chord") {
                let body = element.kwargs().members().ok().and_then(|members| {
                    members.into_iter().rev().find(|(key, value)| key == "body" && !value.is_null())
                });
                left.extend(body.and_then(|(_, body)| Signature::parse(&body, "chord").ok()));
            }
        }
    }
}

/// Whether a signature of this kind is one task.
fn is_plain(kind: Option<&str>) -> bool {
    matches!(kind, None | Some("xmap" | "xstarmap"))
}

/// Whether a signature's arguments go as JSON.
fn is_json(signature: &Signature) -> bool {
    signature.option("serializer").is_none_or(|serializer| serializer.text().as_deref() == Some("json"))
}

/// Returns the members of a group, or `None` if one is more than a task.
fn plain_members(group: &Signature) -> Result<Option<Vec<Signature>>, Unreadable> {
    let members = group.kwargs().members().map_err(Unreadable::json("kwargs"))?;
    let Some((_, tasks)) = members.into_iter().rev().find(|(key, _)| key == "tasks") else { return Ok(None) };
    let members = Signature::parse_all(&tasks, "members of a group")?;
    let all_plain = members.iter().all(|member| is_plain(member.kind().as_deref()) && is_json(member));
    Ok(all_plain.then_some(members))
}

/// Returns arguments for people, in these brackets, cut where they are long.
fn repr(json: &Json, open: &str, close: &str) -> String {
    let text = json.as_str();
    let inner = text.get(1..text.len() - 1).unwrap_or_default();
    match inner.char_indices().nth(LONGEST_REPR) {
        Some((end, _)) => format!("{open}{}...{close}", &inner[..end]),
        None => format!("{open}{inner}{close}"),
    }
}
