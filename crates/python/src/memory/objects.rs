//! What the bindings of all primitives stand on: words that several processes share, and segments of their own.
//!
//! An unnamed primitive is a [`Record`] in this process's shared heap; a named one, and every queue and pipe, is a
//! segment of its own ([`Mapped`]). Both are pickled by address. Nothing needs to be done about forks here, see
//! [`manyhands_memory::mappings`].

use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use manyhands_channel::arena::BlockRef;
use manyhands_memory::mappings::{self, Mapping, RecordError};
use manyhands_os::memory::{self, Segment};
use manyhands_os::process;
use manyhands_sync::names::{self, Kind, NameError, Wanted};

pub(crate) use manyhands_sync::names::ANY;
use manyhands_sync::site::{PARAMETERS, SITE_BYTES, Site};
use manyhands_sync::words::SegmentWords;
use pyo3::exceptions::{
    PyFileNotFoundError, PyMemoryError, PyOverflowError, PyPermissionError, PyTimeoutError, PyTypeError,
    PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::interpreter::system_error::system_error;
use crate::memory::shared_heap::{self, Referenced};

/// Words that several processes share, and the site in whose segment they lie. Clones are the same record.
#[derive(Clone)]
pub(crate) struct Record {
    inner: Arc<Inner>,
}

struct Inner {
    backing: Backing,
    words: SegmentWords,
    name: Option<String>,
    created: bool,
}

/// What holds the words.
enum Backing {
    Block(Arc<mappings::HeapRecord>),
    Segment(Arc<Mapping>),
}

impl Backing {
    fn mapping(&self) -> &Arc<Mapping> {
        match self {
            Self::Block(record) => record.mapping(),
            Self::Segment(mapping) => mapping,
        }
    }
}

impl Record {
    fn new(backing: Backing, words: SegmentWords, name: Option<&str>, created: bool) -> Self {
        Self { inner: Arc::new(Inner { backing, words, name: name.map(ToOwned::to_owned), created }) }
    }

    /// The site of its segment.
    pub(crate) fn site(&self) -> &Arc<Site> {
        self.inner.backing.mapping().site()
    }

    /// The words.
    pub(crate) fn words(&self) -> &SegmentWords {
        &self.inner.words
    }

    /// Where the first word is in the segment, in bytes: what waiters of it are listed under.
    pub(crate) fn key(&self) -> u64 {
        self.inner.words.offset_of(0) as u64
    }

    /// Its name, if it has one.
    pub(crate) fn name(&self) -> Option<&str> {
        self.inner.name.as_deref()
    }

    /// Its name as it stands in a repr: after a blank, in quotes; nothing if it has none.
    pub(crate) fn label(&self) -> String {
        self.name().map_or(String::new(), |name| format!(" {name:?}"))
    }

    /// Whether it was made here, rather than opened.
    pub(crate) fn created(&self) -> bool {
        self.inner.created
    }

    /// What keeps it for others to open.
    pub(crate) fn reference(&self) -> Referenced {
        self.inner.clone()
    }

    /// The same as [`Record::address`], in numbers only; `None` for one with a segment of its own. Whoever sends it keeps a
    /// [reference](Self::reference) until it has been opened.
    pub(crate) fn block_address(&self) -> Option<BlockAddress> {
        let Backing::Block(record) = &self.inner.backing else { return None };
        let mapping = record.mapping();
        Some(BlockAddress {
            pid: process::pid(),
            fd: mapping.segment().fd().as_raw_fd(),
            inode: mapping.inode(),
            block: record.reference().to_bits(),
        })
    }

    /// By which [`open_record`] finds it in another process, as long as somebody has it.
    pub(crate) fn address<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let is_kept = shared_heap::refer_to(self.inner.clone());
        let reference = match &self.inner.backing {
            Backing::Block(record) => {
                if !is_kept {
                    record.linger();
                }
                record.reference().to_bits()
            }
            Backing::Segment(_) => 0,
        };
        address_of(py, self.inner.backing.mapping(), reference, self.name())
    }
}

/// A segment of its own. Clones are the same segment.
#[derive(Clone)]
pub(crate) struct Mapped {
    inner: Arc<Whole>,
}

struct Whole {
    mapping: Arc<Mapping>,
    name: Option<String>,
}

impl Mapped {
    fn new(mapping: Arc<Mapping>, name: Option<&str>) -> Self {
        Self { inner: Arc::new(Whole { mapping, name: name.map(ToOwned::to_owned) }) }
    }

