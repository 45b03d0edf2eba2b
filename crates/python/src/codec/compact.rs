//! The compact code: small immutable values as a few bytes, without pickle.
//!
//! It knows None, bool, int (64 bits), float, str, bytes, range and tuples of these, by exact type: whatever
//! else is met makes the whole value a matter for pickle. Mutable things stay out on purpose, since
//! two references to one list must stay one list. A single [list of scalars](list) is no such matter: nothing else in
//! the value can refer to it. Nor is, among the arguments of a task, a single [array](array) in shared memory, or
//! the [function](shipped) of a map.
//!
//! Numbers are in the machine's byte order: both ends are on one machine. They may be different versions of this library, so
//! a change here needs another `FORMAT` of segments (`crates/sync/src/site/heading.rs`); but for arrays and functions, since
//! all processes of a pool are of one version.

pub(crate) mod array;
mod known_class;
pub(crate) mod list;
pub(crate) mod shipped;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyRange, PyRangeMethods, PyString, PyTuple,
};

use crate::memory::shared_heap::Referenced;

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
const LIST: u8 = 9;
const RANGE: u8 = 10;
const SHIPPED: u8 = 11;
const ARRAY: u8 = 12;

/// Tuples in tuples are followed this far.
const DEEPEST: usize = 4;

/// With a list there may be this many bytes: it is written twice, here and where it goes to.
pub(crate) const LONGEST: usize = 512 << 10;

/// Appends `value`; false when it is not of the compact kind, `bytes` would grow beyond `most` without the items of
/// a list, or beyond `longest` with them. Then `bytes` holds a part of it.
pub(crate) fn encode(value: &Bound<'_, PyAny>, bytes: &mut Vec<u8>, most: usize, longest: usize) -> bool {
    let mut encoder = Encoder { bytes, most, list: None, references: None };
    encoder.value(value, DEEPEST) && encoder.finish(longest)
}

/// Writes one value, or the arguments of one call.
struct Encoder<'b, 'py> {
    bytes: &'b mut Vec<u8>,
    most: usize,
    /// The list, and where its items belong: they are looked at when nothing else can make that useless any more.
    list: Option<(usize, Bound<'py, PyList>)>,
    /// For what keeps an array where it is, until there is one. `None`: there must be none, nor a map's function.
    references: Option<&'b mut Vec<Referenced>>,
}

impl<'py> Encoder<'_, 'py> {
    fn value(&mut self, value: &Bound<'py, PyAny>, depth: usize) -> bool {
        let mut scalar = [0; SCALAR];
        if let Some(length) = encode_scalar(value, &mut scalar) {
            self.bytes.extend(&scalar[..length]);
        } else if let Ok(value) = value.cast_exact::<PyString>() {
            // Text with lone surrogates has no UTF-8: pickle knows what to do.
            let Ok(text) = value.to_str() else { return false };
            return self.content(STR, text.as_bytes());
        } else if let Ok(value) = value.cast_exact::<PyTuple>() {
            return depth > 0 && self.tuple(value, depth - 1);
        } else if let Ok(value) = value.cast_exact::<PyBytes>() {
            return self.content(BYTES, value.as_bytes());
        } else if let Ok(value) = value.cast_exact::<PyList>() {
            self.bytes.push(LIST);
            return self.list.replace((self.bytes.len(), value.clone())).is_none();
        } else if let Ok(value) = value.cast_exact::<PyRange>() {
            return self.range(value);
        } else {
            return self.references.is_some() && self.object(value);
        }
        true
    }

    fn object(&mut self, value: &Bound<'py, PyAny>) -> bool {
        if array::is_array(value) {
            self.bytes.push(ARRAY);
            // A second one may be the same one, and has to stay so.
            return self.references.as_mut().is_some_and(|references| {
                references.is_empty() && array::encode(value, self.bytes, references).is_some()
            });
        }
        shipped::is_shipped(value)
            && shipped::content(value).is_some_and(|content| self.content(SHIPPED, &content))
    }

    fn content(&mut self, tag: u8, content: &[u8]) -> bool {
        let Ok(length) = u16::try_from(content.len()) else { return false };
        if self.bytes.len() + content.len() + 3 > self.most {
            return false;
        }
        self.bytes.push(tag);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(content);
        true
    }

    fn tuple(&mut self, value: &Bound<'py, PyTuple>, depth: usize) -> bool {
        let Ok(length) = u8::try_from(value.len()) else { return false };
        self.bytes.extend([TUPLE, length]);
        value.iter_borrowed().all(|item| self.bytes.len() < self.most && self.value(&item, depth))
    }

