//! Slots: one task's record in shared memory.
//!
//! The state word of a slot is the single truth about who may do what with it:
//! `generation (32 bits) | participant (16) | phase (8)`.
//!
//! | phase | means | entered by | left by |
//! |---|---|---|---|
//! | Free | belongs to the parent, holds nothing | parent: [`Slots::release`], [`Slots::withdraw`] | parent: [`Slots::publish`] |
//! | Queued | any worker may claim it | parent: [`Slots::publish`] | worker: [`Slots::claim`]; parent: [`Slots::withdraw`] |
//! | Running | the named participant runs it | that worker: [`Slots::claim`] | that worker: [`Slots::finish`]; parent: [`Slots::begin_cancel`] |
//! | Cancelling | asked to stop; the worker may still finish | parent: [`Slots::begin_cancel`] | that worker: [`Slots::finish`]; parent: [`Slots::kill`] |
//! | Killed | the worker will be killed and must not go on | parent: [`Slots::kill`] | parent, after its death: [`Slots::release`] |
//! | Done | the result is complete | that worker: [`Slots::finish`] | parent: [`Slots::release`] |
//!
//! Every change but the parent's own `publish` and `release` is a compare-and-swap on the whole word,
//! so a late signal or a late worker of an earlier generation can never touch a later task.
//!
//! Other words: function (id, block, length), arguments (head, block, 192 bytes inline), result (head,
//! block, 256 bytes inline). They belong to the parent while the slot is Free, to everyone for reading
//! while Queued, to the claimant until it is Done, then to the parent again.
//!
//! Until there is a result, its bytes have the task's name, and its block word has when the claimant began, for whoever
//! looks from outside.

use manyhands_channel::submission_ring::Entry;
use manyhands_channel::words::{SegmentWords, Words};
use manyhands_sync::atomic::{AtomicU64, Ordering};

/// Words per slot (512 bytes).
pub const SLOT_WORDS: usize = 64;
/// Most bytes of arguments that lie in the slot itself.
pub const ARGUMENTS_INLINE: usize = 192;
/// Most bytes of a result that lie in the slot itself.
pub const RESULT_INLINE: usize = 256;
/// Most bytes of a task's name that lie in the slot.
pub const NAME_INLINE: usize = 64;

const STATE: usize = 0;
const FUNCTION: usize = 2;
const FUNCTION_BLOCK: usize = 3;
const FUNCTION_LENGTH: usize = 1;
const ARGUMENTS: usize = 4;
const ARGUMENTS_BLOCK: usize = 5;
const RESULT: usize = 6;
const RESULT_BLOCK: usize = 7;
const ARGUMENTS_BYTES: usize = 8;
const RESULT_BYTES: usize = ARGUMENTS_BYTES + ARGUMENTS_INLINE / 8;

/// Where a slot is in its life; see the table above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Belongs to the parent.
    Free = 0,
    /// May be claimed.
    Queued = 1,
    /// Runs in a worker.
    Running = 2,
    /// Holds a complete result.
    Done = 3,
    /// Runs, and has been asked to stop.
    Cancelling = 4,
    /// Its worker is being killed.
    Killed = 5,
}

impl Phase {
    fn from_bits(bits: u64) -> Self {
        match bits & 0xff {
            1 => Self::Queued,
            2 => Self::Running,
            3 => Self::Done,
            4 => Self::Cancelling,
            5 => Self::Killed,
            _ => Self::Free,
        }
    }
}

/// A state word, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotState {
    /// Which use of the slot.
    pub generation: u32,
    /// The claimant's participant number; 0 when nobody has claimed it.
    pub participant: u16,
    /// Where it is in its life.
    pub phase: Phase,
}

/// A task that a worker has in hand, for whoever looks from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningTask {
    /// The participant that has it.
    pub participant: u16,
    /// What it is called.
    pub name: String,
    /// When that worker began with it, by the clock; `None` while it is about to, and while there is a result.
    pub begun: Option<u64>,
}

impl SlotState {
    /// Whether a worker has the task in hand.
    fn is_in_hand(self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Cancelling | Phase::Killed)
    }

    fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.participant) << 8 | self.phase as u64
    }

    #[allow(clippy::cast_possible_truncation, reason = "each field is cut from its own bits")]
    fn unpack(word: u64) -> Self {
        Self {
            generation: (word >> 32) as u32,
            participant: (word >> 8) as u16,
            phase: Phase::from_bits(word),
        }
    }
}

