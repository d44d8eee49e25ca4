//! Keeps up with configuration files: reads them again and again, and tells when what they say changes.
//!
//! Polling rather than file events: Kubernetes swaps whole volumes by a symbolic link, which events report in as many ways
//! as there are kernels and mounts; the files are few and small. What to make of the texts is [`super::reconcile`]'s.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::NamespaceConfiguration;
use super::reconcile::{Change, Contents, Loaded, reconcile};

/// What makes configurations of a file's text: the configurations, or what is wrong with the text.
type Parse = dyn Fn(&Path, &str) -> Result<Vec<NamespaceConfiguration>, String> + Send + Sync;

/// Kubernetes' link to the files of a mounted volume; it is replaced when they change.
const VOLUME_LINK: &str = "..data";

/// How often a folder is read again when it was swapped during the reading. The next poll reads it anyway.
const VOLUME_READS_MAX: usize = 3;

/// Files and folders that configure namespaces.
pub struct Directory {
    paths: Vec<PathBuf>,
    extensions: Vec<String>,
    parse: Box<Parse>,
}

impl Directory {
    /// A folder of documents, `*.json`, one a namespace.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::with_parser(vec![path.into()], &["json"], |_, text| {
            NamespaceConfiguration::from_json(text).map(|one| vec![one]).map_err(|invalid| invalid.to_string())
        })
    }

    /// Files, and folders of files with these extensions (without the dot), that `parse` reads: any number of namespaces a
    /// file. Files named in `paths` may have any extension. Names that begin with a dot are passed over within folders, and
    /// folders within folders are not entered.
    pub fn with_parser(
        paths: Vec<PathBuf>,
        extensions: &[&str],
        parse: impl Fn(&Path, &str) -> Result<Vec<NamespaceConfiguration>, String> + Send + Sync + 'static,
    ) -> Self {
        let extensions = extensions.iter().map(|extension| (*extension).to_owned()).collect();
        Self { paths, extensions, parse: Box::new(parse) }
    }

    /// Reads all files. What cannot be read is in the answer, too.
    #[must_use]
    pub fn read(&self) -> Contents {
        let mut contents = Contents::new();
        for path in &self.paths {
            match fs::metadata(path) {
                Ok(metadata) if metadata.is_dir() => contents.extend(self.read_volume(path)),
                Ok(_) => drop(contents.insert(path.clone(), read_file(path))),
                Err(error) => drop(contents.insert(path.clone(), Err(error.to_string()))),
            }
        }
        contents
    }

    /// What is in force after `contents`, given what was before, and how the two differ.
    #[must_use]
    pub fn reconcile(&self, previous: &Loaded, contents: &Contents) -> (Loaded, Vec<Change>) {
        reconcile(previous, contents, &self.parse)
    }

    /// Reads now, and from then on every `every`, in a task that ends with the last receiver. A receiver sees a new value
    /// only when namespaces or problems changed; each change and each new problem is logged once.
    pub async fn watch(self, every: Duration) -> watch::Receiver<Arc<Loaded>> {
        let directory = Arc::new(self);
        let sender = watch::Sender::new(Arc::new(Loaded::default()));
        let receiver = sender.subscribe();
        let mut seen = Contents::new();
        directory.poll(&mut seen, &sender).await;
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = sender.closed() => return,
                    () = tokio::time::sleep(every) => {}
                }
                directory.poll(&mut seen, &sender).await;
            }
        });
        receiver
    }

    /// Reads once and publishes what changed since `seen`.
    async fn poll(self: &Arc<Self>, seen: &mut Contents, sender: &watch::Sender<Arc<Loaded>>) {
        let reader = Arc::clone(self);
        // Fails only when the runtime is shutting down; nothing was read then, and nothing changes.
        let Ok(contents) = tokio::task::spawn_blocking(move || reader.read()).await else { return };
        if contents == *seen {
            return;
        }
        let previous = Arc::clone(&sender.borrow());
        let (loaded, changes) = self.reconcile(&previous, &contents);
        *seen = contents;
        log(&previous, &loaded, &changes);
        if loaded != *previous {
            sender.send_replace(Arc::new(loaded));
        }
    }

    /// The files of a folder, all of one state of it: a volume that is swapped meanwhile is read again, so that no
    /// namespace that moves from one file to another is missed in both.
    fn read_volume(&self, folder: &Path) -> Contents {
        let link = || fs::read_link(folder.join(VOLUME_LINK)).ok();
        let mut state = link();
        let mut contents = self.read_folder(folder);
        for _ in 1..VOLUME_READS_MAX {
            let now = link();
            if now == state {
                break;
            }
            state = now;
            contents = self.read_folder(folder);
        }
        contents
    }

    fn read_folder(&self, folder: &Path) -> Contents {
        let names: io::Result<Vec<_>> =
            fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
        let names = match names {
            Ok(names) => names,
            Err(error) => return Contents::from([(folder.to_owned(), Err(error.to_string()))]),
        };
        let mut contents = Contents::new();
        for name in names {
            let path = folder.join(&name);
            let extension = path.extension().and_then(|extension| extension.to_str());
            let ours = extension.is_some_and(|extension| self.extensions.iter().any(|ours| ours == extension));
            if !ours || name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => drop(contents.insert(path.clone(), read_file(&path))),
                // Removed since it was listed, or a link to what was removed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => drop(contents.insert(path, Err(error.to_string()))),
            }
        }
        contents
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| error.to_string())
}

