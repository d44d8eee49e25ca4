//! An image as a docker-archive: a tar with a manifest, a configuration, and the one layer, which is a tar itself. Pure, and the same
//! bytes for the same contents: names are sorted, times are the epoch, everything belongs to root.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// An image of one layer.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its name, with a tag.
    pub reference: String,
    /// The program to run, an absolute path.
    pub entrypoint: String,
    /// Who it runs as, `uid:gid`.
    pub user: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its files, by their absolute paths.
    pub files: BTreeMap<PathBuf, Contents>,
}

/// A file of an image.
#[derive(Debug, Clone)]
pub struct Contents {
    pub bytes: Vec<u8>,
    pub mode: u32,
}

impl Contents {
    /// A file that is read.
    pub fn data(text: &str) -> Self {
        Self { bytes: text.as_bytes().to_vec(), mode: 0o644 }
    }
}

impl Image {
    /// The whole archive.
    pub fn archive(&self) -> Result<Vec<u8>> {
        let layer = self.layer()?;
        let layer_name = format!("{}.tar", sha256(&layer));
        let config = self.config(&layer)?;
        let config_name = format!("{}.json", sha256(&config));
        let manifest = json!([{"Config": config_name, "RepoTags": [self.reference], "Layers": [layer_name]}]);
        let mut archive = Builder::new(Vec::new());
        for (name, bytes) in
            [(layer_name, layer), (config_name, config), ("manifest.json".to_owned(), serde_json::to_vec(&manifest)?)]
        {
            append(&mut archive, Path::new(&name), EntryType::Regular, 0o644, &bytes)?;
        }
        Ok(archive.into_inner()?)
    }

    /// The image's id: the digest of its configuration.
    pub fn id(&self) -> Result<String> {
        Ok(sha256(&self.config(&self.layer()?)?))
    }

    fn config(&self, layer: &[u8]) -> Result<Vec<u8>> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "User": self.user,
                "Entrypoint": [self.entrypoint],
                "Env": ["PATH=/usr/local/bin"],
                "WorkingDir": "/",
                "Labels": self.labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(layer))]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "cargo xtask images"}],
        });
        Ok(serde_json::to_vec(&config)?)
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut paths = BTreeMap::new();
        for (path, contents) in &self.files {
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
            append(&mut layer, path, EntryType::Regular, contents.mode, &contents.bytes)?;
        }
        Ok(layer.into_inner()?)
    }
}

fn append(archive: &mut Builder<Vec<u8>>, path: &Path, kind: EntryType, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes).with_context(|| path.display().to_string())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use serde_json::Value;
    use tar::Archive;

    use super::*;

    fn example() -> Image {
        Image {
            reference: "ghcr.io/tallyman/example:1.2.3".to_owned(),
            entrypoint: "/usr/local/bin/example".to_owned(),
            user: "65532:65532".to_owned(),
            labels: [("org.opencontainers.image.version".to_owned(), "1.2.3".to_owned())].into(),
            files: [
                (PathBuf::from("/usr/local/bin/example"), Contents { bytes: b"program".to_vec(), mode: 0o755 }),
                (PathBuf::from("/etc/passwd"), Contents::data("nobody")),
            ]
            .into(),
        }
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
        let archive = unpacked(&example().archive().unwrap());
        let manifest: Value = serde_json::from_slice(&archive["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["RepoTags"], json!(["ghcr.io/tallyman/example:1.2.3"]));
        let (config_name, layer_name) =
            (manifest[0]["Config"].as_str().unwrap(), manifest[0]["Layers"][0].as_str().unwrap());
        let (config, layer) = (&archive[config_name], &archive[layer_name]);
        assert_eq!(config_name, format!("{}.json", sha256(config)));
        assert_eq!(config_name, format!("{}.json", example().id().unwrap()));
        let config: Value = serde_json::from_slice(config).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"], json!([format!("sha256:{}", sha256(layer))]));
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["config"]["Entrypoint"], json!(["/usr/local/bin/example"]));
        let names: Vec<String> = unpacked(layer).into_keys().collect();
        assert_eq!(names, ["etc", "etc/passwd", "usr", "usr/local", "usr/local/bin", "usr/local/bin/example"]);
    }

    #[test]
    fn the_same_contents_make_the_same_bytes_and_other_ones_another_id() {
        assert_eq!(example().archive().unwrap(), example().archive().unwrap());
        let mut other = example();
        other.files.insert(PathBuf::from("/etc/group"), Contents::data(""));
        assert_ne!(other.id().unwrap(), example().id().unwrap());
    }

    #[test]
    fn the_digest_is_sha256() {
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_relative_path_is_refused() {
        let mut image = example();
        image.files.insert(PathBuf::from("etc/group"), Contents::data(""));
        assert!(image.archive().unwrap_err().to_string().contains("etc/group"));
    }
}
