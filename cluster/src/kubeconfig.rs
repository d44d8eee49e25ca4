//! Kubeconfig files, written as JSON, which is YAML.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::options::Place;

/// By what the API server knows a user.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Credentials {
    /// Both as base64 of PEM.
    Certificate {
        certificate: String,
        key: String,
    },
    Token {
        token: String,
    },
}

/// The text of a file by which a user reaches the cluster. `authority` is base64 of PEM.
pub(crate) fn text(place: &Place, authority: &str, user: &str, credentials: &Credentials) -> String {
    let server = format!("https://{}", place.api_server());
    let credentials: Value = match credentials {
        Credentials::Certificate { certificate, key } => {
            json!({"client-certificate-data": certificate, "client-key-data": key})
        }
        Credentials::Token { token } => json!({"token": token}),
    };
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tallyman", "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "tallyman", "context": {"cluster": "tallyman", "user": user}}],
        "current-context": "tallyman",
    });
    format!("{config:#}\n")
}

/// The name of a file for a user, whose own name may hold anything. Different names may share one only where they differ in
/// nothing but punctuation.
pub(crate) fn file_name(user: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    format!("{}.yaml", user.chars().map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_names_the_server_its_authority_and_the_user() {
        let place = Place { folder: "/cache/cluster".into(), address: [127, 0, 100, 1].into() };
        let config = text(&place, "QQ==", "system:someone", &Credentials::Token { token: "t".to_owned() });
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["clusters"][0]["cluster"]["server"], "https://127.0.100.1:6443");
        assert_eq!(config["clusters"][0]["cluster"]["certificate-authority-data"], "QQ==");
        assert_eq!(config["users"][0], json!({"name": "system:someone", "user": {"token": "t"}}));
        assert_eq!(config["contexts"][0]["context"]["user"], "system:someone");
    }

    #[test]
    fn a_user_of_any_name_gets_a_file_inside_the_folder() {
        assert_eq!(file_name("system:serviceaccount:a:b.c"), "system-serviceaccount-a-b.c.yaml");
        assert_eq!(file_name("../../etc/passwd"), "..-..-etc-passwd.yaml");
    }
}
