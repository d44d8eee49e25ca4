//! The server, over TLS on loopback, as an API server meets it.

use std::net::SocketAddr;
use std::sync::Mutex;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::*;
use crate::certificates::webhook::{Webhook, renew};
use crate::names;

const NAME: &str = "tallyman-webhook.tallyman.svc";

/// A cluster without CounterNamespaces, which answers once it may.
#[derive(Default)]
struct Empty {
    holds: bool,
    asked: Notify,
    may_answer: Notify,
}

#[async_trait]
impl Lookup for Empty {
    async fn sidecar(&self, _: &str, _: &BTreeSet<String>) -> Settings {
        if self.holds {
            self.asked.notify_one();
            self.may_answer.notified().await;
        }
        Settings::new("sidecar:1")
    }

    async fn resources(&self) -> Option<Resources> {
        Some(Resources::default())
    }
}

struct Server {
    address: SocketAddr,
    certificate: Arc<ServerCertificate>,
    authority: String,
    metrics: Metrics,
    lookup: Arc<Empty>,
    skipped: Arc<Mutex<Vec<SkippedPod>>>,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

/// Good for years to come, whenever the test runs.
#[allow(clippy::disallowed_methods, reason = "TLS clients read the real time")]
fn made() -> Webhook {
    let now = Timestamp::try_from(std::time::SystemTime::now()).unwrap();
    renew(None, &[NAME.to_owned()], now).unwrap().unwrap().certificates
}

impl Server {
    async fn start(holds: bool) -> Self {
        let made = made();
        let metrics = Metrics::default();
        let certificate = ServerCertificate::none(metrics.certificate_not_after());
        assert!(certificate.show(&made.server).unwrap());
        Self::start_with(holds, certificate, made.authority.certificate, metrics).await
    }

    async fn start_with(holds: bool, certificate: Arc<ServerCertificate>, authority: String, metrics: Metrics) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let lookup = Arc::new(Empty { holds, ..Empty::default() });
        let skipped: Arc<Mutex<Vec<SkippedPod>>> = Arc::default();
        let notes = skipped.clone();
        let handler = Handler {
            lookup: lookup.clone(),
            on_skipped: Arc::new(move |pod| notes.lock().unwrap().push(pod)),
            metrics: metrics.clone(),
        };
        let stop = CancellationToken::new();
        let served =
            tokio::spawn(serve(listener, certificate.clone(), handler, CancellationToken::new(), stop.clone()));
        Self { address, certificate, authority, metrics, lookup, skipped, stop, served }
    }

    async fn send(&self, head: &str, body: &[u8]) -> std::io::Result<(u16, String)> {
        exchange(self.address, &self.authority, head, body).await
    }

    /// Sends a review, and answers what it is answered.
    async fn review(&self, path: &str, request: &Value) -> Value {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
        let head = format!("POST {path} HTTP/1.1\r\ncontent-type: application/json\r\n");
        let (status, body) = self.send(&head, review.to_string().as_bytes()).await.unwrap();
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(answer["kind"], "AdmissionReview");
        assert_eq!(answer["response"]["uid"], request["uid"]);
        answer["response"].clone()
    }
}

/// One request on a connection of its own.
async fn exchange(address: SocketAddr, authority: &str, head: &str, body: &[u8]) -> std::io::Result<(u16, String)> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(NAME).unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let head = format!("{head}host: {NAME}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    // A server that refuses the size answers before it has read all.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer).await
        && answer.is_empty()
    {
        return Err(error);
    }
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned()))
}

fn creation(pod: &Value) -> Value {
    json!({"uid": "u-1", "operation": "CREATE", "namespace": "shop", "object": pod, "oldObject": null, "dryRun": false})
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "web-5d4f-", "labels": {names::INJECT: "true"},
            "annotations": {names::COUNTER_NAMESPACES: "likes"},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f", "uid": "r-1", "controller": true}
            ]
        },
        "spec": {"containers": [{"name": "web", "image": "web:1"}]}
    })
}

