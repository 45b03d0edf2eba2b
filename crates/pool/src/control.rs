//! Where the parts of a pool lie in its block of shared memory.
//!
//! | byte | part | set by |
//! |---|---|---|
//! | 0, 64 | *work*: event that there is a task (sequence, sleepers) | parent notifies, workers wait |
//! | 128, 192 | *leader*: event for the thread that waits for a result (sequence, sleepers) | workers and driver notify |
//! | 256, 320 | *collector*: event for the collector thread (sequence, sleepers) | workers and driver notify |
//! | 384 | flags: [`STOP`] | parent |
//! | 448 | lead: [`PRESENT`] while a thread leads, [`EXPECTED`] while results are mostly collected by one | parent |
//! | 512 | starving: 1 while the parent has a backlog that no slot holds | parent sets, worker clears |
//! | 576 | account: [`MARK`], then the words of [`Account`], then the crew: a bit for each participant that is one of the pool's workers | parent, for whoever looks from outside |
//! | 1024 | submission ring | |
//! | then | slots | |
//!
//! Each worker slot (a worker's place) has a block of its own: see [`WorkerStatus`].

use std::sync::Arc;

use manyhands_channel::completion_ring::CompletionRing;
use manyhands_channel::submission_ring::SubmissionRing;
use manyhands_channel::words::{SegmentWords, Words};
use manyhands_os::memory::Segment;
use manyhands_sync::EventCount;
use manyhands_sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use manyhands_sync::site::MOST_PARTICIPANTS;

use crate::slots::{Phase, RunningTask, SLOT_WORDS, Slots};

/// Slots of a pool: how many tasks are in shared memory at one time; the rest waits in the backlog. As many as let the
/// control block fit into one chunk of the arena, which is made to exist before the first worker is started.
pub const SLOTS: usize = 1920;
// Withdrawn tasks leave stale entries behind until a worker passes them: room for those too.
const SUBMISSION_RING_ENTRIES: usize = 2 * SLOTS;

const WORK: usize = 0;
const LEADER: usize = 128;
const COLLECTOR: usize = 256;
const FLAGS: usize = 384;
const LEAD: usize = 448;
const STARVING: usize = 512;
const ACCOUNT: usize = 576;
const SUBMISSION_RING: usize = 1024;

/// Says that a block is a pool's: "manyhand" and the version of the layout.
const MARK: u64 = u64::from_le_bytes(*b"mhPool03");

/// The word of the account at which the crew begins, and how many words it has.
const CREW: usize = 4;
const CREW_WORDS: usize = MOST_PARTICIPANTS / 64;

const _: () = assert!(ACCOUNT + 8 * (CREW + CREW_WORDS) <= SUBMISSION_RING);

/// Flag: workers end as soon as they have no task.
pub const STOP: u32 = 1;

/// A thread leads.
const PRESENT: u32 = 1;
/// The last results were collected by a leader: there will be one for the next, too.
const EXPECTED: u32 = 2;

/// What a pool says about itself to whoever looks from outside. Each number is right by itself; two that are read one
/// after the other may belong to different moments.
///
/// | word | meaning | set by |
/// |---|---|---|
/// | 1 | tasks submitted | parent, at each submission |
/// | 2 | of these, tasks that have not ended | parent, at each submission and end |
/// | 3 | workers that are there | parent, at each start and end of one |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Tasks submitted since the pool began.
    pub submitted: u64,
    /// Tasks that have not ended.
    pub unfinished: u64,
    /// Workers that are there.
    pub workers: u64,
}

/// The block that all of a pool's processes share.
#[derive(Clone)]
pub struct Control {
    segment: Arc<Segment>,
    offset: usize,
}

impl Control {
    /// Bytes that a pool's control block takes.
    #[must_use]
    pub fn size() -> usize {
        SUBMISSION_RING
            + 8 * SubmissionRing::<SegmentWords>::words(SUBMISSION_RING_ENTRIES)
            + 8 * SLOT_WORDS * SLOTS
    }

    /// The control block at byte `offset` of `segment`: zeroed by the parent, or in use.
    #[must_use]
    pub fn new(segment: Arc<Segment>, offset: usize) -> Self {
        Self { segment, offset }
    }

    /// The control block that somebody says is at byte `offset` of `segment`; `None` when there can be none.
    #[must_use]
    pub fn find(segment: &Arc<Segment>, offset: usize) -> Option<Self> {
        let is_inside = offset.is_multiple_of(64) && offset.checked_add(Self::size())? <= segment.len();
        let control = is_inside.then(|| Self::new(Arc::clone(segment), offset))?;
        (control.account_word(0).load(Ordering::Relaxed) == MARK).then_some(control)
    }

    fn account_word(&self, word: usize) -> &AtomicU64 {
        self.segment.word64(self.offset + ACCOUNT + 8 * word)
    }

