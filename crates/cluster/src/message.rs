//! What travels between producers and workers, in Celery's protocol 2: read from AMQP messages, and made into them.
//!
//! | module | what it is |
//! |---|---|
//! | `task` | a task, and its message; `incoming` reads it, `protocol_1` its older form |
//! | `content` | what a task carries: arguments, and what follows |
//! | `signature` | a task that follows another one |
//! | `options`, `route` | what a signature says of its task, and where that goes |
//! | `headers` | the types of headers |
//! | `reply` | what a worker answers |
//! | `follow_up` | what must be sent after a task has ended |
//! | `event` | what workers tell whoever watches |
//! | `control` | remote control |
//! | `json` | JSON as Python writes it, kept as text |
//! | `iso_time` | points in time |
//! | `unreadable` | why a message is no task |
//!
//! Nothing here waits, reads a clock or panics, whatever a stranger sends.

mod content;
mod control;
mod event;
mod follow_up;
mod headers;
mod incoming;
mod iso_time;
mod json;
mod options;
mod protocol_1;
mod reply;
mod route;
mod signature;
mod task;
mod unreadable;

pub use content::{Content, Embed, Limits};
pub use control::{ControlReply, ControlRequest, ReplyTo, clock_of};
pub use event::{EXCHANGE as EVENT_EXCHANGE, Event, MOST_IN_ONE as MOST_EVENTS_IN_ONE, Teller};
pub use follow_up::{FollowUp, FollowUps, Outcome, Sender, follow_ups};
pub(crate) use headers::text as read_text;
pub use iso_time::Moment;
pub use json::{BadJson, Json, MOST_PIECES};
pub use reply::{Answer, Raised, Reply, State};
pub use route::Route;
pub use signature::Signature;
pub use task::{DELIVERIES, TaskMessage, TimeLimits};
pub use unreadable::Unreadable;
