//! Segments by name: the same object for all processes of a user that give the same name.
//!
//! There is no file and no folder. A named segment is a memfd whose own name says what it is (`manyhands:Lock:paper`),
//! and the [`directory`] says which processes have it; whoever opens it takes it from `/proc` of one of these. So a name
//! lives exactly as long as somebody uses it, and nothing can be left behind, however the users ended.
//!
//! # One name, one segment
//!
//! A segment *has* its name while it is ready, not retired, and some process has its descriptor. Never do two have the same
//! name, since
//!
//! 1. whoever makes a segment with a name, or opens one by its name to keep it, has claimed that name in the directory: one
//!    process of the user after the other;
//! 2. a segment is made only by a process that has found no living one in the directory that may have it. Each process
//!    with a segment has a row there: one that makes or opens it, under the claim; one that opens it by address, and a
//!    forked child, right away ([`inherit`]). What a row says of the dead is not the last word: a child of theirs may
//!    not have come so far, so then all processes are looked through for a memfd of that name.
//! 3. what is ready was made ready under the claim. What is not was left by a maker that died half-way: it has no row.
//! 4. what is retired stays retired. Retiring needs no claim: it can only take a name away, and a process that has
//!    just opened the segment cannot tell whether that was before.
//!
//! A process that has a segment and may not be looked into (it has changed its user, say) is known by its row: that is an
//! error for a process that asks for the name, never a second segment.
//!
//! What this process has mapped by that name needs none of it: it is there throughout, as long as its descriptor is
//! (`own`); a program that closes all descriptors takes the names of its segments along.
//!
//! An address (process, descriptor, inode) leads to a segment without the claim, see [`open`]. A process that passes
//! on its only copy in this way and releases it before the other has its row can leave that one a segment whose name
//! means a new one. [`list`], too, has segments open for a moment without a row; a process that asks for a name in
//! that moment gets a new one.

mod own;

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use manyhands_os::memfd::{self, Memfd};
use manyhands_os::memory::Segment;
use manyhands_os::process;

use crate::site::{PARAMETERS, SITE_BYTES, Site, registry};
use crate::site_error::SiteError;

pub use crate::directory::error::{LONGEST_NAME, NameError};
use crate::directory::turn::moving;
pub(crate) use crate::directory::turn::try_looking;
pub use crate::directory::turn::{Still, hold_still};
pub use crate::kind::Kind;
pub use own::inherit;

pub(crate) use crate::directory::Directory;
use crate::directory::{Claimed, Row};

/// What all names of our memfds begin with.
const PREFIX: &str = "manyhands:";

/// A parameter of whatever value. With one, a segment can be opened, but not made.
pub const ANY: u64 = u64::MAX;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The content of the segment.
    pub kind: Kind,
    /// By which others find it; a segment without one is found by address only.
    pub name: Option<&'a str>,
    /// What it is made with. A process that opens it must ask for the same, or for [`ANY`].
    pub parameters: [u64; PARAMETERS],
    /// Bytes behind the site. Nothing is committed there. Where the [kind is elastic](Kind::is_elastic) it is for the process that
    /// makes the segment to say, and a process that opens it gets what there is.
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
        own::find(name)?
    };
    if let Some(site) = known {
        if site.directory().is_some_and(|directory| !directory.is_current()) {
            // This process has changed its user since; that one's other processes must not make another one.
            let directory = crate::directory::current()?;
            let _claimed = directory.claim(name)?;
            own::note(name, &site, directory);
        }
        return opened(name, site, wanted);
    }
    let directory = crate::directory::current()?;
    let claimed = directory.claim(name)?;
    // Another thread may have opened it in the meantime.
    let there = own::find(name)?;
    let there = there.map_or_else(|| find(name, &claimed), |site| Ok(Some(site)))?;
    let found = there.map_or_else(|| make(wanted, lay_out), |site| opened(name, site, wanted))?;
    own::note(name, &found.site, directory);
    drop(claimed);
    Ok(found)
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

fn make(wanted: &Wanted<'_>, lay_out: impl FnOnce(&Arc<Site>) -> io::Result<()>) -> Result<Found, NameError> {
    if wanted.parameters.contains(&ANY) {
        let name = wanted.name.unwrap_or_default().to_owned();
        return Err(NameError::NotMade { name, kind: wanted.kind });
    }
    let mut text = format!("{PREFIX}{}", wanted.kind);
    if let Some(name) = wanted.name {
        text.push(':');
        text.push_str(name);
    }
    let text = CString::new(text).map_err(io::Error::from)?;
    let segment = Arc::new(Segment::create(&text, SITE_BYTES.saturating_add(wanted.body))?);
    let inode = segment.number();
    let site = Site::create(segment, wanted.kind.number(), wanted.parameters)?;
    lay_out(&site)?;
    site.publish();
    Ok(Found { site, inode, created: true })
}