    fn range(&mut self, value: &Bound<'_, PyRange>) -> bool {
        self.bytes.push(RANGE);
        [value.start(), value.stop(), value.step()].into_iter().all(|bound| {
            let Ok(bound) = bound else { return false };
            self.bytes.extend((bound as i64).to_ne_bytes());
            true
        })
    }

    /// Puts the list's items in their place.
    fn finish(self, longest: usize) -> bool {
        if self.bytes.len() > self.most {
            return false;
        }
        let Some((at, list)) = self.list else { return true };
        let rest = self.bytes.split_off(at);
        let is_written = list::encode(&list, self.bytes, longest.saturating_sub(rest.len()));
        self.bytes.extend(rest);
        is_written
    }
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
    _ = Encoder { bytes, most: usize::MAX, list: None, references: None }.content(STR, text.as_bytes());
}

/// Appends positional and keyword arguments; as [`encode`]. What has to be kept until the task has ended goes to `references`,
/// which is empty.
pub(crate) fn encode_call<'py>(
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
    bytes: &mut Vec<u8>,
    most: usize,
    longest: usize,
    references: &mut Vec<Referenced>,
) -> bool {
    let named = kwargs.map_or(0, |kwargs| kwargs.len());
    let (Ok(count), Ok(named)) = (u8::try_from(args.len()), u8::try_from(named)) else { return false };
    bytes.extend([count, named]);
    let mut encoder = Encoder { bytes, most, list: None, references: Some(references) };
    let mut add = |value: &Bound<'py, PyAny>| encoder.value(value, DEEPEST) && encoder.bytes.len() <= most;
    let are_plain = args.iter_borrowed().all(|value| add(&value))
        && kwargs.is_none_or(|kwargs| kwargs.iter().all(|(name, value)| add(&name) && add(&value)));
    are_plain && encoder.finish(longest)
}

/// Reads values that [`encode`] wrote.
pub(crate) struct Decoder<'b> {
    bytes: &'b [u8],
    /// Why something could not be made that was all right as far as bytes go.
    error: Option<PyErr>,
}

impl<'b> Decoder<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, error: None }
    }

    /// What to raise after a `None`: what making something has raised, or else `damaged`.
    pub(crate) fn into_error(self, damaged: &'static str) -> PyErr {
        self.error.unwrap_or_else(|| PyRuntimeError::new_err(damaged))
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

    fn word(&mut self) -> Option<u64> {
        self.eight().map(u64::from_ne_bytes)
    }

    fn content(&mut self) -> Option<&'b [u8]> {
        let length = u16::from_ne_bytes(self.take(2)?.try_into().ok()?);
        self.take(length.into())
    }

    /// The next value; `None` when the bytes are malformed.
    pub(crate) fn value<'py>(&mut self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.nested(py, DEEPEST)
    }

    fn nested<'py>(&mut self, py: Python<'py>, depth: usize) -> Option<Bound<'py, PyAny>> {
        Some(match self.byte()? {
            STR => PyString::new(py, std::str::from_utf8(self.content()?).ok()?).into_any(),
            BYTES => PyBytes::new(py, self.content()?).into_any(),
            TUPLE => {
                let depth = depth.checked_sub(1)?;
                let length = self.byte()?;
                let items: Option<Vec<_>> = (0..length).map(|_| self.nested(py, depth)).collect();
                PyTuple::new(py, items?).ok()?.into_any()
            }
            LIST => list::decode(py, self)?.into_any(),
            RANGE => {
                let (start, stop, step) = (self.bound()?, self.bound()?, self.bound()?);
                PyRange::new_with_step(py, start, stop, step).ok()?.into_any()
            }
            SHIPPED => shipped::decode(py, self)?,
            ARRAY => array::decode(py, self)?,
            tag => return self.scalar(py, tag),
        })
    }

    /// The rest of a scalar with this tag.
    #[inline]
    fn scalar<'py>(&mut self, py: Python<'py>, tag: u8) -> Option<Bound<'py, PyAny>> {
        Some(match tag {
            NONE => py.None().into_bound(py),
            TRUE => PyBool::new(py, true).to_owned().into_any(),
            FALSE => PyBool::new(py, false).to_owned().into_any(),
            SMALL => self.byte()?.cast_signed().into_pyobject(py).ok()?.into_any(),
            INT => i64::from_ne_bytes(self.eight()?).into_pyobject(py).ok()?.into_any(),
            FLOAT => PyFloat::new(py, f64::from_ne_bytes(self.eight()?)).into_any(),
            _ => return None,
        })
    }

    fn bound(&mut self) -> Option<isize> {
        isize::try_from(i64::from_ne_bytes(self.eight()?)).ok()
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
