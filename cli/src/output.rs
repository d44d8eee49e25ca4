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
    /// For programs and people: a YAML document for each result.
    Yaml,
}

impl Format {
    /// Prints one result on standard output.
    ///
    /// # Errors
    /// When it cannot be written, but for a reader that has gone.
    pub fn print(self, text: &str, value: &impl Serialize) -> Result<(), Failure> {
        match self {
            Self::Text => write(format!("{text}\n").as_bytes()),
            Self::Json => match serde_json::to_string(value) {
                Ok(line) => write(format!("{line}\n").as_bytes()),
                Err(error) => Err(Failure::local(format!("cannot write the result: {error}"))),
            },
            Self::Yaml => match serde_saphyr::to_string(value) {
                Ok(document) => write(format!("---\n{document}").as_bytes()),
                Err(error) => Err(Failure::local(format!("cannot write the result: {error}"))),
            },
        }
    }
}

/// Writes to the standard output.
///
/// # Errors
/// When it cannot be written; the command itself did what it was asked.
pub fn write(bytes: &[u8]) -> Result<(), Failure> {
    match io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::reader_gone()),
        written => written.map_err(|error| {
            Failure::local(format!("the command did what it was asked, but its result cannot be written: {error}"))
        }),
    }
}
