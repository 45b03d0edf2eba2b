//! `put` and `get` where nobody has to wait and the item is a number: see [`Shortcut`].

use std::ffi::CStr;

use manyhands_channel::queue::{self, Item, Message};
use pyo3::prelude::*;

use super::message::COMPACT;
use super::open::Open;
use super::queue_base::QueueBase;
use crate::codec::compact::{self, Decoder, SCALAR};
use crate::interpreter::ffi::{Arguments, Shortcut, add_shortcut};

/// Adds both to the class.
pub(super) fn register(py: Python<'_>) -> PyResult<()> {
    add_shortcut::<Put>(py)?;
    add_shortcut::<Get>(py)
}

struct Put;

impl Shortcut for Put {
    type Class = QueueBase;
    const NAME: &'static CStr = c"put";
    const ORDINARY: &'static str = "_put";

    #[inline]
    fn attempt<'py>(
        py: Python<'py>,
        object: &QueueBase,
        arguments: Arguments<'_, 'py>,
    ) -> Option<Bound<'py, PyAny>> {
        let open = object.ready().filter(|_| arguments.count() == Some(1))?;
        if open.kind == queue::Kind::Priority {
            return None;
        }
        let item = arguments.get(0)?;
        let mut bytes = [0; SCALAR];
        let length = compact::encode_scalar(&item, &mut bytes)?;
        let message = Message { tag: COMPACT, priority: 0, parts: &[&bytes[..length]] };
        open.queue.try_put(&message).ok()?;
        Some(py.None().into_bound(py))
    }
}

struct Get;

impl Shortcut for Get {
    type Class = QueueBase;
    const NAME: &'static CStr = c"get";
    const ORDINARY: &'static str = "_get";

    #[inline]
    fn attempt<'py>(
        py: Python<'py>,
        object: &QueueBase,
        arguments: Arguments<'_, 'py>,
    ) -> Option<Bound<'py, PyAny>> {
        let open = object.ready().filter(|_| arguments.count() == Some(0))?;
        let (bytes, length) = take_scalar(open)?;
        // What is malformed is as good as lost; a scalar is.
        Decoder::new(&bytes[..length]).value(py)
    }
}

/// Takes the next item if it is a scalar; everything else stays.
#[inline]
fn take_scalar(open: &Open) -> Option<([u8; SCALAR], usize)> {
    let take = |mut item: Item<'_>| {
        let length = item.len();
        if length > SCALAR || item.tag() != COMPACT {
            return Err(());
        }
        let mut bytes = [0; SCALAR];
        item.read(&mut bytes[..length]);
        if compact::is_scalar(&bytes[..length]) { Ok((bytes, length)) } else { Err(()) }
    };
    open.queue.try_get(take).ok()?.ok()
}
