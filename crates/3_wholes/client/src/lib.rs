//! The client of the REST interface over a Unix socket.