/// How bytes of arguments or of a result are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Encoding {
    /// The compact code for small immutable values; in the slot.
    Compact = 0,
    /// A pickle; in the slot.
    Pickle = 1,
    /// A block of shared memory; [`flag::COMPACT`] says what is in it.
    Block = 2,
}

/// Facts that travel with arguments or a result, one bit each.
pub mod flag {
    /// The arguments may be read again by another worker: this one gets buffers of its own.
    pub const RETRIED: u8 = 1;
    /// The worker notes when it started (the task has a timeout).
    pub const TIMED: u8 = 4;
    /// The task brings context variables.
    pub const CONTEXT: u8 = 8;
    /// The result is an exception.
    pub const RAISED: u8 = 16;
    /// The task printed something that must be shown before its result.
    pub const PRINTED: u8 = 32;
    /// What lies in a block is the compact code, and no pickle.
    pub const COMPACT: u8 = 64;
}

/// Encoding, flags and length of arguments or a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// How the bytes are written.
    pub encoding: Encoding,
    /// Bits of [`flag`].
    pub flags: u8,
    /// Number of bytes in the slot; 0 for a block.
    pub length: u32,
}

impl Head {
    fn pack(self) -> u64 {
        u64::from(self.flags) << 40 | (self.encoding as u64) << 32 | u64::from(self.length)
    }

    #[allow(clippy::cast_possible_truncation, reason = "each field is cut from its own bits")]
    fn unpack(word: u64) -> Self {
        let encoding = match (word >> 32) & 0xff {
            0 => Encoding::Compact,
            1 => Encoding::Pickle,
            _ => Encoding::Block,
        };
        Self { encoding, flags: (word >> 40) as u8, length: word as u32 }
    }
}

/// What a worker's [`Slots::finish`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The result stands; push the slot on the completion ring.
    Published,
    /// The parent is about to kill this worker: publish nothing, take nothing more.
    Killed,
}

/// All slots of a pool, seen from any process.
#[derive(Clone)]
pub struct Slots {
    words: SegmentWords,
}

impl Slots {
    /// The slots over `words`, [`SLOT_WORDS`] each.
    #[must_use]
    pub fn new(words: SegmentWords) -> Self {
        Self { words }
    }

    #[inline]
    fn word(&self, slot: u32, word: usize) -> &AtomicU64 {
        self.words.word(slot as usize * SLOT_WORDS + word)
    }

    fn offset(&self, slot: u32, word: usize) -> usize {
        self.words.offset_of(slot as usize * SLOT_WORDS + word)
    }

    /// The state of `slot` now.
    #[inline]
    #[must_use]
    pub fn state(&self, slot: u32) -> SlotState {
        // pairs with: finish (Release)
        SlotState::unpack(self.word(slot, STATE).load(Ordering::Acquire))
    }

