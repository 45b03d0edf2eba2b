//! A list of scalars (None, bools, ints of 64 bits, floats) without a tag for each, where they are all of one kind.
//!
//! After the number of items (u32) comes how they are written (a byte), then the items: ints in as many bytes as the
//! longest one takes, floats in eight, and others each with its own tag.
//!
//! A list is made a tuple before all its items are looked at: those cannot go meanwhile, so that nothing has to be counted
//! for each.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyList, PyString};

use super::{Decoder, SCALAR, encode_scalar};

/// How the items are written.
const MIXED: u8 = 0;
const FLOATS: u8 = 1;
/// Ints: these tags are the bytes that each takes, and so can be no others.
const INTS: [u8; 4] = [1 << 4, 2 << 4, 4 << 4, 8 << 4];

/// What stands before the items.
const HEAD: usize = 5;

/// Items of a long list that are looked at before the others: most lists that this code does not take show it there, and
/// whatever is written for nothing is time lost before pickle has begun.
const LOOKS: usize = 16;

/// After a long list that was written for nothing this many are left to pickle at once, for where there is one such there
/// are more: all together then cost little more than without this code.
const MOST_LEFT_OUT: u32 = 15;
static LEFT_OUT: AtomicU32 = AtomicU32::new(0);

/// Appends the items of a list; false when some are not scalars, or `bytes` would grow beyond `most`.
pub(crate) fn encode(list: &Bound<'_, PyList>, bytes: &mut Vec<u8>, most: usize) -> bool {
    let length = list.len();
    let room = most.saturating_sub(bytes.len() + HEAD);
    // Each takes one byte at least.
    let (true, Ok(count)) = (length <= room, u32::try_from(length)) else { return false };
    let is_long = length > LOOKS;
    if is_long && (!is_likely(list, length, room) || is_left_out()) {
        return false;
    }
    bytes.extend(count.to_ne_bytes());
    let is_written = encode_items(list, length, bytes, room);
    if is_long && !is_written {
        LEFT_OUT.store(MOST_LEFT_OUT, Ordering::Relaxed);
    }
    is_written
}

/// Whether this list is one of those to be left to pickle; counts them.
fn is_left_out() -> bool {
    LEFT_OUT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

fn encode_items(list: &Bound<'_, PyList>, length: usize, bytes: &mut Vec<u8>, room: usize) -> bool {
    let Ok(first) = list.get_item(0) else {
        bytes.push(MIXED);
        return length == 0;
    };
    let start = bytes.len();
    let other = if first.is_exact_instance_of::<PyInt>() {
        match ints(list) {
            Ok(numbers) => return numbers.len() == length && encode_ints(&numbers, bytes, room),
            Err(other) => other,
        }
    } else if first.is_exact_instance_of::<PyFloat>() && length.saturating_mul(8) <= room {
        match encode_floats(list, bytes) {
            Ok(()) => return bytes.len() == start + 1 + 8 * length,
            Err(other) => other,
        }
    } else {
        first
    };
    bytes.truncate(start);
    encode_scalar(&other, &mut [0; SCALAR]).is_some() && encode_mixed(list, bytes, room) == Some(length)
}

/// Whether some items, evenly spread, are scalars, and as many bytes as they take for each item would be there.
fn is_likely(list: &Bound<'_, PyList>, length: usize, room: usize) -> bool {
    let mut scalar = [0; SCALAR];
    let (mut ints, mut bits, mut total) = (0, 0, 0);
    for look in 0..LOOKS {
        let Ok(item) = list.get_item((length - 1) * look / (LOOKS - 1)) else { return false };
        let Some(taken) = encode_scalar(&item, &mut scalar) else { return false };
        total += taken;
        if let Ok(number) = item.cast_exact::<PyInt>().map(|item| item.extract().unwrap_or_default()) {
            ints += 1;
            bits |= plain_bits(number);
        }
    }
    let expected = if ints == LOOKS { width_of(bits) * length } else { total * length / LOOKS };
    expected <= room
}

/// The items, if they are ints of 64 bits; else the first that is not.
fn ints<'py>(list: &Bound<'py, PyList>) -> Result<Vec<i64>, Bound<'py, PyAny>> {
    let mut numbers = Vec::with_capacity(list.len());
    for item in list.to_tuple().iter_borrowed() {
        let number = item.cast_exact::<PyInt>().ok().and_then(|item| item.extract().ok());
        numbers.push(number.ok_or_else(|| item.to_owned())?);
    }
    Ok(numbers)
}

/// The bits of a number, or those of its complement if it is negative: a sign comes beside them.
fn plain_bits(number: i64) -> i64 {
    number ^ (number >> 63)
}

