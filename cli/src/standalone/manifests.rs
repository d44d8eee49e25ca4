//! Where the namespaces come from: the files named on the command line, followed as they change, or built-in examples.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tallyman_counter::configuration::{CacheStorage, Contents, Directory, Loaded};
use tallyman_counter::model::NamespaceName;
use tokio::sync::watch;

use super::namespace::configurations;

/// Where namespaces are looked for unless told otherwise.
const DEFAULT_FOLDER: &str = "examples/namespaces";
/// How soon a change of a file is noticed.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// The files of [`DEFAULT_FOLDER`], for where there is no such folder.
const BUILT_IN: [(&str, &str); 3] = [
    ("built-in/account-credits.yaml", include_str!("../../../examples/namespaces/account-credits.yaml")),
    ("built-in/page-views.yaml", include_str!("../../../examples/namespaces/page-views.yaml")),
    ("built-in/video-plays.yaml", include_str!("../../../examples/namespaces/video-plays.yaml")),
];

/// The namespaces in force, kept up with their files.
pub struct Manifests {
    /// What is in force; changes with the files.
    pub loaded: watch::Receiver<Arc<Loaded>>,
    files: Arc<Mutex<BTreeMap<NamespaceName, PathBuf>>>,
    /// Built-in namespaces never change; their channel stays open.
    _built_in: Option<watch::Sender<Arc<Loaded>>>,
}

impl Manifests {
    /// Reads `paths`, or the default folder, or the built-in examples, and follows what can change. Best-effort counts are kept
    /// in `best_effort`.
    pub async fn follow(paths: Vec<PathBuf>, best_effort: CacheStorage) -> Self {
        let files = Arc::new(Mutex::new(BTreeMap::new()));
        let seen = files.clone();
        let parse = move |path: &Path, text: &str| {
            let read = configurations(path, text, &best_effort)?;
            let mut files = seen.lock().unwrap_or_else(PoisonError::into_inner);
            for configuration in &read {
                // Files come in the order of their paths, and the first that configures a namespace does.
                files.entry(configuration.namespace.clone()).or_insert_with(|| path.to_owned());
            }
            Ok(read)
        };
        let default_folder = Path::new(DEFAULT_FOLDER);
        if paths.is_empty() && !default_folder.is_dir() {
            let contents: Contents = BUILT_IN.map(|(path, text)| (path.into(), Ok(text.to_owned()))).into();
            let directory = Directory::with_parser(Vec::new(), &[], parse);
            let (loaded, _) = directory.reconcile(&Loaded::default(), &contents);
            let (sender, loaded) = watch::channel(Arc::new(loaded));
            return Self { loaded, files, _built_in: Some(sender) };
        }
        let paths = if paths.is_empty() { vec![default_folder.to_owned()] } else { paths };
        let directory = Directory::with_parser(paths, &["yaml", "yml", "json"], parse);
        Self { loaded: directory.watch(POLL_EVERY).await, files, _built_in: None }
    }

    /// The file that a namespace was first read from.
    pub fn file(&self, namespace: &NamespaceName) -> Option<PathBuf> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).get(namespace).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_built_in_namespaces_are_right() {
        // The tests run in the crate's folder, which has no folder of examples.
        let manifests = Manifests::follow(Vec::new(), CacheStorage::Memory).await;
        let loaded = manifests.loaded.borrow();
        assert_eq!(loaded.problems, []);
        let names: Vec<_> = loaded.namespaces.keys().map(NamespaceName::as_str).collect();
        assert_eq!(names, ["account-credits", "page-views", "video-plays"]);
        let file = manifests.file(&NamespaceName::new("page-views").unwrap());
        assert_eq!(file, Some(PathBuf::from("built-in/page-views.yaml")));
    }

    #[tokio::test]
    async fn a_wrong_file_keeps_no_right_one_from_being_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("right.yaml"), BUILT_IN[0].1).unwrap();
        std::fs::write(folder.path().join("wrong.yaml"), BUILT_IN[1].1.replace("1h", "one hour")).unwrap();
        let manifests = Manifests::follow(vec![folder.path().to_owned()], CacheStorage::Memory).await;
        let loaded = manifests.loaded.borrow();
        assert_eq!(loaded.namespaces.len(), 1);
        let [problem] = &loaded.problems[..] else { panic!("{:?}", loaded.problems) };
        assert_eq!(problem.file, folder.path().join("wrong.yaml"));
        assert!(problem.reason.contains("spec.ttl") && problem.reason.contains("one hour"), "{}", problem.reason);
    }
}
