//! Processes that outlive us: started, found again, signalled and waited for by id and time of start.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const POLL: Duration = Duration::from_millis(50);
const STOP_POLL: Duration = Duration::from_millis(1);
/// The system takes a killed process away at once, and stops a paused one, unless its disk hangs.
const KILL_PATIENCE: Duration = Duration::from_secs(120);

/// A process, and proof that its id still means the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pid {
    /// The system's id.
    pub pid: u32,
    /// When it started, in the kernel's ticks since boot.
    started: u64,
}

impl Pid {
    /// The process that has this id now, if there is one that has not ended.
    pub fn running(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let started = started(&stat)?;
        Some(Self { pid, started })
    }

    /// Whether the process has not ended.
    pub fn is_alive(self) -> bool {
        Self::running(self.pid) == Some(self)
    }

    fn signal(self, signal: Signal) -> Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        let failed = |source: std::io::Error| Error::Signal { pid: self.pid, source };
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or_else(|| failed(std::io::ErrorKind::InvalidInput.into()))?;
        match kill_process(pid, signal) {
            Err(error) if error != rustix::io::Errno::SRCH => Err(failed(error.into())),
            _ => Ok(()),
        }
    }

    /// Lets it finish what it does (SIGTERM).
    ///
    /// # Errors
    /// [`Error::Signal`].
    pub fn terminate(self) -> Result<()> {
        self.signal(Signal::TERM)?;
        // One that is stopped ends when it goes on.
        self.signal(Signal::CONT)
    }

    /// Stops it in its tracks (SIGSTOP), and waits until it stands still: one of its threads takes the signal and stops the others once
    /// it runs, and until then they may answer.
    ///
    /// # Errors
    /// [`Error::Signal`], [`Error::Unstoppable`].
    pub fn pause(self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let deadline = now() + KILL_PATIENCE;
        while self.is_alive() && !self.stands_still() {
            if now() >= deadline {
                return Err(Error::Unstoppable { pid: self.pid });
            }
            std::thread::sleep(STOP_POLL);
        }
        Ok(())
    }

    /// Whether all of its threads are stopped.
    fn stands_still(self) -> bool {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.pid)) else { return false };
        threads.flatten().all(|thread| {
            // A thread that has ended meanwhile does nothing any more.
            std::fs::read_to_string(thread.path().join("stat")).map_or(true, |stat| is_stopped(&stat))
        })
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// [`Error::Signal`].
    pub fn resume(self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Ends it at once, and waits until it has ended.
    ///
    /// # Errors
    /// [`Error::Signal`], [`Error::Unstoppable`].
    pub fn kill(self) -> Result<()> {
        self.signal(Signal::KILL)?;
        if self.ends_within(KILL_PATIENCE) { Ok(()) } else { Err(Error::Unstoppable { pid: self.pid }) }
    }

    /// Waits until it has ended; whether it did in time.
    pub fn ends_within(self, patience: Duration) -> bool {
        let deadline = now() + patience;
        while self.is_alive() {
            if now() >= deadline {
                return false;
            }
            std::thread::sleep(POLL);
        }
        true
    }
}

/// The time of start in the text of `/proc/PID/stat`; `None` for a process that has ended and waits for its parent.
fn started(stat: &str) -> Option<u64> {
    // The name, in parentheses, may hold anything; what follows it does not.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    // The 20th and the 22nd of all fields; the state is the 3rd.
    let threads: u32 = fields.nth(16)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    // A process whose first thread has ended keeps its sockets until the others have, too.
    let has_ended = matches!(state, "X" | "x") || (state == "Z" && threads <= 1);
    (!has_ended).then_some(started)
}

/// Whether a thread with this text of `/proc/PID/task/TID/stat` is stopped, or has ended.
fn is_stopped(stat: &str) -> bool {
    stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with(['T', 'Z', 'X']))
}

/// Starts a server with its output in a log. `with_session` puts it out of reach of our terminal's signals.
///
/// # Errors
/// [`Error::Program`] where it cannot be run, [`Error::Failed`] where it has ended at once, [`Error::File`] for the log.
pub fn spawn(command: &Command, log: &Path, with_session: bool) -> Result<(Child, Pid)> {
    let output = File::options().create(true).append(true).open(log).map_err(Error::file(log))?;
    let errors = output.try_clone().map_err(Error::file(log))?;
    let name = command.get_program().display().to_string();
    let mut command =
        if with_session { in_session(command) } else { copy(command, Command::new(command.get_program())) };
    let failed = |source| Error::Program { program: name.clone(), source };
    let mut child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn().map_err(failed)?;
    match Pid::running(child.id()) {
        Some(pid) => Ok((child, pid)),
        None => {
            let status = child.wait().map_err(failed)?;
            Err(Error::Failed { what: name.clone(), status, output: end_of(log) })
        }
    }
}

