//! The driver: the thread that does for [`crate::state`] what needs the system.
//!
//! It starts the zygote, has workers forked, learns of their deaths, sends signals, keeps deadlines and
//! reads what workers say. It holds the pool's lock only while it decides, and never waits for the
//! interpreter.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use manyhands_channel::arena::DEFAULT_KEEP;
use manyhands_os::clock::{self, Deadline};
use manyhands_os::poll::Interest;
use manyhands_os::process::{self, Pidfd, Spawn};
use manyhands_os::{park, socket};

use crate::control::WorkerStatus;
use crate::shared::{CONTROL, DESCRIPTORS_CLOSED, Shared, WAKER};
use crate::state::plan::Action;
use crate::state::worker_slot::Life;
use crate::zygote::{self, News, Request};

const SIGINT: u8 = 2;
const SIGKILL: u8 = 9;
const SIGURG: u8 = 23;
/// What waiting on a descriptor says that was closed by somebody else, or closed and then used for something else.
const EBADF: i32 = 9;
const EINVAL: i32 = 22;
/// What is said of a new program whose arguments and environment are too long.
const E2BIG: i32 = 7;
/// How long a zygote whose parent's end has closed may take to kill its workers and exit.
const ZYGOTE_GRACE: u64 = clock::SECOND;

/// The zygote as the driver holds it.
struct ZygoteHandle {
    process: Pidfd,
    control: OwnedFd,
}

/// The driver's own things.
pub(crate) struct Driver<T> {
    shared: Arc<Shared<T>>,
    zygote: Option<ZygoteHandle>,
    // By worker slot.
    workers: HashMap<usize, Worker>,
}

/// A worker as the driver holds it.
struct Worker {
    generation: u32,
    pid: i32,
    process: OnceCell<Pidfd>,
}

impl Worker {
    /// Its process; opened later if there was no descriptor for it when it started. It is not reaped before its end has
    /// been sent to us, so this is the process meant.
    fn process(&self) -> io::Result<&Pidfd> {
        if let Some(process) = self.process.get() {
            return Ok(process);
        }
        let opened = Pidfd::open(self.pid)?;
        Ok(self.process.get_or_init(|| opened))
    }
}

