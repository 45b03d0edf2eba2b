//! What a process uses, and what this process may use: `/proc` and the control groups.

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::{Stat, number_in_proc};

/// What a small file of the kernel's says, as in `/proc` and `/sys`.
///
/// ```
/// assert!(manyhands_os::procfs::content("/proc/self/statm").is_ok());
/// ```
///
/// # Errors
/// What the kernel says.
pub fn content(path: &str) -> std::io::Result<Vec<u8>> {
    fs::read(path)
}

/// Resident memory of a process, in bytes; `None` when there is no such process.
///
/// ```
/// let used = manyhands_os::procfs::rss_bytes(std::process::id() as i32);
/// assert!(used.is_some_and(|bytes| bytes > 0));
/// ```
#[must_use]
pub fn rss_bytes(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(file_of(pid, "statm")?).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// How busy the machine is: how many processes ran or wanted to, on average, over 1, 5 and 15 minutes. `None` when the kernel does not say.
///
/// ```
/// assert!(manyhands_os::procfs::load_average().is_some_and(|[minute, ..]| minute >= 0.0));
/// ```
#[must_use]
pub fn load_average() -> Option<[f64; 3]> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    let mut numbers = text.split_whitespace().map_while(|number| number.parse().ok());
    Some([numbers.next()?, numbers.next()?, numbers.next()?])
}

/// What a process runs, in a word for people: `server.py` for `python3 -u /srv/server.py`, `-m http.server`, `-c` for
/// a program on the command line, `worker of server.py` for a worker process of its pools, otherwise the name that the
/// kernel has for it. `None` when there is no such process.
///
/// ```
/// assert!(manyhands_os::procfs::program(std::process::id() as i32).is_some());
/// ```
#[must_use]
pub fn program(pid: i32) -> Option<String> {
    let mut number = number_in_proc(pid)?;
    let own = word_of(number)?;
    if !own.is_worker {
        return Some(own.text);
    }
    // A worker is forked by the zygote, which the program has started, or a worker of it that has a pool.
    while let Ok(stat) = Stat::read(&format!("/proc/{number}/stat")) {
        number = stat.parent;
        match word_of(number) {
            Some(parent) if parent.is_worker => {}
            Some(parent) => return Some(format!("worker of {}", parent.text)),
            None => break,
        }
    }
    Some("worker".to_owned())
}

/// What a process runs, by itself.
struct Word {
    text: String,
    /// Whether it is a worker process or the zygote that forks them, which have one command line.
    is_worker: bool,
}

/// `number` is the one that the process has in `/proc`.
fn word_of(number: i32) -> Option<Word> {
    let name = fs::read(format!("/proc/{number}/comm")).ok()?;
    let name = String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned();
    let line = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let is_worker = words.iter().any(|word| word.contains(ZYGOTE));
    let text = if name.starts_with("python") { script(&words).unwrap_or(name) } else { name };
    Some(Word { text, is_worker })
}

/// What stands in the program that a pool gives the interpreter which becomes its zygote.
const ZYGOTE: &str = "from manyhands._worker.zygote import main";

/// Where `/proc` says something about a process, which may have another number there.
fn file_of(pid: i32, file: &str) -> Option<String> {
    number_in_proc(pid).map(|number| format!("/proc/{number}/{file}"))
}