    /// The site that it begins with.
    pub(crate) fn site(&self) -> &Arc<Site> {
        self.inner.mapping.site()
    }

    /// The segment.
    pub(crate) fn segment(&self) -> &Arc<Segment> {
        self.inner.mapping.segment()
    }

    /// What comes behind the site.
    pub(crate) fn body(&self) -> Range<usize> {
        SITE_BYTES..self.segment().len()
    }

    /// Its name, if it has one.
    pub(crate) fn name(&self) -> Option<&str> {
        self.inner.name.as_deref()
    }

    /// By which [`open_segment`] finds it in another process, as long as somebody has it.
    pub(crate) fn address<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        shared_heap::refer_to(self.inner.clone());
        address_of(py, &self.inner.mapping, 0, self.name())
    }
}

/// (process, descriptor there, number of the memfd, reference to the block or 0, name or None)
fn address_of<'py>(
    py: Python<'py>,
    mapping: &Mapping,
    reference: u64,
    name: Option<&str>,
) -> PyResult<Bound<'py, PyTuple>> {
    (process::pid(), mapping.segment().fd().as_raw_fd(), mapping.inode(), reference, name).into_pyobject(py)
}

type Address = (i32, i32, u64, u64, Option<String>);

/// The address of a record in some process's shared heap.
pub(crate) struct BlockAddress {
    pid: i32,
    fd: i32,
    inode: u64,
    block: u64,
}

impl BlockAddress {
    pub(crate) const BYTES: usize = 24;

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        [
            &self.pid.to_ne_bytes()[..],
            &self.fd.to_ne_bytes(),
            &self.inode.to_ne_bytes(),
            &self.block.to_ne_bytes(),
        ]
        .concat()
    }

    pub(crate) fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        let half = |at: usize| i32::from_ne_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        Self { pid: half(0), fd: half(4), inode: word(8), block: word(16) }
    }

    /// The record, which must be of this kind and size.
    pub(crate) fn open(&self, kind: Kind, words: usize) -> PyResult<Record> {
        open_at((self.pid, self.fd, self.inode, self.block, None), kind, words)
    }
}

fn parse(address: &Bound<'_, PyAny>) -> PyResult<Address> {
    address
        .extract()
        .map_err(|_| PyTypeError::new_err(format!("not the address of a shared object: {address}")))
}

/// A record of `words` words in this process's own shared heap; all zero.
pub(crate) fn new_record(kind: Kind, words: usize) -> PyResult<Record> {
    let record = shared_heap::own()?.record(kind, bytes(words)?).map_err(|error| refusal(kind, error))?;
    let shared = record.words();
    Ok(Record::new(Backing::Block(Arc::new(record)), shared, None, true))
}

/// A record: with an address [that one](open_record), with a name the one of that name, made or opened, otherwise a
/// [new one](new_record). `initialise` is called for words that were just made and are zero, before anybody else can see
/// them; it must not need the interpreter.
pub(crate) fn record(
    address: Option<&Bound<'_, PyTuple>>,
    kind: Kind,
    name: Option<&str>,
    parameters: &[u64],
    words: usize,
    initialise: impl FnOnce(&Arc<Site>, &SegmentWords) -> PyResult<()> + Send,
) -> PyResult<Record> {
    if let Some(address) = address {
        return open_record(address, kind, words);
    }
    let Some(name) = name else {
        let record = new_record(kind, words)?;
        initialise(record.site(), record.words())?;
        return Ok(record);
    };
    let body = bytes(words)?;
    let (mapping, created) = mapping(kind, Some(name), parameters, body, |site| {
        site.segment().commit(SITE_BYTES..SITE_BYTES + body)?;
        Ok(initialise(site, &words_of(site, words))?)
    })?;
    let shared = words_of(mapping.site(), words);
    Ok(Record::new(Backing::Segment(mapping), shared, Some(name), created))
}

/// The record of this name, made with whatever parameters stand for [`ANY`]; `None` when there is none. `words` says how
/// many it has from what its maker gave.
pub(crate) fn named_record(
    kind: Kind,
    name: &str,
    parameters: &[u64],
    words: impl FnOnce(&Site) -> Option<usize>,
) -> PyResult<Option<Record>> {
    let Some(mapping) = named_mapping(kind, name, parameters)? else { return Ok(None) };
    let least = words(mapping.site()).map(|words| bytes(words).map(|bytes| (words, bytes))).transpose()?;
    match least.filter(|(_, bytes)| SITE_BYTES.saturating_add(*bytes) <= mapping.segment().len()) {
        Some((words, _)) => {
            let shared = words_of(mapping.site(), words);
            Ok(Some(Record::new(Backing::Segment(mapping), shared, Some(name), false)))
        }
        None => Err(PyValueError::new_err(format!("the {kind} named {name:?} is damaged"))),
    }
}

