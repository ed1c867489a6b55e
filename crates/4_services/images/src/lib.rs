//! Images: made from signed archives, files and directories, kept by their digest.
