//! Disk formats, partition tables and file systems of guests.
