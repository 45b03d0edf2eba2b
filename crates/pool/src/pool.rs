//! The handle of a pool of worker processes.

use std::collections::HashSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use manyhands_memory::shared_heap::SharedHeap;
use manyhands_os::clock::{self, Deadline};
use manyhands_os::poll::{EventFd, Interest, Poller};
use manyhands_os::process;
use manyhands_sync::{SpinPolicy, Wait};

use crate::control::Control;
use crate::driver::Driver;
use crate::launch::Launch;
use crate::output_pipes::OutputPipes;
use crate::shared::{DESCRIPTORS_CLOSED, FIRST_OUTPUT_PIPE, Shared, WAKER};
use crate::state::worker_slot::CompletionRings;
use crate::state::{Cancelled, Openness, Refused, Settings, State};
use crate::statistics::Statistics;
use crate::task::{Arguments, Completions, Function, Options, Token};

/// Why a wait for news returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeReason {
    /// There are completions, or the caller's condition holds.
    News,
    /// The deadline has passed.
    TimedOut,
    /// A signal handler has run.
    Interrupted,
    /// Another thread leads: wait for the future itself.
    Led,
    /// The pool has ended and there is nothing left.
    Ended,
}

/// A pool of worker processes, seen from its parent.
pub struct Pool<T> {
    pub(crate) shared: Arc<Shared<T>>,
    pub(crate) driver: Mutex<Option<JoinHandle<()>>>,
    leads: AtomicBool,
    spin: SpinPolicy,
}

