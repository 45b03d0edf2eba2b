//! The compact code: small immutable values as a few bytes, without pickle.
//!
//! It knows None, bool, int (64 bits), float, str, bytes and tuples of these, by exact type: whatever
//! else is met makes the whole value a matter for pickle. Mutable things stay out on purpose, since
//! two references to one list must stay one list.
//!
//! Numbers are in the machine's byte order: both ends are on one machine. They may be different versions of this library, so
//! a change here needs another `FORMAT` of segments (`crates/sync/src/site/heading.rs`).

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyString, PyTuple};

const NONE: u8 = 0;
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const INT: u8 = 3;
const FLOAT: u8 = 4;
const STR: u8 = 5;
const BYTES: u8 = 6;
const TUPLE: u8 = 7;
// An int of one byte, signed.
const SMALL: u8 = 8;

/// Tuples in tuples are followed this far.
const DEEPEST: usize = 4;

/// Appends `value`; false when it is not of the compact kind or `bytes` would grow beyond `most`. Then
/// `bytes` holds a part of it.
pub(crate) fn encode(value: &Bound<'_, PyAny>, bytes: &mut Vec<u8>, most: usize) -> bool {
    encode_nested(value, bytes, most, DEEPEST) && bytes.len() <= most
}

fn encode_nested(value: &Bound<'_, PyAny>, bytes: &mut Vec<u8>, most: usize, depth: usize) -> bool {
    if value.is_none() {
        bytes.push(NONE);
    } else if let Ok(value) = value.cast_exact::<PyInt>() {
        return encode_int(value, bytes);
    } else if let Ok(value) = value.cast_exact::<PyString>() {
        // Text with lone surrogates has no UTF-8: pickle knows what to do.
        let Ok(text) = value.to_str() else { return false };
        return encode_bytes(STR, text.as_bytes(), bytes, most);
    } else if let Ok(value) = value.cast_exact::<PyFloat>() {
        bytes.push(FLOAT);
        bytes.extend(value.value().to_ne_bytes());
    } else if let Ok(value) = value.cast_exact::<PyBool>() {
        bytes.push(if value.is_true() { TRUE } else { FALSE });
    } else if let Ok(value) = value.cast_exact::<PyTuple>() {
        return depth > 0 && encode_tuple(value, bytes, most, depth - 1);
    } else if let Ok(value) = value.cast_exact::<PyBytes>() {
        return encode_bytes(BYTES, value.as_bytes(), bytes, most);
    } else {
        return false;
    }
    true
}

fn encode_int(value: &Bound<'_, PyInt>, bytes: &mut Vec<u8>) -> bool {
    let Ok(number) = value.extract::<i64>() else { return false };
    if let Ok(small) = i8::try_from(number) {
        bytes.extend([SMALL, small.cast_unsigned()]);
    } else {
        bytes.push(INT);
        bytes.extend(number.to_ne_bytes());
    }
    true
}

fn encode_bytes(tag: u8, content: &[u8], bytes: &mut Vec<u8>, most: usize) -> bool {
    let Ok(length) = u16::try_from(content.len()) else { return false };
    if bytes.len() + content.len() + 3 > most {
        return false;
    }
    bytes.push(tag);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(content);
    true
}

fn encode_tuple(value: &Bound<'_, PyTuple>, bytes: &mut Vec<u8>, most: usize, depth: usize) -> bool {
    let Ok(length) = u8::try_from(value.len()) else { return false };
    bytes.extend([TUPLE, length]);
    value.iter_borrowed().all(|item| bytes.len() < most && encode_nested(&item, bytes, most, depth))
}

/// The most bytes of a scalar.
pub(crate) const SCALAR: usize = 9;

/// Writes None, a bool, an int or a float to `bytes`, as [`encode`] would; returns how many bytes that took.
#[inline]
pub(crate) fn encode_scalar(value: &Bound<'_, PyAny>, bytes: &mut [u8; SCALAR]) -> Option<usize> {
    let eight = if let Ok(value) = value.cast_exact::<PyInt>() {
        let number = value.extract::<i64>().ok()?;
        if let Ok(small) = i8::try_from(number) {
            bytes[..2].copy_from_slice(&[SMALL, small.cast_unsigned()]);
            return Some(2);
        }
        bytes[0] = INT;
        number.to_ne_bytes()
    } else if let Ok(value) = value.cast_exact::<PyFloat>() {
        bytes[0] = FLOAT;
        value.value().to_ne_bytes()
    } else if value.is_none() {
        bytes[0] = NONE;
        return Some(1);
    } else if let Ok(value) = value.cast_exact::<PyBool>() {
        bytes[0] = if value.is_true() { TRUE } else { FALSE };
        return Some(1);
    } else {
        return None;
    };
    bytes[1..].copy_from_slice(&eight);
    Some(SCALAR)
}

