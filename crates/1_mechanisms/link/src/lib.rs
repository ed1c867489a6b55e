//! Links, addresses and packet filters of the host; DHCP, DNS and RA packets.
