//! The peers whose word about a connection is taken: those that a PROXY header is read from.

use core::net::IpAddr;
use std::fmt;
use std::str::FromStr;

use manyhands_os::stream::Peer;

/// Networks, and whether whoever comes by a Unix socket is one.
///
/// ```
/// use manyhands_os::stream::Peer;
/// use manyhands_server::trusted_peers::TrustedPeers;
///
/// let trusted: TrustedPeers = "10.0.0.0/8, ::1, unix".parse()?;
/// assert!(trusted.trusts(&Peer::Inet("10.1.2.3:80".parse().expect("an address"))));
/// assert!(!trusted.trusts(&Peer::Inet("11.1.2.3:80".parse().expect("an address"))));
/// # Ok::<(), manyhands_server::trusted_peers::NoPeers>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedPeers {
    everybody: bool,
    unix: bool,
    /// Addresses, and how many of their bits must agree.
    networks: Vec<(IpAddr, u32)>,
}

/// Why a text names no peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoPeers(String);

impl fmt::Display for NoPeers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for NoPeers {}

impl TrustedPeers {
    /// Whether `peer` is one of them. One that comes by IPv4 to a socket of IPv6 is known by its IPv4 address.
    #[must_use]
    pub fn trusts(&self, peer: &Peer) -> bool {
        self.everybody
            || match peer {
                Peer::Unix(_) => self.unix,
                Peer::Inet(address) => {
                    let ip = address.ip().to_canonical();
                    self.networks.iter().any(|(network, bits)| same_bits(ip, *network) >= Some(*bits))
                }
            }
    }
}

impl FromStr for TrustedPeers {
    type Err = NoPeers;

    /// Reads addresses, networks, `unix` and `*`, with commas between them.
    fn from_str(text: &str) -> Result<Self, NoPeers> {
        let mut peers = Self { everybody: false, unix: false, networks: Vec::new() };
        for word in text.split(',').map(str::trim) {
            match word {
                "*" => peers.everybody = true,
                "unix" => peers.unix = true,
                _ => peers.networks.push(network(word).map_err(NoPeers)?),
            }
        }
        Ok(peers)
    }
}

/// How many of the first bits two addresses share; `None` for those of two kinds.
fn same_bits(one: IpAddr, other: IpAddr) -> Option<u32> {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => Some((one.to_bits() ^ other.to_bits()).leading_zeros()),
        (IpAddr::V6(one), IpAddr::V6(other)) => Some((one.to_bits() ^ other.to_bits()).leading_zeros()),
        _ => None,
    }
}

fn network(word: &str) -> Result<(IpAddr, u32), String> {
    let (address, bits) = word.split_once('/').map_or((word, None), |(address, bits)| (address, Some(bits)));
    let no_network = || format!("{word:?} must be an address, a network such as 10.0.0.0/8, unix or *");
    let ip: IpAddr = address.parse().map_err(|_| no_network())?;
    let (width, zeros) = match ip {
        IpAddr::V4(ip) => (32, ip.to_bits().trailing_zeros()),
        IpAddr::V6(ip) => (128, ip.to_bits().trailing_zeros()),
    };
    let bits = bits.map_or(Ok(width), |bits| bits.parse().map_err(|_| no_network()))?;
    if bits > width {
        return Err(no_network());
    }
    if zeros < width - bits {
        return Err(format!(
            "{word:?} is an address within a network: write {address}, or the network's own address"
        ));
    }
    Ok((ip, bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusts(peers: &str, peer: &str) -> bool {
        let peer = peer.parse().map_or_else(|_| Peer::Unix(peer.into()), Peer::Inet);
        peers.parse::<TrustedPeers>().expect(peers).trusts(&peer)
    }

    #[test]
    fn a_peer_is_trusted_by_network_address_or_kind() {
        for (peers, peer, expected) in [
            ("10.0.0.0/8", "10.255.0.1:1", true),
            ("10.0.0.0/8", "11.0.0.1:1", false),
            ("10.0.0.0/8", "[::ffff:10.0.0.1]:1", true),
            ("10.0.0.0/8", "[::1]:1", false),
            ("10.0.0.0/8", "/run/socket", false),
            ("127.0.0.1", "127.0.0.1:9", true),
            ("127.0.0.1", "127.0.0.2:9", false),
            ("192.0.2.1 , fd00::/8", "[fdab::1]:1", true),
            ("0.0.0.0/0", "1.2.3.4:1", true),
            ("0.0.0.0/0", "[2001:db8::1]:1", false),
            ("unix", "/run/socket", true),
            ("unix", "", true),
            ("unix", "127.0.0.1:1", false),
            ("*", "[2001:db8::1]:1", true),
            ("*", "", true),
        ] {
            assert_eq!(trusts(peers, peer), expected, "{peers} {peer}");
        }
    }

    #[test]
    fn what_names_nobody_is_refused() {
        for text in
            ["", "localhost", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "::/129", "10.0.0.0/8,", "Unix"]
        {
            let error = text.parse::<TrustedPeers>().expect_err(text).to_string();
            assert!(error.contains("must be an address"), "{error}");
        }
        let error = "10.0.0.1/8".parse::<TrustedPeers>().expect_err("an address").to_string();
        assert!(error.contains("write 10.0.0.1"), "{error}");
    }
}