/// The segment of this name, made with whatever parameters stand for [`ANY`]; `None` when there is none.
pub(crate) fn named_segment(kind: Kind, name: &str, parameters: &[u64]) -> PyResult<Option<Mapped>> {
    Ok(named_mapping(kind, name, parameters)?.map(|mapping| Mapped::new(mapping, Some(name))))
}

fn named_mapping(kind: Kind, name: &str, parameters: &[u64]) -> PyResult<Option<Arc<Mapping>>> {
    let wanted = Wanted { kind, name: Some(name), parameters: all(parameters), body: 0 };
    let never = |_: &Arc<Site>| Err(std::io::Error::other("what is only opened was made"));
    match Python::attach(|py| py.detach(|| names::make_or_open(&wanted, never))) {
        Ok(found) => Ok(Some(register(kind, found.site)?)),
        Err(NameError::NotMade { .. }) => Ok(None),
        Err(error) => Err(name_refusal(kind, error)),
    }
}

/// Opens what has a name, or makes it; `open` gives `None` where there is nothing. Another process may make it in between,
/// as something that `make` would not have it: it is taken as it is, then.
pub(crate) fn open_or_make<T>(
    open: impl Fn() -> PyResult<Option<T>>,
    make: impl FnOnce() -> PyResult<T>,
) -> PyResult<T> {
    if let Some(found) = open()? {
        return Ok(found);
    }
    make().or_else(|error| open()?.ok_or(error))
}

/// The record with this address, which must be of this kind and size.
pub(crate) fn open_record(address: &Bound<'_, PyAny>, kind: Kind, words: usize) -> PyResult<Record> {
    open_at(parse(address)?, kind, words)
}

fn open_at((pid, fd, inode, reference, name): Address, kind: Kind, words: usize) -> PyResult<Record> {
    let mapping = Mapping::find(pid, fd, inode).map_err(|error| name_refusal(kind, error))?;
    if reference == 0 {
        check_kind(&mapping, kind, SITE_BYTES + bytes(words)?)?;
        let shared = words_of(mapping.site(), words);
        return Ok(Record::new(Backing::Segment(mapping), shared, name.as_deref(), false));
    }
    check_kind(&mapping, Kind::SharedHeap, 0)?;
    let record = mappings::HeapRecord::open(&mapping, BlockRef::from_bits(reference), kind, bytes(words)?);
    let record = record.map_err(|error| refusal(kind, error))?;
    let shared = record.words();
    Ok(Record::new(Backing::Block(Arc::new(record)), shared, None, false))
}

/// A segment with a body of `body` bytes, of which none is committed. With a name it is the one of that name, made or
/// opened. `lay_out` is called for one that was just made, before anybody else can see it; it must not need the
/// interpreter.
pub(crate) fn new_segment(
    kind: Kind,
    name: Option<&str>,
    parameters: &[u64],
    body: usize,
    lay_out: impl FnOnce(&Arc<Site>) -> PyResult<()> + Send,
) -> PyResult<Mapped> {
    let (mapping, _) = mapping(kind, name, parameters, body, |site| Ok(lay_out(site)?))?;
    Ok(Mapped::new(mapping, name))
}

/// As [`new_segment`], with as much room as can be had: a body of `most` bytes or, where addresses are limited, less, down
/// to `least`. `lay_out` may be called again.
pub(crate) fn roomy_segment(
    kind: Kind,
    name: Option<&str>,
    parameters: &[u64],
    (least, most): (usize, usize),
    mut lay_out: impl FnMut(&Arc<Site>) -> PyResult<()> + Send,
) -> PyResult<Mapped> {
    // A program has many queues and pipes, and other things that take addresses: each leaves most of what is left.
    let share = memory::address_room().map_or(usize::MAX, |bytes| bytes / 32);
    let mut body = most.min(share).max(least);
    loop {
        let outcome = new_segment(kind, name, parameters, body, &mut lay_out);
        let is_short = |error: &PyErr| Python::attach(|py| error.is_instance_of::<PyMemoryError>(py));
        if body / 2 < least || !outcome.as_ref().is_err_and(is_short) {
            return outcome;
        }
        body /= 2;
    }
}

