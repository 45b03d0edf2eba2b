//! What nobody can guess, and nobody else has.

use rustix::rand::{GetRandomFlags, getrandom};

/// A random UUID (RFC 9562, version 4).
///
/// ```
/// let id = manyhands_os::random::uuid();
/// assert_eq!((id.len(), &id[14..15]), (36, "4"));
/// assert_ne!(id, manyhands_os::random::uuid());
/// ```
///
/// # Panics
/// When the kernel has no random bytes, which it says of 16 only before it has started.
#[must_use]
pub fn uuid() -> String {
    let mut bytes = [0_u8; 16];
    let length = getrandom(&mut bytes, GetRandomFlags::empty()).expect("the kernel has random bytes");
    assert_eq!(length, bytes.len(), "so few bytes come at once");
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for half in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(half.into(), 16));
        }
    }
    text
}
