//! What a room's poller looks for on a connection.

use std::io;

use manyhands_os::poll::Interest;

use super::{Connection, Room, State};

impl State {
    /// Whether more is read.
    pub(super) fn wants_input(&self, limit: usize) -> bool {
        let is_wanted = self.reader.is_some() || self.input.len() <= 2 * limit;
        is_wanted && !self.input.has_ended() && self.broken.is_none() && !self.closing
    }

    /// Has the poller look for what can be done with the connection.
    pub(in super::super) fn watch_what_is_needed(&mut self, room: &Room<Connection>, limit: usize) {
        // What is due will be sent soon, and this is asked again then.
        if self.fd.is_none() || self.is_due {
            return;
        }
        let wanted = match (self.wants_input(limit), self.unsent() > 0 && self.broken.is_none()) {
            (true, true) => Some(Interest::Both),
            (true, false) => Some(Interest::Readable),
            (false, true) => Some(Interest::Writable),
            (false, false) => None,
        };
        if let Err(error) = self.watch(room, wanted) {
            self.break_off(error);
        }
    }

    /// Has the poller look for that, and for nothing else.
    pub(super) fn watch(&mut self, room: &Room<Connection>, wanted: Option<Interest>) -> io::Result<()> {
        let Some(fd) = self.fd.as_ref().filter(|_| wanted != self.watched) else { return Ok(()) };
        let (key, poller) = (room.name(self.key), room.poller()?);
        match (self.watched, wanted) {
            (None, Some(interest)) => poller.add(fd, key, interest)?,
            (Some(_), Some(interest)) => poller.modify(fd, key, interest)?,
            (_, None) => poller.remove(fd)?,
        }
        self.watched = wanted;
        Ok(())
    }
}
