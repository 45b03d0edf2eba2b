//! A snapshot as one JSON object; its fields are described for users in `docs/command/top.md`.

use std::fmt::Write;

use super::server::{Server, Serving};
use super::{Holder, Label, Object, Party, Pool, Queue, Snapshot, Unreadable, Waiter, Worker};

/// The object, on one line.
#[must_use]
pub fn object(snapshot: &Snapshot) -> String {
    Fields::new()
        .raw("pools", &list(&snapshot.pools, pool))
        .raw("servers", &list(&snapshot.servers, server))
        .raw("queues", &list(&snapshot.queues, queue))
        .raw("objects", &list(&snapshot.objects, one_object))
        .raw("unreadable", &list(&snapshot.unreadable, unreadable))
        .end()
}

fn pool(pool: &Pool) -> String {
    Fields::new()
        .text("place", &format!("{}:{:#x}", pool.place.0, pool.place.1))
        .raw("parent", &party(&pool.parent))
        .number("workers", pool.workers)
        .number("running", pool.running)
        .number("queued", pool.queued)
        .number("ended", pool.ended)
        .raw("crew", &list(&pool.crew, worker))
        .end()
}

fn worker(worker: &Worker) -> String {
    Fields::new()
        .raw("pid", &worker.pid.to_string())
        .raw("task", &worker.task.as_deref().map_or_else(|| "null".to_owned(), quoted))
        .raw("task_s", &worker.task_s.map_or_else(|| "null".to_owned(), |seconds| format!("{seconds:.3}")))
        .raw("cpu_s", &format!("{:.2}", worker.cpu_s))
        .number("rss_bytes", worker.rss_bytes)
        .end()
}

fn server(server: &Server) -> String {
    serving(&server.whole)
        .raw("parent", &party(&server.parent))
        .text("address", &server.address)
        .text("workers", &server.workers)
        .raw("processes", &list(&server.processes, |process| serving(process).end()))
        .end()
}

/// What a server and each of its processes say.
fn serving(serving: &Serving) -> Fields {
    let answered = serving.answered_s.map_or_else(|| "null".to_owned(), |seconds| format!("{seconds:.3}"));
    let numbers = serving.numbers.named().fold(Fields::new(), |all, (name, value)| all.number(name, value));
    Fields::new()
        .raw("pid", &serving.pid.to_string())
        .text("phase", serving.phase)
        .raw("answered_s", &answered)
        .raw("statistics", &numbers.end())
}

fn queue(queue: &Queue) -> String {
    label(&queue.label)
        .number("size", queue.size)
        .raw("maxsize", &queue.maxsize.map_or_else(|| "null".to_owned(), |most| most.to_string()))
        .number("puts", queue.puts)
        .number("gets", queue.gets)
        .flag("closed", queue.is_closed)
        .raw("waiters", &list(&queue.waiters, waiter))
        .end()
}

fn one_object(object: &Object) -> String {
    label(&object.label)
        .text("state", &object.state)
        .raw("holders", &list(&object.holders, holder))
        .raw("waiters", &list(&object.waiters, waiter))
        .end()
}

fn unreadable(each: &Unreadable) -> String {
    Fields::new()
        .text("name", &each.name)
        .text("reason", &each.reason)
        .raw("users", &list(&each.users, party))
        .end()
}

/// The fields that all things with a label begin with.
fn label(label: &Label) -> Fields {
    Fields::new()
        .text("kind", &label.kind)
        .raw("name", &label.name.as_deref().map_or_else(|| "null".to_owned(), quoted))
        .text("place", &format!("{}:{:#x}", label.place.0, label.place.1))
        .raw("users", &list(&label.users, party))
}

fn holder(holder: &Holder) -> String {
    Fields::new().raw("party", &party(&holder.party)).number("count", holder.count).end()
}

fn waiter(waiter: &Waiter) -> String {
    Fields::new()
        .raw("party", &party(&waiter.party))
        .text("purpose", waiter.purpose)
        .flag("asyncio", waiter.is_async)
        .raw("seconds", &format!("{:.3}", waiter.seconds))
        .end()
}

fn party(party: &Party) -> String {
    Fields::new()
        .raw("pid", &party.pid.to_string())
        .text("process", &party.process)
        .raw("thread", &party.thread.map_or_else(|| "null".to_owned(), |thread| thread.to_string()))
        .flag("dead", party.is_dead)
        .end()
}

fn list<T>(all: &[T], write: impl Fn(&T) -> String) -> String {
    format!("[{}]", all.iter().map(write).collect::<Vec<_>>().join(", "))
}

/// An object being written.
struct Fields(String);

impl Fields {
    fn new() -> Self {
        Self("{".to_owned())
    }

    /// A field whose value is JSON already.
    fn raw(mut self, name: &str, value: &str) -> Self {
        if self.0.len() > 1 {
            self.0.push_str(", ");
        }
        self.0.push_str(&quoted(name));
        self.0.push_str(": ");
        self.0.push_str(value);
        self
    }

    fn text(self, name: &str, value: &str) -> Self {
        let value = quoted(value);
        self.raw(name, &value)
    }

    fn number(self, name: &str, value: u64) -> Self {
        self.raw(name, &value.to_string())
    }

    fn flag(self, name: &str, value: bool) -> Self {
        self.raw(name, if value { "true" } else { "false" })
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// A string of JSON (RFC 8259, section 7): control characters, quotes and backslashes are escaped.
fn quoted(text: &str) -> String {
    let mut written = "\"".to_owned();
    for letter in text.chars() {
        match letter {
            '"' | '\\' => written.extend(['\\', letter]),
            control if control.is_control() => {
                // Control characters are all below U+0100.
                let _ = write!(written, "\\u{:04x}", control as u32);
            }
            other => written.push(other),
        }
    }
    written.push('"');
    written
}