/// Whether a packet was not sent because nobody will ever read it; its reader's end is known from the socket.
fn was_hung_up(error: &io::Error) -> bool {
    // The latter where the reader has died with packets unread.
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// Whether what `error` says is missing may be there again in a moment.
fn passes(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory || error.raw_os_error().is_some_and(process::is_shortage)
}

/// What the system says of a program that cannot be started, so that it tells what to do.
fn in_other_words(error: io::Error) -> io::Error {
    if error.raw_os_error() != Some(E2BIG) {
        return error;
    }
    io::Error::other(
        "the environment is too large for the system to start a program: shorten or remove some variables \
         of os.environ (the limit is 128 KiB for one, and a quarter of `ulimit -s` for all together)",
    )
}

impl<T: Send + 'static> Driver<T> {
    pub(crate) fn new(shared: Arc<Shared<T>>) -> Self {
        Self { shared, zygote: None, workers: HashMap::new() }
    }

    /// Runs until the pool has ended.
    pub(crate) fn run(mut self) {
        // Signals are for the threads of the program.
        process::block_signals();
        process::set_name(c"manyhands-pool");
        let poller = &Arc::clone(&self.shared).poller;
        loop {
            let (actions, deadline) = self.shared.lock().plan(clock::now());
            let ends = actions.contains(&Action::End);
            let again = self.perform(&actions);
            if self.shared.has_news() {
                self.shared.control.announce();
            }
            if ends {
                break;
            }
            if again {
                continue;
            }
            let ready = match poller.wait(deadline) {
                Ok(ready) => ready,
                Err(error) if matches!(error.raw_os_error(), Some(EBADF | EINVAL)) => {
                    self.shared.lock().break_down(DESCRIPTORS_CLOSED);
                    break;
                }
                // It is for a shortage, and passes.
                Err(_) => {
                    park::sleep_until(clock::now() + clock::MILLISECOND);
                    Vec::new()
                }
            };
            for (key, _) in ready {
                self.attend(key);
            }
        }
        let _ = poller.remove(&self.shared.waker);
        self.shared.launch.descriptors().clear();
        self.shared.ended();
    }

    /// Carries out what was decided; true when a new decision must follow at once.
    fn perform(&mut self, actions: &[Action]) -> bool {
        let mut again = false;
        for action in actions {
            match *action {
                Action::Reclaim(participant) => self.shared.heap.arena().reclaim(participant.into()),
                Action::StartZygote => again |= self.try_start(Self::start_zygote, Self::give_up_zygote),
                Action::PrepareZygote => {
                    if self.start_zygote().is_err() {
                        self.give_up_zygote();
                    }
                }
                Action::AddWorkerSlot => {
                    again = true;
                    self.try_start(Self::add_worker_slot, |_| ());
                }
                Action::Fork(worker_slot, generation) => {
                    again |= self.try_start(
                        |driver| driver.fork(worker_slot, generation),
                        |driver| driver.give_up_worker(worker_slot, generation),
                    );
                }
                Action::Interrupt(worker_slot) => self.signal(worker_slot, SIGINT),
                Action::Nudge(worker_slot) => self.signal(worker_slot, SIGURG),
                Action::Kill(worker_slot) => self.kill(worker_slot),
                Action::WakeWorkers => {
                    self.shared.control.work().notify_all();
                    self.shared.heap.arena().trim(DEFAULT_KEEP);
                }
                Action::QuitZygote => {
                    if self.send(&Request::Quit).is_err() {
                        self.reap_zygote();
                        again = true;
                    }
                }
                Action::KillZygote => {
                    self.reap_zygote();
                    again = true;
                }
                Action::End => {}
            }
        }
        again
    }

    /// Starts something; if that fails, gives up what was begun, so that nobody waits for it. True when it has failed.
    fn try_start(
        &mut self,
        start: impl FnOnce(&mut Self) -> io::Result<()>,
        give_up: impl FnOnce(&mut Self),
    ) -> bool {
        let Err(error) = start(self) else { return false };
        give_up(self);
        self.shared.lock().run_short(&error.to_string(), passes(&error), clock::now());
        true
    }

    fn give_up_zygote(&mut self) {
        self.shared.lock().zygote_not_started();
        self.reap_zygote();
    }

    fn give_up_worker(&mut self, worker_slot: usize, generation: u32) {
        self.shared.output_pipes().drop_unborn(&self.shared.poller, worker_slot);
        self.shared.lock().not_started(worker_slot, generation);
    }

    fn start_zygote(&mut self) -> io::Result<()> {
        let launch = &self.shared.launch;
        let (control, theirs) = socket::seqpacket_pair()?;
        // In the order of their numbers: `CONTROL_FD`, `SEGMENT_FD`, and from `INHERITED_FD` on the rest.
        let mut fds = vec![theirs.as_fd(), self.shared.heap.segment().fd_to_pass()?];
        let inherited = launch.descriptors();
        fds.extend(inherited.iter().map(AsFd::as_fd));
        let started = process::spawn(&Spawn {
            program: &launch.program,
            args: &launch.arguments,
            env: &launch.environment,
            fds: &fds,
        });
        drop(inherited);
        let process = started.map_err(in_other_words)?;
        let zygote = self.zygote.insert(ZygoteHandle { process, control });
        self.shared.poller.add(&zygote.control, CONTROL, Interest::Readable)?;
        let block = self.shared.launch.set_up.reference().to_bits();
        self.send(&Request::SetUp { block, version: zygote::VERSION.to_owned() })
    }

    fn send(&mut self, request: &Request) -> io::Result<()> {
        let Some(zygote) = &self.zygote else { return Ok(()) };
        match socket::send_packet(&zygote.control, &request.packet(), &[]) {
            Err(error) if was_hung_up(&error) => Ok(()),
            other => other,
        }
    }

    fn add_worker_slot(&mut self) -> io::Result<()> {
        let heap = &self.shared.heap;
        let block = heap.allocate(WorkerStatus::size())?;
        let participant =
            heap.enroll().ok_or_else(|| io::Error::other("a program can have at most 510 workers"))?;
        self.shared.lock().add_worker_slot(block, participant);
        Ok(())
    }

    fn fork(&mut self, index: usize, generation: u32) -> io::Result<()> {
        let (participant, status, told) = {
            let state = self.shared.lock();
            let worker_slot = &state.worker_slots[index];
            if worker_slot.generation != generation || worker_slot.life != Life::Starting {
                // The zygote could not be started.
                return Ok(());
            }
            (worker_slot.participant, worker_slot.status.offset(), worker_slot.index)
        };
        self.shared.heap.renew(participant);
        let control = self.shared.control.offset() as u64;
        let request = Request::Fork { participant, generation, control, status: status as u64, index: told };
        let pipes = self.shared.output_pipes().add(&self.shared.poller, index)?;
        let Some(zygote) = &self.zygote else { return Ok(()) };
        let fds: [_; zygote::PIPES] = [pipes[0].as_fd(), pipes[1].as_fd(), pipes[2].as_fd()];
        match socket::send_packet(&zygote.control, &request.packet(), &fds) {
            Err(error) if was_hung_up(&error) => Ok(()),
            other => other,
        }
    }

    fn signal(&mut self, worker_slot: usize, signal: u8) {
        let Some(worker) = self.workers.get(&worker_slot) else { return };
        let sent = match worker.process() {
            Ok(process) => process.send_signal(signal.into()),
            Err(_) => process::send_signal(worker.pid, signal.into()),
        };
        // A worker that is gone already needs no signal. What is refused to us may be allowed to the zygote.
        if sent.is_err() {
            let generation = worker.generation;
            let participant = self.shared.lock().worker_slots[worker_slot].participant;
            let _ = self.send(&Request::Signal { participant, generation, signal: signal.into() });
        }
    }

    fn kill(&mut self, worker_slot: usize) {
        if let Some(Ok(worker)) = self.workers.get(&worker_slot).map(Worker::process) {
            process::kill_with_descendants(&[worker]);
        }
        // Once more, in case that was refused, or that there was no descriptor to find what it has started.
        self.signal(worker_slot, SIGKILL);
    }

    fn attend(&mut self, key: u64) {
        match key {
            WAKER => {
                self.shared.waker.drain();
            }
            CONTROL => self.read_zygote(),
            pipe => {
                let mut outputs = Vec::new();
                let mut output_pipes = self.shared.output_pipes();
                output_pipes.read(&self.shared.poller, pipe, &mut outputs);
                self.shared.take_in(outputs);
            }
        }
    }

    fn read_zygote(&mut self) {
        let mut packet = vec![0; zygote::LONGEST];
        let Some(zygote) = &self.zygote else { return };
        let received = socket::recv_packet(&zygote.control, &mut packet);
        match received {
            Ok((length, _)) if length > 0 => {
                if let Some(news) = News::parse(&packet[..length]) {
                    self.handle(news);
                }
            }
            // It will be read later.
            Err(error) if passes(&error) => {}
            _ => self.reap_zygote(),
        }
    }

    fn handle(&mut self, news: News) {
        match news {
            News::Ready => {}
            News::Failed(text) => {
                let reason = format!("workers cannot start, so this pool runs no tasks:\n{text}");
                self.shared.lock().break_down(&reason);
            }
            News::Started { participant, generation, pid } => {
                let mut state = self.shared.lock();
                let Some(worker_slot) = state.worker_slot_of(participant) else { return };
                state.worker_started(worker_slot, generation, pid);
                drop(state);
                self.shared.output_pipes().set_pid(worker_slot, pid);
                let worker = Worker { generation, pid, process: OnceCell::new() };
                let _ = worker.process();
                self.workers.insert(worker_slot, worker);
            }
            News::NotForked { participant, generation, errno } => {
                let Some(worker_slot) = self.shared.lock().worker_slot_of(participant) else { return };
                let error = io::Error::from_raw_os_error(errno);
                self.try_start(|_| Err(error), |driver| driver.give_up_worker(worker_slot, generation));
            }
            News::Ended { participant, generation, pid: _, wait_status, rss_bytes } => {
                let Some(worker_slot) = self.shared.lock().worker_slot_of(participant) else { return };
                if self.workers.get(&worker_slot).is_some_and(|worker| worker.generation == generation) {
                    self.workers.remove(&worker_slot);
                }
                self.listen_to(&[worker_slot]);
                let mut state = self.shared.lock();
                state.worker_gone(worker_slot, generation, Some(wait_status), Some(rss_bytes));
                state.refill();
                drop(state);
                self.shared.control.work().notify_all();
            }
        }
    }

    /// Reads what is left in the pipes of workers, so that it comes before news of their end.
    fn listen_to(&mut self, worker_slots: &[usize]) {
        let mut outputs = Vec::new();
        let mut output_pipes = self.shared.output_pipes();
        output_pipes.read_worker_slots(&self.shared.poller, worker_slots, &mut outputs);
        self.shared.take_in(outputs);
    }

    /// Sees to it that the zygote and all its workers are gone.
    fn reap_zygote(&mut self) {
        let workers: Vec<&Pidfd> = self.workers.values().filter_map(|worker| worker.process().ok()).collect();
        process::kill_with_descendants(&workers);
        if let Some(ZygoteHandle { process, control }) = self.zygote.take() {
            let _ = self.shared.poller.remove(&control);
            drop(control);
            wait_or_kill(&process);
        }
        // The kernel kills them with the zygote, but not in the same instant: until they are dead they
        // may write to what is about to be reclaimed.
        let mut is_held = !self.shared.lock().is_starting();
        for (_, worker) in self.workers.drain() {
            let Ok(process) = worker.process() else {
                is_held = false;
                continue;
            };
            let _ = process.send_signal(SIGKILL.into());
            wait_for_end(process, u64::MAX);
        }
        if !is_held {
            // A process that was forked and not yet announced, or came without a descriptor, cannot be waited for.
            process::wait_for_signals_sent();
        }
        let mut outputs = Vec::new();
        let mut output_pipes = self.shared.output_pipes();
        output_pipes.close(&self.shared.poller, &mut outputs);
        self.shared.take_in(outputs);
        drop(output_pipes);
        self.shared.lock().zygote_gone();
    }
}

/// Waits for a zygote that has been told to go; kills it when it does not.
fn wait_or_kill(zygote: &Pidfd) {
    wait_for_end(zygote, clock::now() + ZYGOTE_GRACE);
    if !zygote.has_ended() {
        let _ = zygote.send_signal(SIGKILL.into());
    }
    wait_for_end(zygote, u64::MAX);
    // Someone else may have waited for it: then there is nothing left to reap.
    let _ = process::reap(zygote);
}

fn wait_for_end(process: &Pidfd, deadline: Deadline) {
    while !process.has_ended() && clock::now() < deadline {
        park::sleep_until(clock::now() + clock::MILLISECOND);
    }
}