#[tokio::test]
async fn a_pod_gets_its_sidecar_by_json_patch() {
    let server = Server::start(false).await;
    let response = server.review(MUTATE_PODS, &creation(&pod())).await;
    assert_eq!((&response["allowed"], &response["patchType"]), (&json!(true), &json!("JSONPatch")));
    let patch: ByteString = serde_json::from_value(response["patch"].clone()).unwrap();
    let mut patched = pod();
    json_patch::patch(&mut patched, &serde_json::from_slice::<json_patch::Patch>(&patch.0).unwrap()).unwrap();
    let crate::inject::Outcome::Injected(injected) = crate::inject::inject(&pod(), &Settings::new("sidecar:1")) else {
        panic!("it asks for a sidecar")
    };
    assert_eq!(patched, injected.pod);
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.contains("no CounterNamespace likes in Kubernetes namespace shop"), "{warning}");
    let again = server.review(MUTATE_PODS, &creation(&patched)).await;
    assert_eq!(again, json!({"uid": "u-1", "allowed": true}));
    assert_eq!((server.metrics.count(MUTATE_PODS, "injected"), server.metrics.count(MUTATE_PODS, "current")), (1, 1));
}

#[tokio::test]
async fn who_makes_a_pod_that_cannot_have_a_sidecar_is_warned_and_its_owner_is_told_of() {
    let server = Server::start(false).await;
    let mut pod = pod();
    pod["spec"]["hostNetwork"] = json!(true);
    let mut request = creation(&pod);
    request["dryRun"] = json!(true);
    for dry_run in [true, false] {
        assert!(server.skipped.lock().unwrap().is_empty(), "a dry run leaves nothing behind");
        request["dryRun"] = json!(dry_run);
        let response = server.review(MUTATE_PODS, &request).await;
        assert_eq!((&response["allowed"], &response["patch"]), (&json!(true), &Value::Null));
        assert!(response["warnings"][0].as_str().unwrap().contains("hostNetwork"));
    }
    let skipped = server.skipped.lock().unwrap().clone();
    assert_eq!(skipped.len(), 1);
    assert_eq!((skipped[0].kubernetes_namespace.as_str(), skipped[0].name.as_str()), ("shop", "web-5d4f-"));
    assert_eq!(skipped[0].owner.as_ref().unwrap().name, "web-5d4f");
}

#[tokio::test]
async fn a_pod_whose_annotations_make_no_sense_is_refused_in_words() {
    let server = Server::start(false).await;
    let mut pod = pod();
    pod["metadata"]["annotations"][names::COUNTER_NAMESPACES] = json!("Likes");
    let response = server.review(MUTATE_PODS, &creation(&pod)).await;
    assert_eq!(response["allowed"], false);
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains(names::COUNTER_NAMESPACES) && message.contains("\"Likes\""), "{message}");
    assert_eq!(server.metrics.count(MUTATE_PODS, "refused"), 1);
}

#[tokio::test]
async fn a_counter_namespace_without_a_class_is_let_through_with_a_warning() {
    let server = Server::start(false).await;
    let object = json!({
        "apiVersion": "tallyman.dev/v1alpha1", "kind": "CounterNamespace",
        "metadata": {"name": "likes"}, "spec": {"counterType": "Eventual", "className": "missing"}
    });
    let response = server.review(VALIDATE_COUNTER_NAMESPACES, &creation(&object)).await;
    assert_eq!(response["allowed"], true);
    assert!(response["warnings"][0].as_str().unwrap().contains("\"missing\""));
    // What cannot be read may be of a later release, and is for the controller to judge.
    let response = server.review(VALIDATE_COUNTER_NAMESPACES, &creation(&json!({"spec": 1}))).await;
    assert_eq!(response["allowed"], true);
    assert!(response["warnings"][0].as_str().unwrap().contains("cannot be read"));
}

#[tokio::test]
async fn what_is_no_review_is_answered_in_words_and_the_server_goes_on() {
    let server = Server::start(false).await;
    let json = "content-type: application/json\r\n";
    let huge = vec![b' '; 9 << 20];
    let beta = br#"{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": {"uid": "", "operation": "CREATE"}}"#;
    let empty = br#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}"#;
    for (head, body, status, words) in [
        (format!("GET {MUTATE_PODS} HTTP/1.1\r\n"), &b""[..], 405, "only POST"),
        (format!("POST /elsewhere HTTP/1.1\r\n{json}"), b"{}", 404, "nothing at /elsewhere"),
        (format!("POST {MUTATE_PODS} HTTP/1.1\r\n"), b"{}", 415, "application/json"),
        (format!("POST {MUTATE_PODS} HTTP/1.1\r\n{json}"), b"nonsense", 400, "no AdmissionReview"),
        (format!("POST {MUTATE_PODS} HTTP/1.1\r\n{json}"), &beta[..], 400, "v1beta1"),
        (format!("POST {VALIDATE_COUNTER_NAMESPACES} HTTP/1.1\r\n{json}"), &empty[..], 400, "no request"),
        (format!("POST {MUTATE_PODS} HTTP/1.1\r\n{json}"), &huge, 413, "8388608 bytes"),
    ] {
        let (answered, text) = server.send(&head, body).await.unwrap();
        assert_eq!(answered, status, "{head}: {text}");
        assert!(text.contains(words), "{text}");
    }
    assert_eq!(server.metrics.count(MUTATE_PODS, "bad_request"), 5);
    assert_eq!(server.review(MUTATE_PODS, &creation(&pod())).await["allowed"], true);
}

