//! Name constraints: the names for which an authority may issue certificates (RFC 5280 §4.2.1.10).
//!
//! A thief of an authority's key can issue a certificate for any site that its clients visit, unless
//! the authority's certificate has name constraints. The constraints of a new authority permit the
//! names that it is created for, their parent domains, this machine, and addresses that the Internet
//! does not route.

use std::net::IpAddr;

use ipnet::IpNet;
use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, GeneralSubtree as Subtree},
};

use super::names::{self, Name};

/// Loopback, RFC 1918, unique local and link-local addresses.
const LOCAL: [&str; 8] = [
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
];

/// Second-level domains under which a country registers names, as in `co.uk`.
const PUBLIC: [&str; 12] =
    ["ac", "co", "com", "edu", "go", "gob", "gov", "mil", "ne", "net", "or", "org"];

/// The name constraints of an authority. A host name stands for its subdomains too.
#[derive(Debug, Default)]
pub(super) struct Constraints {
    permitted: Subtrees,
    excluded: Subtrees,
}

#[derive(Debug, Default)]
struct Subtrees {
    hosts: Vec<String>,
    networks: Vec<IpNet>,
}

impl Constraints {
    /// The constraints of a new authority for `names`: these names and their parent domains, this
    /// machine, and local addresses.
    pub(super) fn around(names: &[Name]) -> Self {
        let mut permitted = Subtrees {
            hosts: vec!["localhost".to_owned()],
            networks: LOCAL.iter().filter_map(|network| network.parse().ok()).collect(),
        };
        for name in names {
            match name {
                Name::Host(host) => {
                    let host = host.strip_prefix("*.").unwrap_or(host);
                    permitted.add_host(parent(host).unwrap_or(host));
                }
                Name::Address(address) => permitted.add_address(*address),
            }
        }
        match names::of_this_machine() {
            Some(Name::Host(host)) => permitted.add_host(&host),
            Some(Name::Address(address)) => permitted.add_address(address),
            None => {}
        }
        Self { permitted, excluded: Subtrees::default() }
    }

    /// The constraints of an existing authority. Without the extension, every name is permitted.
    pub(super) fn of(certificate: &X509Certificate<'_>) -> Self {
        let Ok(Some(constraints)) = certificate.name_constraints() else {
            return Self::default();
        };
        let subtrees = |subtrees: &Option<Vec<Subtree<'_>>>| {
            Subtrees::of(subtrees.iter().flatten().map(|subtree| &subtree.base))
        };
        Self {
            permitted: subtrees(&constraints.value.permitted_subtrees),
            excluded: subtrees(&constraints.value.excluded_subtrees),
        }
    }

    /// Whether the authority may issue a certificate for the name.
    pub(super) fn permit(&self, name: &Name) -> bool {
        let Self { permitted, excluded } = self;
        let is_unconstrained = match name {
            Name::Host(_) => permitted.hosts.is_empty(),
            Name::Address(_) => permitted.networks.is_empty(),
        };
        (is_unconstrained || permitted.hold(name)) && !excluded.hold(name)
    }

    /// The certificate extension.
    pub(super) fn to_rcgen(&self) -> NameConstraints {
        let subtrees = |subtrees: &Subtrees| {
            let hosts = subtrees.hosts.iter().cloned().map(GeneralSubtree::DnsName);
            let networks = subtrees.networks.iter().map(|network| {
                GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(
                    network.network(),
                    network.prefix_len(),
                ))
            });
            hosts.chain(networks).collect()
        };
        NameConstraints {
            permitted_subtrees: subtrees(&self.permitted),
            excluded_subtrees: subtrees(&self.excluded),
        }
    }
}

impl Subtrees {
    fn of<'a>(names: impl Iterator<Item = &'a GeneralName<'a>>) -> Self {
        let mut subtrees = Self::default();
        for name in names {
            match name {
                GeneralName::DNSName(host) => subtrees.hosts.push(host.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => subtrees.networks.extend(network(bytes)),
                _ => {}
            }
        }
        subtrees
    }

