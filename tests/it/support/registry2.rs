//! registry:2 itself, where it is installed.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
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
}

impl Drop for Registry2 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
