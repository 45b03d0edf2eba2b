//! The heir: what a child is in a place that its parent takes part in.

use manyhands_channel::arena::Participant;
use manyhands_sync::site::Site;

use crate::latecomers::{self, LATECOMERS};

/// As whom a child that is about to be forked takes part in a place: what its parent leaves to it is in that name already
/// when it comes.
#[derive(Clone, Copy)]
pub(crate) enum Heir {
    /// With the participant slot that was reserved for it.
    ParticipantSlot(u16),
    /// As a latecomer, with this place on the list.
    Latecomer(Option<usize>),
}

impl Heir {
    /// Keeps a participant slot for the child, or else a place among the latecomers.
    pub(crate) fn reserve(site: &Site) -> Self {
        site.reserve().map_or_else(|| Self::Latecomer(latecomers::keep(site)), Self::ParticipantSlot)
    }

    /// In whose name the child holds what it has.
    pub(crate) fn participant(self) -> Participant {
        match self {
            Self::ParticipantSlot(number) => number.into(),
            Self::Latecomer(_) => LATECOMERS.into(),
        }
    }

    /// Takes part, in the child; returns as whom.
    pub(crate) fn adopt(self, site: &Site) -> u16 {
        match self {
            Self::ParticipantSlot(number) if site.adopt(number) => return number,
            Self::ParticipantSlot(_) => latecomers::join(site),
            Self::Latecomer(place) => latecomers::adopt(site, place),
        }
        LATECOMERS
    }
}
