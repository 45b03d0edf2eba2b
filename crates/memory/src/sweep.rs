//! What others have left in this process's shared heap who took part in it and are dead.

use manyhands_channel::arena::{Arena, Participant};
use manyhands_os::process::identity;
use manyhands_sync::site::Site;

use crate::latecomers::{self, LATECOMERS};

/// Repairs what dead participants left behind in this process's own shared heap, other than the workers of
/// pools, which see to that themselves. Does nothing in another process's shared heap.
pub(crate) fn sweep(site: &Site, arena: &Arena) {
    if site.creator() != Some(identity()) {
        return;
    }
    site.sweep(|numbers| {
        let participants = numbers.iter().filter(|number| (1..LATECOMERS).contains(number));
        let dead: Vec<Participant> = participants.map(|number| Participant::from(*number)).collect();
        arena.reclaim_all(&dead);
    });
    latecomers::sweep(site, arena);
}
