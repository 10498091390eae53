//! Options that set a key of the configuration: the strongest source of a value.

use crate::config::{Given, Override};

/// Options that set a key of the configuration, whatever file and variables say.
#[derive(Debug, clap::Args)]
pub(super) struct SettingOptions {
    /// Listen on this address, such as :8443 or 127.0.0.1:5000 (http.addr)
    #[arg(long, value_name = "ADDRESS")]
    addr: Option<String>,
    /// Make the certificate for this name or IP address, too; may be repeated (http.hosts)
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// Keep images in this directory (storage.filesystem.rootdirectory)
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
}

impl SettingOptions {
    /// The keys that they set.
    pub(super) fn overrides(self) -> Vec<Override> {
        let Self { addr, hosts, data } = self;
        let text = |option, key, value: Option<String>| {
            value.map(|value| Override { option, key, value: Given::Text(value) })
        };
        let hosts = (!hosts.is_empty()).then_some(Given::List(hosts));
        text("--addr", "http.addr", addr)
            .into_iter()
            .chain(hosts.map(|value| Override { option: "--host", key: "http.hosts", value }))
            .chain(text("--data", "storage.filesystem.rootdirectory", data))
            .collect()
    }
}
