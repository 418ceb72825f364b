//! Networks and origins: whom to believe about a client's address, and which pages may call the API.

use std::fmt;
use std::net::IpAddr;

use super::value::Value;

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// Returns whether `address` lies in the block. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                same_prefix(network.to_bits().into(), address.to_bits().into(), 32 - self.prefix)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                same_prefix(network.to_bits(), address.to_bits(), 128 - self.prefix)
            }
            _ => false,
        }
    }
}

fn same_prefix(left: u128, right: u128, host_bits: u8) -> bool {
    (left ^ right).checked_shr(u32::from(host_bits)).unwrap_or(0) == 0
}

impl fmt::Display for Cidr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.network, self.prefix)
    }
}

impl Value for Vec<Cidr> {
    const RULE: &'static str = "a list of networks, such as 10.0.0.0/16,::1/128";

    fn parse(text: &str) -> Option<Self> {
        items(text).map(cidr).collect()
    }

    fn unset() -> Option<Self> {
        Some(Self::new())
    }
}

/// Reads one network; a bare address is a network of one. Bits beyond the prefix are refused: they hide mistakes.
fn cidr(text: &str) -> Option<Cidr> {
    let (network, prefix) = match text.split_once('/') {
        Some((network, prefix)) => (network.parse::<IpAddr>().ok()?, Some(prefix.parse::<u8>().ok()?)),
        None => (text.parse::<IpAddr>().ok()?, None),
    };
    let (bits, width) = match network {
        IpAddr::V4(network) => (u128::from(network.to_bits()), 32),
        IpAddr::V6(network) => (network.to_bits(), 128),
    };
    let prefix = prefix.unwrap_or(width);
    let host_bits = width.checked_sub(prefix)?;
    let outside = 1_u128.checked_shl(u32::from(host_bits)).map_or(u128::MAX, |bit| bit - 1);
    (bits & outside == 0).then_some(Cidr { network, prefix })
}

/// A web origin: scheme, host and, where it is not the scheme's own, port. Lower case, no trailing slash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin(String);

impl Origin {
    /// Returns the origin as browsers send it, for example `https://chat.example.org`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether cookies for this origin must be `Secure`.
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }

    /// Returns host and port as a `Host` header has them.
    pub fn host(&self) -> &str {
        self.0.split_once("://").map_or("", |(_, host)| host)
    }

    /// Reads an origin; a single trailing slash is forgiven, a path is not.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('/').unwrap_or(text).to_ascii_lowercase();
        let uri: http::Uri = text.parse().ok()?;
        let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"))?;
        let authority = uri.authority()?.as_str();
        let bare = uri.path() == "/" && uri.query().is_none() && text == format!("{scheme}://{authority}");
        if !bare || uri.host()?.is_empty() || authority.contains('@') || authority.ends_with(':') {
            return None;
        }
        let own_port = if scheme == "https" { ":443" } else { ":80" };
        Some(Self(text.strip_suffix(own_port).unwrap_or(&text).to_owned()))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Value for Vec<Origin> {
    const RULE: &'static str = "a list of origins, such as https://chat.example.org";

    fn parse(text: &str) -> Option<Self> {
        items(text).map(Origin::parse).collect()
    }

    fn unset() -> Option<Self> {
        Some(Self::new())
    }
}

/// Splits a list at its commas. An empty text is an empty list.
fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(move |_| !text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        cidr(network).expect("network").contains(address.parse().expect("address"))
    }

    #[test]
    fn a_network_contains_its_first_and_last_address_and_not_their_neighbours() {
        assert!(contains("10.1.0.0/16", "10.1.0.0"));
        assert!(contains("10.1.0.0/16", "10.1.255.255"));
        assert!(!contains("10.1.0.0/16", "10.2.0.0"));
        assert!(!contains("10.1.0.0/16", "10.0.255.255"));
        assert!(contains("10.1.0.0/16", "::ffff:10.1.2.3"));
        assert!(contains("0.0.0.0/0", "203.0.113.9"));
        assert!(contains("::/0", "2001:db8::1"));
        assert!(!contains("0.0.0.0/0", "2001:db8::1"));
        assert!(contains("::1", "::1"));
        assert!(!contains("::1", "::2"));
    }

    #[test]
    fn a_network_with_host_bits_or_a_long_prefix_is_refused() {
        for bad in ["10.1.2.3/16", "10.0.0.0/33", "::/129", "10.0.0.0/", "example.org", ""] {
            assert_eq!(cidr(bad), None, "{bad:?}");
        }
        assert_eq!(Vec::<Cidr>::parse("").map(|list| list.len()), Some(0));
        assert_eq!(Vec::<Cidr>::parse("127.0.0.0/8, ::1/128").map(|list| list.len()), Some(2));
        assert_eq!(Vec::<Cidr>::parse("127.0.0.0/8,"), None);
    }

    #[test]
    fn an_origin_is_normalised_as_browsers_send_it() {
        let normal = |text| Origin::parse(text).map(|origin| origin.to_string());
        assert_eq!(normal("https://Chat.Example.org/").as_deref(), Some("https://chat.example.org"));
        assert_eq!(normal("https://chat.example.org:443").as_deref(), Some("https://chat.example.org"));
        assert_eq!(normal("http://127.0.0.1:8000").as_deref(), Some("http://127.0.0.1:8000"));
        for bad in [
            "chat.example.org",
            "ftp://a",
            "https://a/path",
            "https://a?x",
            "https://u@a",
            "https://",
            "https://a:",
        ] {
            assert_eq!(normal(bad), None, "{bad:?}");
        }
    }
}
