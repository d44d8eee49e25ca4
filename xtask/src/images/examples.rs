//! The images that `examples/` names: its applications, and stand-ins for the official images of Cassandra, memcached and busybox, for machines
//! that reach Debian and Maven but no registry of images. What `examples/applications/*/Dockerfile` describes, with Debian's packages.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tallyman_servers::debian::{self, Package};
use tallyman_servers::process::run;

use super::archive::{Contents, Image, Layer};
use super::{REPOSITORY, USER, kept, labels};

const APPLICATIONS: &str = "examples/applications";
const PROTO: &str = "api/proto";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const COUNT: &str = "/usr/local/bin/count";
const NO_HOOK: &str = "true";

/// Makes the stubs of Python. They fit the protobuf library of the same Debian.
const PROTOC: Package = Package { name: "protobuf-compiler", sign: "protoc" };
/// The types that every compiler of them has to hand, such as durations. Only recommended by the compiler's package.
const TYPES: Package = Package { name: "libprotobuf-dev", sign: "/usr/include/google/protobuf/any.proto" };
const PLUGIN: Package = Package { name: "protobuf-compiler-grpc", sign: "/usr/bin/grpc_python_plugin" };
/// Where Debian's Python finds packages.
const PYTHON_PACKAGES: &str = "/usr/lib/python3/dist-packages";

const CASSANDRA_HOME: &str = "/opt/cassandra";
/// As in the official image.
const CASSANDRA_PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\ncassandra:x:999:999::/var/lib/cassandra:/bin/sh\n";
const CASSANDRA_LAUNCHER: &str = include_str!("cassandra-launcher.sh");
/// Names of the programs that busybox is, as in the official image.
const BUSYBOX_LINKS: &str =
    r#"cd "$1/bin" && for applet in $(./busybox --list); do [ -e "$applet" ] || ln -s busybox "$applet"; done"#;
const JAVA_LINK: &str = r#"cd "$1/usr/bin" && ln -s ../lib/jvm/java-17-openjdk-*/bin/java java"#;

/// All of them, by the names of their files.
pub fn images(revision: &str) -> Result<Vec<(&'static str, Image)>> {
    Ok(vec![
        ("example-curl", curl(revision)?),
        ("example-python", python(revision)?),
        ("example-go", go(revision)?),
        ("cassandra", cassandra()?),
        ("memcached", memcached()?),
        ("busybox", busybox()?),
    ])
}

fn application(name: &str, entrypoint: &[&str], layers: Vec<Layer>, revision: &str) -> Image {
    Image {
        reference: format!("{REPOSITORY}/{name}:{}", env!("CARGO_PKG_VERSION")),
        entrypoint: entrypoint.iter().map(|&word| word.to_owned()).collect(),
        command: Vec::new(),
        environment: vec![PATH.to_owned()],
        user: USER.to_owned(),
        labels: labels(name, env!("CARGO_PKG_VERSION"), revision),
        layers,
    }
}

fn curl(revision: &str) -> Result<Image> {
    let script = Contents::program(&Path::new(APPLICATIONS).join("curl/count.sh"))?;
    let root = kept::debian_root("dash,coreutils,jq,curl", NO_HOOK)?;
    let layers = vec![root, Layer::Files([(PathBuf::from(COUNT), script)].into())];
    Ok(application("example-curl", &[COUNT], layers, revision))
}

