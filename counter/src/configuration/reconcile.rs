//! From what files say to the namespaces in force: a wrong file leaves its previous state in force. Pure; the reading is
//! [`super::directory`]'s.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::NamespaceConfiguration;
use crate::model::NamespaceName;

/// What was read: each file's text, or why it (or the folder, under its own path) cannot be read.
pub type Contents = BTreeMap<PathBuf, Result<String, String>>;

/// The namespaces in force, and what is wrong with files that are not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    /// The configuration in force of each namespace. One that did not change is the same allocation as before.
    pub namespaces: BTreeMap<NamespaceName, Arc<NamespaceConfiguration>>,
    /// What is wrong, in the order of files; empty when all is well.
    pub problems: Vec<Problem>,
    /// The last right state of each file.
    files: BTreeMap<PathBuf, Vec<Arc<NamespaceConfiguration>>>,
}

/// A file that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", file.display())]
pub struct Problem {
    /// The file, or the folder that cannot be read.
    pub file: PathBuf,
    /// What is wrong with it, where in it, what is allowed, and what is in force instead.
    pub reason: String,
}

/// What became of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It was not configured before.
    Added(NamespaceName),
    /// Its configuration is another.
    Changed(NamespaceName),
    /// No file configures it any more.
    Removed(NamespaceName),
}

/// The state after `contents`, and how it differs from `previous`.
///
/// A file that cannot be read or is wrong keeps in force what it said when it was last right; a folder that cannot be read
/// keeps all its files. A file that is gone takes its namespaces with it. Of two files that configure one namespace, the
/// first by path does; the outcome depends on no order of arrival.
pub(super) fn reconcile(
    previous: &Loaded,
    contents: &Contents,
    parse: impl Fn(&Path, &str) -> Result<Vec<NamespaceConfiguration>, String>,
) -> (Loaded, Vec<Change>) {
    let mut loaded = Loaded::default();
    for (path, text) in contents {
        let text = text.as_ref().map_err(|error| format!("cannot be read: {error}"));
        match text.and_then(|text| checked(parse(path, text)?)) {
            Ok(configurations) => {
                let configurations = configurations.into_iter().map(|new| previous.shared(new)).collect();
                loaded.files.insert(path.clone(), configurations);
            }
            Err(mut reason) => {
                let kept = previous.files.iter().filter(|(file, _)| file.starts_with(path));
                let kept: Vec<_> = kept.map(|(file, said)| (file.clone(), said.clone())).collect();
                if !kept.is_empty() {
                    reason.push_str("; what was right before stays in force");
                }
                loaded.files.extend(kept);
                loaded.problems.push(Problem { file: path.clone(), reason });
            }
        }
    }
    loaded.resolve();
    let changes = changes(&previous.namespaces, &loaded.namespaces);
    (loaded, changes)
}

/// Whatever a file is written in, the rules of the document hold.
fn checked(configurations: Vec<NamespaceConfiguration>) -> Result<Vec<NamespaceConfiguration>, String> {
    for configuration in &configurations {
        let named = |invalid| format!("namespace {}: {invalid}", configuration.namespace);
        configuration.check().map_err(named)?;
    }
    Ok(configurations)
}

impl Loaded {
    /// Whether what the problem's file said when it was last right, or another file in its place, is in force nevertheless.
    #[must_use]
    pub fn has_fallback(&self, problem: &Problem) -> bool {
        self.files.keys().any(|file| file.starts_with(&problem.file))
    }

    /// `new` in the allocation that is in force already, if it says the same.
    fn shared(&self, new: NamespaceConfiguration) -> Arc<NamespaceConfiguration> {
        match self.namespaces.get(&new.namespace) {
            Some(in_force) if **in_force == new => Arc::clone(in_force),
            _ => Arc::new(new),
        }
    }

    /// Gives each namespace to the first file that configures it.
    fn resolve(&mut self) {
        let mut owners: BTreeMap<&NamespaceName, &Path> = BTreeMap::new();
        for (file, configurations) in &self.files {
            for configuration in configurations {
                match owners.entry(&configuration.namespace) {
                    Entry::Vacant(vacant) => {
                        vacant.insert(file);
                        self.namespaces.insert(configuration.namespace.clone(), Arc::clone(configuration));
                    }
                    Entry::Occupied(owner) => self.problems.push(Problem {
                        file: file.clone(),
                        reason: format!(
                            "namespace {} is configured in {} already, and that stays in force; a namespace is configured once",
                            configuration.namespace,
                            owner.get().display()
                        ),
                    }),
                }
            }
        }
        self.problems.sort_by(|a, b| a.file.cmp(&b.file));
    }
}

type Namespaces = BTreeMap<NamespaceName, Arc<NamespaceConfiguration>>;

fn changes(previous: &Namespaces, now: &Namespaces) -> Vec<Change> {
    let gone = previous.keys().filter(|name| !now.contains_key(*name)).cloned().map(Change::Removed);
    let come = now.iter().filter_map(|(name, configuration)| match previous.get(name) {
        None => Some(Change::Added(name.clone())),
        Some(before) if before != configuration => Some(Change::Changed(name.clone())),
        Some(_) => None,
    });
    gone.chain(come).collect()
}

#[cfg(test)]
mod tests {
    use super::super::arbitrary::BEST_EFFORT;
    use super::*;

    /// One namespace a line, as another format than JSON might have it: `name region`.
    fn parse(_: &Path, text: &str) -> Result<Vec<NamespaceConfiguration>, String> {
        text.lines()
            .map(|line| {
                let (name, region) = line.split_once(' ').ok_or_else(|| format!("no region in {line:?}"))?;
                let mut configuration = NamespaceConfiguration::from_json(BEST_EFFORT).unwrap();
                configuration.namespace = NamespaceName::new(name).unwrap();
                configuration.region = region.to_owned();
                Ok(configuration)
            })
            .collect()
    }

