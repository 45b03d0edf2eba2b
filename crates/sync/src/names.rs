//! Segments by name: the same object for all processes of a user that give the same name.
//!
//! There is no file and no folder. A named segment is a memfd whose own name says what it is (`manyhands:Lock:paper`);
//! whoever looks for it goes through the open files of this user's processes. So a name lives exactly as long as
//! somebody uses it, and nothing can be left behind, however the users ended.
//!
//! # One name, one segment
//!
//! A segment *has* its name while it is ready, not retired, and some process has its descriptor. Never do two have the same
//! name, since
//!
//! 1. whoever makes a segment with a name, or opens one by its name to keep it, has the [`Claim`] on a word made of that
//!    name at the time: one process of the machine after the other;
//! 2. a segment is made only by who has looked through all processes under the claim and found none that has the name. It
//!    cannot slip past that look: by name it comes to another process only under the claim; by fork it comes to a child,
//!    which is looked at after its parent, or in the next round, that of the newcomers; and no process moves it from one
//!    descriptor to another. Who has it at the beginning of the look and loses it may be the last one: then it is gone.
//! 3. what is ready was made ready under the claim. What is found unready under the claim was left by a maker that died
//!    half-way, and becomes ready no more. It is passed over, and gone as soon as nobody has a copy of it.
//! 4. what is retired stays retired. Retiring needs no claim: it can only take a name away, and who has just opened the
//!    segment cannot tell whether that was before.
//!
//! Under the claim it suffices to find *one* segment that has the name: it is the one. So who does not get the claim at once
//! finds out meanwhile where it is: through all processes without the claim (`glimpse`), which takes long, but hinders
//! nobody, and opens nothing. Under the claim there are then only the few steps of opening it, and one that is gone by
//! then, or has lost its name, is looked for once more. Who sees nothing in this way waits until whoever has the
//! claim has made it, and looks again without it; or the many who start together would all look through all processes one
//! after the other.
//!
//! What this process has mapped by that name needs neither: it is there throughout, as long as its descriptor is
//! (`own`); a program that closes all descriptors takes the names of its segments along.
//!
//! An address (process, descriptor, inode) leads to a segment without the claim, see [`open`]. Who passes on its only copy
//! in this way, to a process that has been looked at already, and lets go of it before its own turn, all within the
//! milliseconds of another's look, can keep a segment whose name means a new one. [`list`], too, has segments open for a moment
//! without the claim; who asks for a name in that moment can be given one whose last user has just gone.

mod error;
mod kind;
mod turn;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::sync::Arc;

use manyhands_os::claim::Claim;
use manyhands_os::memfd::{self, Memfd};
use manyhands_os::memory::Segment;
use manyhands_os::{clock, process};

use crate::site::{PARAMETERS, SITE_BYTES, Site, SiteError, registry};

pub use error::NameError;
pub use kind::Kind;
pub(crate) use turn::try_looking;
use turn::{Moving, moving};
pub use turn::{Still, hold_still};

/// What all names of our memfds begin with.
const PREFIX: &str = "manyhands:";

/// The most bytes that a name may have.
pub const LONGEST_NAME: usize = 200;

/// How long the making of a segment by another process is waited for, which takes it microseconds unless it is stopped,
/// in nanoseconds.
const PATIENCE: u64 = 10 * clock::SECOND;

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
    let known = {
        let _moving = moving();
        own(name)?
    };
    if let Some(site) = known {
        return opened(name, site, wanted);
    }
    let mut seen = None;
    let claim = match Claimed::at_once(name)? {
        Some(claim) => claim,
        None => {
            seen = glimpse(name);
            if seen.is_none() {
                // Who is busy with the name makes it, as a rule.
                drop(Claimed::wait(name)?);
                seen = glimpse(name);
            }
            Claimed::wait(name)?
        }
    };
    // Another thread may have opened it meanwhile.
    let there = own(name)?;
    let there =
        there.map_or_else(|| seen.map_or(Ok(None), |file| keep(name, &file)), |site| Ok(Some(site)))?;
    let there = there.map_or_else(|| find(name), |site| Ok(Some(site)))?;
    let found = there.map_or_else(|| make(wanted, lay_out), |site| opened(name, site, wanted));
    drop(claim);
    found
}

fn opened(name: &str, site: Arc<Site>, wanted: &Wanted<'_>) -> Result<Found, NameError> {
    compare(name, &site, wanted)?;
    let inode = site.segment().number();
    Ok(Found { site, inode, created: false })
}

fn check(name: &str) -> Result<(), NameError> {
    match name {
        "" => Err(NameError::Empty),
        _ if name.len() > LONGEST_NAME => Err(NameError::TooLong { name: name.to_owned() }),
        _ if name.contains('\0') => Err(NameError::Nul { name: name.to_owned() }),
        _ => Ok(()),
    }
}

/// The claim on a name; this process does not fork meanwhile.
struct Claimed {
    _claim: Claim,
    _moving: Moving,
}

impl Claimed {
    /// `None` while somebody has it.
    fn at_once(name: &str) -> Result<Option<Self>, NameError> {
        // Names that share a word only wait for each other.
        let word = format!("{PREFIX}{}:{:016x}", memfd::user(), fingerprint(name.as_bytes()));
        let moving = moving();
        Ok(Claim::on(&word)?.map(|claim| Self { _claim: claim, _moving: moving }))
    }

