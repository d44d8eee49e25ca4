//! What processes use: CPU time and memory as `/proc` tells them, also of processes that are not ours.

mod listener;

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::Instant;

pub use listener::listening_process;

/// `/proc` counts CPU time in these on every Linux architecture we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process under the name that figures call it by.
#[derive(Debug, Clone)]
pub struct Process {
    name: String,
    pid: u32,
    /// The share of one processor up to which it counts as idle.
    idle: f64,
}

impl Process {
    /// A process that does nothing when nothing is asked of it.
    pub fn new(name: &str, pid: u32) -> Self {
        Self { name: name.to_owned(), pid, idle: 0.05 }
    }

    /// A process that runs on the Java machine, which always has something to do.
    pub fn java(name: &str, pid: u32) -> Self {
        Self { idle: 0.15, ..Self::new(name, pid) }
    }

    /// This process: the callers.
    pub fn callers() -> Self {
        Self::new("callers", std::process::id())
    }

    /// CPU time it has used so far.
    pub fn cpu_time(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .with_context(|| format!("{} (process {}) cannot be looked at", self.name, self.pid))?;
        let ticks = cpu_ticks(&stat).with_context(|| format!("no CPU time in {stat:?}"))?;
        Ok(Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND))
    }

    /// Memory of it that is resident, in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        resident_kib(&status).map(|kib| kib * 1024).context("no VmRSS in the process's status")
    }

    /// Waits until it does next to nothing for longer than `rest`, so that its chores are not on another's bill; not for ever.
    pub async fn until_idle(&self, rest: Duration) -> Result<()> {
        const WATCHED_MIN: Duration = Duration::from_millis(600);
        const PATIENCE: Duration = Duration::from_secs(30);
        let watched = rest.max(WATCHED_MIN);
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let before = self.cpu_time()?;
            tokio::time::sleep(watched).await;
            if self.cpu_time()?.saturating_sub(before) <= watched.mul_f64(self.idle) {
                return Ok(());
            }
        }
        eprintln!("{} does not come to rest; what follows is measured beside it", self.name);
        Ok(())
    }
}

/// CPU time by process.
pub type CpuTimes = Vec<(String, Duration)>;

/// Watches processes from its start.
pub struct Meter(Vec<(Process, Duration)>);

impl Meter {
    /// Starts to watch.
    pub fn start(processes: &[Process]) -> Result<Self> {
        processes.iter().map(|one| Ok((one.clone(), one.cpu_time()?))).collect::<Result<_>>().map(Self)
    }

    /// What each process has used since the start.
    pub fn read(&self) -> Result<CpuTimes> {
        self.0.iter().map(|(one, before)| Ok((one.name.clone(), one.cpu_time()?.saturating_sub(*before)))).collect()
    }
}

/// User and system time, the 14th and 15th field. The second one is in parentheses and may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn resident_kib(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_a_name_with_spaces_and_parentheses() {
        let stat = "4711 (a (odd) name) S 1 4711 4711 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 1 2 3";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("nonsense"), None);
    }

    #[test]
    fn resident_memory_is_read_in_kibibytes() {
        assert_eq!(resident_kib("Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t   12345 kB\n"), Some(12_345));
        assert_eq!(resident_kib("Name:\tx\n"), None);
    }

    #[test]
    fn a_meter_reads_what_was_used_since_its_start() {
        let meter = Meter::start(&[Process::callers()]).unwrap();
        let used = |times: CpuTimes| times[0].1;
        let mut sum = 0_u64;
        while used(meter.read().unwrap()).is_zero() {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(used(meter.read().unwrap()) <= Process::callers().cpu_time().unwrap());
    }
}
