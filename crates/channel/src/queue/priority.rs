//! Numbers as priorities: whole ones and floating-point ones in one order.

/// Halfway: so that negative ones come before positive ones.
const ZERO: u64 = 1 << 63;

/// The priority of a whole number.
///
/// ```
/// use manyhands_channel::queue::{priority_of_float, priority_of_int};
///
/// assert!(priority_of_int(-3) < priority_of_int(2));
/// assert!(priority_of_int(2) < priority_of_float(2.5).unwrap());
/// assert_eq!(priority_of_float(7.0), Some(priority_of_int(7)));
/// // Beyond 2⁵³ floating-point numbers have gaps; whole ones in them are told apart all the same.
/// assert!(priority_of_int(1 << 53) < priority_of_int((1 << 53) + 1));
/// assert_eq!(priority_of_float(f64::NAN), None);
/// ```
#[must_use]
pub fn priority_of_int(number: i64) -> u128 {
    let nearest = number as f64;
    // Both fit: a float next to an i64 is at most 2⁶³.
    let difference = (i128::from(number) - nearest as i128) as i64;
    ordered(nearest, difference)
}

/// The priority of a floating-point number; `None` for NaN, which is neither less nor more than others.
#[must_use]
pub fn priority_of_float(number: f64) -> Option<u128> {
    (!number.is_nan()).then(|| ordered(number, 0))
}

fn ordered(nearest: f64, difference: i64) -> u128 {
    // The sum turns -0.0 into 0.0.
    let bits = (nearest + 0.0).to_bits();
    let high = if bits >> 63 == 0 { bits | ZERO } else { !bits };
    let low = (difference as u64) ^ ZERO;
    u128::from(high) << 64 | u128::from(low)
}