    fn change(&self, slot: u32, from: SlotState, to: SlotState) -> bool {
        // Release: what the changer wrote goes with the slot. Acquire: what the last owner wrote is
        // seen. pairs with: every other change, state (Acquire), publish (Release)
        let exchange = self.word(slot, STATE).compare_exchange(
            from.pack(),
            to.pack(),
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        exchange.is_ok()
    }

    /// Parent: lets workers claim a filled slot in its new `generation`.
    pub fn publish(&self, entry: Entry) {
        let state = SlotState { generation: entry.generation, participant: 0, phase: Phase::Queued };
        // Release: function and arguments. pairs with: claim (Acquire)
        self.word(entry.slot, STATE).store(state.pack(), Ordering::Release);
    }

    /// Worker: takes the slot if it is still queued in that generation.
    #[must_use]
    pub fn claim(&self, entry: Entry, participant: u16) -> bool {
        let queued = SlotState { generation: entry.generation, participant: 0, phase: Phase::Queued };
        self.change(entry.slot, queued, SlotState { participant, phase: Phase::Running, ..queued })
    }

    /// Parent: takes a queued slot back; false when a worker has it already.
    #[must_use]
    pub fn withdraw(&self, entry: Entry) -> bool {
        let queued = SlotState { generation: entry.generation, participant: 0, phase: Phase::Queued };
        self.change(entry.slot, queued, SlotState { phase: Phase::Free, ..queued })
    }

    /// Parent: asks the running task to stop; gives the participant that runs it, or `None` when it
    /// does not run (any more).
    #[must_use]
    pub fn begin_cancel(&self, entry: Entry) -> Option<u16> {
        let state = self.state(entry.slot);
        let running = state.generation == entry.generation && state.phase == Phase::Running;
        let cancelling = SlotState { phase: Phase::Cancelling, ..state };
        (running && self.change(entry.slot, state, cancelling)).then_some(state.participant)
    }

    /// Parent: decides to kill the worker of a task that is being cancelled; false when it finished after all.
    #[must_use]
    pub fn kill(&self, entry: Entry) -> bool {
        let state = self.state(entry.slot);
        let cancelling = state.generation == entry.generation && state.phase == Phase::Cancelling;
        cancelling && self.change(entry.slot, state, SlotState { phase: Phase::Killed, ..state })
    }

    /// Worker: its result is complete.
    #[must_use]
    pub fn finish(&self, entry: Entry, participant: u16) -> Finish {
        let running = SlotState { generation: entry.generation, participant, phase: Phase::Running };
        let done = SlotState { phase: Phase::Done, ..running };
        let cancelling = SlotState { phase: Phase::Cancelling, ..running };
        if self.change(entry.slot, running, done) || self.change(entry.slot, cancelling, done) {
            Finish::Published
        } else {
            Finish::Killed
        }
    }

    /// Parent: the slot holds nothing any more.
    pub fn release(&self, slot: u32) {
        let state = SlotState { phase: Phase::Free, participant: 0, ..self.state(slot) };
        // Release: our reads of the result came before. pairs with: claim (Acquire) of a later life
        self.word(slot, STATE).store(state.pack(), Ordering::Release);
    }

    /// Parent: fills in what to run. The slot is Free.
    pub fn write_call(&self, slot: u32, function: u64, function_block: u64, length: usize) {
        self.word(slot, FUNCTION).store(function, Ordering::Relaxed);
        self.word(slot, FUNCTION_LENGTH).store(length as u64, Ordering::Relaxed);
        self.word(slot, FUNCTION_BLOCK).store(function_block, Ordering::Relaxed);
    }

    /// Parent: what the task is called, where its result will be. The slot is Free.
    #[inline]
    pub fn write_name(&self, slot: u32, name: &str) {
        let mut end = name.len().min(NAME_INLINE);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        let bytes = &name.as_bytes()[..end];
        self.words.segment().copy_in(self.offset(slot, RESULT_BYTES), bytes);
        self.word(slot, RESULT).store(bytes.len() as u64, Ordering::Relaxed);
        self.word(slot, RESULT_BLOCK).store(0, Ordering::Relaxed);
    }

    /// Worker: when it began with the task, where the reference to its result's block may be later.
    #[inline]
    pub fn write_begun(&self, slot: u32, now: u64) {
        self.word(slot, RESULT_BLOCK).store(now, Ordering::Relaxed);
    }

    /// When the worker that has the slot's task in hand began with it; `None` when nobody has, or there is a result.
    #[must_use]
    pub fn begun(&self, slot: u32) -> Option<u64> {
        // Acquire: if this is a reference already, the head says so. pairs with: write_result_block (Release)
        let begun = self.word(slot, RESULT_BLOCK).load(Ordering::Acquire);
        let head = Head::unpack(self.word(slot, RESULT).load(Ordering::Relaxed));
        (begun != 0 && head.encoding != Encoding::Block && self.state(slot).is_in_hand()).then_some(begun)
    }

    /// The task in the slot that a worker has in hand; `None` when nobody has, or no longer.
    #[must_use]
    pub fn running_task(&self, slot: u32) -> Option<RunningTask> {
        let state = self.state(slot);
        if !state.is_in_hand() {
            return None;
        }
        let begun = self.begun(slot);
        let length = Head::unpack(self.word(slot, RESULT).load(Ordering::Relaxed)).length as usize;
        let mut bytes = vec![0; length.min(NAME_INLINE)];
        self.words.segment().copy_out(self.offset(slot, RESULT_BYTES), &mut bytes);
        // What the worker writes at this time is a result, and soon after it the state changes. A glance at half of one
        // shows something odd once.
        let is_same = self.state(slot) == state;
        let name = || String::from_utf8_lossy(&bytes).into_owned();
        is_same.then(|| RunningTask { participant: state.participant, name: name(), begun })
    }

    /// The function's id.
    #[must_use]
    pub fn function(&self, slot: u32) -> u64 {
        self.word(slot, FUNCTION).load(Ordering::Relaxed)
    }

    /// The function's block reference, and how many bytes of the block are its encoded form.
    #[must_use]
    pub fn function_block(&self, slot: u32) -> (u64, u64) {
        let block = self.word(slot, FUNCTION_BLOCK).load(Ordering::Relaxed);
        (block, self.word(slot, FUNCTION_LENGTH).load(Ordering::Relaxed))
    }

    /// Parent: arguments that lie in the slot.
    pub fn write_arguments(&self, slot: u32, encoding: Encoding, flags: u8, bytes: &[u8]) {
        assert!(bytes.len() <= ARGUMENTS_INLINE, "inline arguments fit their slot");
        #[allow(clippy::cast_possible_truncation, reason = "at most ARGUMENTS_INLINE")]
        let head = Head { encoding, flags, length: bytes.len() as u32 };
        self.words.segment().copy_in(self.offset(slot, ARGUMENTS_BYTES), bytes);
        self.word(slot, ARGUMENTS).store(head.pack(), Ordering::Relaxed);
    }

    /// Parent: arguments that lie in a block.
    pub fn write_arguments_block(&self, slot: u32, flags: u8, block: u64) {
        let head = Head { encoding: Encoding::Block, flags, length: 0 };
        self.word(slot, ARGUMENTS_BLOCK).store(block, Ordering::Relaxed);
        self.word(slot, ARGUMENTS).store(head.pack(), Ordering::Relaxed);
    }

    /// Head of the arguments, and the block reference if they lie in one. Inline bytes are appended
    /// to `bytes`.
    pub fn read_arguments(&self, slot: u32, bytes: &mut Vec<u8>) -> (Head, u64) {
        self.read(slot, ARGUMENTS, ARGUMENTS_BLOCK, ARGUMENTS_BYTES, ARGUMENTS_INLINE, bytes)
    }

    /// Worker: a result that lies in the slot.
    pub fn write_result(&self, slot: u32, encoding: Encoding, flags: u8, bytes: &[u8]) {
        assert!(bytes.len() <= RESULT_INLINE, "an inline result fits its slot");
        #[allow(clippy::cast_possible_truncation, reason = "at most RESULT_INLINE")]
        let head = Head { encoding, flags, length: bytes.len() as u32 };
        self.words.segment().copy_in(self.offset(slot, RESULT_BYTES), bytes);
        self.word(slot, RESULT).store(head.pack(), Ordering::Relaxed);
    }

    /// Worker: a result that lies in a block handed over to the parent.
    pub fn write_result_block(&self, slot: u32, flags: u8, block: u64) {
        let head = Head { encoding: Encoding::Block, flags, length: 0 };
        self.word(slot, RESULT).store(head.pack(), Ordering::Relaxed);
        // Release: whoever finds the reference knows by the head that it is one. pairs with: begun (Acquire)
        self.word(slot, RESULT_BLOCK).store(block, Ordering::Release);
    }

    /// Head of the result, and the block reference if it lies in one. Inline bytes are appended to
    /// `bytes`.
    pub fn read_result(&self, slot: u32, bytes: &mut Vec<u8>) -> (Head, u64) {
        self.read(slot, RESULT, RESULT_BLOCK, RESULT_BYTES, RESULT_INLINE, bytes)
    }

    fn read(
        &self,
        slot: u32,
        head: usize,
        block: usize,
        first: usize,
        most: usize,
        bytes: &mut Vec<u8>,
    ) -> (Head, u64) {
        let head = Head::unpack(self.word(slot, head).load(Ordering::Relaxed));
        let block = self.word(slot, block).load(Ordering::Relaxed);
        // A task may write anywhere in shared memory: a length is believed only as far as it can be.
        let length = (head.length as usize).min(most);
        let start = bytes.len();
        bytes.resize(start + length, 0);
        self.words.segment().copy_out(self.offset(slot, first), &mut bytes[start..]);
        (head, block)
    }
}
