//! Segments by name: the same object for all processes of a user that give the same name.
//!
//! There is no file and no folder. A named segment is a memfd whose own name says what it is (`manyhands:Lock:paper`);
//! whoever looks for it goes through the open files of this user's processes. So a name lives exactly as long as
//! somebody uses it, and nothing can be left behind, however the users ended.
//!
//! Making and opening by one name happen one after the other ([`Claim`] on a word made of the name). Who has the claim
//! and finds no segment that is ready makes one; what a maker left unready that died half-way is passed over, and gone
//! as soon as nobody has a copy of it.

mod error;
mod kind;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manyhands_os::claim::Claim;
use manyhands_os::memfd::{self, Memfd};
use manyhands_os::memory::Segment;
use manyhands_os::{clock, process};

use crate::site::{PARAMETERS, SITE_BYTES, Site, SiteError};

pub use error::NameError;
pub use kind::Kind;

/// What all names of our memfds begin with.
const PREFIX: &str = "manyhands:";

/// The most bytes that a name may have.
pub const LONGEST_NAME: usize = 200;

/// How long the making of a segment by another process is waited for, which takes it microseconds unless it is stopped,
/// in nanoseconds.
const PATIENCE: u64 = 10 * clock::SECOND;

/// Locked while this process has a [`Claim`].
static TURN: Mutex<()> = Mutex::new(());

/// Keeps this process from making and opening segments by name while the value lives: around a fork, or the child
/// would have a copy of the claim on the name, and nobody could use that name as long as the child lives.
pub fn hold_still() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// What is to stand in the segment.
    pub kind: Kind,
    /// By which others find it; a segment without one is found by address only.
    pub name: Option<&'a str>,
    /// What it is made with. Who opens it must ask for the same.
    pub parameters: [u64; PARAMETERS],
    /// Bytes behind the site. Nothing is committed there. Where the [kind is elastic](Kind::is_elastic) it is for who
    /// makes the segment to say, and who opens it gets what there is.
    pub body: usize,
}

/// A segment that was made or found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The site that it begins with.
    pub site: Arc<Site>,
    /// The number of its memfd, see [`Memfd::inode`].
    pub inode: u64,
    /// Whether it was made just now.
    pub created: bool,
}

/// Makes the segment that is asked for, or opens the one that has that name already. `lay_out` writes what the body
/// begins with; nobody else can see the segment before it has returned.
///
/// ```
/// use manyhands_sync::names::{Kind, Wanted, make_or_open};
///
/// let name = format!("example {}", std::process::id());
/// let wanted = Wanted { kind: Kind::Event, name: Some(&name), parameters: Default::default(), body: 64 };
/// let made = make_or_open(&wanted, |_| Ok(()))?;
/// let opened = make_or_open(&wanted, |_| Ok(()))?;
/// assert!(made.created && !opened.created);
/// assert_eq!(made.inode, opened.inode);
/// let error = make_or_open(&Wanted { kind: Kind::Lock, ..wanted }, |_| Ok(())).expect_err("another kind");
/// assert!(error.to_string().contains("is of kind Event, not Lock"));
/// # Ok::<(), manyhands_sync::names::NameError>(())
/// ```
///
/// # Errors
/// [`NameError`] says what is wrong with the name or with what has it.
pub fn make_or_open(
    wanted: &Wanted<'_>,
    lay_out: impl FnOnce(&Arc<Site>) -> io::Result<()>,
) -> Result<Found, NameError> {
    let Some(name) = wanted.name else { return make(wanted, lay_out) };
    check(name)?;
    let _claim = claim(name)?;
    match find(name)? {
        Some((site, inode)) => {
            compare(name, &site, wanted)?;
            Ok(Found { site, inode, created: false })
        }
        None => make(wanted, lay_out),
    }
}

fn check(name: &str) -> Result<(), NameError> {
    match name {
        "" => Err(NameError::Empty),
        _ if name.len() > LONGEST_NAME => Err(NameError::TooLong { name: name.to_owned() }),
        _ if name.contains('\0') => Err(NameError::Nul { name: name.to_owned() }),
        _ => Ok(()),
    }
}

/// Waits for the turn to make or open `name`.
fn claim(name: &str) -> Result<(Claim, MutexGuard<'static, ()>), NameError> {
    // Names that share a word only wait for each other.
    let word = format!("{PREFIX}{}:{:016x}", memfd::user(), fingerprint(name.as_bytes()));
    let deadline = clock::now() + PATIENCE;
    let mut pause = clock::MILLISECOND / 10;
    loop {
        let turn = hold_still();
        if let Some(claim) = Claim::on(&word)? {
            return Ok((claim, turn));
        }
        drop(turn);
        if clock::now() > deadline {
            return Err(NameError::Busy { name: name.to_owned() });
        }
        clock::sleep_until(clock::now() + pause);
        pause = (2 * pause).min(10 * clock::MILLISECOND);
    }
}

