//! PROXY headers in pieces.

use manyhands_server::proxy_header::{BadHeader, Fed, HeaderReader};

/// Feeds `bytes` in pieces whose lengths follow from `lengths`; the total of those used.
fn feed(bytes: &[u8], lengths: impl Iterator<Item = usize>) -> Result<Fed, BadHeader> {
    let mut reader = HeaderReader::default();
    let mut at = 0;
    for length in lengths {
        let piece = &bytes[at..bytes.len().min(at + length)];
        match reader.feed(piece)? {
            Fed::Done { used, endpoints } => return Ok(Fed::Done { used: at + used, endpoints }),
            Fed::More => at += piece.len(),
        }
        if at == bytes.len() {
            break;
        }
    }
    Ok(Fed::More)
}

/// Reads bytes at once, one by one, and in pieces as long as the bytes say: with the same outcome, which is decided by no byte
/// behind the header.
pub(crate) fn run(bytes: &[u8]) {
    let whole = feed(bytes, std::iter::once(bytes.len()));
    let lengths = bytes.iter().map(|byte| usize::from(byte % 32)).chain(std::iter::repeat(1));
    assert_eq!(feed(bytes, lengths), whole);
    assert_eq!(feed(bytes, std::iter::repeat(1)), whole);
    if let Ok(Fed::Done { used, .. }) = whole {
        assert_eq!(feed(&bytes[..used], std::iter::once(used)), whole);
        assert_eq!(feed(&bytes[..used - 1], std::iter::once(used)), Ok(Fed::More));
    }
}
