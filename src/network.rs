//! The network that an address belongs to: the unit by which connections, logins and waiting requests
//! of unauthenticated clients are counted and limited.
//!
//! A customer has at least a /64 of IPv6, and an organisation often a /48, so a single IPv6 address
//! identifies no client. Where an IPv6 address embeds an IPv4 address, the IPv4 address is the unit:
//! otherwise the whole IPv4 internet would be one /64.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

mod clients;
mod proxy;
mod source;

pub use clients::{Clients, ClientsOptions};
pub use proxy::{InvalidProxy, Proxy};
pub use source::{InvalidSource, Source};

/// An IPv4 address, or a /64 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

/// An IPv4 address, or a /48 of IPv6, which belongs to one organisation or is shared by the customers
/// of one hosting provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Site(IpAddr);

impl Network {
    /// The network that an address belongs to. For an IPv6 address that embeds an IPv4 address
    /// (IPv4-mapped, NAT64, 6to4, Teredo) it is the IPv4 address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => match embedded(address) {
                Some(address) => address.into(),
                None => masked(address, 64).into(),
            },
        })
    }

    /// The site of the network.
    #[must_use]
    pub fn site(self) -> Site {
        Site(match self.0 {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => masked(address, 48).into(),
        })
    }

    /// Whether the site has other networks, too.
    #[must_use]
    pub const fn is_part_of_site(self) -> bool {
        self.0.is_ipv6()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(address) => write!(f, "{address}/64"),
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(address) => write!(f, "{address}/48"),
        }
    }
}

/// The IPv4 address that an IPv6 address embeds.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = address.to_bits();
    let low = Ipv4Addr::from_bits((bits & u128::from(u32::MAX)) as u32);
    match address.segments() {
        // NAT64 (RFC 6052 §2.1).
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(low),
        // NAT64 within one network (RFC 8215). How long the prefix is, only that network knows; with
        // the usual 96 bits the address stands at the end, with others zeros do.
        [0x64, 0xff9b, 1, ..] if !low.is_unspecified() => Some(low),
        // 6to4 (RFC 3056 §2).
        [0x2002, ..] => Some(Ipv4Addr::from_bits((bits >> 80 & u128::from(u32::MAX)) as u32)),
        // Teredo (RFC 4380 §4): the address is there with its bits inverted.
        [0x2001, 0, ..] => Some(Ipv4Addr::from_bits(!low.to_bits())),
        _ => None,
    }
}

fn masked(address: Ipv6Addr, bits: u32) -> Ipv6Addr {
    let rest = 128 - bits;
    Ipv6Addr::from_bits(address.to_bits() >> rest << rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> Network {
        Network::of(address.parse().unwrap())
    }

    #[test]
    fn ipv4_mapped_address_is_counted_as_its_ipv4_address() {
        for address in [
            "192.0.2.33",
            "::ffff:192.0.2.33",
            "64:ff9b::192.0.2.33",
            "64:ff9b:1::192.0.2.33",
            "64:ff9b:1:fffe::192.0.2.33",
            "2002:c000:221::1",
            "2002:c000:221:ffff::2",
            "2001:0:4136:e378:8000:63bf:3fff:fdde",
        ] {
            assert_eq!(network(address), network("192.0.2.33"), "{address}");
            assert!(!network(address).is_part_of_site());
        }
        assert_ne!(network("64:ff9b::192.0.2.33"), network("64:ff9b::192.0.2.34"));
        assert_eq!(network("64:ff9b:1:2:3::"), network("64:ff9b:1:2::"), "no address is there");
    }

    #[test]
    fn network_of_ipv6_has_64_bits_and_a_site_has_48() {
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("2001:db8:1:2::1").site(), network("2001:db8:1:3::1").site());
        assert_ne!(network("2001:db8:1:2::1").site(), network("2001:db8:2:2::1").site());
        assert_ne!(network("192.0.2.1").site(), network("192.0.2.2").site());
        let one = network("2001:db8:1:2::1");
        assert_eq!(
            (one.to_string(), one.site().to_string()),
            ("2001:db8:1:2::/64".to_owned(), "2001:db8:1::/48".to_owned())
        );
        assert_eq!(network("64:ff9b::192.0.2.33").to_string(), "192.0.2.33");
    }
}
