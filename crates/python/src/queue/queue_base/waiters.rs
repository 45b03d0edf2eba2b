//! How coroutines wait at a queue.

use std::sync::Arc;

use manyhands_channel::queue::Queue;
use manyhands_sync::EventCount;
use manyhands_sync::site::{Site, WaitKind};
use pyo3::prelude::*;

use super::QueueBase;
use crate::sync::wake_socket::{Enlisted, Sleepers};

/// What one can wait for at a queue.
#[derive(Clone, Copy)]
pub(crate) enum Point {
    Items,
    Room,
    Done,
}

struct Waiters {
    queue: Py<QueueBase>,
    point: Point,
}

/// A place at `queue`, to be called at the wake socket of this number.
pub(crate) fn enlist(queue: &Bound<'_, QueueBase>, point: Point, socket: u32) -> PyResult<Enlisted> {
    queue.get().any()?;
    Ok(Enlisted::among(Box::new(Waiters { queue: queue.clone().unbind(), point }), socket))
}

impl Waiters {
    fn queue(&self) -> &Queue {
        &self.queue.get().any().expect("nobody is enlisted at a queue that is not open").queue
    }
}

impl Sleepers for Waiters {
    fn site(&self) -> &Arc<Site> {
        self.queue().site()
    }

    fn events(&self) -> EventCount<'_> {
        let queue = self.queue();
        match self.point {
            Point::Items => queue.items(),
            Point::Room => queue.space(),
            Point::Done => queue.joined(),
        }
    }

    fn key(&self) -> u64 {
        let queue = self.queue();
        match self.point {
            Point::Items => queue.items_key(),
            Point::Room => queue.space_key(),
            Point::Done => queue.joined_key(),
        }
    }

    fn kind(&self) -> WaitKind {
        match self.point {
            Point::Items => WaitKind::Get,
            Point::Room => WaitKind::Put,
            Point::Done => WaitKind::Join,
        }
    }
}