fn log(previous: &Loaded, loaded: &Loaded, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Added(namespace) => tracing::info!(%namespace, "namespace configured"),
            Change::Changed(namespace) => tracing::info!(%namespace, "namespace configuration changed"),
            Change::Removed(namespace) => tracing::info!(%namespace, "namespace no longer configured"),
        }
    }
    for problem in loaded.problems.iter().filter(|problem| !previous.problems.contains(problem)) {
        tracing::error!(file = %problem.file.display(), "configuration refused: {}", problem.reason);
    }
    for problem in &previous.problems {
        if !loaded.problems.iter().any(|now| now.file == problem.file) {
            tracing::info!(file = %problem.file.display(), "configuration no longer refused");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::arbitrary::{BEST_EFFORT, EXAMPLE};
    use super::*;

    const EVERY: Duration = Duration::from_secs(1);

    fn names(loaded: &Loaded) -> Vec<&str> {
        loaded.namespaces.keys().map(crate::model::NamespaceName::as_str).collect()
    }

    /// Waits, in virtual time, for the next value.
    async fn next(receiver: &mut watch::Receiver<Arc<Loaded>>) -> Arc<Loaded> {
        receiver.changed().await.unwrap();
        Arc::clone(&receiver.borrow_and_update())
    }

    #[test]
    fn a_folder_is_its_files_of_the_given_extensions_without_dot_files_and_folders() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.json", "b.yaml", ".c.json", "d.json.bak", "json"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        fs::create_dir(folder.path().join("e.json")).unwrap();
        symlink("nowhere", folder.path().join("f.json")).unwrap();
        fs::write(folder.path().join("g.json"), [0xff]).unwrap();
        let contents = Directory::new(folder.path()).read();
        let read: Vec<_> = contents.keys().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(read, ["a.json", "g.json"]);
        assert_eq!(contents[&folder.path().join("a.json")], Ok("a.json".to_owned()));
        assert!(contents[&folder.path().join("g.json")].is_err(), "no UTF-8");
    }

    #[test]
    fn several_paths_may_be_files_of_any_extension_and_folders() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("one.conf"), "1").unwrap();
        fs::create_dir(folder.path().join("more")).unwrap();
        fs::write(folder.path().join("more/two.yml"), "2").unwrap();
        let paths = ["one.conf", "more", "missing"].map(|name| folder.path().join(name));
        let directory = Directory::with_parser(paths.to_vec(), &["yaml", "yml"], |_, _| Ok(vec![]));
        let contents = directory.read();
        assert_eq!(contents[&paths[0]], Ok("1".to_owned()));
        assert_eq!(contents[&paths[1].join("two.yml")], Ok("2".to_owned()));
        assert!(contents[&paths[2]].is_err(), "a path that was asked for is missed");
        assert_eq!(contents.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_volume_that_kubernetes_swaps_is_followed() {
        let volume = tempfile::tempdir().unwrap();
        let at = |name: &str| volume.path().join(name);
        let swap = |state: &str, files: &[(&str, &str)]| {
            fs::create_dir(at(state)).unwrap();
            for (name, text) in files {
                fs::write(at(state).join(name), text).unwrap();
            }
            symlink(state, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        };
        swap("..2024_1", &[("a.json", BEST_EFFORT)]);
        symlink("..data/a.json", at("a.json")).unwrap();
        let mut receiver = Directory::new(volume.path()).watch(EVERY).await;
        assert_eq!(names(&receiver.borrow_and_update()), ["likes"]);

        swap("..2024_2", &[("a.json", EXAMPLE)]);
        let loaded = next(&mut receiver).await;
        assert_eq!((names(&loaded), loaded.problems.len()), (vec!["video-plays"], 0));

        swap("..2024_3", &[("a.json", "{}")]);
        let loaded = next(&mut receiver).await;
        assert_eq!((names(&loaded), loaded.problems.len()), (vec!["video-plays"], 1));
        assert_eq!(loaded.problems[0].file, at("a.json"));

        swap("..2024_4", &[]);
        let loaded = next(&mut receiver).await;
        assert_eq!((names(&loaded), loaded.problems.len()), (vec![], 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_that_comes_later_is_missed_until_then() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("namespaces");
        let mut receiver = Directory::new(&folder).watch(EVERY).await;
        assert_eq!(receiver.borrow_and_update().problems[0].file, folder);
        fs::create_dir(&folder).unwrap();
        let loaded = next(&mut receiver).await;
        assert_eq!(loaded.problems, []);
        fs::write(folder.join("likes.json"), BEST_EFFORT).unwrap();
        assert_eq!(names(&*next(&mut receiver).await), ["likes"]);
        fs::remove_dir_all(&folder).unwrap();
        let loaded = next(&mut receiver).await;
        assert_eq!((names(&loaded), loaded.problems.len()), (vec!["likes"], 1), "a lost volume removes nothing");
    }
}
