//! Network: how guests reach each other, the host and the outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::Record;

/// A stored network.
pub type Network = Record<NetworkSpec, NetworkStatus>;

/// How a network is joined to the host. Others (bridged, routed, isolated, user, overlay) follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// A bridge of its own, translated to the host's addresses on the way out.
    #[default]
    Nat,
}

/// What is wanted of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSpec {
    /// How it is joined to the host.
    pub mode: NetworkMode,
    /// IPv4 subnet such as `10.77.0.0/24`; a free one is chosen when absent.
    pub subnet: Option<String>,
    /// IPv6 prefix such as `fd12:3456:789a:1::/64`; a random ULA prefix when absent.
    pub prefix6: Option<String>,
    /// Domain of the guests' names.
    pub domain: Option<String>,
}

/// What is observed of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct NetworkStatus {
    /// The bridge on the host.
    pub bridge: String,
    /// The host's IPv4 address on the bridge: gateway and name server of the guests.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub gateway: Option<Ipv4Addr>,
    /// Length of the IPv4 prefix.
    pub prefix_len: u8,
    /// The host's IPv6 address on the bridge.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub gateway6: Option<Ipv6Addr>,
    /// Whether the network process answers.
    pub serving: bool,
    /// Process id of the network process.
    pub pid: Option<u32>,
    /// Addresses handed out.
    pub leases: Vec<Lease>,
}

/// An address that belongs to a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Lease {
    /// The guest's name.
    pub guest: String,
    /// MAC address of its card.
    pub mac: String,
    /// Its addresses, IPv4 first.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub addresses: Vec<IpAddr>,
}
