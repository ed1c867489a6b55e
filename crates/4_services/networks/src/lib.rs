//! Networks of guests: bridges, addresses, forwards, and the network process.
