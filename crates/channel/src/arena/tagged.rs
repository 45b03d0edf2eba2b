//! Tags: what a block holds, for whoever finds it without having been told. Payloads of tasks, which are made and freed all
//! the time, need none.

use std::ops::Range;
use std::sync::Arc;

use manyhands_os::memory::Segment;

use super::chunks::{Chunk, Chunks};
use super::header::{self, BlockHeader, Phase, SlabHeader};
use super::layout::{self, BLOCK_HEADER, STRIDES};
use super::{Arena, Block, lay_out};

/// A block that bears a tag, as it was at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tagged {
    /// Where its bytes start in the segment.
    pub offset: usize,
    /// How many it has.
    pub len: usize,
    /// Its tag; never 0.
    pub tag: u16,
}

impl Block {
    /// What its maker said that it holds; 0 when it has said nothing.
    #[must_use]
    pub fn tag(&self) -> u16 {
        self.header().tag()
    }

    /// Says what it holds, which has been written, before anybody else knows of the block.
    ///
    /// ```
    /// use manyhands_channel::arena::Arena;
    /// use manyhands_os::memory::Segment;
    /// use std::sync::Arc;
    ///
    /// let segment = Arc::new(Segment::create(c"example", 8 << 20)?);
    /// let arena = Arena::create(Arc::clone(&segment), 0..segment.len())?;
    /// let block = arena.allocate(64)?;
    /// block.write(0, b"a word");
    /// block.set_tag(7);
    /// let found = Arena::tagged(&segment, 0..segment.len());
    /// assert_eq!((found.len(), found[0].offset, found[0].tag), (1, block.offset(), 7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_tag(&self, tag: u16) {
        self.header().set_tag(self.len(), tag);
    }
}

impl Arena {
    /// All blocks that bear a tag, of the arena that was made of the bytes `region` of `segment`: for one who looks at it
    /// from outside. They may be gone by the time this returns. Of what is no arena, none.
    #[must_use]
    pub fn tagged(segment: &Arc<Segment>, region: Range<usize>) -> Vec<Tagged> {
        let Ok(layout) = lay_out(segment, &region).and_then(|layout| super::check_mark(segment, layout))
        else {
            return Vec::new();
        };
        let chunks = Chunks { segment: Arc::clone(segment), layout };
        let mut found = Vec::new();
        for chunk in chunks.touched() {
            match chunks.load(chunk) {
                Chunk::Slab { class, .. } if class < STRIDES.len() => {
                    let slab = SlabHeader::at(segment, chunks.layout.chunk(chunk));
                    let carved = header::acquire(slab.carved()).min(layout::blocks(class));
                    let blocks = (0..carved).map(|index| chunks.layout.block(chunk, class, index));
                    found.extend(blocks.filter_map(|at| look(segment, at, layout::capacity(class))));
                }
                Chunk::Head { len, .. } if len <= chunks.layout.chunks - chunk => {
                    let at = chunks.layout.block(chunk, 0, 0);
                    found.extend(look(segment, at, layout::run_capacity(len.max(1))));
                }
                _ => {}
            }
        }
        found
    }
}

/// The block with its header at `at`, if it is in use and bears a tag.
fn look(segment: &Segment, at: usize, capacity: usize) -> Option<Tagged> {
    let header = BlockHeader::at(segment, at);
    let state = header.load().filter(|state| state.phase == Phase::Used)?;
    let (tag, len) = (header.tag(), header.len());
    // In the same use before and after: both belong to it.
    let is_whole = tag != 0 && len <= capacity && header.load() == Some(state);
    is_whole.then_some(Tagged { offset: at + BLOCK_HEADER, len, tag })
}
