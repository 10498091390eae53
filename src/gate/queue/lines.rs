//! Lines of waiting checks: one for each network, served round-robin.

use std::collections::VecDeque;

use super::{KeyedHash, Network, Site};

/// The lines of all networks, by site. A check is at most once in the line of each network from
/// which callers wait for it.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// In the order of their turns. Each has a line, and each line has a check.
    sites: VecDeque<(Site, VecDeque<Line>)>,
}

#[derive(Debug)]
struct Line {
    network: Network,
    checks: VecDeque<KeyedHash>,
}

impl Lines {
    pub(super) fn is_empty(&self) -> bool {
        self.sites.is_empty()
    }

    /// Appends a check to a network's line, unless the line has it.
    pub(super) fn push(&mut self, network: Network, check: KeyedHash) {
        let site = network.site();
        let at = self.sites.iter().position(|(of, _)| *of == site).unwrap_or_else(|| {
            self.sites.push_back((site, VecDeque::new()));
            self.sites.len() - 1
        });
        let lines = &mut self.sites[at].1;
        let at = lines.iter().position(|line| line.network == network).unwrap_or_else(|| {
            lines.push_back(Line { network, checks: VecDeque::new() });
            lines.len() - 1
        });
        let checks = &mut lines[at].checks;
        if !checks.contains(&check) {
            checks.push_back(check);
        }
    }

    /// Takes out the check whose turn it is, and moves its site and its network to the end.
    pub(super) fn pop(&mut self) -> Option<(Network, KeyedHash)> {
        let (site, mut lines) = self.sites.pop_front()?;
        let mut line = lines.pop_front()?;
        let network = line.network;
        let check = line.checks.pop_front()?;
        if !line.checks.is_empty() {
            lines.push_back(line);
        }
        if !lines.is_empty() {
            self.sites.push_back((site, lines));
        }
        Some((network, check))
    }

    /// The newest check of the network with most checks, of the site with most checks. Of several
    /// such sites or networks, the newcomer's.
    pub(super) fn last_of_most(&self, newcomer: Network) -> Option<(Network, KeyedHash)> {
        let length = |lines: &VecDeque<Line>| lines.iter().map(|line| line.checks.len()).sum();
        let (_, lines) = self.sites.iter().max_by_key(|(site, lines)| -> (usize, bool) {
            (length(lines), *site == newcomer.site())
        })?;
        let line = lines.iter().max_by_key(|line| (line.checks.len(), line.network == newcomer))?;
        Some((line.network, *line.checks.back()?))
    }

    /// Takes a check out of a network's line.
    pub(super) fn remove(&mut self, network: Network, check: &KeyedHash) {
        self.retain(|of, other| of != network || other != check);
    }

    /// Takes a check out of all lines.
    pub(super) fn remove_everywhere(&mut self, check: &KeyedHash) {
        self.retain(|_, other| other != check);
    }

    fn retain(&mut self, mut keep: impl FnMut(Network, &KeyedHash) -> bool) {
        self.sites.retain_mut(|(_, lines)| {
            lines.retain_mut(|line| {
                line.checks.retain(|check| keep(line.network, check));
                !line.checks.is_empty()
            });
            !lines.is_empty()
        });
    }
}
