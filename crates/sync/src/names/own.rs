//! The named segments that this process has, by name.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};

use manyhands_os::process::fork_count;

use super::{Directory, if_it_has};
use crate::directory::error::NameError;
use crate::directory::turn::GENERATIONS;
use crate::site::Site;

/// By name. Some are gone; those are taken out from time to time.
#[derive(Debug)]
pub(super) struct Names {
    sites: BTreeMap<Box<str>, Weak<Site>>,
    /// At so many the gone are taken out.
    most: usize,
}

/// Fewer are not worth a look.
const FEW: usize = 64;

impl Names {
    pub(super) const fn new() -> Self {
        Self { sites: BTreeMap::new(), most: FEW }
    }

    fn insert(&mut self, name: &str, site: &Arc<Site>) {
        if self.sites.len() >= self.most {
            self.sites.retain(|_, site| site.strong_count() > 0);
            self.most = 2 * self.sites.len() + FEW;
        }
        self.sites.insert(name.into(), Arc::downgrade(site));
    }
}

/// By generation of forks: a child has another one than its parent, whose own may have been locked when it forked. Locked,
/// for a moment, by a thread that has read-locked `still`.
static NAMES: [Own; GENERATIONS] = [const { Mutex::new(Names::new()) }; GENERATIONS];

fn names_of(forks: u32) -> &'static Own {
    &NAMES[forks as usize % GENERATIONS]
}

fn names() -> MutexGuard<'static, Names> {
    names_of(fork_count()).lock().unwrap_or_else(PoisonError::into_inner)
}

/// The site that this process has mapped by this name already. The caller must keep forks away.
pub(super) fn find(name: &str) -> Result<Option<Arc<Site>>, NameError> {
    let known = names().sites.get(name).and_then(Weak::upgrade);
    // Others find it only as long as its descriptor is open.
    let found =
        known.filter(|site| site.is_ready() && !site.is_retired() && site.segment().fd_to_pass().is_ok());
    found.map_or(Ok(None), |site| if_it_has(name, site))
}

/// Notes that this process has this segment by this name. The caller must keep forks away.
pub(super) fn note(name: &str, site: &Arc<Site>, directory: &'static Directory) {
    if site.is_listed(directory) {
        return;
    }
    site.list(directory, directory.note(name, site.segment().number(), site.segment().fd().as_raw_fd()));
    names().insert(name, site);
}

/// Notes, in a child right after a fork, that it has what its parent had.
pub fn inherit() {
    let parents = names_of(fork_count().wrapping_sub(1));
    let sites = match parents.try_lock() {
        Ok(parents) => parents.sites.clone(),
        Err(TryLockError::Poisoned(error)) => error.into_inner().sites.clone(),
        // Forked without holding still: it is found by looking through all processes only.
        Err(TryLockError::WouldBlock) => return,
    };
    for (name, site) in sites {
        let Some(site) = site.upgrade() else { continue };
        if let Some(directory) = site.directory() {
            note(&name, &site, directory);
        }
    }
}

/// What each generation of forks has of its own.
pub(super) type Own = Mutex<Names>;
