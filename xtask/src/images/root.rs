//! What is in an image's root: one program, the libraries it is linked with, and who it runs as. No shell, no certificates: what is
//! connected to by TLS comes with an authority of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::archive::Contents;
use crate::process;

/// Folder of the program.
pub const PROGRAMS: &str = "/usr/local/bin";

const PASSWD: &str = "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnonroot:x:65532:\n";
/// Without it, glibc asks no name server.
const NSSWITCH: &str = "hosts: files dns\n";

/// The files of a program's image, by their absolute paths.
pub fn files(name: &str, program: &Path) -> Result<BTreeMap<PathBuf, Contents>> {
    let mut files = BTreeMap::from([
        (PathBuf::from("/etc/passwd"), Contents::data(PASSWD)),
        (PathBuf::from("/etc/group"), Contents::data(GROUP)),
        (PathBuf::from("/etc/nsswitch.conf"), Contents::data(NSSWITCH)),
        (Path::new(PROGRAMS).join(name), Contents::program(program)?),
    ]);
    let listing = process::program("ldd", [program]).output()?;
    for library in libraries(&listing) {
        let contents = Contents::program(&library)?;
        files.insert(library, contents);
    }
    Ok(files)
}

/// The libraries that `ldd` names, and the loader, as the program asks for them; what the kernel provides has no path.
fn libraries(listing: &str) -> Vec<PathBuf> {
    listing
        .lines()
        .filter_map(|line| {
            let wanted = line.split_once("=>").map_or(line, |(_, found)| found).trim();
            wanted.starts_with('/').then(|| wanted.split(" (").next().map(PathBuf::from)).flatten()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_found_and_the_kernels_own_is_not() {
        let listing = "\tlinux-vdso.so.1 (0x00007ffe)\n\tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x7f)\n\
                       \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f)\n\t/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        let expected =
            ["/lib/x86_64-linux-gnu/libgcc_s.so.1", "/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(libraries(listing), expected.map(PathBuf::from));
        assert!(libraries("\tstatically linked\n").is_empty());
    }

    #[test]
    #[ignore = "needs root, for chroot: cargo xtask test"]
    fn a_program_runs_in_a_root_that_has_just_these_files() {
        let root = tempfile::tempdir().unwrap();
        for (path, contents) in files("env", Path::new("/usr/bin/env")).unwrap() {
            let Contents::File { bytes, mode } = contents else { panic!("{} is not a file", path.display()) };
            let path = root.path().join(path.strip_prefix("/").unwrap());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &bytes).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        }
        let arguments = [root.path().as_os_str(), "/usr/local/bin/env".as_ref(), "--version".as_ref()];
        let printed = process::program("chroot", arguments).output().unwrap();
        assert!(printed.starts_with("env (GNU coreutils)"), "{printed}");
    }
}