    /// Parent: how many tasks it has taken and not ended.
    pub fn note_tasks(&self, submitted: u64, unfinished: u64) {
        self.account_word(1).store(submitted, Ordering::Relaxed);
        self.account_word(2).store(unfinished, Ordering::Relaxed);
    }

    /// Parent: which participants are its workers.
    pub fn note_workers(&self, participants: impl Iterator<Item = u16>) {
        let (mut workers, mut crew) = (0, [0_u64; CREW_WORDS]);
        for participant in participants.map(usize::from).filter(|number| *number < MOST_PARTICIPANTS) {
            workers += 1;
            crew[participant / 64] |= 1 << (participant % 64);
        }
        self.account_word(3).store(workers, Ordering::Relaxed);
        for (word, bits) in crew.into_iter().enumerate() {
            self.account_word(CREW + word).store(bits, Ordering::Relaxed);
        }
    }

    /// The participants that the parent has noted as its workers, for whoever looks from outside.
    pub fn crew(&self) -> impl Iterator<Item = u16> {
        let crew: [u64; CREW_WORDS] =
            std::array::from_fn(|word| self.account_word(CREW + word).load(Ordering::Relaxed));
        #[allow(clippy::cast_possible_truncation, reason = "MOST_PARTICIPANTS is small")]
        let numbers = 0..MOST_PARTICIPANTS as u16;
        numbers.filter(move |number| crew[usize::from(*number) / 64] >> (number % 64) & 1 == 1)
    }

    /// The tasks that are in workers' hands, for whoever looks from outside.
    #[must_use]
    pub fn tasks(&self) -> Vec<RunningTask> {
        let slots = self.slots();
        (0..).take(SLOTS).filter_map(|slot| slots.running_task(slot)).collect()
    }

    /// What the parent has noted.
    #[must_use]
    pub fn account(&self) -> Account {
        let [submitted, unfinished, workers] =
            [1, 2, 3].map(|word| self.account_word(word).load(Ordering::Relaxed));
        Account { submitted, unfinished, workers }
    }

    /// How many tasks are in workers' hands.
    #[must_use]
    pub fn running(&self) -> u64 {
        let slots = self.slots();
        let in_hands = |slot: &u32| {
            matches!(slots.state(*slot).phase, Phase::Running | Phase::Cancelling | Phase::Killed)
        };
        (0..).take(SLOTS).filter(in_hands).count() as u64
    }

    /// Sets everything but the mark to zero: a reused block may hold anything.
    pub fn clear(&self) {
        let words = SegmentWords::new(Arc::clone(&self.segment), self.offset, Self::size() / 8);
        for index in 0..words.count() {
            words.word(index).store(0, Ordering::Relaxed);
        }
        self.account_word(0).store(MARK, Ordering::Relaxed);
    }