#[tokio::test]
async fn a_certificate_is_replaced_while_the_server_runs() {
    let server = Server::start(false).await;
    let other = made();
    let get = format!("GET {MUTATE_PODS} HTTP/1.1\r\n");
    assert!(exchange(server.address, &other.authority.certificate, &get, b"").await.is_err(), "not shown yet");
    assert!(server.certificate.show(&other.server).unwrap());
    assert!(!server.certificate.show(&other.server).unwrap(), "the same is no other");
    assert_eq!(exchange(server.address, &other.authority.certificate, &get, b"").await.unwrap().0, 405);
    assert!(server.send(&get, b"").await.is_err(), "the old one is not shown any more");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_leaves_the_one_before_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Metrics::default();
    let certificate = ServerCertificate::none(metrics.certificate_not_after());
    let missing = certificate.show_from(folder.path()).await.unwrap_err().to_string();
    assert!(missing.contains("tls.crt") && !certificate.is_there(), "{missing}");
    let (first, second) = (made(), made());
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("tls.crt", &first.server.certificate);
    write("tls.key", &first.server.key);
    assert!(certificate.show_from(folder.path()).await.unwrap());
    assert!(metrics.certificate_not_after().get() > 0);
    // Half replaced: certificate and key do not belong together.
    write("tls.crt", &second.server.certificate);
    assert!(certificate.show_from(folder.path()).await.is_err());
    let server = Server::start_with(false, certificate, first.authority.certificate, metrics).await;
    assert_eq!(server.send(&format!("GET {MUTATE_PODS} HTTP/1.1\r\n"), b"").await.unwrap().0, 405);
    write("tls.key", &second.server.key);
    assert!(server.certificate.show_from(folder.path()).await.unwrap());
}

#[tokio::test]
async fn a_folder_is_followed_until_the_server_stops() {
    let folder = tempfile::tempdir().unwrap();
    let made = made();
    std::fs::write(folder.path().join("tls.crt"), &made.server.certificate).unwrap();
    std::fs::write(folder.path().join("tls.key"), &made.server.key).unwrap();
    let certificate = ServerCertificate::none(Metrics::default().certificate_not_after());
    let stop = CancellationToken::new();
    let follow = certificate.follow(folder.path(), stop.clone());
    let shown = async {
        while !certificate.is_there() {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    tokio::join!(follow, shown);
}

#[tokio::test]
async fn without_a_certificate_connections_fail_and_with_one_they_do_not() {
    let metrics = Metrics::default();
    let certificate = ServerCertificate::none(metrics.certificate_not_after());
    let made = made();
    let server = Server::start_with(false, certificate, made.authority.certificate.clone(), metrics).await;
    let get = format!("GET {MUTATE_PODS} HTTP/1.1\r\n");
    assert!(server.send(&get, b"").await.is_err());
    server.certificate.show(&made.server).unwrap();
    assert_eq!(server.send(&get, b"").await.unwrap().0, 405);
}

#[tokio::test]
async fn clients_that_say_nothing_hold_up_no_other() {
    let server = Server::start(false).await;
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    assert_eq!(server.review(MUTATE_PODS, &creation(&pod())).await["allowed"], true);
}

#[tokio::test]
async fn a_request_under_way_is_answered_when_the_server_stops() {
    let server = Arc::new(Server::start(true).await);
    let asking = tokio::spawn({
        let server = server.clone();
        async move { server.review(MUTATE_PODS, &creation(&pod())).await }
    });
    server.lookup.asked.notified().await;
    server.stop.cancel();
    server.lookup.may_answer.notify_one();
    assert_eq!(asking.await.unwrap()["allowed"], true);
    let Ok(server) = Arc::try_unwrap(server) else { panic!("nobody asks any more") };
    server.served.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody gets in any more");
}