    fn add_host(&mut self, host: &str) {
        if !self.hold(&Name::Host(host.to_owned())) {
            self.hosts.push(host.to_owned());
        }
    }

    fn add_address(&mut self, address: IpAddr) {
        if !self.hold(&Name::Address(address)) {
            self.networks.push(address.into());
        }
    }

    fn hold(&self, name: &Name) -> bool {
        match name {
            Name::Host(host) => self.hosts.iter().any(|base| {
                let base = base.strip_prefix('.').unwrap_or(base);
                host.strip_suffix(base).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }),
            Name::Address(address) => self.networks.iter().any(|network| network.contains(address)),
        }
    }
}

/// The parent domain of a host; `None` for a domain with unrelated owners below it, such as `com` and
/// `co.uk`.
fn parent(host: &str) -> Option<&str> {
    let (_, parent) = host.split_once('.')?;
    let (first, rest) = parent.split_once('.')?;
    let is_public = PUBLIC.contains(&first) && rest.len() == 2;
    (!is_public).then_some(parent)
}

/// Parses the bytes of an address, followed by those of a mask.
fn network(bytes: &[u8]) -> Option<IpNet> {
    let (address, mask): (IpAddr, IpAddr) = match bytes.len() {
        8 => (
            <[u8; 4]>::try_from(&bytes[..4]).ok()?.into(),
            <[u8; 4]>::try_from(&bytes[4..]).ok()?.into(),
        ),
        32 => (
            <[u8; 16]>::try_from(&bytes[..16]).ok()?.into(),
            <[u8; 16]>::try_from(&bytes[16..]).ok()?.into(),
        ),
        _ => return None,
    };
    IpNet::with_netmask(address, mask).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<Name> {
        names.iter().map(|name| Name::parse(name).unwrap()).collect()
    }

    #[test]
    fn new_authority_permits_its_names_their_siblings_and_local_addresses() {
        let given =
            names(&["registry.corp.example", "*.apps.example", "ci", "hub.co.uk", "203.0.113.7"]);
        let constraints = Constraints::around(&given);
        for name in [
            "registry.corp.example",
            "other.corp.example",
            "corp.example",
            "*.corp.example",
            "a.b.apps.example",
            "*.apps.example",
            "ci",
            "x.ci",
            "hub.co.uk",
            "localhost",
            "127.0.0.2",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.0.1",
            "169.254.1.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "203.0.113.7",
        ] {
            assert!(constraints.permit(&Name::parse(name).unwrap()), "{name}");
        }
        for name in [
            "bank.example",
            "example",
            "notcorp.example",
            "other.co.uk",
            "registry",
            "172.32.0.1",
            "203.0.113.8",
            "8.8.8.8",
            "2001:db8::1",
            "::2",
        ] {
            assert!(!constraints.permit(&Name::parse(name).unwrap()), "{name}");
        }
    }

    #[test]
    fn constraints_of_a_certificate_are_read_back() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        let constraints = Constraints {
            permitted: Subtrees {
                hosts: vec!["corp.example".to_owned()],
                networks: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            },
            excluded: Subtrees { hosts: vec![".secret.corp.example".to_owned()], networks: vec![] },
        };
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.name_constraints = Some(constraints.to_rcgen());
        let certificate = params.self_signed(&key).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate.der()).unwrap();
        let read = Constraints::of(&parsed);
        for (name, is_permitted) in [
            ("a.corp.example", true),
            ("a.secret.corp.example", false),
            ("a.example", false),
            ("10.0.0.1", true),
            ("fd00::1", true),
            ("192.168.0.1", false),
        ] {
            assert_eq!(read.permit(&Name::parse(name).unwrap()), is_permitted, "{name}");
        }

        params.name_constraints = None;
        let certificate = params.self_signed(&key).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate.der()).unwrap();
        for name in ["bank.example", "8.8.8.8"] {
            assert!(Constraints::of(&parsed).permit(&Name::parse(name).unwrap()), "{name}");
        }
    }
}
