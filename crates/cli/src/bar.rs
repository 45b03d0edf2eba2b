//! Horizontal bars drawn from Unicode blocks, exact to an eighth of a column.

const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
const FULL: char = '█';

/// Draws `share` of `columns` as a bar, without padding behind it.
///
/// `share` is clamped to 0..=1 (and a NaN counts as 0). What is not nothing shows at least the thinnest block, so
/// that a very fast run does not look like a missing one.
///
/// ```
/// use manyhands_cli::bar::bar;
/// assert_eq!(bar(0.5, 5), "██▌");
/// assert_eq!(bar(0.0001, 5), "▏");
/// assert_eq!(bar(0.0, 5), "");
/// ```
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
pub fn bar(share: f64, columns: usize) -> String {
    let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
    let mut eighths = (share * (columns * 8) as f64).round() as usize;
    if share > 0.0 && columns > 0 {
        eighths = eighths.max(1);
    }
    let mut drawn: String = std::iter::repeat_n(FULL, eighths / 8).collect();
    if !eighths.is_multiple_of(8) {
        drawn.push(EIGHTHS[eighths % 8]);
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn every_eighth_has_its_own_block() {
        let drawn: Vec<String> = (0..=8).map(|eighth| bar(f64::from(eighth) / 8.0, 1)).collect();
        assert_eq!(drawn, ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"]);
    }

    #[test]
    fn length_follows_the_share() {
        assert_eq!(bar(1.0, 4), "████");
        assert_eq!(bar(0.75, 4), "███");
        assert_eq!(bar(0.7, 4), "██▊");
    }

    #[test]
    fn shares_outside_the_scale_are_clamped() {
        assert_eq!(bar(7.0, 3), "███");
        assert_eq!(bar(-1.0, 3), "");
        assert_eq!(bar(f64::NAN, 3), "");
        assert_eq!(bar(f64::INFINITY, 3), "███");
    }

    #[test]
    fn something_is_never_drawn_as_nothing() {
        assert_eq!(bar(1e-9, 10), "▏");
        assert_eq!(bar(1e-9, 0), "");
    }
}
