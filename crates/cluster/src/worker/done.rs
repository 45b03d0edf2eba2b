//! What has just been acknowledged. Pure.
//!
//! An acknowledgement is not confirmed: if the connection is lost right after it, the broker may not have got it, and delivers the message again.
//! What was done here is then acknowledged once more, and not run once more.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Attempt;
use crate::link::Tag;

/// So many are remembered.
const MOST: usize = 8192;

/// The latest attempts that have ended here, and the deliveries as which they were acknowledged.
#[derive(Debug, Default)]
pub(super) struct Done {
    // Without a tag: its connection was lost.
    tags: HashMap<Arc<Attempt>, Option<Tag>>,
    order: VecDeque<Arc<Attempt>>,
}

impl Done {
    /// It has ended, and was acknowledged so; `None`: it could not be, since its connection was lost.
    pub(super) fn add(&mut self, attempt: &Arc<Attempt>, tag: Option<Tag>) {
        if self.tags.insert(Arc::clone(attempt), tag).is_some() {
            return;
        }
        self.order.push_back(Arc::clone(attempt));
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.tags.remove(&oldest);
        }
    }

    /// The connection of such deliveries is lost.
    pub(super) fn lost(&mut self, is_lost: impl Fn(Tag) -> bool) {
        for tag in self.tags.values_mut() {
            *tag = tag.filter(|tag| !is_lost(*tag));
        }
    }

    /// Whether a delivery of this attempt is one that has ended here and may not have been acknowledged; it is from now on.
    pub(super) fn comes_again(&mut self, attempt: &Arc<Attempt>, tag: Tag) -> bool {
        let found = self.tags.get_mut(attempt).filter(|known| known.is_none());
        found.is_some_and(|known| {
            *known = Some(tag);
            true
        })
    }
}