/// Whether these bytes are what [`encode_scalar`] writes, so that they can be decoded.
#[inline]
pub(crate) fn is_scalar(bytes: &[u8]) -> bool {
    match bytes {
        [NONE | TRUE | FALSE] | [SMALL, _] => true,
        [INT | FLOAT, rest @ ..] => rest.len() == 8,
        _ => false,
    }
}

/// Appends a short text.
pub(crate) fn encode_text(text: &str, bytes: &mut Vec<u8>) {
    _ = encode_bytes(STR, text.as_bytes(), bytes, usize::MAX);
}

/// Appends positional and keyword arguments; as [`encode`].
pub(crate) fn encode_call(
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
    bytes: &mut Vec<u8>,
    most: usize,
) -> bool {
    let named = kwargs.map_or(0, |kwargs| kwargs.len());
    let (Ok(count), Ok(named)) = (u8::try_from(args.len()), u8::try_from(named)) else { return false };
    bytes.extend([count, named]);
    if !args.iter_borrowed().all(|value| encode(&value, bytes, most)) {
        return false;
    }
    let Some(kwargs) = kwargs else { return true };
    kwargs.iter().all(|(name, value)| encode(&name, bytes, most) && encode(&value, bytes, most))
}

/// Reads values that [`encode`] wrote.
pub(crate) struct Decoder<'b> {
    bytes: &'b [u8],
}

impl<'b> Decoder<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes }
    }

    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|taken| taken[0])
    }

    fn eight(&mut self) -> Option<[u8; 8]> {
        self.take(8)?.try_into().ok()
    }

    fn content(&mut self) -> Option<&'b [u8]> {
        let length = u16::from_ne_bytes(self.take(2)?.try_into().ok()?);
        self.take(length.into())
    }

    /// The next value; `None` when the bytes are not of our making.
    pub(crate) fn value<'py>(&mut self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.nested(py, DEEPEST)
    }

    fn nested<'py>(&mut self, py: Python<'py>, depth: usize) -> Option<Bound<'py, PyAny>> {
        Some(match self.byte()? {
            NONE => py.None().into_bound(py),
            TRUE => PyBool::new(py, true).to_owned().into_any(),
            FALSE => PyBool::new(py, false).to_owned().into_any(),
            SMALL => self.byte()?.cast_signed().into_pyobject(py).ok()?.into_any(),
            INT => i64::from_ne_bytes(self.eight()?).into_pyobject(py).ok()?.into_any(),
            FLOAT => PyFloat::new(py, f64::from_ne_bytes(self.eight()?)).into_any(),
            STR => PyString::new(py, std::str::from_utf8(self.content()?).ok()?).into_any(),
            BYTES => PyBytes::new(py, self.content()?).into_any(),
            TUPLE => {
                let depth = depth.checked_sub(1)?;
                let length = self.byte()?;
                let items: Option<Vec<_>> = (0..length).map(|_| self.nested(py, depth)).collect();
                PyTuple::new(py, items?).ok()?.into_any()
            }
            _ => return None,
        })
    }

    /// Arguments that [`encode_call`] wrote.
    pub(crate) fn call<'py>(
        &mut self,
        py: Python<'py>,
    ) -> Option<(Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>)> {
        let (count, named) = (self.byte()?, self.byte()?);
        let items: Option<Vec<_>> = (0..count).map(|_| self.value(py)).collect();
        let args = PyTuple::new(py, items?).ok()?;
        if named == 0 {
            return Some((args, None));
        }
        let kwargs = PyDict::new(py);
        for _ in 0..named {
            let name = self.value(py)?;
            kwargs.set_item(name, self.value(py)?).ok()?;
        }
        Some((args, Some(kwargs)))
    }
}
