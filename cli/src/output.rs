//! How results are printed.

use std::io::{self, Write};

use serde::Serialize;

use crate::failure::Failure;

/// How results and errors are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object a line.
    Json,
}

impl Format {
    /// Prints one result on standard output.
    ///
    /// # Errors
    /// When it cannot be written, but for a reader that has gone.
    pub fn print(self, text: &str, value: &impl Serialize) -> Result<(), Failure> {
        let written = match self {
            Self::Text => writeln!(io::stdout(), "{text}"),
            Self::Json => {
                serde_json::to_string(value).map_err(io::Error::other).and_then(|line| writeln!(io::stdout(), "{line}"))
            }
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::reader_gone()),
            written => written.map_err(|error| Failure::local(format!("cannot write the result: {error}"))),
        }
    }
}
