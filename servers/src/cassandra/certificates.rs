//! A certificate authority of a set's own, and one certificate for all its nodes, made by the Java's `keytool`.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::process;

/// Keeps nothing secret: the certificates are good for loopback addresses only.
pub(super) const PASSWORD: &str = "tallyman";
const DAYS: &str = "3650";

/// The folder of the certificates.
#[derive(Debug, Clone)]
pub(crate) struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Those that [`make`](Self::make) made there.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The authority's certificate, which clients are to trust.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Key and certificate of the nodes.
    pub(super) fn keystore(&self) -> PathBuf {
        self.folder.join("node.p12")
    }

    /// Makes certificates for nodes at these addresses. `java` is the program beside which `keytool` lies.
    pub(crate) fn make(folder: &Path, java: &Path, addresses: impl Iterator<Item = Ipv4Addr>) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::file(folder))?;
        let names: Vec<String> = addresses.map(|address| format!("ip:{address}")).collect();
        let names = format!("SAN={}", names.join(","));
        let keytool = |store: &str, arguments: &[&str]| {
            let mut command = Command::new(java.with_file_name("keytool"));
            command.args(arguments).args(["-keystore", store, "-storepass", PASSWORD]).current_dir(folder);
            process::run("keytool", &mut command)
        };
        let key =
            ["-genkeypair", "-storetype", "PKCS12", "-keyalg", "EC", "-groupname", "secp256r1", "-validity", DAYS];
        let ca = ["-alias", "ca", "-dname", "CN=tallyman servers", "-ext", "bc:c", "-ext", "ku:c=keyCertSign"];
        keytool("ca.p12", &[&key[..], &ca].concat())?;
        keytool("ca.p12", &["-exportcert", "-rfc", "-alias", "ca", "-file", "ca.pem"])?;
        keytool("node.p12", &[&key[..], &["-alias", "node", "-dname", "CN=cassandra"]].concat())?;
        keytool("node.p12", &["-certreq", "-alias", "node", "-file", "node.csr"])?;
        let sign =
            ["-gencert", "-rfc", "-alias", "ca", "-infile", "node.csr", "-outfile", "node.pem", "-validity", DAYS];
        keytool("ca.p12", &[&sign[..], &["-ext", &names, "-ext", "eku=serverAuth"]].concat())?;
        keytool("node.p12", &["-importcert", "-noprompt", "-alias", "ca", "-file", "ca.pem"])?;
        keytool("node.p12", &["-importcert", "-noprompt", "-alias", "node", "-file", "node.pem"])?;
        Ok(Self::in_folder(folder))
    }
}
