//! Options from a file: each key that neither the command line nor the environment sets becomes an argument.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::Command;
use serde_json::Value;

/// The variable that names the file where the command line does not.
const VARIABLE: &str = "TALLYMAN_CONFIG";

/// The arguments with those of the file that `--config` (or its environment variable) names; without one, as they are.
/// `command` is the whole program's. Where `subcommand` is given, options from a file are its own, and arguments without it
/// stay as they are; where it is not, they are the program's own, and arguments of any subcommand stay as they are.
///
/// # Errors
/// When the file cannot be read, is not an object, or has a key that is no option.
pub fn with_config_file(
    arguments: Vec<OsString>,
    command: &Command,
    subcommand: Option<&str>,
) -> Result<Vec<OsString>, String> {
    let given: Vec<String> = arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let command = match subcommand {
        None if given.get(1).is_some_and(|first| command.find_subcommand(first).is_some()) => return Ok(arguments),
        None => command,
        Some(subcommand) => match command.find_subcommand(subcommand) {
            Some(command) if given.iter().any(|argument| argument == subcommand) => command,
            _ => return Ok(arguments),
        },
    };
    let Some(file) = value_of(&given, "--config").or_else(|| std::env::var(VARIABLE).ok()) else {
        return Ok(arguments);
    };
    let text = std::fs::read_to_string(&file).map_err(|error| format!("--config {file}: cannot be read: {error}"))?;
    let options = options(command);
    let is_set = |option: &str| {
        let flag = format!("--{option}");
        let on_command_line =
            given.iter().any(|argument| *argument == flag || argument.starts_with(&format!("{flag}=")));
        let variable = options.get(option).and_then(Option::as_ref);
        on_command_line || variable.is_some_and(|variable| std::env::var_os(variable).is_some())
    };
    let added = arguments_of(&text, &options, is_set).map_err(|reason| format!("--config {file}: {reason}"))?;
    Ok(arguments.into_iter().chain(added.into_iter().map(OsString::from)).collect())
}

/// The command's long options, each with its environment variable.
fn options(command: &Command) -> BTreeMap<String, Option<OsString>> {
    let long = |argument: &clap::Arg| Some((argument.get_long()?.to_owned(), argument.get_env().map(OsString::from)));
    command.get_arguments().filter_map(long).filter(|(name, _)| name != "config").collect()
}

fn value_of(given: &[String], flag: &str) -> Option<String> {
    let at = given.iter().position(|argument| argument == flag || argument.starts_with(&format!("{flag}=")))?;
    match given[at].split_once('=') {
        Some((_, value)) => Some(value.to_owned()),
        None => given.get(at + 1).cloned(),
    }
}

/// The file's keys as arguments, without those that are set already. Pure.
fn arguments_of(
    text: &str,
    options: &BTreeMap<String, Option<OsString>>,
    is_set: impl Fn(&str) -> bool,
) -> Result<Vec<String>, String> {
    let keys: BTreeMap<String, Value> = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let mut arguments = Vec::new();
    for (key, value) in keys {
        if !options.contains_key(&key) {
            let known: Vec<_> = options.keys().map(String::as_str).collect();
            return Err(format!("{key}: is no option; known are {}", known.join(", ")));
        }
        if is_set(&key) {
            continue;
        }
        let values = match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        for value in values {
            let text = match value {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                Value::Bool(flag) => flag.to_string(),
                other => return Err(format!("{key}: {other}: must be a text, a number, or a list of them")),
            };
            arguments.push(format!("--{key}={text}"));
        }
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::arguments::Shared;

    #[derive(Debug, Parser)]
    struct Arguments {
        #[arg(long)]
        data_dir: Option<PathBuf>,
        #[arg(long)]
        listen: Option<String>,
        #[arg(long)]
        admin: Option<String>,
        #[arg(long, value_delimiter = ',')]
        namespaces: Vec<PathBuf>,
        #[command(flatten)]
        shared: Shared,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Subcommands {
        Serve(Arguments),
        Get { config: Option<String> },
    }

    #[derive(Debug, Parser)]
    struct Program {
        #[command(subcommand)]
        command: Subcommands,
    }

    fn read(text: &str, set: &[&str]) -> Result<Vec<String>, String> {
        let options = options(&Arguments::command());
        arguments_of(text, &options, |option| set.contains(&option))
    }

    fn given(arguments: &[&str]) -> Vec<OsString> {
        arguments.iter().map(OsString::from).collect()
    }

    #[test]
    fn a_file_named_after_the_flag_or_with_it_is_read_for_its_command_only() {
        let folder = std::env::temp_dir().join(format!("tallyman-config-file-{}", std::process::id()));
        std::fs::write(&folder, "log-level: debug\nlisten: 127.0.0.1:1\n").unwrap();
        let file = folder.to_str().unwrap();
        let added = ["--listen=127.0.0.1:1", "--log-level=debug"];
        for flag in [vec!["--config", file], vec![&*format!("--config={file}")]] {
            let server = given(&[&["server"], &flag[..]].concat());
            let read = with_config_file(server.clone(), &Arguments::command(), None).unwrap();
            assert_eq!(read, [server, given(&added)].concat());
            let serve = given(&[&["program", "serve"], &flag[..]].concat());
            let read = with_config_file(serve.clone(), &Program::command(), Some("serve")).unwrap();
            assert_eq!(read, [serve, given(&added)].concat());
            let other = given(&[&["program", "get"], &flag[..]].concat());
            assert_eq!(with_config_file(other.clone(), &Program::command(), Some("serve")).unwrap(), other);
            assert_eq!(with_config_file(other.clone(), &Program::command(), None).unwrap(), other);
        }
        std::fs::remove_file(&folder).unwrap();
        let missing = with_config_file(given(&["server", "--config", file]), &Arguments::command(), None).unwrap_err();
        assert!(missing.contains(file) && missing.contains("cannot be read"), "{missing}");
    }

    #[test]
    fn keys_are_the_long_options() {
        let text = "data-dir: /d\nlisten: 127.0.0.1:1\nnamespaces: [a.yaml, b]\n";
        let arguments = ["--data-dir=/d", "--listen=127.0.0.1:1", "--namespaces=a.yaml", "--namespaces=b"];
        assert_eq!(read(text, &[]).unwrap(), arguments);
        assert_eq!(read(r#"{"log-format": "json"}"#, &[]).unwrap(), ["--log-format=json"]);
    }

    #[test]
    fn what_is_set_elsewhere_wins() {
        assert_eq!(read("data-dir: /d\nadmin: 127.0.0.1:1\n", &["data-dir"]).unwrap(), ["--admin=127.0.0.1:1"]);
    }

    #[test]
    fn a_misspelt_key_is_refused_with_those_that_are_known() {
        let error = read("datadir: /d\n", &[]).unwrap_err();
        assert!(error.contains("datadir") && error.contains("data-dir"), "{error}");
        assert!(read("config: other.yaml\n", &[]).is_err());
        assert!(read("listen: {port: 1}\n", &[]).is_err());
        assert!(read("- a\n", &[]).is_err());
    }
}
