//! An image as a docker-archive: a tar with a manifest, a configuration, and the layers, which are tars themselves. The same bytes for
//! the same contents: names are sorted, times are the epoch, everything belongs to root.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// An image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its name, with a tag.
    pub reference: String,
    /// The program to run, an absolute path, and its first arguments; may be empty.
    pub entrypoint: Vec<String>,
    /// What is run, or is appended to the entrypoint, where nobody says otherwise; may be empty.
    pub command: Vec<String>,
    /// Variables, `NAME=value`.
    pub environment: Vec<String>,
    /// Who it runs as, `uid:gid`; root where it is empty.
    pub user: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What its root is made of, the lowest first.
    pub layers: Vec<Layer>,
}

/// A layer of an image.
#[derive(Debug, Clone)]
pub enum Layer {
    /// These files, by their absolute paths.
    Files(BTreeMap<PathBuf, Contents>),
    /// A tar that is the layer as it is. It may be large, and is not held in memory.
    Tar { path: PathBuf, digest: String },
}

/// What is at a path of an image.
#[derive(Debug, Clone)]
pub enum Contents {
    File { bytes: Vec<u8>, mode: u32 },
    Folder { mode: u32 },
}

impl Contents {
    /// A file that is read.
    pub fn data(text: &str) -> Self {
        Self::File { bytes: text.as_bytes().to_vec(), mode: 0o644 }
    }

    /// A script that is run.
    pub fn script(text: &str) -> Self {
        Self::File { bytes: text.as_bytes().to_vec(), mode: 0o755 }
    }

    /// A file of this machine that is run.
    pub fn program(path: &Path) -> Result<Self> {
        Ok(Self::File { bytes: std::fs::read(path).with_context(|| path.display().to_string())?, mode: 0o755 })
    }
}

/// The tar of a layer.
enum Tar<'a> {
    Held(Vec<u8>),
    Kept(&'a Path),
}

impl Image {
    /// Writes the whole archive; the image's id, which is the digest of its configuration.
    pub fn write(&self, to: impl Write) -> Result<String> {
        let mut archive = Builder::new(to);
        let mut digests = Vec::new();
        for layer in &self.layers {
            let (digest, tar) = match layer {
                Layer::Files(files) => {
                    let tar = layer_of(files)?;
                    (sha256(&tar), Tar::Held(tar))
                }
                Layer::Tar { path, digest } => (digest.clone(), Tar::Kept(path)),
            };
            let name = format!("{digest}.tar");
            match tar {
                Tar::Held(bytes) => append(&mut archive, Path::new(&name), EntryType::Regular, 0o644, &bytes)?,
                Tar::Kept(path) => append_file(&mut archive, Path::new(&name), path)?,
            }
            digests.push(digest);
        }
        let config = self.config(&digests)?;
        let id = sha256(&config);
        let config_name = format!("{id}.json");
        let layer_names: Vec<String> = digests.iter().map(|digest| format!("{digest}.tar")).collect();
        let manifest = json!([{"Config": config_name, "RepoTags": [self.reference], "Layers": layer_names}]);
        for (name, bytes) in [(config_name, config), ("manifest.json".to_owned(), serde_json::to_vec(&manifest)?)] {
            append(&mut archive, Path::new(&name), EntryType::Regular, 0o644, &bytes)?;
        }
        archive.into_inner()?.flush()?;
        Ok(id)
    }

    fn config(&self, digests: &[String]) -> Result<Vec<u8>> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let digests: Vec<String> = digests.iter().map(|digest| format!("sha256:{digest}")).collect();
        let history = json!({"created": "1970-01-01T00:00:00Z", "created_by": "cargo xtask images"});
        let mut config = json!({
            "architecture": architecture,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "User": self.user,
                "Env": self.environment,
                "WorkingDir": "/",
                "Labels": self.labels,
            },
            "rootfs": {"type": "layers", "diff_ids": digests},
            "history": vec![history; digests.len()],
        });
        for (field, words) in [("Entrypoint", &self.entrypoint), ("Cmd", &self.command)] {
            if !words.is_empty() {
                config["config"][field] = json!(words);
            }
        }
        Ok(serde_json::to_vec(&config)?)
    }
}

/// The tar of files, and of the folders they are in.
fn layer_of(files: &BTreeMap<PathBuf, Contents>) -> Result<Vec<u8>> {
    let mut paths = BTreeMap::new();
    for (path, contents) in files {
        let path = path.strip_prefix("/").with_context(|| format!("{} is not absolute", path.display()))?;
        paths.insert(path, contents);
    }
    let folders: BTreeSet<&Path> = paths.keys().flat_map(|path| path.ancestors().skip(1)).collect();
    let mut layer = Builder::new(Vec::new());
    // The first is the root itself, which has no name.
    for folder in folders.into_iter().skip(1) {
        append(&mut layer, folder, EntryType::Directory, 0o755, &[])?;
    }
    for (path, contents) in paths {
        match contents {
            Contents::File { bytes, mode } => append(&mut layer, path, EntryType::Regular, *mode, bytes)?,
            Contents::Folder { mode } => append(&mut layer, path, EntryType::Directory, *mode, &[])?,
        }
    }
    Ok(layer.into_inner()?)
}

