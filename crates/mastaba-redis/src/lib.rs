//! Redis and Valkey as the shared tier of Mastaba.
