//! PROXY headers, right ones and almost right ones, in whatever pieces they arrive.

mod split;

use proptest::prelude::*;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes that look like a header, mostly, and some that follow.
fn headers() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec!["TCP4", "TCP6", "UNKNOWN", "1.2.3.4", "::1", "80", "0", "\r", "x"]);
    let line = prop::collection::vec(words, 0..7)
        .prop_map(|words| ["PROXY ", &words.join(" "), "\r\nmore"].concat().into_bytes());
    let kinds = prop::sample::select(vec![0x00, 0x11, 0x12, 0x21, 0x31, 0x41, 0x13]);
    let rest = prop::collection::vec(prop_oneof![Just(0), Just(3), any::<u8>()], 0..300);
    let binary = (0x1fu8..0x23, kinds, rest, any::<u8>(), any::<bool>()).prop_map(
        |(command, kind, rest, length, right)| {
            let length = if right {
                u16::try_from(rest.len().saturating_sub(4)).expect("short")
            } else {
                length.into()
            };
            [SIGNATURE, &[command, kind], &length.to_be_bytes(), &rest].concat()
        },
    );
    prop_oneof![line, binary, prop::collection::vec(any::<u8>(), 0..40)]
}

proptest! {
    #[test]
    fn a_header_is_the_same_in_whatever_pieces_it_arrives(bytes in headers()) {
        split::run(&bytes);
    }
}