    fn contents(files: &[(&str, &str)]) -> Contents {
        files.iter().map(|(path, text)| (PathBuf::from(path), Ok((*text).to_owned()))).collect()
    }

    fn load(previous: &Loaded, files: &[(&str, &str)]) -> (Loaded, Vec<Change>) {
        reconcile(previous, &contents(files), parse)
    }

    fn in_force(loaded: &Loaded) -> Vec<String> {
        loaded.namespaces.values().map(|c| format!("{} {}", c.namespace, c.region)).collect()
    }

    fn name(name: &str) -> NamespaceName {
        NamespaceName::new(name).unwrap()
    }

    #[test]
    fn namespaces_come_change_and_go_with_their_files() {
        let (first, changes) = load(&Loaded::default(), &[("d/a", "a dc1\nb dc1"), ("d/c", "c dc1")]);
        assert_eq!(in_force(&first), ["a dc1", "b dc1", "c dc1"]);
        assert_eq!(changes, [Change::Added(name("a")), Change::Added(name("b")), Change::Added(name("c"))]);
        let (second, changes) = load(&first, &[("d/a", "a dc1\nb dc2")]);
        assert_eq!(in_force(&second), ["a dc1", "b dc2"]);
        assert_eq!(changes, [Change::Removed(name("c")), Change::Changed(name("b"))]);
        assert!(Arc::ptr_eq(&first.namespaces[&name("a")], &second.namespaces[&name("a")]));
        assert_eq!(second.problems, []);
    }

    #[test]
    fn a_wrong_file_keeps_what_it_said_and_harms_no_other() {
        let (first, _) = load(&Loaded::default(), &[("d/a", "a dc1"), ("d/b", "b dc1")]);
        let (wrong, changes) = load(&first, &[("d/a", "nonsense"), ("d/b", "b dc2"), ("d/c", "rubbish")]);
        assert_eq!(in_force(&wrong), ["a dc1", "b dc2"]);
        assert_eq!(changes, [Change::Changed(name("b"))]);
        let problems: Vec<_> = wrong.problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            ["d/a: no region in \"nonsense\"; what was right before stays in force", "d/c: no region in \"rubbish\""]
        );
        assert_eq!(wrong.problems.iter().map(|problem| wrong.has_fallback(problem)).collect::<Vec<_>>(), [true, false]);
        let (still, changes) = load(&wrong, &[("d/a", "worse"), ("d/b", "b dc2")]);
        assert_eq!(in_force(&still), ["a dc1", "b dc2"]);
        assert_eq!(changes, []);
        let (right, _) = load(&still, &[("d/a", "a dc3"), ("d/b", "b dc2")]);
        assert_eq!(in_force(&right), ["a dc3", "b dc2"]);
        assert_eq!(right.problems, []);
    }

    #[test]
    fn a_configuration_against_the_rules_is_refused_whatever_it_was_parsed_from() {
        let (loaded, _) = load(&Loaded::default(), &[("d/a", "a \u{7}")]);
        assert_eq!(in_force(&loaded), Vec::<String>::new());
        assert!(loaded.problems[0].reason.starts_with("namespace a: region: "), "{}", loaded.problems[0]);
    }

    #[test]
    fn of_two_files_for_one_namespace_the_first_by_path_is_in_force() {
        let (late, _) = load(&Loaded::default(), &[("d/b", "x dc2\ny dc2")]);
        let (loaded, changes) = load(&late, &[("d/a", "x dc1"), ("d/b", "x dc2\ny dc2")]);
        assert_eq!(in_force(&loaded), ["x dc1", "y dc2"]);
        assert_eq!(changes, [Change::Changed(name("x"))]);
        assert_eq!(loaded.problems.len(), 1);
        assert_eq!(loaded.problems[0].file, Path::new("d/b"));
        assert!(loaded.problems[0].reason.contains("namespace x is configured in d/a already"));
        let (afresh, _) = load(&Loaded::default(), &[("d/a", "x dc1"), ("d/b", "x dc2\ny dc2")]);
        assert_eq!(afresh, loaded);
        let (only, changes) = load(&loaded, &[("d/b", "x dc2\ny dc2")]);
        assert_eq!(in_force(&only), ["x dc2", "y dc2"]);
        assert_eq!(changes, [Change::Changed(name("x"))]);
    }

    #[test]
    fn a_namespace_twice_in_a_file_is_refused_the_second_time() {
        let (loaded, _) = load(&Loaded::default(), &[("d/a", "x dc1\nx dc2")]);
        assert_eq!(in_force(&loaded), ["x dc1"]);
        assert_eq!(loaded.problems.len(), 1);
    }

    #[test]
    fn an_unreadable_folder_keeps_its_files_and_no_others() {
        let (first, _) = load(&Loaded::default(), &[("d/a", "a dc1"), ("d/b", "b dc1"), ("dd/c", "c dc1")]);
        let unreadable = Contents::from([(PathBuf::from("d"), Err("permission denied".to_owned()))]);
        let (loaded, changes) = reconcile(&first, &unreadable, parse);
        assert_eq!(in_force(&loaded), ["a dc1", "b dc1"]);
        assert_eq!(changes, [Change::Removed(name("c"))]);
        assert_eq!(
            loaded.problems[0].to_string(),
            "d: cannot be read: permission denied; what was right before stays in force"
        );
    }
}
