//! How far commits are known to have been synced, written down outside fjall.
//!
//! fjall's recovery reads its journal up to the first record that is damaged and takes that for the end. Whether that was the
//! torn end of a crash or a hole in what was acknowledged, it cannot tell; the number kept here can. It is written by a thread
//! of its own, at most once a second while commits go on and once more at a clean close, and costs a commit nothing.

use std::io;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::directory;

/// How far the file may lag behind while commits go on.
const RECORD_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct State {
    synced: u64,
    recorded: u64,
    is_recorder_idle: bool,
    is_closing: bool,
}

/// The last commit synced, shared by the committer and the recorder.
#[derive(Debug)]
pub(super) struct Synced {
    state: Mutex<State>,
    advanced: Condvar,
}

impl Synced {
    /// Commits up to `sequence` are synced, and recorded as such up to `recorded`.
    pub fn new(sequence: u64, recorded: u64) -> Self {
        let state = State { synced: sequence, recorded, ..State::default() };
        Self { state: Mutex::new(state), advanced: Condvar::new() }
    }

    /// A panic of another holder left the numbers whole, so its poison is ignored.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commit `sequence` is synced.
    pub fn advance(&self, sequence: u64) {
        let mut state = self.lock();
        state.synced = sequence;
        let wake = std::mem::take(&mut state.is_recorder_idle);
        drop(state);
        if wake {
            self.advanced.notify_one();
        }
    }

    /// No commit follows: the recorder writes the last number and ends.
    pub fn close(&self) {
        self.lock().is_closing = true;
        self.advanced.notify_one();
    }

    /// Records what is synced in `file` until closed. The body of the recorder's thread.
    pub fn record(&self, file: &Path) {
        let mut state = self.lock();
        loop {
            while state.synced == state.recorded && !state.is_closing {
                state.is_recorder_idle = true;
                state = self.advanced.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.is_recorder_idle = false;
            let (synced, is_last) = (state.synced, state.is_closing);
            if synced != state.recorded {
                drop(state);
                let written = write(file, synced);
                state = self.lock();
                match written {
                    Ok(()) => state.recorded = synced,
                    // Without the number a later damage may go unnoticed; nothing is lost by that alone.
                    Err(error) => {
                        tracing::warn!(file = %file.display(), %error, "cannot record the last commit synced")
                    }
                }
            }
            if is_last {
                return;
            }
            if !state.is_closing {
                let pause = self.advanced.wait_timeout_while(state, RECORD_EVERY, |state| !state.is_closing);
                state = pause.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

fn write(file: &Path, sequence: u64) -> io::Result<()> {
    directory::replace(file, format!("{sequence}\n").as_bytes())
}

/// The number in `file`, or `None` where there is no such file.
pub(super) fn read(file: &Path) -> io::Result<Option<u64>> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let sequence = text.trim_end().parse().map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{text:?} in {} is no commit number", file.display()))
    })?;
    Ok(Some(sequence))
}
