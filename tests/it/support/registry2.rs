//! registry:2 itself, where it is installed.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::json;

use super::{
    content::{OCI_MANIFEST, closing, descriptor, digest},
    server::Answered as _,
};

/// Debian's docker-registry, as a process.
pub struct Registry2 {
    child: Child,
    pub base: String,
    pub client: reqwest::Client,
}

impl Registry2 {
    /// `None` where it is not installed. `more` is added to its configuration.
    pub async fn start(folder: &Path, more: &str) -> Option<Self> {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let config = folder.join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{accesslog: {{disabled: true}}, level: error}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '{address}', secret: x}}\n{more}",
            folder.join("root").display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().ok()?;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let started = Self { child, base: format!("http://{address}"), client };
        let starting = async {
            while started.client.get(format!("{}/v2/", started.base)).send().await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), starting).await.unwrap();
        Some(started)
    }

    /// Sends a request that must succeed, and tells where the answer says to go on.
    pub async fn send(&self, method: &str, target: &str, kind: &str, body: Vec<u8>) -> String {
        let url = match target.strip_prefix('/') {
            Some(path) => format!("{}/{path}", self.base),
            None => target.to_owned(),
        };
        let request = self.client.request(method.parse().unwrap(), url);
        let answer = request.header("content-type", kind).body(body).answer().await;
        assert!(answer.status.is_success(), "{method} {target}: {}", answer.text());
        answer.headers.get("location").map_or_else(String::new, |at| at.to_str().unwrap().into())
    }

    pub async fn image(&self, name: &str, tag: &str, layer: &[u8]) -> String {
        for bytes in [layer, b"{}"] {
            let at = self.send("POST", &format!("/v2/{name}/blobs/uploads/"), "", Vec::new()).await;
            let kind = "application/octet-stream";
            self.send("PUT", &closing(&at, &digest(bytes)), kind, bytes.to_vec()).await;
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", b"{}"),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
        });
        let manifest = manifest.to_string();
        let target = format!("/v2/{name}/manifests/{tag}");
        self.send("PUT", &target, OCI_MANIFEST, manifest.clone().into_bytes()).await;
        digest(manifest)
    }
}

impl Drop for Registry2 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