/// FNV-1a: the same in every build, which the hash of the standard library does not promise.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn make(wanted: &Wanted<'_>, lay_out: impl FnOnce(&Arc<Site>) -> io::Result<()>) -> Result<Found, NameError> {
    let mut text = format!("{PREFIX}{}", wanted.kind);
    if let Some(name) = wanted.name {
        text.push(':');
        text.push_str(name);
    }
    let text = CString::new(text).map_err(io::Error::from)?;
    let segment = Arc::new(Segment::create(&text, SITE_BYTES + wanted.body)?);
    let inode = memfd::inode_of(segment.fd())?;
    let site = Site::create(segment, wanted.kind.number(), wanted.parameters)?;
    lay_out(&site)?;
    site.publish();
    Ok(Found { site, inode, created: true })
}

/// The segment that has this name; of several, which should not be, the one that everybody takes.
fn find(name: &str) -> Result<Option<(Arc<Site>, u64)>, NameError> {
    for (inode, entry) in entries() {
        if entry.name.as_deref() != Some(name) {
            continue;
        }
        let Some(segment) = entry.open(inode) else { continue };
        match Site::attach(segment) {
            Ok(site) if !site.is_retired() => return Ok(Some((site, inode))),
            // Its maker is gone, as we have the claim; or the name was taken from it.
            Ok(_) | Err(SiteError::NotReady | SiteError::NotASite) => {}
            Err(error) => return Err(NameError::Unusable { name: name.to_owned(), error }),
        }
    }
    Ok(None)
}

fn compare(name: &str, site: &Site, wanted: &Wanted<'_>) -> Result<(), NameError> {
    let name = || name.to_owned();
    match Kind::from_number(site.kind()) {
        Some(kind) if kind == wanted.kind => {}
        kind => return Err(NameError::OtherKind { name: name(), is: kind, wanted: wanted.kind }),
    }
    let both = site.parameters().into_iter().zip(wanted.parameters);
    let (is, asked): (Vec<u64>, Vec<u64>) = both.filter(|(is, asked)| is != asked).unzip();
    if !is.is_empty() {
        return Err(NameError::OtherParameters { name: name(), kind: wanted.kind, is, wanted: asked });
    }
    // The kernel gives whole pages. How large a body must be that any length will do for is known to who reads it.
    if !wanted.kind.is_elastic() && site.segment().len() < SITE_BYTES + wanted.body {
        let error = SiteError::Corrupt("its segment is shorter than what is to stand in it");
        return Err(NameError::Unusable { name: name(), error });
    }
    Ok(())
}

/// A segment of this user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The word of its kind, as its maker wrote it.
    pub kind: String,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Who has it open: process and number of the descriptor there, by process.
    pub users: Vec<(i32, i32)>,
}

impl Entry {
    /// Maps it, as whoever still has it open gives it.
    fn open(&self, inode: u64) -> Option<Arc<Segment>> {
        let mut fds = self.users.iter().filter_map(|(pid, fd)| memfd::open(*pid, *fd, inode).ok());
        Some(Arc::new(Segment::attach(fds.next()?).ok()?))
    }
}

/// All segments of this user's processes, by the number of their memfd.
#[must_use]
pub fn entries() -> BTreeMap<u64, Entry> {
    let mut entries = BTreeMap::new();
    for Memfd { pid, fd, inode, name } in memfd::list(PREFIX) {
        let Some(text) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let (kind, name) = match text.split_once(':') {
            Some((kind, name)) => (kind, Some(name.to_owned())),
            None => (text, None),
        };
        let entry = entries.entry(inode);
        let entry = entry.or_insert_with(|| Entry { kind: kind.to_owned(), name, users: Vec::new() });
        entry.users.push((pid, fd));
    }
    entries
}

/// All segments of this user that are ready, opened to be looked at, by the number of their memfd.
#[must_use]
pub fn list() -> BTreeMap<u64, (Entry, Arc<Site>)> {
    let opened = entries().into_iter().filter_map(|(inode, entry)| {
        let site = Site::attach(entry.open(inode)?).ok()?;
        Some((inode, (entry, site)))
    });
    opened.collect()
}

/// Takes the name from every segment that has one and is `meant`: who uses it goes on, and who asks for the name from now
/// on gets a new one. Returns how many there were.
pub fn retire(meant: impl Fn(&Entry) -> bool) -> usize {
    let named = list().into_values().filter(|(entry, site)| entry.name.is_some() && !site.is_retired());
    named.filter(|(entry, _)| meant(entry)).map(|(_, site)| site.retire()).count()
}

/// Opens the segment with number `inode`, which process `pid` had as its descriptor `fd` when it said so.
///
/// # Errors
/// [`NameError::Gone`] when nobody has it any more.
pub fn open(pid: i32, fd: i32, inode: u64) -> Result<Arc<Site>, NameError> {
    let direct = memfd::open(pid, fd, inode).and_then(Segment::attach).ok().map(Arc::new);
    // Who has said so may be gone; others may still have it.
    let segment = direct.or_else(|| entries().get(&inode)?.open(inode));
    let segment = segment.ok_or(NameError::Gone { pid, here: process::pid() })?;
    let name = || entries().remove(&inode).and_then(|entry| entry.name).unwrap_or_default();
    Site::attach(segment).map_err(|error| NameError::Unusable { name: name(), error })
}