fn python(revision: &str) -> Result<Image> {
    let root = kept::debian_root("python3-minimal,python3-protobuf,python3-grpcio", NO_HOOK)?;
    let script = Path::new(APPLICATIONS).join("python/count.py");
    let script = fs::read_to_string(&script).with_context(|| script.display().to_string())?;
    let mut files = BTreeMap::from([(PathBuf::from("/app/count.py"), Contents::data(&script))]);
    debian::install(&[PROTOC, TYPES, PLUGIN])?;
    let stubs = tempfile::tempdir().context("a folder for stubs")?;
    let protos = ["tallyman/v1/counter.proto", "google/rpc/status.proto"];
    let mut protoc = std::process::Command::new(PROTOC.sign);
    protoc.arg(format!("--plugin=protoc-gen-grpc_python={}", PLUGIN.sign)).arg(format!("--proto_path={PROTO}"));
    protoc.arg("--python_out").arg(stubs.path()).arg("--grpc_python_out").arg(stubs.path()).args(protos);
    run("making stubs for Python", &mut protoc)?;
    for stub in ["tallyman/v1/counter_pb2.py", "tallyman/v1/counter_pb2_grpc.py", "google/rpc/status_pb2.py"] {
        let path = stubs.path().join(stub);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        files.insert(Path::new(PYTHON_PACKAGES).join(stub), Contents::data(&text));
    }
    let layers = vec![root, Layer::Files(files)];
    let mut image = application("example-python", &["/usr/bin/python3", "/app/count.py"], layers, revision);
    image.environment.push("PYTHONDONTWRITEBYTECODE=1".to_owned());
    Ok(image)
}

/// Without a root: one program, linked with nothing.
fn go(revision: &str) -> Result<Image> {
    let bin = tempfile::tempdir().context("a folder for a program")?;
    let program = tallyman_cluster::go_program(&Path::new(APPLICATIONS).join("go"), bin.path())?;
    let files = BTreeMap::from([(PathBuf::from(COUNT), Contents::program(&program)?)]);
    Ok(application("example-go", &[COUNT], vec![Layer::Files(files)], revision))
}

/// Takes the same command as the official image does: `cassandra -f -D…`.
fn cassandra() -> Result<Image> {
    let parts = tallyman_servers::cassandra_parts()?;
    let home = Path::new(CASSANDRA_HOME);
    // A JVM's file of options has one a line, or several words.
    let agent = format!("-javaagent:{}", home.join("lib").join(parts.agent).display());
    let options = [&[agent.as_str()], parts.jvm_options].concat().join("\n");
    let files = BTreeMap::from([
        (home.join("bin/cassandra"), Contents::script(CASSANDRA_LAUNCHER)),
        (home.join("conf/jvm.options"), Contents::data(&options)),
        (PathBuf::from("/etc/cassandra/logback.xml"), Contents::data(parts.logback)),
        (PathBuf::from("/etc/passwd"), Contents::data(CASSANDRA_PASSWD)),
        (PathBuf::from("/etc/group"), Contents::data("root:x:0:\ncassandra:x:999:\n")),
        (PathBuf::from("/var/lib/cassandra"), Contents::Folder { mode: 0o1777 }),
        (PathBuf::from("/var/log/cassandra"), Contents::Folder { mode: 0o1777 }),
    ]);
    let jars = format!("cassandra-{}", parts.version);
    let layers = vec![
        kept::debian_root("dash,openjdk-17-jre-headless", JAVA_LINK)?,
        kept::folder(&jars, &parts.lib, home.join("lib").strip_prefix("/")?)?,
        Layer::Files(files),
    ];
    let mut image = stand_in("cassandra:5.0", &["cassandra", "-f"], layers);
    image.environment = vec![format!("{PATH}:{CASSANDRA_HOME}/bin"), "CASSANDRA_CONF=/etc/cassandra".to_owned()];
    image.user = "999:999".to_owned();
    Ok(image)
}

/// The image that the operator names. Like its entrypoint's, the arguments may be options alone.
fn memcached() -> Result<Image> {
    let mut image = stand_in("memcached:1.6.39-alpine", &[], vec![kept::debian_root("memcached", NO_HOOK)?]);
    image.entrypoint = vec!["memcached".to_owned()];
    image.user = "11211:11211".to_owned();
    Ok(image)
}

fn busybox() -> Result<Image> {
    Ok(stand_in("busybox:1.37", &["sh"], vec![kept::debian_root("busybox-static", BUSYBOX_LINKS)?]))
}

/// An image that takes the place of an official one, and says so.
fn stand_in(official: &str, command: &[&str], layers: Vec<Layer>) -> Image {
    let description = format!("Takes the place of the official image {official} where that cannot be had");
    Image {
        reference: format!("docker.io/library/{official}"),
        entrypoint: Vec::new(),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        environment: vec![PATH.to_owned()],
        user: String::new(),
        labels: [("org.opencontainers.image.description".to_owned(), description)].into(),
        layers,
    }
}