/// The program `setsid` makes a session and becomes the server: same process, same id.
fn in_session(command: &Command) -> Command {
    let mut session = Command::new("setsid");
    session.arg(command.get_program());
    copy(command, session)
}

/// A command with the arguments, variables and folder of another one behind its own.
pub fn copy(from: &Command, mut to: Command) -> Command {
    to.args(from.get_args());
    for (name, value) in from.get_envs() {
        match value {
            Some(value) => to.env(name, value),
            None => to.env_remove(name),
        };
    }
    if let Some(folder) = from.get_current_dir() {
        to.current_dir(folder);
    }
    to
}

/// Runs a program that prepares something to its end.
///
/// # Errors
/// [`Error::Program`], [`Error::Failed`].
pub fn run(what: &str, command: &mut Command) -> Result<()> {
    let program = command.get_program().display().to_string();
    let failed = |source| Error::Program { program, source };
    let output = command.stdin(Stdio::null()).output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let printed = [output.stdout, output.stderr].concat();
    let output_end = last_lines(&String::from_utf8_lossy(&printed));
    Err(Error::Failed { what: what.to_owned(), status: output.status, output: output_end })
}

/// The end of a log, for people.
pub fn end_of(log: &Path) -> String {
    match std::fs::read(log) {
        Ok(bytes) => last_lines(&String::from_utf8_lossy(&bytes)),
        Err(error) => format!("({}: {error})", log.display()),
    }
}

/// As many lines of a text as people read.
pub fn last_lines(text: &str) -> String {
    const LINES: usize = 25;
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// The system's time, to wait by.
#[allow(clippy::disallowed_methods, reason = "how long a server takes is no business of the engine's clock")]
pub fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_start_is_read_behind_any_name_and_not_from_the_dead() {
        let stat = |state: &str, threads: u32| {
            format!("7 (a) b (c) {state} 1 7 7 0 -1 4 5 6 7 8 9 10 11 12 20 0 {threads} 0 4711 99 8 7")
        };
        assert_eq!(started(&stat("S", 3)), Some(4711));
        assert_eq!(started(&stat("Z", 1)), None);
        assert_eq!(started(&stat("Z", 3)), Some(4711), "the first thread is gone, and others hold what it held");
        assert_eq!(started("nothing"), None);
    }

    #[test]
    fn a_thread_is_stopped_by_its_state_whatever_its_name() {
        let stat = |state: &str| format!("7 (a) T (c) {state} 1 7 7");
        assert!(is_stopped(&stat("T")) && is_stopped(&stat("Z")));
        assert!(!is_stopped(&stat("S")) && !is_stopped(&stat("R")) && !is_stopped("nothing"));
    }

    #[test]
    fn a_process_is_itself_only_with_its_time_of_start() {
        let ourselves = Pid::running(std::process::id()).unwrap();
        assert!(ourselves.is_alive());
        let predecessor = Pid { started: ourselves.started - 1, ..ourselves };
        assert!(!predecessor.is_alive());
        // A signal to it reaches nobody: we live on.
        predecessor.kill().unwrap();
    }

    #[test]
    fn a_server_with_a_session_keeps_its_id_is_paused_resumed_and_killed() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$; exec sleep 600"]);
        let (mut child, pid) = spawn(&command, &log, true).unwrap();
        let deadline = now() + Duration::from_secs(120);
        while std::fs::read_to_string(&log).unwrap().is_empty() && now() < deadline {
            std::thread::sleep(POLL);
        }
        assert_eq!(end_of(&log), pid.pid.to_string());
        pid.pause().unwrap();
        assert!(pid.is_alive() && pid.stands_still());
        pid.resume().unwrap();
        assert!(pid.is_alive());
        pid.kill().unwrap();
        assert!(!pid.is_alive());
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_program_that_fails_tells_what_it_printed() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; exit 3"]);
        let error = run("the test", &mut command).unwrap_err().to_string();
        assert!(error.contains("the test failed") && error.contains("one\ntwo"), "{error}");
        let error = run("nothing", &mut Command::new("no-such-program-here")).unwrap_err().to_string();
        assert!(error.starts_with("cannot run no-such-program-here"), "{error}");
    }
}