fn append<W: Write>(archive: &mut Builder<W>, path: &Path, kind: EntryType, mode: u32, bytes: &[u8]) -> Result<()> {
    append_from(archive, path, (kind, mode), bytes.len() as u64, bytes)
}

/// Appends a file of this machine, as one that is read.
pub fn append_file<W: Write>(archive: &mut Builder<W>, path: &Path, file: &Path) -> Result<()> {
    let opened = File::open(file).with_context(|| file.display().to_string())?;
    let size = opened.metadata().with_context(|| file.display().to_string())?.len();
    append_from(archive, path, (EntryType::Regular, 0o644), size, opened)
}

fn append_from<W: Write>(
    archive: &mut Builder<W>,
    path: &Path,
    (kind, mode): (EntryType, u32),
    size: u64,
    from: impl Read,
) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    archive.append_data(&mut header, path, from).with_context(|| path.display().to_string())
}

pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

pub fn sha256_of_file(path: &Path) -> Result<String> {
    let mut digest = Sha256::new();
    let copied = File::open(path).and_then(|mut file| io::copy(&mut file, &mut digest));
    copied.with_context(|| path.display().to_string())?;
    Ok(hexadecimal(&digest.finalize()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tar::Archive;

    use super::*;

    fn example() -> Image {
        let program = Contents::File { bytes: b"program".to_vec(), mode: 0o755 };
        let files = [
            (PathBuf::from("/usr/local/bin/example"), program),
            (PathBuf::from("/etc/passwd"), Contents::data("nobody")),
        ];
        Image {
            reference: "ghcr.io/tallyman/example:1.2.3".to_owned(),
            entrypoint: vec!["/usr/local/bin/example".to_owned()],
            command: Vec::new(),
            environment: vec!["PATH=/usr/local/bin".to_owned()],
            user: "65532:65532".to_owned(),
            labels: [("org.opencontainers.image.version".to_owned(), "1.2.3".to_owned())].into(),
            layers: vec![Layer::Files(files.into())],
        }
    }

    fn add_layer(image: &mut Image, path: &str, contents: Contents) {
        image.layers.push(Layer::Files([(PathBuf::from(path), contents)].into()));
    }

    fn written(image: &Image) -> (Vec<u8>, String) {
        let mut bytes = Vec::new();
        let id = image.write(&mut bytes).unwrap();
        (bytes, id)
    }

    /// The files of a tar by name.
    fn unpacked(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in Archive::new(bytes).entries().unwrap() {
            let mut entry = entry.unwrap();
            assert_eq!((entry.header().mtime().unwrap(), entry.header().uid().unwrap()), (0, 0));
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), contents);
        }
        files
    }

    #[test]
    fn the_manifest_leads_to_a_configuration_and_a_layer_with_the_digests_they_are_named_by() {
        let (archive, id) = written(&example());
        let archive = unpacked(&archive);
        let manifest: Value = serde_json::from_slice(&archive["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["RepoTags"], json!(["ghcr.io/tallyman/example:1.2.3"]));
        let (config_name, layer_name) =
            (manifest[0]["Config"].as_str().unwrap(), manifest[0]["Layers"][0].as_str().unwrap());
        let (config, layer) = (&archive[config_name], &archive[layer_name]);
        assert_eq!(config_name, format!("{}.json", sha256(config)));
        assert_eq!(config_name, format!("{id}.json"));
        let config: Value = serde_json::from_slice(config).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"], json!([format!("sha256:{}", sha256(layer))]));
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["config"]["Entrypoint"], json!(["/usr/local/bin/example"]));
        assert!(config["config"].get("Cmd").is_none());
        let names: Vec<String> = unpacked(layer).into_keys().collect();
        assert_eq!(names, ["etc", "etc/passwd", "usr", "usr/local", "usr/local/bin", "usr/local/bin/example"]);
    }

    #[test]
    fn layers_keep_their_order_and_a_tar_is_a_layer_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.tar");
        let tar = layer_of(&[(PathBuf::from("/tmp"), Contents::Folder { mode: 0o1777 })].into()).unwrap();
        std::fs::write(&path, &tar).unwrap();
        let digest = sha256_of_file(&path).unwrap();
        assert_eq!(digest, sha256(&tar));
        let mut image = example();
        image.layers.insert(0, Layer::Tar { path, digest: digest.clone() });
        let archive = unpacked(&written(&image).0);
        let manifest: Value = serde_json::from_slice(&archive["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["Layers"][0], format!("{digest}.tar"));
        assert_eq!(archive[&format!("{digest}.tar")], tar);
        let config: Value = serde_json::from_slice(&archive[manifest[0]["Config"].as_str().unwrap()]).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{digest}"));
        assert_eq!(config["history"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn the_same_contents_make_the_same_bytes_and_other_ones_another_id() {
        assert_eq!(written(&example()), written(&example()));
        let mut other = example();
        add_layer(&mut other, "/etc/group", Contents::data(""));
        assert_ne!(written(&other).1, written(&example()).1);
    }

    #[test]
    fn the_digest_is_sha256() {
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_relative_path_is_refused() {
        let mut image = example();
        add_layer(&mut image, "etc/group", Contents::data(""));
        assert!(image.write(Vec::new()).unwrap_err().to_string().contains("etc/group"));
    }
}
