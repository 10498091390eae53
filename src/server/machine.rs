//! This machine as its clients see it: its addresses, and whether it is a container.
//!
//! The addresses come from `/proc`, since the system call for them needs a socket of netlink, which the
//! sandbox of systemd forbids in `contrib/portcullis.service`, and `unsafe` code.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    path::Path,
};

/// The most addresses of [`addresses`]: a host of containers has one for each of its networks.
const MAX_ADDRESSES: usize = 16;

/// Flags of an IPv6 address in `/proc/net/if_inet6`: temporary (RFC 8981), failed duplicate address
/// detection, deprecated, tentative.
const SHORT_LIVED: u32 = 0x01 | 0x08 | 0x20 | 0x40;

/// The scope of a global IPv6 address, unique local ones included, in `/proc/net/if_inet6`.
const GLOBAL: u32 = 0;

/// The addresses of this machine at which another machine may reach it, at most sixteen. The address
/// that leads to the default route comes first, IPv4 before IPv6.
///
/// Private and public addresses count, and those of bridges for containers. Loopback and link-local
/// addresses do not: another machine cannot use the former, and the latter need the name of an interface
/// of the client. Temporary addresses of IPv6 do not either, since they change each day.
#[must_use]
pub fn addresses() -> Vec<IpAddr> {
    let read = |file| fs::read_to_string(Path::new("/proc/self/net").join(file));
    let ipv4 = ipv4(&read("fib_trie").unwrap_or_default());
    let ipv6 = ipv6(&read("if_inet6").unwrap_or_default());
    let routed = ["0.0.0.0:0", "[::]:0"].into_iter().filter_map(routed);
    let routed: Vec<IpAddr> =
        routed.filter(|address| ipv4.contains(address) || ipv6.contains(address)).collect();
    let mut addresses = Vec::new();
    for address in routed.into_iter().chain(ipv4).chain(ipv6) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses.truncate(MAX_ADDRESSES);
    addresses
}

/// The container in which this process runs, as commands name it: by its id, which is the host name unless
/// the user has set another, else the word `CONTAINER`. `None` outside of containers.
#[must_use]
pub fn container() -> Option<String> {
    // docker and podman make these files.
    let is_container = ["/.dockerenv", "/run/.containerenv"].iter().any(|f| Path::new(f).exists());
    is_container.then(|| {
        let host = rustix::system::uname();
        let host = host.nodename().to_bytes();
        let is_id = host.len() == 12 && host.iter().all(u8::is_ascii_hexdigit);
        if is_id { String::from_utf8_lossy(host).into_owned() } else { "CONTAINER".to_owned() }
    })
}

/// The address from which packets leave to the default route. `connect` on a socket of UDP sends nothing.
fn routed(any: &str) -> Option<IpAddr> {
    // Addresses for documentation (RFC 5737, RFC 3849), which no route names.
    let outside = if any.starts_with('[') { "[2001:db8::1]:9" } else { "192.0.2.1:9" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(outside).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The IPv4 addresses of `/proc/net/fib_trie`: a line with an address, then the line of the host route
/// that makes it this machine's.
fn ipv4(fib: &str) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    let mut last: Option<Ipv4Addr> = None;
    for line in fib.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = last
            && !address.is_loopback()
            && !address.is_link_local()
            && !found.contains(&address.into())
        {
            found.push(address.into());
        }
    }
    found
}

/// The IPv6 addresses of `/proc/net/if_inet6`: address, number of the interface, length of the prefix,
/// scope, flags, all hexadecimal, and the name of the interface.
fn ipv6(interfaces: &str) -> Vec<IpAddr> {
    let hex = |text: Option<&str>| u32::from_str_radix(text?, 16).ok();
    let address = |line: &str| {
        let mut fields = line.split_whitespace();
        let bits = u128::from_str_radix(fields.next()?, 16).ok()?;
        let mut rest = fields.skip(2);
        let scope = hex(rest.next())?;
        let flags = hex(rest.next())?;
        let is_lasting = scope == GLOBAL && flags & SHORT_LIVED == 0;
        is_lasting.then(|| IpAddr::from(Ipv6Addr::from(bits)))
    };
    interfaces.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_addresses_are_those_of_host_routes_but_loopback_and_link_local() {
        let fib = "\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 10.0.0.0
        /24 link UNICAST
     |-- 10.0.0.7
        /32 host LOCAL
     |-- 10.0.0.255
        /32 link BROADCAST
     |-- 169.254.3.4
        /32 host LOCAL
Local:
     |-- 10.0.0.7
        /32 host LOCAL
     |-- 172.17.0.1
        /32 host LOCAL
";
        assert_eq!(ipv4(fib), ["10.0.0.7", "172.17.0.1"].map(|a| a.parse::<IpAddr>().unwrap()));
        assert!(ipv4("").is_empty());
    }

    #[test]
    fn ipv6_addresses_are_global_and_lasting() {
        let interfaces = "\
00000000000000000000000000000001 01 80 10 80       lo
fd000000000000000000000000000002 04 40 00 82     eth0
20010db8000000000000000000000003 04 40 00 00     eth0
20010db8000000000000000000000004 04 40 00 01     eth0
20010db8000000000000000000000005 04 40 00 20     eth0
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
malformed
";
        let expected = ["fd00::2", "2001:db8::3"].map(|a| a.parse::<IpAddr>().unwrap());
        assert_eq!(ipv6(interfaces), expected);
    }

    #[test]
    fn addresses_of_this_machine_are_usable_by_others() {
        for address in addresses() {
            assert!(!address.is_loopback() && !address.is_unspecified(), "{address}");
        }
    }
}
