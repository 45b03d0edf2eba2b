//! Numbers as the table shows them: in columns of a width, in units that suit them.

/// Columns of a figure where there is room.
pub(super) const WIDE: usize = 10;

/// A number at the right of a column, with a blank before it; of one that is too large for that its first digits and
/// how many thousands they are of.
pub(super) fn figure(value: u64, columns: usize) -> String {
    const UNITS: [&str; 6] = ["k", "M", "G", "T", "P", "E"];
    let is_wide = columns >= WIDE;
    let digits = |value: u64| if is_wide { number(value) } else { value.to_string() };
    let gap = if is_wide { " " } else { "" };
    let mut shown = digits(value);
    let (mut thousands, mut units) = (value, UNITS.iter());
    while shown.len() >= columns {
        let Some(unit) = units.next() else { break };
        thousands /= 1000;
        shown = format!("{}{gap}{unit}", digits(thousands));
    }
    format!("{shown:>columns$}")
}

/// Digits in groups of three.
pub(super) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 pool`, `2 pools`.
pub(super) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{} {}", number(count as u64), if count == 1 { one } else { many })
}

/// A time in the unit that suits it.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time is not negative")]
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 99.5 => format!("{s:.0} s"),
        s if s < 5970.0 => format!("{:.0} min", s / 60.0),
        s if s < 171_000.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} d", s / 86400.0),
    }
}

/// A size in the unit that suits it.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{:.0} kB", count as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.0} MB", count as f64 / 1e6),
        _ => format!("{:.0} GB", count as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_figures_keep_to_their_columns() {
        for (value, wide, narrow) in [
            (0, "         0", "     0"),
            (9_999, "     9,999", "  9999"),
            (99_999, "    99,999", " 99999"),
            (100_000, "   100,000", "  100k"),
            (9_999_999, " 9,999,999", " 9999k"),
            (10_000_000, "  10,000 k", "   10M"),
            (1_234_567_890, "   1,234 M", " 1234M"),
            (999_999_999_999, " 999,999 M", "  999G"),
            (u64::MAX, "  18,446 P", "   18E"),
        ] {
            assert_eq!(figure(value, WIDE), wide, "{value}");
            assert_eq!(figure(value, 6), narrow, "{value}");
        }
    }

    #[test]
    fn sizes_have_their_units() {
        let shown = [9_999, 10_000, 123_456, 55_000_000, 12_000_000_000].map(bytes);
        assert_eq!(shown, ["9999 B", "10 kB", "123 kB", "55 MB", "12 GB"]);
    }
}
