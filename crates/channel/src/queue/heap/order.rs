//! Which item is next, and everything else that the cells say when it must be rebuilt.

use manyhands_sync::atomic::Ordering;
use manyhands_sync::words::Words;

use super::super::error::Corrupt;
use super::super::item::Header;
use super::super::layout::head;
use super::{HEADER, Heap, LIVE, NEXT, NEXT_FURTHER, STATE};

impl Heap {
    fn at(&self, place: usize) -> Result<u32, Corrupt> {
        self.known(self.order.word(place).load(Ordering::Relaxed))
    }

    fn set(&self, place: usize, cell: u32) {
        self.order.word(place).store(u64::from(cell), Ordering::Relaxed);
    }

    fn set_len(&self, len: usize) {
        self.set_word(head::HEAP_LEN, len as u64);
    }

    pub(super) fn push(&self, cell: u32) -> Result<(), Corrupt> {
        let mut place = self.len();
        if place >= self.plan.count as usize {
            return Err(Corrupt { what: "more items than cells" });
        }
        if !self.is_stack {
            let rank = self.rank(cell);
            while place > 0 {
                let above = self.at((place - 1) / 2)?;
                if self.rank(above) <= rank {
                    break;
                }
                self.set(place, above);
                place = (place - 1) / 2;
            }
        }
        self.set(place, cell);
        self.set_len(self.len() + 1);
        Ok(())
    }

    /// Takes the next cell from the order.
    pub(super) fn pop(&self) -> Result<u32, Corrupt> {
        let len = self.len();
        let last = self.at(len.checked_sub(1).ok_or(Corrupt { what: "fewer items than there were" })?)?;
        self.set_len(len - 1);
        if self.is_stack || len == 1 {
            return Ok(last);
        }
        let top = self.at(0)?;
        self.sink(last, len - 1)?;
        Ok(top)
    }

    /// Puts `cell` in from the top, among `len` places of which the first is free.
    fn sink(&self, cell: u32, len: usize) -> Result<(), Corrupt> {
        let rank = self.rank(cell);
        let mut place = 0;
        loop {
            let mut below = 2 * place + 1;
            if below >= len {
                break;
            }
            if below + 1 < len && self.rank(self.at(below + 1)?) < self.rank(self.at(below)?) {
                below += 1;
            }
            let child = self.at(below)?;
            if rank <= self.rank(child) {
                break;
            }
            self.set(place, child);
            place = below;
        }
        self.set(place, cell);
        Ok(())
    }

    /// Repairs what a dead holder of the latch left behind: everything but the cells is rebuilt. Returns the
    /// numbers of the items that are there.
    pub(crate) fn rebuild(&self) -> Result<Vec<u64>, Corrupt> {
        self.set_word(head::PUT_DEATHS, self.get_word(head::PUT_DEATHS).wrapping_add(1));
        let fresh = self.get_word(head::FRESH);
        if fresh > u64::from(self.plan.count) {
            return Err(Corrupt { what: "more cells are in use than exist" });
        }
        let fresh = fresh as u32;
        // pairs with: put
        let commit = self.word(head::PUT_COMMIT).load(Ordering::Acquire);
        let mut used = vec![false; fresh as usize];
        let mut live = Vec::new();
        for cell in 0..fresh {
            // pairs with: write, take_away
            let state = self.cell(cell, STATE).load(Ordering::Acquire);
            if state & LIVE == 0 {
                continue;
            }
            if state & !LIVE >= commit {
                self.cell(cell, STATE).store(0, Ordering::Relaxed);
                continue;
            }
            self.mark(cell, &mut used)?;
            live.push((state & !LIVE, cell));
        }
        self.set_word(head::SPARE, 0);
        let in_use = used.iter().filter(|used| **used).count();
        for cell in (0..fresh).rev().filter(|cell| !used[*cell as usize]) {
            self.release_one(cell);
        }
        self.set_word(head::LINKED, in_use as u64);
        self.set_len(0);
        live.sort_unstable();
        for (_, cell) in &live {
            self.push(*cell)?;
        }
        Ok(live.into_iter().map(|(number, _)| number).collect())
    }

    /// Notes the cells of an item.
    fn mark(&self, first: u32, used: &mut [bool]) -> Result<(), Corrupt> {
        let header = Header::unpack(self.cell(first, HEADER).load(Ordering::Relaxed))?;
        let (mut cell, mut link) = (first, NEXT);
        let count = Self::cells_for(header.len);
        for left in (0..count).rev() {
            let seen =
                used.get_mut(cell as usize).ok_or(Corrupt { what: "a link leads to an unused cell" })?;
            if *seen {
                return Err(Corrupt { what: "a cell belongs to two items" });
            }
            *seen = true;
            match self.follow(self.cell(cell, link).load(Ordering::Relaxed))? {
                Some(next) if left > 0 => (cell, link) = (next, NEXT_FURTHER),
                None if left == 0 => {}
                _ => return Err(Corrupt { what: "an item of another length" }),
            }
        }
        Ok(())
    }
}
