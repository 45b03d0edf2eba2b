//! What a handler has said and its client has not taken yet.

/// The bytes, in the order in which they are sent.
///
/// ```
/// use manyhands_server::output::Output;
///
/// let mut output = Output::default();
/// output.add(b"hello");
/// output.take(2);
/// assert_eq!(output.rest(), b"llo");
/// ```
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    taken: usize,
}

impl Output {
    /// How many bytes are here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Whether none are.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that must be sent next.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// The handler has said something more.
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The client has taken so many. No more of these are kept than of what it has not: there may never be a moment when it has
    /// all.
    pub fn take(&mut self, count: usize) {
        self.taken += count;
        if self.taken == self.bytes.len() {
            self.clear();
        } else if self.taken > self.len() {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
    }

    /// Forgets all of it.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.taken = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_what_is_left() {
        let mut output = Output::default();
        for _ in 0..1000 {
            output.add(&[1; 100]);
            output.take(99);
            assert!(output.bytes.len() <= 2 * output.len() + 100, "{output:?}");
        }
        assert_eq!(output.len(), 1000);
        output.take(1000);
        assert!(output.is_empty() && output.rest().is_empty());
        output.add(b"x");
        assert_eq!(output.rest(), b"x");
    }
}
