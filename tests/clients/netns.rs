//! A network with two ends: the server's on this machine, the client's in a namespace of its own.
//!
//! Docker trusts every registry in 127.0.0.0/8 without a check of its certificate, so tests of
//! trust need another network.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{self, Command};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use testkit::process::Outcome;

const PREFIX: &str = "portcullis-";

/// A network namespace joined to ours by a veth pair; gone when dropped.
pub(crate) struct Network {
    namespace: String,
    our_end: String,
    our_address: Ipv4Addr,
}

impl Network {
    /// Makes the namespace and brings the link up.
    pub(crate) fn new() -> Self {
        static SWEEP: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        SWEEP.call_once(sweep);

        let pid = process::id();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let our_address = free_subnet(pid.wrapping_add(number));
        let network = Self {
            namespace: format!("{PREFIX}{pid}-{number}"),
            // Names of interfaces end at 15 bytes.
            our_end: format!("pc{pid}-{number}"),
            our_address,
        };
        let their_address = network.client_address();
        let Self { namespace, our_end, .. } = &network;
        ip(&format!("netns add {namespace}")).succeeds();
        ip(&format!("link add {our_end} type veth peer name client netns {namespace}")).succeeds();
        ip(&format!("addr add {our_address}/30 dev {our_end}")).succeeds();
        ip(&format!("link set {our_end} up")).succeeds();
        ip(&format!("-n {namespace} addr add {their_address}/30 dev client")).succeeds();
        ip(&format!("-n {namespace} link set client up")).succeeds();
        ip(&format!("-n {namespace} link set lo up")).succeeds();
        network
    }

    /// The address on which the namespace can reach the server.
    pub(crate) fn server_address(&self) -> SocketAddr {
        SocketAddr::from((self.our_address, 5000))
    }

    /// The address of the namespace, as seen from this machine.
    pub(crate) const fn client_address(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.our_address.to_bits() + 1)
    }

    /// A command that starts inside the namespace.
    ///
    /// Not by `ip netns exec`: that mounts a fresh `/sys`, in which dockerd finds no cgroups.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace));
        command
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The link by name too: a namespace lives on, unnamed, while a process runs in it.
        ip(&format!("link del {}", self.our_end));
        ip(&format!("netns del {}", self.namespace));
    }
}

fn ip(arguments: &str) -> Outcome {
    Outcome::of(Command::new("ip").args(arguments.split(' ')))
}

/// The server's address in a /30 of 198.18.0.0/15, which RFC 2544 keeps for test networks, that no
/// interface of this machine uses.
fn free_subnet(seed: u32) -> Ipv4Addr {
    const SUBNETS: u32 = 1 << 15;
    let base = Ipv4Addr::new(198, 18, 0, 0).to_bits();
    (0..SUBNETS)
        .map(|step| Ipv4Addr::from_bits(base + (seed.wrapping_add(step * 257) % SUBNETS) * 4 + 1))
        .find(|address| ip(&format!("-4 addr show to {address}/30")).succeeds().is_empty())
        .expect("the machine does not use the whole test network")
}

/// Removes the namespaces and links of killed runs.
fn sweep() {
    let Ok(namespaces) = fs::read_dir("/run/netns") else {
        return;
    };
    for namespace in namespaces.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let owner = namespace.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            ip(&format!("netns del {namespace}"));
        }
    }
}