/// What a command line has Python run: see [`program`].
fn script(words: &[std::borrow::Cow<'_, str>]) -> Option<String> {
    let mut words = words.iter().skip(1);
    while let Some(word) = words.next() {
        match word.as_ref() {
            "-m" => return Some(format!("-m {}", words.next()?)),
            "-c" => return Some("-c".to_owned()),
            // These take a word of their own.
            "-W" | "-X" | "--check-hash-based-pycs" => drop(words.next()),
            "" => return None,
            option if option.starts_with('-') && option != "-" => {}
            file => return Some(Path::new(file).file_name()?.to_string_lossy().into_owned()),
        }
    }
    None
}

/// CPU time of a process, user and system, in seconds; `None` when there is no such process.
#[must_use]
pub fn cpu_seconds(pid: i32) -> Option<f64> {
    let text = fs::read_to_string(file_of(pid, "stat")?).ok()?;
    cpu_ticks(&text).map(|ticks| ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// CPU time of a thread of this process, in seconds; `None` when there is no such thread, or the kernel keeps no count.
///
/// `thread` is the kernel's number for it, what Python calls its native id.
#[must_use]
pub fn thread_cpu_seconds(thread: i32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    let nanoseconds: u64 = text.split_whitespace().next()?.parse().ok()?;
    Some(nanoseconds as f64 / 1e9)
}

/// User and system time, fields 14 and 15 of `/proc/<pid>/stat` (`proc(5)`).
fn cpu_ticks(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses, and a name may contain anything, also parentheses.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// CPUs that this process may keep busy at the same time, at least 1: its affinity mask, and its control group's quota
/// rounded up.
///
/// ```
/// assert!(manyhands_os::procfs::cpus() >= 1);
/// ```
#[must_use]
pub fn cpus() -> usize {
    let quota = cpu_quota().map_or(usize::MAX, |cpus| cpus.ceil() as usize);
    affinity().min(quota).max(1)
}

/// The number of the CPU that the calling thread runs on; it may be on another one by now.
#[must_use]
pub fn current_cpu() -> usize {
    rustix::thread::sched_getcpu()
}

/// How many CPUs the affinity mask of the calling thread names, at least 1.
#[must_use]
pub fn affinity() -> usize {
    rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count().max(1) as usize)
}

/// The control groups' limit on CPU time, in CPUs (1.5: three seconds of work in two); `None` when there is none.
#[must_use]
pub fn cpu_quota() -> Option<f64> {
    let from_v2 = ControlGroups::of_this_process()
        .v2
        .into_iter()
        .filter_map(|folder| parse_cpu_max(&read(&folder, "cpu.max")?));
    let from_v1 = ControlGroups::of_this_process().cpu.into_iter().filter_map(|folder| {
        let quota: f64 = read(&folder, "cpu.cfs_quota_us")?.parse().ok()?;
        let period: f64 = read(&folder, "cpu.cfs_period_us")?.parse().ok()?;
        (quota > 0.0 && period > 0.0).then_some(quota / period)
    });
    from_v2.chain(from_v1).reduce(f64::min)
}

/// `cpu.max`: "max 100000" or "150000 100000".
fn parse_cpu_max(text: &str) -> Option<f64> {
    let mut numbers = text.split_whitespace();
    let quota: f64 = numbers.next()?.parse().ok()?;
    let period: f64 = numbers.next()?.parse().ok()?;
    (period > 0.0).then_some(quota / period)
}

/// Memory that this process may use, in bytes: the machine's, or less when a control group says so.
///
/// ```
/// assert!(manyhands_os::procfs::memory_limit() > 1 << 20);
/// ```
#[must_use]
pub fn memory_limit() -> u64 {
    let groups = ControlGroups::of_this_process();
    let from_v2 = groups.v2.iter().filter_map(|folder| read(folder, "memory.max"));
    let from_v1 = groups.memory.iter().filter_map(|folder| read(folder, "memory.limit_in_bytes"));
    // "max", where there is no limit, is no number and falls out here.
    let limits = from_v2.chain(from_v1).filter_map(|text| text.parse::<u64>().ok());
    limits.fold(machine_memory(), u64::min)
}

fn machine_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    meminfo(&text, "MemTotal").unwrap_or(u64::MAX)
}

/// Memory that can be had without swapping, in bytes; `None` when the kernel does not say.
#[must_use]
pub fn memory_available() -> Option<u64> {
    meminfo(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable")
}

/// One line of `/proc/meminfo`, "MemTotal:  24684320 kB", in bytes.
fn meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// The folders of the control groups that hold for this process: its own and all above it, as each may set a limit.
#[derive(Debug, Default, PartialEq, Eq)]
struct ControlGroups {
    v2: Vec<PathBuf>,
    cpu: Vec<PathBuf>,
    memory: Vec<PathBuf>,
}

impl ControlGroups {
    fn of_this_process() -> Self {
        let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::parse(&text, Path::new("/sys/fs/cgroup"))
    }

    /// Lines of `/proc/self/cgroup` are "0::/path" (version 2) and "4:memory,cpu:/path" (version 1).
    fn parse(text: &str, root: &Path) -> Self {
        let mut groups = Self::default();
        for line in text.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
                continue;
            };
            if controllers.is_empty() {
                groups.v2 = with_ancestors(root, path);
            }
            for controller in controllers.split(',') {
                let folders = with_ancestors(&root.join(controller), path);
                match controller {
                    "cpu" => groups.cpu = folders,
                    "memory" => groups.memory = folders,
                    _ => {}
                }
            }
        }
        groups
    }
}

/// `root/a/b`, `root/a`, `root` for the path "/a/b".
fn with_ancestors(root: &Path, path: &str) -> Vec<PathBuf> {
    let relative = Path::new(path.trim_start_matches('/'));
    relative.ancestors().map(|part| root.join(part)).collect()
}

fn read(folder: &Path, file: &str) -> Option<String> {
    let text = fs::read_to_string(folder.join(file)).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_measured() {
        let pid = std::process::id() as i32;
        assert!(rss_bytes(pid).expect("alive") > 100_000);
        let before = cpu_seconds(pid).expect("alive");
        let mut sum = 0u64;
        // One clock tick is 10 ms of CPU time.
        while cpu_seconds(pid).expect("alive") <= before {
            sum = std::hint::black_box((0..100_000u64).sum::<u64>() ^ sum);
        }
        assert!(cpu_seconds(pid).expect("alive") > before, "{sum}");
    }

    #[test]
    fn nobody_is_none() {
        assert_eq!(rss_bytes(-5), None);
        assert_eq!(cpu_seconds(-5), None);
    }

    #[test]
    fn programs_are_named_for_what_they_run() {
        let script = |line: &str| super::script(&line.split(' ').map(Into::into).collect::<Vec<_>>());
        assert_eq!(script("python -u -X dev /srv/app.py --port 7").as_deref(), Some("app.py"));
        assert_eq!(script("python -W error -m http.server").as_deref(), Some("-m http.server"));
        assert_eq!(script("python -c print()").as_deref(), Some("-c"));
        assert_eq!(script("python -").as_deref(), Some("-"));
        assert_eq!(script("python"), None);
        assert!(program(std::process::id() as i32).is_some_and(|name| !name.is_empty()));
        assert_eq!(program(-5), None);
    }

    #[test]
    fn a_name_with_parentheses_is_skipped() {
        let stat = "17 (a) b) R) S 1 17 17 0 -1 4194560 100 0 0 0 30 12 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_ticks(stat), Some(42));
    }

    #[test]
    fn the_machine_has_something() {
        assert!(cpus() >= 1 && cpus() <= affinity());
        assert!(memory_limit() <= machine_memory());
        assert!(memory_available().is_some_and(|bytes| bytes <= machine_memory()));
    }

    #[test]
    fn limits_are_read() {
        assert_eq!(parse_cpu_max("max 100000"), None);
        assert_eq!(parse_cpu_max("150000 100000"), Some(1.5));
        assert_eq!(meminfo("MemTotal:  12 kB\nMemFree: 3 kB\n", "MemFree"), Some(3072));
    }

    #[test]
    fn groups_of_both_versions_are_found() {
        let text = "4:memory,hugetlb:/a/b\n2:cpu,cpuacct:/\n0::/u\n";
        let groups = ControlGroups::parse(text, Path::new("/s"));
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(groups.v2, paths(&["/s/u", "/s/"]));
        assert_eq!(groups.cpu, paths(&["/s/cpu/"]));
        assert_eq!(groups.memory, paths(&["/s/memory/a/b", "/s/memory/a", "/s/memory/"]));
    }
}