    /// Waits until nobody else has it.
    fn wait(name: &str) -> Result<Self, NameError> {
        let deadline = clock::now() + PATIENCE;
        let mut pause = clock::MILLISECOND / 10;
        loop {
            if let Some(claimed) = Self::at_once(name)? {
                return Ok(claimed);
            }
            if clock::now() > deadline {
                return Err(NameError::Busy { name: name.to_owned() });
            }
            clock::sleep_until(clock::now() + pause);
            // Short: there is no order among those who wait, so who asks seldom comes late.
            pause = (2 * pause).min(2 * clock::MILLISECOND);
        }
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
    let segment = Arc::new(Segment::create(&text, SITE_BYTES.saturating_add(wanted.body))?);
    let inode = segment.number();
    let site = Site::create(segment, wanted.kind.number(), wanted.parameters)?;
    if let Some(name) = wanted.name {
        site.note_name(name);
    }
    lay_out(&site)?;
    site.publish();
    Ok(Found { site, inode, created: true })
}

/// The site that this process has mapped by this name already.
fn own(name: &str) -> Result<Option<Arc<Site>>, NameError> {
    let is_meant = |site: &Site| site.name() == Some(name) && site.is_ready() && !site.is_retired();
    // Others find it only as long as its descriptor is open.
    let found = registry::find(|site| is_meant(site) && site.segment().fd_to_pass().is_ok());
    found.map_or(Ok(None), |site| if_it_has(name, site))
}

/// Where somebody has a segment of this name, which may be retired or not ready yet.
fn glimpse(name: &str) -> Option<Memfd> {
    let _moving = moving();
    memfd::find(&is_of(name), Some)
}

/// The segment that has this name. For who has the claim.
fn find(name: &str) -> Result<Option<Arc<Site>>, NameError> {
    memfd::find(&is_of(name), |file| keep(name, &file).transpose()).transpose()
}

/// Opens what was seen as a segment of this name, if it still has it. For who has the claim.
fn keep(name: &str, file: &Memfd) -> Result<Option<Arc<Site>>, NameError> {
    let is_it = |site: &Site| site.segment().number() == file.inode && site.segment().fd_to_pass().is_ok();
    let site = match registry::find(is_it) {
        Some(known) => known,
        None => {
            let opened = memfd::open(file.pid, file.fd, file.inode).and_then(Segment::attach);
            let Ok(segment) = opened else { return Ok(None) };
            match Site::attach(Arc::new(segment)) {
                Ok(site) => site,
                Err(error) => return if_usable(name, error),
            }
        }
    };
    let site = if_it_has(name, site)?;
    Ok(site.inspect(|site| site.note_name(name)))
}

fn if_it_has(name: &str, site: Arc<Site>) -> Result<Option<Arc<Site>>, NameError> {
    match site.check() {
        Ok(()) => Ok((!site.is_retired()).then_some(site)),
        Err(error) => if_usable(name, error),
    }
}

/// What is not ready is nobody's; all else that is wrong with a segment is to be known.
fn if_usable<T>(name: &str, error: SiteError) -> Result<Option<T>, NameError> {
    match error {
        SiteError::NotReady | SiteError::NotASite => Ok(None),
        error => Err(NameError::Unusable { name: name.to_owned(), error }),
    }
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
    if !wanted.kind.is_elastic() && site.segment().len() < SITE_BYTES.saturating_add(wanted.body) {
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
    for file in memfd::list(PREFIX) {
        let Some((kind, name)) = parse(&file) else { continue };
        let (kind, name) = (kind.to_owned(), name.map(ToOwned::to_owned));
        let entry = entries.entry(file.inode).or_insert_with(|| Entry { kind, name, users: Vec::new() });
        entry.users.push((file.pid, file.fd));
    }
    entries
}

/// The word of its kind, and its name.
fn parse(file: &Memfd) -> Option<(&str, Option<&str>)> {
    let text = file.name.to_str()?.strip_prefix(PREFIX)?;
    Some(text.split_once(':').map_or((text, None), |(kind, name)| (kind, Some(name))))
}

/// Whether a memfd is called as a segment of this name is, of whatever kind.
fn is_of(name: &str) -> impl Fn(&[u8]) -> bool {
    move |text| {
        let kind = text.strip_suffix(name.as_bytes()).and_then(|rest| rest.strip_suffix(b":"));
        let kind = kind.and_then(|rest| rest.strip_prefix(PREFIX.as_bytes()));
        kind.is_some_and(|kind| !kind.contains(&b':'))
    }
}

/// The segments of process `pid` in which somebody may wait for a lock, but those whose number is `known`: each is opened
/// when the last one has been looked at. What cannot be opened, or is damaged, is left out.
///
/// Who looks has said [`hold_still`] before, and lets go of all of them before it moves again: a child that is forked
/// meanwhile would have them for ever.
pub(crate) fn with_locks(pid: i32, known: impl Fn(u64) -> bool) -> impl Iterator<Item = Site> {
    let mut files = memfd::list_of(pid, PREFIX);
    files.retain(|file| {
        let kind = parse(file).and_then(|(kind, _)| Kind::from_word(kind));
        kind.is_some_and(Kind::has_locks) && !known(file.inode)
    });
    files.sort_by_key(|file| file.inode);
    files.dedup_by_key(|file| file.inode);
    files.into_iter().filter_map(|Memfd { pid, fd, inode, .. }| {
        let segment = memfd::open(pid, fd, inode).and_then(Segment::attach).ok()?;
        Site::look_at(segment).ok()
    })
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
