//! Sleeping on a word: the kernel's futex, or under loom a model of it.

#[cfg(not(loom))]
pub(crate) use manyhands_os::park::wait;

/// Wakes up to `count` of those who sleep on `word`, and notes that the caller has done so: what it waits for next may take
/// as long as getting up. Returns how many.
#[cfg(not(loom))]
pub fn wake(word: &crate::atomic::AtomicU32, count: u32) -> usize {
    let woken = manyhands_os::park::wake(word, count);
    if woken > 0 {
        crate::spin_policy::note_waking();
    }
    woken
}

pub use manyhands_os::park::Wait;

#[cfg(loom)]
pub(crate) use model::{wait, wake};

/// A futex as the model checker can see it: comparing and falling asleep are one step (under the lock), and a wake-up
/// reaches only those who sleep already. One queue for all words: a model uses one word at a time.
#[cfg(loom)]
mod model {
    use loom::sync::atomic::{AtomicU32, Ordering};
    use loom::sync::{Condvar, Mutex};
    use manyhands_os::clock::Deadline;

    use super::Wait;

    loom::lazy_static! {
        static ref QUEUE: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
    }

    pub(crate) fn wait(word: &AtomicU32, expected: u32, deadline: Option<Deadline>) -> Wait {
        assert!(deadline.is_none(), "there is no time in a model");
        let guard = QUEUE.0.lock().expect("no panic in the model");
        if word.load(Ordering::Relaxed) != expected {
            return Wait::Changed;
        }
        drop(QUEUE.1.wait(guard).expect("no panic in the model"));
        Wait::Woken
    }

    pub(crate) fn wake(_word: &AtomicU32, count: u32) -> usize {
        let _guard = QUEUE.0.lock().expect("no panic in the model");
        if count == 1 {
            QUEUE.1.notify_one();
        } else {
            QUEUE.1.notify_all();
        }
        0
    }
}
