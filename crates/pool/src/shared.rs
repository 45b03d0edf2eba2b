//! What the handle of a pool and its driver share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use manyhands_channel::arena::Block;
use manyhands_memory::shared_heap::SharedHeap;
use manyhands_os::poll::{EventFd, Poller};
use manyhands_os::process::identity;

use crate::control::Control;
use crate::launch::Launch;
use crate::output_pipes::{OutputPipes, kind};
use crate::state::State;
use crate::state::worker_slot::CompletionRings;
use crate::task::{Output, Stream};

/// Key of the waker.
pub(crate) const WAKER: u64 = 0;
pub(crate) const CONTROL: u64 = 1;
/// Keys from here on belong to [`crate::output_pipes::OutputPipes`].
pub(crate) const FIRST_OUTPUT_PIPE: u64 = 2;

/// Why a pool has no driver any more whose descriptors are not its own.
pub(crate) const DESCRIPTORS_CLOSED: &str = "the descriptors of the pool have been closed: code that closes \
    all descriptors, as a daemon does at startup, must run before a pool is first used";

/// What the handle and its driver share.
pub(crate) struct Shared<T> {
    pub(crate) heap: Arc<SharedHeap>,
    pub(crate) control: Control,
    pub(crate) _control_block: Block,
    pub(crate) launch: Launch,
    pub(crate) waker: EventFd,
    pub(crate) poller: Poller,
    pub(crate) state: Mutex<State<T>>,
    pub(crate) output_pipes: Mutex<OutputPipes>,
    pub(crate) completion_rings: Arc<CompletionRings>,
    pub(crate) has_completions: Arc<AtomicBool>,
    pub(crate) has_ended: Mutex<bool>,
    pub(crate) end: Condvar,
}

impl<T> Shared<T> {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Taken before the state's lock, never after it.
    pub(crate) fn output_pipes(&self) -> MutexGuard<'_, OutputPipes> {
        self.output_pipes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_news(&self) -> bool {
        // pairs with: State::deliver, State::hear (Release)
        self.has_completions.load(Ordering::Acquire) || self.completion_rings.has_news()
    }

    /// Passes on what workers printed, and acts on what is meant for the pool itself. The caller still has
    /// the output pipes' lock, so that nothing that is printed later is passed on earlier.
    pub(crate) fn take_in(&self, outputs: Vec<Output>) {
        let mut state = self.lock();
        for output in outputs {
            match (output.stream, output.bytes.first()) {
                (Stream::Reports, Some(&kind::STARVING)) => {
                    if state.collect() {
                        self.control.work().notify_all();
                    }
                }
                (Stream::Reports, Some(&kind::BROKEN)) => {
                    let text = String::from_utf8_lossy(&output.bytes[1..]).into_owned();
                    // Added first: the caller tells of it before futures fail.
                    state.add_output(output);
                    state.break_down(&format!("the initializer failed, so this pool runs no tasks:\n{text}"));
                }
                _ => state.add_output(output),
            }
        }
    }

    /// No driver can do anything more: what is unfinished fails with `reason`, and the pool has ended.
    pub(crate) fn fall(&self, reason: &str) {
        self.lock().break_down(reason);
        self.ended();
    }

    pub(crate) fn ended(&self) {
        let mut has_ended = self.has_ended.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *has_ended, true) {
            return;
        }
        for worker_slot in &self.lock().worker_slots {
            self.heap.dismiss(worker_slot.participant);
        }
        self.heap.withdraw_pool(self.control.offset());
        drop(has_ended);
        self.end.notify_all();
        self.control.announce();
        self.control.collector().notify_all();
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // A forked child has a copy; the pool is the parent's.
        if self.heap.mapping().site().creator() == Some(identity()) {
            self.heap.withdraw_pool(self.control.offset());
        }
    }
}
