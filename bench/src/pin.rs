//! On which cores client and servers run: a trip takes 19 microseconds on one core and 61 when a sleeping one must wake.

use std::fs;
use std::process::{Command, Stdio};

/// Where the bench and its servers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// All on one core.
    SameCore(usize),
    /// The bench on the first core, its servers on the second.
    AcrossCores(usize, usize),
    /// Wherever the system likes.
    Anywhere,
}

impl Placement {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SameCore(_) => "same core",
            Self::AcrossCores(..) => "across cores",
            Self::Anywhere => "not pinned",
        }
    }

    /// The core of the servers.
    pub(crate) fn core_of_servers(self) -> Option<usize> {
        match self {
            Self::SameCore(core) | Self::AcrossCores(_, core) => Some(core),
            Self::Anywhere => None,
        }
    }

    /// Pins this program and these servers, with all that they have started, until the value is dropped.
    pub(crate) fn hold(self, servers: &[u32]) -> Held {
        let (client, server) = match self {
            Self::SameCore(core) => (core, core),
            Self::AcrossCores(client, server) => (client, server),
            Self::Anywhere => return Held { cores: None },
        };
        let cores = own_cores();
        for pid in servers {
            children(*pid).into_iter().chain([*pid]).for_each(|pid| pin(pid, &server.to_string()));
        }
        pin(std::process::id(), &client.to_string());
        Held { cores }
    }
}

/// This program is pinned while it lives.
pub(crate) struct Held {
    cores: Option<String>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(cores) = &self.cores {
            pin(std::process::id(), cores);
        }
    }
}

/// The ways to place that this machine has.
pub(crate) fn placements() -> Vec<Placement> {
    let cores: Vec<usize> = own_cores().as_deref().map(numbers).unwrap_or_default();
    if !taskset(&["--version"]) {
        eprintln!(
            "taskset is not installed, so nothing is pinned, and trips vary with where the system runs them"
        );
        return vec![Placement::Anywhere];
    }
    match cores[..] {
        [] => vec![Placement::Anywhere],
        [only] => vec![Placement::SameCore(only)],
        [first, second, ..] => vec![Placement::SameCore(first), Placement::AcrossCores(first, second)],
    }
}

/// The cores that this program may use: `0-1,4`.
fn own_cores() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    Some(line.trim().to_owned())
}

fn numbers(list: &str) -> Vec<usize> {
    let ranges = list.split(',').filter_map(|part| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some(from.parse().ok()?..=to.parse().ok()?)
    });
    ranges.flatten().collect()
}

/// What a process has started and has not ended.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Seconds of CPU that a process and what it has started have used.
pub(crate) fn cpu(pid: u32) -> f64 {
    // of the first thread: PostgreSQL has no other ones, and those of Redis have nothing to do here
    let of = |pid: u32| schedstat(&format!("/proc/{pid}/schedstat"));
    children(pid).into_iter().chain([pid]).map(of).sum()
}

/// Seconds of CPU that a thread has used, by what [`thread_id`] gave it.
pub(crate) fn thread_cpu(id: &str) -> f64 {
    schedstat(&format!("/proc/{id}/schedstat"))
}

/// Seconds on a core; nothing where the system does not count them.
fn schedstat(path: &str) -> f64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    // the first number is nanoseconds
    text.split_whitespace().next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

/// What the system calls the thread that calls this.
pub(crate) fn thread_id() -> Option<String> {
    let thread = fs::read_link("/proc/thread-self").ok()?;
    Some(thread.file_name()?.to_str()?.to_owned())
}

/// Pins the thread that calls this, and what it starts.
pub(crate) fn pin_thread(core: usize) {
    if !thread_id().is_some_and(|id| taskset(&["-p", "-c", &core.to_string(), &id])) {
        eprintln!("a thread could not be pinned to {core}");
    }
}

/// Pins all threads of a process.
fn pin(pid: u32, cores: &str) {
    if !taskset(&["-a", "-p", "-c", cores, &pid.to_string()]) {
        eprintln!("process {pid} could not be pinned to {cores}");
    }
}

fn taskset(arguments: &[&str]) -> bool {
    let mut command = Command::new("taskset");
    let quiet = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}
