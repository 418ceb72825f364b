//! Who is at the other end, when proxies of ours stand in between.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

use crate::config::Cidr;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The other end of the connection that a request came in on; an extension of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddress(pub SocketAddr);

/// Returns the address of the client: `X-Forwarded-For` is walked from the right, where the nearest proxy wrote, and
/// each entry is believed only if the proxy to its right is one of `trusted`. What a client writes there itself stands
/// further left and is never reached.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[Cidr]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.to_canonical();
    let headers = headers.get_all(FORWARDED_FOR).iter().rev();
    let entries = headers.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
    for entry in entries {
        if !is_trusted(client) {
            break;
        }
        match parse(entry.trim()) {
            Some(address) => client = address,
            None => break,
        }
    }
    client
}

/// Reads an entry, with or without a port.
fn parse(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    let address = bare.parse::<IpAddr>().ok();
    Some(address.or_else(|| Some(entry.parse::<SocketAddr>().ok()?.ip()))?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Value;

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let trusted = Vec::<Cidr>::parse("127.0.0.0/8,::1/128,10.0.0.0/16").unwrap();
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn a_peer_that_is_no_proxy_of_ours_is_the_client_whatever_it_says() {
        assert_eq!(client("203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        assert_eq!(client("127.0.0.1", &[]), "127.0.0.1");
    }

    #[test]
    fn proxies_are_skipped_from_the_right_and_a_forged_entry_is_not_reached() {
        assert_eq!(client("10.0.0.5", &["6.6.6.6, 203.0.113.9, 10.0.1.7"]), "203.0.113.9");
        assert_eq!(client("10.0.0.5", &["6.6.6.6", "203.0.113.9"]), "203.0.113.9");
        assert_eq!(client("127.0.0.1", &["203.0.113.9:4711"]), "203.0.113.9");
        assert_eq!(client("::1", &["[2001:db8::1]:4711"]), "2001:db8::1");
        assert_eq!(client("::ffff:10.0.0.5", &["2001:db8::1"]), "2001:db8::1");
    }

    #[test]
    fn rubbish_ends_the_walk_at_the_last_proxy() {
        assert_eq!(client("10.0.0.5", &["203.0.113.9, unknown"]), "10.0.0.5");
        assert_eq!(client("10.0.0.5", &[""]), "10.0.0.5");
    }
}
