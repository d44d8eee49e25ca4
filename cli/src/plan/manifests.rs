//! The files of the command line: CounterNamespaces and CounterClasses.

use std::io::Read;
use std::path::{Path, PathBuf};

use tallyman_crds::manifest::{read_counter_classes, read_manifests};
use tallyman_crds::{CounterClass, CounterNamespace};

use crate::failure::Failure;

pub struct Manifests {
    pub namespaces: Vec<CounterNamespace>,
    pub classes: Vec<CounterClass>,
}

impl Manifests {
    /// Reads all files. What is wrong in any of them is told.
    pub fn read(files: &[PathBuf], class_file: Option<&Path>) -> Result<Self, Failure> {
        let mut all = Self { namespaces: Vec::new(), classes: Vec::new() };
        for file in files {
            let read = read_manifests(&text(file)?, &file.display().to_string());
            let read = read.map_err(|error| Failure::local(error.to_string()))?;
            all.namespaces.extend(read.namespaces);
            all.classes.extend(read.classes);
        }
        if let Some(file) = class_file {
            let read = read_counter_classes(&text(file)?, &file.display().to_string());
            all.classes.extend(read.map_err(|error| Failure::local(error.to_string()))?);
        }
        all.check()
    }

    fn check(self) -> Result<Self, Failure> {
        if self.namespaces.is_empty() {
            return Err(Failure::local("the files hold no CounterNamespace").with_remedy("name a file of them with -f"));
        }
        let namespaces =
            self.namespaces.iter().map(|one| (one.metadata.namespace.as_deref(), one.metadata.name.as_deref()));
        let classes = self.classes.iter().map(|one| (None, one.metadata.name.as_deref()));
        twice("CounterNamespace", namespaces.collect())?;
        twice("CounterClass", classes.collect())?;
        Ok(self)
    }
}

fn twice(kind: &str, mut names: Vec<(Option<&str>, Option<&str>)>) -> Result<(), Failure> {
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Failure::local(format!("{kind} {} is in the files twice", pair[0].1.unwrap_or_default()))),
        None => Ok(()),
    }
}

fn text(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = match file == Path::new("-") {
        true => std::io::stdin().read_to_string(&mut text).map(|_| text),
        false => std::fs::read_to_string(file),
    };
    read.map_err(|error| Failure::local(format!("{}: cannot be read: {error}", file.display())))
}