/// Bytes of an int that has these bits.
fn width_of(plain_bits: i64) -> usize {
    match 65 - plain_bits.leading_zeros() {
        0..=8 => 1,
        9..=16 => 2,
        17..=32 => 4,
        _ => 8,
    }
}

fn encode_ints(numbers: &[i64], bytes: &mut Vec<u8>, room: usize) -> bool {
    let width = width_of(numbers.iter().fold(0, |bits, &number| bits | plain_bits(number)));
    if numbers.len() * width > room {
        return false;
    }
    #[allow(clippy::cast_possible_truncation, reason = "one of four small numbers")]
    bytes.push((width << 4) as u8);
    bytes.reserve(numbers.len() * width);
    #[allow(clippy::cast_possible_truncation, reason = "looked at above")]
    match width {
        1 => bytes.extend(numbers.iter().map(|&number| (number as i8).cast_unsigned())),
        2 => bytes.extend(numbers.iter().flat_map(|&number| (number as i16).to_ne_bytes())),
        4 => bytes.extend(numbers.iter().flat_map(|&number| (number as i32).to_ne_bytes())),
        _ => bytes.extend(numbers.iter().flat_map(|&number| number.to_ne_bytes())),
    }
    true
}

/// The first that is not a float, if there is one.
fn encode_floats<'py>(list: &Bound<'py, PyList>, bytes: &mut Vec<u8>) -> Result<(), Bound<'py, PyAny>> {
    bytes.push(FLOATS);
    bytes.reserve(8 * list.len());
    for item in list.to_tuple().iter_borrowed() {
        let Ok(number) = item.cast_exact::<PyFloat>() else { return Err(item.to_owned()) };
        bytes.extend(number.value().to_ne_bytes());
    }
    Ok(())
}

/// How many there were; `None` when some are not scalars, or there is no room.
fn encode_mixed(list: &Bound<'_, PyList>, bytes: &mut Vec<u8>, room: usize) -> Option<usize> {
    bytes.push(MIXED);
    let end = bytes.len() + room;
    let mut scalar = [0; SCALAR];
    let mut count = 0;
    for item in list.to_tuple().iter_borrowed() {
        let length = encode_scalar(&item, &mut scalar)?;
        bytes.extend(&scalar[..length]);
        count += 1;
        if bytes.len() > end {
            return None;
        }
    }
    Some(count)
}

/// The list; `None` when the bytes are malformed.
pub(crate) fn decode<'py>(py: Python<'py>, decoder: &mut Decoder<'_>) -> Option<Bound<'py, PyList>> {
    let count = u32::from_ne_bytes(decoder.take(4)?.try_into().ok()?) as usize;
    let form = decoder.byte()?;
    if form == MIXED {
        // No more than there can be: a damaged number must not take all memory.
        let mut items = Vec::with_capacity(count.min(decoder.bytes.len()));
        for _ in 0..count {
            let tag = decoder.byte()?;
            items.push(decoder.scalar(py, tag)?);
        }
        return PyList::new(py, items).ok();
    }
    if form == FLOATS {
        let floats = decoder.take(count.checked_mul(8)?)?.as_chunks().0;
        return PyList::new(py, floats.iter().map(|&bytes| f64::from_ne_bytes(bytes))).ok();
    }
    let content = if INTS.contains(&form) {
        decoder.take(count.checked_mul((form >> 4).into())?)?
    } else {
        return None;
    };
    match form >> 4 {
        1 => PyList::new(py, content.iter().map(|byte| byte.cast_signed())),
        2 => PyList::new(py, content.as_chunks().0.iter().map(|&bytes| i16::from_ne_bytes(bytes))),
        4 => PyList::new(py, content.as_chunks().0.iter().map(|&bytes| i32::from_ne_bytes(bytes))),
        _ => PyList::new(py, content.as_chunks().0.iter().map(|&bytes| i64::from_ne_bytes(bytes))),
    }
    .ok()
}

/// Whether all items of a list are numbers, None, or text that is not long.
#[pyfunction]
pub(crate) fn holds_little(list: &Bound<'_, PyList>) -> bool {
    list.to_tuple().iter_borrowed().all(|item| {
        item.is_exact_instance_of::<PyInt>()
            || item.is_exact_instance_of::<PyFloat>()
            || item.is_none()
            || item.is_exact_instance_of::<PyBool>()
            || item.cast_exact::<PyString>().is_ok_and(|text| text.len().is_ok_and(|length| length <= SHORT))
    })
}

/// Characters of a text that nobody minds being kept a little longer.
const SHORT: usize = 256;