/// The segment that has this name.
fn find(name: &str, claimed: &Claimed) -> Result<Option<Arc<Site>>, NameError> {
    let (mut hidden, mut is_unsure) = (None, claimed.is_crowded());
    for row in claimed.rows(name) {
        let error = match memfd::open(row.holder.pid(), row.fd, row.inode) {
            Ok(file) => match keep(name, row.inode, file)? {
                Some(site) => return Ok(Some(site)),
                None => continue,
            },
            Err(error) => error,
        };
        if has_let_go(&row, &error) {
            claimed.strike(&row);
            is_unsure = true;
        } else {
            hidden = Some((row, error));
        }
    }
    if !is_unsure && hidden.is_none() {
        return Ok(None);
    }
    // A child of theirs may have it without a row, or a process whose number is another one here.
    let open = |file: Memfd| {
        let opened = memfd::open(file.pid, file.fd, file.inode).ok()?;
        keep(name, file.inode, opened).transpose()
    };
    if let Some(site) = memfd::find(&is_of(name), open).transpose()? {
        return Ok(Some(site));
    }
    hidden.map_or(Ok(None), |(row, error)| {
        Err(NameError::Hidden { name: name.to_owned(), pid: row.holder.pid(), error })
    })
}

/// Whether the process of a row certainly has the segment no more, of which it could not be had.
fn has_let_go(row: &Row, error: &io::Error) -> bool {
    let is_elsewhere = error.kind() == io::ErrorKind::NotFound && !row.holder.is_foreign();
    row.holder.is_dead() || is_elsewhere && memfd::can_look_into(row.holder.pid())
}

/// What was opened as a segment of this name, if it still has it. The caller has the claim.
fn keep(name: &str, inode: u64, file: OwnedFd) -> Result<Option<Arc<Site>>, NameError> {
    let is_it = |site: &Site| site.segment().number() == inode && site.segment().fd_to_pass().is_ok();
    let site = match registry::find(is_it) {
        Some(known) => known,
        None => {
            let Ok(segment) = Segment::attach(file) else { return Ok(None) };
            match Site::attach(Arc::new(segment)) {
                Ok(site) => site,
                Err(error) => return if_usable(name, error),
            }
        }
    };
    if_it_has(name, site)
}

fn if_it_has(name: &str, site: Arc<Site>) -> Result<Option<Arc<Site>>, NameError> {
    match site.check() {
        Ok(()) => Ok((!site.is_retired()).then_some(site)),
        Err(error) => if_usable(name, error),
    }
}

/// What is not ready is nobody's; everything else that is wrong with a segment must be known.
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
    let (is, asked): (Vec<u64>, Vec<u64>) = both.filter(|(is, asked)| is != asked && *asked != ANY).unzip();
    if !is.is_empty() {
        return Err(NameError::OtherParameters { name: name(), kind: wanted.kind, is, wanted: asked });
    }
    // The kernel gives whole pages. If any length will do, how large a body must be is known to its reader.
    if !wanted.kind.is_elastic() && site.segment().len() < SITE_BYTES.saturating_add(wanted.body) {
        let error = SiteError::Corrupt("its segment is too short for its content");
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
    /// The processes that have it open, each with the number of its descriptor.
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
/// The caller has said [`hold_still`] before, and releases all of them before it moves again: a child that is forked
/// in between would have them forever.
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

/// Takes the name from every segment that has one and is `meant`: its users go on, and a process that asks for the
/// name from now on gets a new one. Returns how many there were.
pub fn retire(meant: impl Fn(&Entry) -> bool) -> usize {
    let named = list().into_values().filter(|(entry, site)| entry.name.is_some() && !site.is_retired());
    named.filter(|(entry, _)| meant(entry)).map(|(_, site)| site.retire()).count()
}

/// Opens the segment with number `inode`, which process `pid` had as its descriptor `fd` when it said so.
///
/// # Errors
/// [`NameError::Gone`] when nobody has it any more, [`NameError::Hidden`] when that process may not be looked into.
pub fn open(pid: i32, fd: i32, inode: u64) -> Result<Arc<Site>, NameError> {
    let direct = memfd::open(pid, fd, inode);
    let refused = direct.as_ref().err().map(|error| io::Error::new(error.kind(), error.to_string()));
    let direct = direct.and_then(Segment::attach).ok().map(Arc::new);
    // The process that said so may be gone; others may still have it.
    let segment = direct.or_else(|| entries().get(&inode)?.open(inode));
    let Some(segment) = segment else {
        return Err(match refused {
            Some(error) if !process::is_gone(pid) && !memfd::can_look_into(pid) => {
                NameError::Hidden { name: String::new(), pid, error }
            }
            _ => NameError::Gone { pid, here: process::pid() },
        });
    };
    let name = memfd::name_of(segment.fd()).and_then(|text| Some(name_in(&text)?.to_owned()));
    let site = Site::attach(segment)
        .map_err(|error| NameError::Unusable { name: name.clone().unwrap_or_default(), error })?;
    if let Some(name) = name {
        let _moving = moving();
        // Without it, others find the name only as long as whoever has told us the address has it, too.
        if let Ok(directory) = crate::directory::current() {
            own::note(&name, &site, directory);
        }
    }
    Ok(site)
}

/// The name in what a memfd is called.
fn name_in(text: &OsStr) -> Option<&str> {
    Some(text.to_str()?.strip_prefix(PREFIX)?.split_once(':')?.1)
}