impl<T: Send + 'static> Pool<T> {
    /// A pool on this shared heap. Nothing is started before the first task, or [`Pool::prepare`].
    ///
    /// # Errors
    /// When memory or descriptors run out.
    pub fn new(heap: Arc<SharedHeap>, settings: Settings, launch: Launch) -> io::Result<Self> {
        let block = heap.allocate(Control::size())?;
        let control = Control::new(Arc::clone(heap.segment()), block.offset());
        control.clear();
        heap.announce_pool(block.offset());
        let completion_rings = Arc::new(CompletionRings::default());
        let has_completions = Arc::new(AtomicBool::new(false));
        let state = State::new(
            control.clone(),
            Arc::clone(heap.arena()),
            Arc::clone(&completion_rings),
            Arc::clone(&has_completions),
            settings,
        );
        let (waker, poller) = (EventFd::new()?, Poller::new()?);
        poller.add(&waker, WAKER, Interest::Readable)?;
        let shared = Shared {
            heap,
            control,
            _control_block: block,
            launch,
            waker,
            poller,
            state: Mutex::new(state),
            output_pipes: Mutex::new(OutputPipes::new(FIRST_OUTPUT_PIPE)),
            completion_rings,
            has_completions,
            has_ended: Mutex::new(false),
            end: Condvar::new(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            driver: Mutex::new(None),
            leads: AtomicBool::new(false),
            spin: SpinPolicy::new(),
        })
    }

    /// Says that the first task is on its way, so that what starts workers can be started meanwhile.
    pub fn prepare(&self) {
        self.shared.lock().expects_first = true;
        // If there is no driver now, that task will see to it, and tell.
        if self.start_driver().is_ok() {
            self.wake_driver();
        }
    }

    /// Gives the pool a task.
    ///
    /// # Errors
    /// [`Refused`] with the user data when the pool is broken, or closed and the task was not `expected`.
    pub fn submit(
        &self,
        user_data: T,
        function: Arc<Function>,
        arguments: Arguments<'_>,
        flags: u8,
        options: Option<Box<Options>>,
        expected: bool,
    ) -> Result<Token, (Refused, T)> {
        let timed = options.as_ref().is_some_and(|options| options.timeout.is_some());
        let mut state = self.shared.lock();
        let token = state.submit(user_data, function, arguments, flags, options, expected)?;
        let short_of_hands = state.is_short_of_hands();
        let was_at_rest = state.tasks.len() == 1;
        drop(state);
        self.shared.control.work().notify(1);
        if short_of_hands || timed {
            self.start_or_wake_driver();
        } else if was_at_rest {
            self.look_after_driver();
        }
        Ok(token)
    }

    /// See [`State::reserve`].
    ///
    /// # Errors
    /// [`Refused`] when the pool is closed or broken.
    pub fn reserve(&self) -> Result<(), Refused> {
        self.shared.lock().reserve()
    }

    /// See [`State::give_back`].
    pub fn give_back(&self) {
        let mut state = self.shared.lock();
        state.give_back();
        let closing = state.openness != Openness::Open;
        drop(state);
        if closing {
            self.start_or_wake_driver();
        }
    }

    /// Whether there are completions.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.shared.has_news()
    }

    /// Moves all that has finished or been printed into empty completions.
    pub fn take_completions(&self, completions: &mut Completions<T>) {
        // Whoever takes results has to wait for whoever is reading what the tasks printed.
        let mut output_pipes = self.shared.output_pipes();
        let mut state = self.shared.lock();
        let mut wake = state.collect();
        loop {
            let with_output = state.take_with_output();
            if with_output.is_empty() {
                break;
            }
            // What a task printed comes before its result.
            drop(state);
            let mut outputs = Vec::new();
            output_pipes.read_worker_slots(&self.shared.poller, &with_output, &mut outputs);
            self.shared.take_in(outputs);
            state = self.shared.lock();
            wake |= state.collect();
        }
        state.take(completions);
        drop(output_pipes);
        let idle = state.is_at_rest();
        drop(state);
        if wake {
            self.shared.control.work().notify_all();
        }
        if idle {
            // Closing, or time to note since when nothing has been to do.
            self.wake_driver();
        }
    }

    /// As the leader, waits until there is news, `is_done` holds or the deadline passes.
    ///
    /// There is one leader at a time: other threads get [`WakeReason::Led`] at once.
    pub fn wait_as_leader(&self, is_done: impl Fn() -> bool, deadline: Option<Deadline>) -> WakeReason {
        if self.leads.swap(true, Ordering::Acquire) {
            return WakeReason::Led;
        }
        self.shared.control.lead();
        let reason = self.wait_leading(&is_done, deadline);
        self.shared.control.leave();
        // pairs with: the swap above (Acquire)
        self.leads.store(false, Ordering::Release);
        if reason == WakeReason::TimedOut {
            self.look_after_driver();
        }
        // What finished while we were leaving was announced to us.
        if reason != WakeReason::News && self.has_news() { WakeReason::News } else { reason }
    }

    fn wait_leading(&self, is_done: &impl Fn() -> bool, deadline: Option<Deadline>) -> WakeReason {
        let ready = || self.has_news() || is_done();
        let Err(spent) = self.spin.look(|| ready().then_some(())) else { return WakeReason::News };
        let reason = self.sleep(true, ready, deadline);
        if matches!(reason, WakeReason::News | WakeReason::TimedOut) {
            spent.end();
        }
        reason
    }

    fn sleep(&self, leading: bool, ready: impl Fn() -> bool, deadline: Option<Deadline>) -> WakeReason {
        let control = &self.shared.control;
        let event = if leading { control.leader() } else { control.collector() };
        loop {
            let key = event.prepare();
            if ready() {
                return WakeReason::News;
            }
            let wait = event.wait(key, deadline);
            if ready() {
                return WakeReason::News;
            }
            match wait {
                Wait::TimedOut => return WakeReason::TimedOut,
                Wait::Interrupted => return WakeReason::Interrupted,
                _ => {}
            }
        }
    }

    /// As the collector, waits until there is news, the pool has ended or `is_called` holds (see
    /// [`Pool::wake_collector`]), or the deadline passes.
    pub fn wait_as_collector(&self, is_called: impl Fn() -> bool, deadline: Option<Deadline>) -> WakeReason {
        let ready = || self.has_news() || is_called() || self.has_ended();
        let mut reason = self.sleep(false, ready, deadline);
        if reason == WakeReason::News && self.shared.control.is_leader_expected() {
            // Whoever submitted the task may be about to wait for it, and have lost its CPU to the worker or to us. It
            // collects for itself, which takes fewer switches between threads.
            std::thread::yield_now();
            if !ready() {
                reason = self.sleep(false, ready, deadline);
            }
        }
        if self.has_news() {
            self.shared.control.expect_no_leader();
        }
        match reason {
            // Not what is left when there are no more news: another thread may have taken it.
            WakeReason::News if self.has_ended() && !self.has_news() && !is_called() => WakeReason::Ended,
            reason => reason,
        }
    }

    /// Has the collector look whether it is called.
    pub fn wake_collector(&self) {
        self.shared.control.collector().notify(1);
    }

    /// Looks at the user data of an unfinished task; it must not call back into the pool.
    pub fn with_user_data<R>(&self, token: Token, look: impl FnOnce(&T) -> R) -> Option<R> {
        self.shared.lock().tasks.get(token).map(|task| look(&task.user_data))
    }

    /// After a thread that does not lead has settled futures: lets the leader look whether its own is
    /// among them.
    pub fn notify_leader(&self) {
        if self.leads.load(Ordering::SeqCst) {
            self.shared.control.leader().notify_all();
        }
    }

    /// Whether a worker has begun the task.
    #[must_use]
    pub fn is_running(&self, token: Token) -> bool {
        self.shared.lock().is_running(token)
    }

    /// Withdraws a task, or, if `running` may be ended, has its worker stopped; too late if the system refuses us that.
    pub fn cancel(&self, token: Token, running: bool) -> Cancelled<T> {
        let worker = if running { self.shared.lock().worker_of(token) } else { None };
        let running = running && worker.is_none_or(process::may_signal);
        let cancelled = self.shared.lock().cancel(token, running, clock::now());
        if !matches!(cancelled, Cancelled::TooLate) {
            self.start_or_wake_driver();
        }
        cancelled
    }

    /// See [`State::decide_retry`].
    pub fn decide_retry(&self, token: Token, retry: bool) -> Option<T> {
        let mut state = self.shared.lock();
        let user_data = state.decide_retry(token, retry);
        let idle = state.is_at_rest() || state.has_put_off();
        drop(state);
        self.shared.control.work().notify(1);
        if idle {
            self.wake_driver();
        }
        user_data
    }

    /// Has at most this many workers from now on; running tasks are not disturbed.
    pub fn resize(&self, workers: usize) {
        self.shared.lock().settings.workers = workers;
        self.start_or_wake_driver();
    }

    /// What the pool has done and is doing.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let mut statistics = self.shared.lock().statistics(clock::now());
        // Without the lock: it takes longer than all that tasks need it for.
        statistics.measure();
        statistics
    }

    /// Process ids of the workers that are there.
    #[must_use]
    pub fn pids(&self) -> HashSet<i32> {
        self.shared
            .lock()
            .worker_slots
            .iter()
            .filter_map(crate::state::worker_slot::WorkerSlot::pid)
            .collect()
    }

    /// See [`State::is_staffing`].
    #[must_use]
    pub fn is_staffing(&self) -> bool {
        self.shared.lock().is_staffing()
    }

    /// See [`State::wait_status`].
    #[must_use]
    pub fn wait_status(&self, pid: i32) -> Option<i32> {
        self.shared.lock().wait_status(pid)
    }

    /// Tasks that have not ended.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.shared.lock().tasks.len()
    }

    /// Why the pool is broken, if it is.
    #[must_use]
    pub fn broken(&self) -> Option<Arc<str>> {
        self.shared.lock().broken.clone()
    }

    /// Whether tasks are taken.
    ///
    /// # Errors
    /// [`Refused`] when they are not.
    pub fn check_open(&self) -> Result<(), Refused> {
        self.shared.lock().check_open()
    }

    /// Takes no more tasks; the pool ends when those it has are done.
    pub fn close(&self) {
        self.shared.lock().close();
        self.start_or_wake_driver();
    }

    /// Withdraws every task that has not begun; their user data.
    pub fn withdraw_all(&self) -> Vec<T> {
        self.shared.lock().withdraw_all()
    }

    /// See [`State::stop`].
    pub fn stop(&self) -> Vec<T> {
        let user_data = self.shared.lock().stop(clock::now());
        self.start_or_wake_driver();
        user_data
    }

    /// Ends the pool at once, killing its workers; user data of all unfinished tasks.
    pub fn terminate(&self) -> Vec<T> {
        let user_data = self.shared.lock().terminate();
        self.start_or_wake_driver();
        user_data
    }

    /// Whether the pool has ended: no worker, no zygote, no driver.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        *self.shared.has_ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end until `deadline`; whether it has come.
    pub fn join(&self, deadline: Deadline) -> bool {
        let mut ended = self.shared.has_ended.lock().unwrap_or_else(PoisonError::into_inner);
        while !*ended {
            let left = std::time::Duration::from_nanos(clock::until(deadline));
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.end.wait_timeout(ended, left);
            ended = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(ended);
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(driver) = driver {
            let _ = driver.join();
        }
        true
    }

    /// Whether the pool is open, closing or at its end.
    #[must_use]
    pub fn openness(&self) -> Openness {
        self.shared.lock().openness
    }

    /// The shared heap it stands on.
    #[must_use]
    pub fn heap(&self) -> &Arc<SharedHeap> {
        &self.shared.heap
    }

    fn start_driver(&self) -> io::Result<()> {
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever joins takes the handle: after the end there is none, and must be none again.
        if driver.is_none() && !self.has_ended() {
            let worker = Driver::new(Arc::clone(&self.shared));
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name("manyhands-pool".into());
            *driver = Some(thread.spawn(move || {
                // The zygote ends with the driver's end of its socket, and the workers with it.
                if catch_unwind(AssertUnwindSafe(|| worker.run())).is_err() {
                    shared.fall("its driver thread has panicked; see what it printed");
                }
            })?);
        }
        Ok(())
    }

    /// Has the driver look at the state again; starts it if it is not there.
    pub(crate) fn start_or_wake_driver(&self) {
        match self.start_driver() {
            Ok(()) => self.wake_driver(),
            Err(error) => self.shared.fall(&format!("cannot start the pool's driver thread: {error}")),
        }
    }

    /// Has the driver look at the state again, if it is there.
    pub(crate) fn wake_driver(&self) {
        if self.shared.waker.signal().is_err() {
            self.leave_driver();
        }
    }

    /// Fails the pool if its driver sleeps for good, which it cannot tell itself. Said when a task comes after a rest, and
    /// from time to time while somebody waits for one.
    pub(crate) fn look_after_driver(&self) {
        if !self.shared.waker.is_open() {
            self.leave_driver();
        }
    }

    fn leave_driver(&self) {
        // It sleeps on a descriptor that nobody can get at any more, so it must not be waited for.
        drop(self.driver.lock().unwrap_or_else(PoisonError::into_inner).take());
        if !self.has_ended() {
            self.shared.fall(DESCRIPTORS_CLOSED);
        }
    }
}