    /// Byte offset of the block in the segment: how a worker finds it.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The segment the block lies in.
    #[must_use]
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    fn event(&self, at: usize) -> EventCount<'_> {
        let sequence = self.segment.word32(self.offset + at);
        EventCount::new(sequence, self.segment.word32(self.offset + at + 64))
    }

    /// Workers wait here for tasks.
    #[must_use]
    pub fn work(&self) -> EventCount<'_> {
        self.event(WORK)
    }

    /// The thread that waits for a result, waits here.
    #[must_use]
    pub fn leader(&self) -> EventCount<'_> {
        self.event(LEADER)
    }

    /// The collector thread waits here.
    #[must_use]
    pub fn collector(&self) -> EventCount<'_> {
        self.event(COLLECTOR)
    }

    /// Bits such as [`STOP`].
    #[must_use]
    pub fn flags(&self) -> &AtomicU32 {
        self.segment.word32(self.offset + FLAGS)
    }

    /// 1 while the parent has tasks that found no slot.
    #[must_use]
    pub fn starving(&self) -> &AtomicU32 {
        self.segment.word32(self.offset + STARVING)
    }

    fn lead_word(&self) -> &AtomicU32 {
        self.segment.word32(self.offset + LEAD)
    }

    /// Tells the parent that something has finished: the leader if there is one, else the collector.
    ///
    /// The caller has published what finished before. A leader that leaves looks once more after
    /// [`Control::leave`], and both sides have a full fence between, so one of them sees the other.
    pub fn announce(&self) {
        self.announce_if(|_| true);
    }

    /// As [`announce`](Self::announce), unless nobody leads but a thread soon should, which will look by itself: then
    /// nobody is notified, and the caller must notify a moment later if what finished is still there. Returns whether
    /// the parent has been told.
    #[must_use]
    pub fn announce_unless_expected(&self) -> bool {
        self.announce_if(|lead| lead != EXPECTED)
    }

    fn announce_if(&self, is_wanted: impl FnOnce(u32) -> bool) -> bool {
        fence(Ordering::SeqCst);
        let lead = self.lead_word().load(Ordering::Relaxed);
        let wanted = is_wanted(lead);
        if wanted && lead & PRESENT != 0 {
            self.leader().notify(1);
        } else if wanted {
            self.collector().notify(1);
        }
        wanted
    }

    /// Parent: a thread takes the lead.
    pub fn lead(&self) {
        self.lead_word().store(PRESENT | EXPECTED, Ordering::SeqCst);
    }

    /// Parent: the leader goes; it must look for finished tasks once more after this.
    pub fn leave(&self) {
        self.lead_word().store(EXPECTED, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Parent: whether there should be a leader soon, or is one.
    pub fn is_leader_expected(&self) -> bool {
        self.lead_word().load(Ordering::Relaxed) & EXPECTED != 0
    }

    /// Parent: the collector had to collect, so nobody should wait for a leader that may not come.
    pub fn expect_no_leader(&self) {
        self.lead_word().fetch_and(!EXPECTED, Ordering::Relaxed);
    }

    /// The order of queued slots.
    #[must_use]
    pub fn submission_ring(&self) -> SubmissionRing<SegmentWords> {
        let count = SubmissionRing::<SegmentWords>::words(SUBMISSION_RING_ENTRIES);
        SubmissionRing::new(SegmentWords::new(
            Arc::clone(&self.segment),
            self.offset + SUBMISSION_RING,
            count,
        ))
    }

    /// The slots.
    #[must_use]
    pub fn slots(&self) -> Slots {
        let first = self.offset
            + SUBMISSION_RING
            + 8 * SubmissionRing::<SegmentWords>::words(SUBMISSION_RING_ENTRIES);
        Slots::new(SegmentWords::new(Arc::clone(&self.segment), first, SLOTS * SLOT_WORDS))
    }
}

/// A worker's own block: what it does now, and its completion ring.
///
/// | word | name | set by |
/// |---|---|---|
/// | 0 | current: the task, as [`Entry::to_note`](manyhands_channel::submission_ring::Entry::to_note) has it; 0 when idle | worker |
/// | 1 | started: clock in ns when a timed task began to run, or does so at the latest | worker, before the task runs |
/// | 2 | tasks done | worker |
/// | 3 | retire: 1 when the worker must end after its task | parent |
/// | 4 | resident bytes, when last looked at | worker |
/// | 16… | completion ring | worker |
#[derive(Clone)]
pub struct WorkerStatus {
    words: SegmentWords,
}

const CURRENT: usize = 0;
const STARTED: usize = 1;
const TASKS_DONE: usize = 2;
const RETIRE: usize = 3;
const COMPLETION_RING: usize = 16;

impl WorkerStatus {
    /// Bytes of a worker slot's block.
    #[must_use]
    pub fn size() -> usize {
        8 * (COMPLETION_RING + CompletionRing::<SegmentWords>::words(SLOTS))
    }

    /// The status at byte `offset` of `segment`.
    #[must_use]
    pub fn new(segment: Arc<Segment>, offset: usize) -> Self {
        Self { words: SegmentWords::new(segment, offset, Self::size() / 8) }
    }

    /// Parent: makes it ready for a new worker. The completion ring goes on where it stands.
    pub fn reset(&self) {
        for word in [CURRENT, STARTED, TASKS_DONE, RETIRE] {
            self.words.word(word).store(0, Ordering::Relaxed);
        }
    }

    /// Parent: sets everything to zero, the completion ring included.
    pub fn clear(&self) {
        for index in 0..self.words.count() {
            self.words.word(index).store(0, Ordering::Relaxed);
        }
    }

    /// Byte offset of the status in its segment: how a worker finds it.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.words.offset_of(0)
    }

    /// What the worker runs: see the table.
    #[must_use]
    pub fn current(&self) -> &AtomicU64 {
        self.words.word(CURRENT)
    }

    /// When the timed task began to run; while it is being loaded, when it counts as running all the same.
    #[must_use]
    pub fn started(&self) -> &AtomicU64 {
        self.words.word(STARTED)
    }

    /// Tasks this worker has finished.
    #[must_use]
    pub fn tasks_done(&self) -> &AtomicU64 {
        self.words.word(TASKS_DONE)
    }

    /// Whether the worker must end.
    #[must_use]
    pub fn retire(&self) -> &AtomicU64 {
        self.words.word(RETIRE)
    }

    /// The worker's finished slots.
    #[must_use]
    pub fn completion_ring(&self) -> CompletionRing<SegmentWords> {
        CompletionRing::new(self.words.part(COMPLETION_RING, CompletionRing::<SegmentWords>::words(SLOTS)))
    }
}
