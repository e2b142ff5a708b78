//! A file in this process: the backend that needs no server.
