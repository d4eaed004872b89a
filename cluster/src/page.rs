//! State as a table of shared, copy-on-write pages.
//!
//! Cloning a [`PageTable`] copies a few pointers. The clone is a view: it never changes, and the original copies a page
//! only when it changes one that a view still holds. Readers' views, checkpoints, snapshots and the state hash all stand
//! on this one mechanism.

use std::sync::Arc;

use crate::LogIndex;

/// Pages of one pointer block; a block is what a clone of the table shares.
const BLOCK_PAGES: usize = 64;

/// Names a page of a state machine: which of its tables, and the page's number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageId {
    pub table: u8,
    pub number: u32,
}

/// What a page holds.
pub trait PageContent: Clone + Default + Send + Sync + 'static {
    /// Appends the page's bytes; equal contents give equal bytes.
    fn encode(&self, buffer: &mut Vec<u8>);
}

/// A page as checkpoints, snapshots and the state hash see it.
#[derive(Clone)]
pub struct Page {
    pub id: PageId,
    /// Index of the entry that changed it last.
    pub changed: LogIndex,
    content: Arc<dyn EncodePage>,
}

impl Page {
    /// Appends the page's bytes.
    pub fn encode(&self, buffer: &mut Vec<u8>) {
        self.content.encode_page(buffer);
    }
}

trait EncodePage: Send + Sync {
    fn encode_page(&self, buffer: &mut Vec<u8>);
}

#[derive(Clone, Default)]
struct Slot<P> {
    changed: LogIndex,
    content: P,
}

impl<P: PageContent> EncodePage for Slot<P> {
    fn encode_page(&self, buffer: &mut Vec<u8>) {
        self.content.encode(buffer);
    }
}

#[derive(Clone)]
struct Block<P> {
    slots: [Option<Arc<Slot<P>>>; BLOCK_PAGES],
}

impl<P> Default for Block<P> {
    fn default() -> Self {
        Self { slots: [const { None }; BLOCK_PAGES] }
    }
}

/// A growing table of pages, cheap to clone.
#[derive(Clone)]
pub struct PageTable<P> {
    blocks: Vec<Arc<Block<P>>>,
}

impl<P> Default for PageTable<P> {
    fn default() -> Self {
        Self { blocks: Vec::new() }
    }
}

impl<P: PageContent> PageTable<P> {
    /// The page `number`, unless it was never written.
    pub fn page(&self, number: u32) -> Option<&P> {
        let (block, slot) = place(number);
        self.blocks.get(block)?.slots[slot].as_ref().map(|slot| &slot.content)
    }

    /// The page `number` for a change by the entry at `index`; an empty one when it was never written.
    pub fn page_mut(&mut self, number: u32, index: LogIndex) -> &mut P {
        let (block, slot) = place(number);
        if self.blocks.len() <= block {
            self.blocks.resize_with(block + 1, Arc::default);
        }
        let slot = Arc::make_mut(&mut self.blocks[block]).slots[slot].get_or_insert_with(Arc::default);
        let slot = Arc::make_mut(slot);
        slot.changed = index;
        &mut slot.content
    }

    /// All written pages in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &P)> {
        self.slots().map(|(number, slot)| (number, &slot.content))
    }

    /// All written pages, for [`crate::StateMachine::pages`].
    pub fn pages(&self, table: u8) -> impl Iterator<Item = Page> + '_ {
        self.slots().map(move |(number, slot)| Page {
            id: PageId { table, number },
            changed: slot.changed,
            content: Arc::clone(slot) as Arc<dyn EncodePage>,
        })
    }

    fn slots(&self) -> impl Iterator<Item = (u32, &Arc<Slot<P>>)> {
        let slots = self.blocks.iter().flat_map(|block| block.slots.iter());
        (0u32..).zip(slots).filter_map(|(number, slot)| slot.as_ref().map(|slot| (number, slot)))
    }
}

fn place(number: u32) -> (usize, usize) {
    let number = number as usize;
    (number / BLOCK_PAGES, number % BLOCK_PAGES)
}