/// The segment with this address, which must be of this kind.
pub(crate) fn open_segment(address: &Bound<'_, PyAny>, kind: Kind) -> PyResult<Mapped> {
    let (pid, fd, inode, _, name) = parse(address)?;
    let mapping = Mapping::find(pid, fd, inode).map_err(|error| name_refusal(kind, error))?;
    check_kind(&mapping, kind, 0)?;
    Ok(Mapped::new(mapping, name.as_deref()))
}

fn mapping(
    kind: Kind,
    name: Option<&str>,
    parameters: &[u64],
    body: usize,
    lay_out: impl FnOnce(&Arc<Site>) -> std::io::Result<()> + Send,
) -> PyResult<(Arc<Mapping>, bool)> {
    let wanted = Wanted { kind, name, parameters: all(parameters), body };
    // Without the interpreter: another process that makes or opens the same name is waited for. `lay_out` must not ask for
    // it either, as a thread that has it may be about to fork and wait for us.
    let found = Python::attach(|py| py.detach(|| names::make_or_open(&wanted, lay_out)));
    let found = found.map_err(|error| name_refusal(kind, error))?;
    Ok((register(kind, found.site)?, found.created))
}

fn register(kind: Kind, site: Arc<Site>) -> PyResult<Arc<Mapping>> {
    Mapping::register(site, None)
        .map_err(|error| system_error(&format!("open the shared memory of the {kind}"), error))
}

/// What to say where something should be opened that nobody has.
pub(crate) fn nothing_named(name: &str, kind: &str, needed: &str) -> PyErr {
    PyFileNotFoundError::new_err(format!(
        "no process has a {kind} named {name:?}: pass its {needed} to create it"
    ))
}

fn all(parameters: &[u64]) -> [u64; PARAMETERS] {
    let mut all = [0; PARAMETERS];
    all[..parameters.len()].copy_from_slice(parameters);
    all
}

fn bytes(words: usize) -> PyResult<usize> {
    words.checked_mul(8).ok_or_else(|| PyOverflowError::new_err("the object is too large for shared memory"))
}

fn words_of(site: &Arc<Site>, words: usize) -> SegmentWords {
    SegmentWords::new(Arc::clone(site.segment()), SITE_BYTES, words)
}

fn check_kind(mapping: &Mapping, kind: Kind, least: usize) -> PyResult<()> {
    let is = Kind::from_number(mapping.site().kind());
    if is != Some(kind) {
        let is = is.map_or_else(
            || "of a kind that this version of manyhands does not know".to_owned(),
            |is| format!("a {is}"),
        );
        return Err(PyValueError::new_err(format!("the shared object is {is}, not a {kind}")));
    }
    if mapping.segment().len() < least {
        return Err(PyValueError::new_err(format!("the shared {kind} is of another size or version")));
    }
    Ok(())
}

fn refusal(kind: Kind, error: RecordError) -> PyErr {
    let text = error.to_string();
    match error {
        RecordError::Full(full) => {
            PyMemoryError::new_err(format!("cannot allocate shared memory for another object: {full}"))
        }
        RecordError::Segment(error) => name_refusal(kind, error),
        RecordError::Freed(_) => PyFileNotFoundError::new_err(text),
        RecordError::OtherKind(..) | RecordError::OtherSize(..) => PyValueError::new_err(text),
    }
}

/// In the words of Python, what something was made with: by numbers that differ, of which each kind has its own.
fn difference(kind: Kind, is: &[u64], wanted: &[u64]) -> String {
    if kind == Kind::Array {
        // Its length, and what stands for shape and dtype; with the length, that differs, too.
        return match (is, wanted) {
            (&[is, _], &[wanted, _]) => format!("another shape or dtype: {is} bytes, not {wanted}"),
            _ => "another shape or dtype".to_owned(),
        };
    }
    let numbers = |all: &[u64]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let text = format!("{} {}, not {}", kind.parameter(), numbers(is), numbers(wanted));
    text.trim_start().to_owned()
}

fn name_refusal(wanted: Kind, error: NameError) -> PyErr {
    let text = match &error {
        NameError::OtherParameters { name, kind, is, wanted } => {
            let differs = difference(*kind, is, wanted);
            format!("the {kind} named {name:?} was made with {differs}")
        }
        error => error.to_string(),
    };
    match error {
        // Perhaps an exception from laying out the body.
        NameError::System(error) => system_error(&format!("open the shared memory of the {wanted}"), error),
        NameError::Gone { .. } => PyFileNotFoundError::new_err(text),
        NameError::Hidden { .. } => PyPermissionError::new_err(text),
        NameError::Busy { .. } => PyTimeoutError::new_err(text),
        _ => PyValueError::new_err(text),
    }
}
